"""The stand-in for useapi.net: what a test does to it, and how it answers requests."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from email.parser import BytesParser
from email.policy import HTTP
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing import services
from balancer.testing.bodies import FILES, Seen, Shown, View
from balancer.testing.callbacks import Callbacks, Replies, Reply, on_loopback
from balancer.testing.faults import Answer, Fault, Faults, Request, Server, Struck, answer
from balancer.testing.services import entry, job_id, lists_of, own_fields, shape_of, thing
from balancer.testing.state import AccountAudit, Audit, Job, Order, Site, Sites, State, TurnedDownError
from balancer.useapi.following import asset_accounts, endpoint_of, job_of_status

Entry = int | Mapping[str, Any]
"""An account's maximum, or fields for its entry; a field given as None is left out of it."""
Seconds = tuple[float, float] | Callable[[], float]
_POLL = 0.02
JOB_SECONDS = (1.0, 3.0)
"""How long jobs take here, a sixtieth of what songs and videos take there: a test has no minutes."""


class FakeUseapi:
    """Speaks like useapi.net on ``127.0.0.1``: accounts, creates, jobs, load lists, callbacks, faults.

    Args:
        accounts: Service key -> account id -> its maximum, or fields for its entry.
        services: Rows of your own that it speaks as well; their bodies follow from what the rows say.
        token: The API token that it accepts.
        job_seconds: Shortest and longest life of a job, or a callable that returns one in seconds;
            by default from one to three. ``math.inf``: it ends by :meth:`finish` only.
        speed: Jobs take this many times less than ``job_seconds``.
        rng: Source of every choice. Give a seeded one to have the same run again.
        clock: Callable that returns monotonic seconds, such as a :class:`ManualClock`.
        lag: Age in seconds of what the load lists show.
        port: 0 for a free one. An OSError tells that a port is in use.
        failures: Share of the jobs that end as ``failed``.
        enforce: Whether a create beyond the maximum is refused; if not, it is accepted and audited.
        omit: Service keys or create paths whose jobs no list shows.
        replies: How callbacks are delivered: a :class:`Reply`, or a callable that takes the fields of
            the create and returns one.

    Use it as a context manager, or call :meth:`start` and :meth:`close`.
    """

    def __init__(
        self,
        accounts: Mapping[str, Mapping[str, Entry]],
        *,
        services: Iterable[Service] = (),
        token: str = "user:1234-test-token",  # noqa: S107  # made up, and good for nothing else
        speed: float = 1.0,
        job_seconds: Seconds = JOB_SECONDS,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        lag: float = 0.0,
        port: int = 0,
        failures: float = 0.0,
        enforce: bool = True,
        omit: Collection[str] = (),
        replies: Replies | None = None,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, not {speed!r}")
        rng = rng or random.Random()
        self.token = token
        seconds = _seconds(job_seconds, speed, rng)
        self._clock, self._sites, self._faults = Clock(clock), Sites(services), Faults()
        self._state = State(self._clock, rng, job_id, seconds, failures=failures, enforce=enforce, lag=lag)
        self._routes = Routes(
            self._state, self._sites, self._faults, self._clock, replies or Reply(), token=token, omit=omit
        )
        self._callbacks = self._routes.callbacks
        self._thread: threading.Thread | None = None
        self._serving = False
        for service, entries in accounts.items():
            for account, fields in entries.items():
                self.set_account(service, account, fields)
        self._server = Server(port, self._routes)
        self._routes.root = self.url

    def __repr__(self) -> str:
        return f"<FakeUseapi at {self.url}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Host root, to be given to a pool as ``base_url``."""
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> Self:
        """Answer requests from now on, in threads of its own."""
        if self._thread is None:
            self._serving = True
            self._thread = threading.Thread(target=self.serve_forever, name="fake-useapi", daemon=True)
            self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Answer requests in this thread until :meth:`close` is called from another one."""
        self._serving = True
        self._server.serve_forever(_POLL)

    def close(self) -> None:
        """Stop: faults are lifted, connections closed, threads ended. Idempotent."""
        self._faults.lift_all()
        self._state.close()
        if self._serving:
            self._server.shutdown()
        if self._thread is not None:
            self._thread.join()
        self._server.server_close()
        self._callbacks.close()

    def set_account(self, service: str, account: str, entry: Entry) -> None:
        """Add an account, or replace what is configured for it; jobs on it run on."""
        site = self._sites.of(service)
        own = own_fields(site, entry) if isinstance(entry, int) else entry
        slots = entry if isinstance(entry, int) else None
        self._state.configure(site.name, account, own, slots)

    def remove_account(self, service: str, account: str) -> None:
        """Take an account out of the configuration; jobs on it run on. KeyError if it is not there."""
        self._state.remove(self._sites.of(service).name, account)

    def break_account(self, service: str, account: str, reason: str) -> None:
        """Have the list say that an account is broken, and answer 596 to its creates."""
        self._state.mark(self._sites.of(service).name, account, reason)

    def heal_account(self, service: str, account: str) -> None:
        """Undo :meth:`break_account`."""
        self._state.mark(self._sites.of(service).name, account, None)

    def start_stranger(self, service: str, account: str, *, listed: bool = True) -> str:
        """Start a job that nobody asked this server for, and return its id.

        It takes a slot. ``listed=False``: the load lists do not show it, as with a job started on the
        site itself.
        """
        site, row = self._sites.of(service), self._sites.row(service)
        return self._state.stranger(site.name, row, account, listed=listed).id

    def finish(self, job_id: str | int, status: str = "completed") -> None:
        """End a job now, as ``completed`` or ``failed``. A job that has ended stays as it is.

        Raises:
            KeyError: there never was such a job.
            ValueError: there is no such status.
        """
        if status not in ("completed", "failed"):
            raise ValueError(f"status must be 'completed' or 'failed', not {status!r}")
        job = self._state.job(str(job_id))
        if job is None:
            raise KeyError(job_id)
        self._state.end(job, status)
        self._callbacks.plan_final(job)

    def running(self, service: str, account: str | None = None) -> tuple[str, ...]:
        """Return the ids of the jobs that run now, strangers included."""
        return tuple(job.id for job in self._state.running(self._sites.row(service).key, account))

    def fault(
        self,
        path_pattern: str,
        *,
        times: int | None = 1,
        status: int | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        cut: str | None = None,
        hang: bool = False,
        account: str | None = None,
    ) -> Fault:
        """Script a fault for requests whose path matches; faults strike in the order of their script.

        Args:
            path_pattern: Shell-style, of the decoded path (``"*/accounts"``) or of method and path
                (``"POST */music"``).
            times: How often it strikes; None: until lifted.
            status: Answer this in place of carrying out the request; ``body`` has a default for each.
            body: A JSON value, or text or bytes as they are.
            headers: More headers, also on a real answer.
            delay: Real seconds between the request and its answer; a create is carried out before.
            cut: ``"before"``: the connection is closed, nothing was carried out; ``"after"``: the
                request was carried out, its answer is lost; ``"midbody"``: half of the body is sent.
            hang: No answer until the fault is lifted or the server closed; nothing is carried out.
            account: Strike only creates that land on this account, named or chosen.
        """
        return self._faults.add(
            Fault(path_pattern, times, status, body, headers or {}, delay, cut, hang, account)
        )

    def lie(self, path_pattern: str, *, times: int | None = 1) -> Fault:
        """Have a list of accounts or of jobs say, with a 200, that there are none."""
        return self._faults.add(Fault(path_pattern, times, empty=True))

    def audit(self) -> Audit:
        """Return what was counted so far."""
        lanes, over = self._state.lanes()
        accounts: dict[str, dict[str, AccountAudit]] = {}
        for lane in lanes:
            accounts.setdefault(lane.service, {})[lane.account] = lane.audit()
        return Audit(
            accounts=MappingProxyType(accounts),
            over=over,
            accepted=sum(one.accepted for lanes in accounts.values() for one in lanes.values()),
            refused=self._routes.refused,
            refused_other=self._routes.refused_other,
            requests=MappingProxyType(dict(self._routes.requests)),
        )


def _seconds(given: Seconds, speed: float, rng: random.Random) -> Callable[[], float]:
    if callable(given):
        return lambda: given() / speed
    low, high = given
    if not 0 <= low <= high:
        raise ValueError(f"job_seconds must be (shortest, longest), not {given!r}")
    return lambda: (low if low == high else rng.uniform(low, high)) / speed


_MEDIA = ("image/", "audio/", "video/", "application/octet-stream")
_ENDINGS: Mapping[str, str] = {
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
}


class Routes:
    """Answers requests. Mutable: only its counts; state and faults keep their own."""

    def __init__(
        self,
        state: State,
        sites: Sites,
        faults: Faults,
        clock: Clock,
        replies: Replies,
        *,
        token: str,
        omit: Collection[str],
    ) -> None:
        self._state, self._sites, self._faults, self._clock = state, sites, faults, clock
        self._bearer, self._omit = f"Bearer {token}", omit
        self.callbacks = Callbacks(clock, self._callback, replies)
        self._lock = threading.Lock()
        self.root = ""
        """The server's address, once it has one."""
        self.requests: Counter[str] = Counter()
        self.refused = 0
        """Creates turned down because no slot was free."""
        self.refused_other = 0
        """Creates turned down for another reason."""

    def __call__(self, request: Request) -> Answer:
        """Carry out one request, unless a fault takes its place."""
        path = urlsplit(request.target).path
        fault = self._faults.take(request.method, unquote(path))
        self._count(request.method, path)
        if fault is None:
            return self._authorized(request, path, empty=False)
        if fault.replaces:
            return fault.scripted()
        return fault.onto(self._authorized(request, path, empty=fault.empty))

    def _look(self, job: Job, status: str | None = None) -> Seen:
        """Return what is seen of ``job``, now or with the given status."""
        return Seen(job, job.row, status or job.status(self._clock.now()), self._clock, self.root)

    def _callback(self, job: Job, status: str) -> Any:
        seen = self._look(job, status)
        return shape_of(job.service).status(seen) | seen.reply

    def _count(self, method: str, path: str) -> None:
        head, _, last = path.rpartition("/")
        found, last = self._sites.locate(path), unquote(last)
        named = self._state.job(last) or (found and self._state.account(found[0].name, last))
        with self._lock:
            self.requests[f"{method} {head}/*" if named else f"{method} {path}"] += 1

    def _authorized(self, request: Request, path: str, *, empty: bool) -> Answer:
        if request.method == "GET" and path.startswith(FILES):
            return self._file(path[len(FILES) :])
        given = request.headers.get("authorization")
        if given is None:
            return answer(401, {"error": "Unauthorized"})
        if given != self._bearer:
            return services.error(401, "Unauthorized")
        found = self._sites.locate(path)
        if found is None:
            return services.error(404, "Not found")
        return self._routed(*found, request, empty=empty)

    def _routed(self, site: Site, below: str, request: Request, *, empty: bool) -> Answer:
        query = dict(parse_qsl(urlsplit(request.target).query))
        account = _account_in(site, below)
        match request.method:
            case "GET":
                return self._account(site, account) if account else self._get(site, below, query, empty=empty)
            case "DELETE":
                return self._drop_account(site, account) if account else self._delete(below)
            case "POST" if account is not None:
                return self._post_account(site, account, request)
            case "POST":
                return self._post(site, below, query, request)
        return services.error(405, "The stand-in offers no such request")

    # -- what is asked ------------------------------------------------------------------------------

    def _get(self, site: Site, below: str, query: Mapping[str, str], *, empty: bool) -> Answer:
        if below == site.row.accounts:
            return self._accounts(site, empty=empty)
        job = self._job_in(site, f"{below}?{urlencode(query)}")
        # A job may be asked for at the list's own path.
        if below in lists_of(site.row) and job not in query.values():
            return self._load(site, below, query, empty=empty)
        return self._status(site, job, query) if job else self._beside(below, query)

    def _job_in(self, site: Site, target: str) -> str | None:
        for row in site.kinds.values():
            if job := job_of_status(row, target):
                known = self._state.job(job)
                if known is None or known.row.path == site.path:
                    return job
        # A service of which no row tells where jobs are asked for is asked at any path.
        last = unquote(target.partition("?")[0].rpartition("/")[2])
        return last if not site.row.status and self._state.job(last) else None

    def _status(self, site: Site, job_id: str, query: Mapping[str, str]) -> Answer:
        job = self._state.job(job_id)
        if job is None:
            return services.error(404, "Job not found")
        endpoint = endpoint_of(job.row, job_id)
        selector = job.row.selector
        several = len(self._state.accounts(site.name)) > 1
        if endpoint and endpoint.needs_account and several and selector not in query:
            return services.error(400, f"Parameter {selector} is required: several accounts are configured")
        on_account = query.get(selector, job.account) == job.account
        seen, shape = self._look(job), shape_of(job.service)
        if shape.poll_404 == seen.makes and not seen.final:
            return services.error(404, "Not ready yet")
        if site.name == "riffusion":
            return answer(200, [shape.status(seen)] if on_account else [])
        return answer(200, shape.status(seen)) if on_account else services.error(404, "Job not found")

    def _load(self, site: Site, below: str, query: Mapping[str, str], *, empty: bool) -> Answer:
        view = self._view(site, query, empty=empty)
        none = None if view.accounts or empty else services.no_load(site)
        return none or answer(200, lists_of(site.row)[below](view))

    def _view(self, site: Site, query: Mapping[str, str], *, empty: bool) -> View:
        listed = [] if empty else self._state.listed(site, self._omit)
        shown = (
            Shown(
                one.id, one.limit(site.row), one.reason or "OK", [self._look(job, "running") for job in jobs]
            )
            for one, jobs in listed
        )
        return View(site.row, tuple(shown), query)

    def _beside(self, below: str, query: Mapping[str, str]) -> Answer:
        """Answer what belongs to a job or an upload without being its status."""
        head, _, last = below.rpartition("/")
        if head in ("media", "music/download"):
            return self._file(f"{last}/1.mp4")
        if head == "notebooks":
            sources = [{"title": "Example", "status": "ready"}]
            return answer(200, {"notebook": unquote(last), "sources": sources})
        if below == "assets/download" and (job := self._state.job(query.get("workIds", ""))):
            return answer(200, {"cdnUrl": self._look(job).file("1.mp4")})
        if below == "jobs/cancel":
            return self._cancel(query.get("jobid", ""))
        return services.error(404, "Not found")

    def _file(self, name: str) -> Answer:
        ending = name.rpartition(".")[2]
        text = f"made by the stand-in for {unquote(name.partition('/')[0])}\n"
        return answer(200, text.encode(), {"Content-Type": _ENDINGS.get(ending, "application/octet-stream")})

    # -- accounts -----------------------------------------------------------------------------------

    def _accounts(self, site: Site, *, empty: bool) -> Answer:
        accounts = () if empty else self._state.accounts(site.name)
        if not accounts:
            return answer(200, {}) if empty else services.no_accounts(site)
        running = {shown.id: len(shown.jobs) for shown in self._view(site, {}, empty=False).accounts}
        return answer(200, {account.id: entry(site, account, running[account.id]) for account in accounts})

    def _account(self, site: Site, account: str) -> Answer:
        found = self._state.account(site.name, account)
        if found is None:
            return services.unknown(site, account)
        fields = entry(site, found, len(self._state.running(site.name, account)))
        if site.name == "riffusion":
            fields.pop("error", None)
        return answer(200, fields | services.alone(site, healthy=found.reason is None))

    def _post_account(self, site: Site, account: str, request: Request) -> Answer:
        try:
            fields = _fields(request)
            slots = _number(fields, site.row.capacity or "maxJobs")
        except ValueError as wrong:
            return services.error(400, str(wrong))
        if not fields:
            return services.error(400, f"Parameter {site.row.selector} is required")
        id = account or services.account_id(site, fields, self._state.draw())
        own = services.own_fields(site, slots) if slots else {}
        self._state.configure(site.name, id, own, slots)
        made = self._state.account(site.name, id)
        assert made is not None  # noqa: S101  # it was configured in the line above
        return answer(201, entry(site, made, 0))

    def _drop_account(self, site: Site, account: str) -> Answer:
        try:
            self._state.remove(site.name, account)
        except KeyError:
            return services.unknown(site, account)
        return answer(204)

    # -- what is done -------------------------------------------------------------------------------

    def _post(self, site: Site, below: str, query: Mapping[str, str], request: Request) -> Answer:
        if site.kind(below) is not None:
            return self._create(site, below, query, request)
        try:
            fields = {**query, **_fields(request)}
        except ValueError as wrong:
            return services.error(400, str(wrong))
        cancel = site.row.cancel
        if cancel and cancel.method == "POST" and below == cancel.path:
            return self._cancel(str(fields.get(cancel.field or "", "")))
        media = request.headers.get("content-type", "").startswith(_MEDIA)
        if not media and not site.slotless(below):
            return services.error(404, "Not found")
        return self._thing(site, below, fields)

    def _thing(self, site: Site, below: str, fields: Mapping[str, Any]) -> Answer:
        accounts = [account.id for account in self._state.accounts(site.name)]
        if not accounts:
            return services.no_accounts(site)
        wanted = str(fields.get(site.row.selector) or unquote(below.rpartition("/")[2]))
        named = asset_accounts(site.row, fields) or {wanted}
        account = next((id for id in accounts if id in named), accounts[0])
        return answer(200, thing(site, below, account, self._state.draw()))

    def _create(self, site: Site, verb: str, query: Mapping[str, str], request: Request) -> Answer:
        path = unquote(urlsplit(request.target).path)

        def veto(account: str) -> None:
            if fault := self._faults.take(request.method, path, account, replaces=True):
                raise Struck(fault)

        try:
            order = _order(site, verb, {**query, **_fields(request)})
            job = self._state.start(site.name, order, veto)
        except Struck as struck:
            return struck.fault.scripted()
        except ValueError as wrong:
            return self._refuse(services.error(400, str(wrong)))
        except TurnedDownError as refusal:
            return self._refuse(services.turned_down(site, refusal), full="full" in refusal.why)
        made = self._accepted(job)
        fault = self._faults.take(request.method, path, job.account, replaces=False)
        return fault.onto(made) if fault else made

    def _accepted(self, job: Job) -> Answer:
        shape = shape_of(job.service)
        made = answer(shape.code, shape.create(self._look(job, "running")))
        if "replyUrl" in job.request and self.callbacks.reply(job).early:
            self._state.end(job, job.outcome)
            self.callbacks.deliver(job)
        else:
            self.callbacks.plan(job)
        if shape.waits != job.verb or str(job.request.get("async")).lower() == "true":
            return made
        if self._state.wait(job) != "completed":
            return services.error(500, "Generation failed")
        return answer(200, shape.sync(self._look(job)))

    def _refuse(self, refusal: Answer, *, full: bool = False) -> Answer:
        with self._lock:
            self.refused += full
            self.refused_other += not full
        return refusal

    def _delete(self, below: str) -> Answer:
        head, _, last = below.rpartition("/")
        job_id = unquote(last)
        if head == "avatars":
            return answer(204)
        job = self._unended(job_id)
        if job is None:
            return services.error(404, "Job not found")
        if head == "scheduler":  # struck off: its slot is free, and it runs on
            self._state.end(job, None)
            return answer(204)
        if job.row.cancel is None:  # taken out of a history: nothing else changes
            return answer(200, {"success": True})
        return self._cancel(job_id)

    def _cancel(self, job_id: str) -> Answer:
        job = self._unended(job_id)
        if job is None:
            return services.error(404, "Job not found")
        self._state.end(job, "failed", cancelled=True)
        self.callbacks.plan_final(job)
        cancel, body = job.row.cancel, shape_of(job.service).status(self._look(job))
        return answer(200, body) if cancel and cancel.method != "DELETE" else answer(204)

    def _unended(self, job_id: str) -> Job | None:
        job = self._state.job(job_id)
        return job if job and job.at(self._clock.now()) else None


def _account_in(site: Site, below: str) -> str | None:
    """Return the account that a path below the account list names, ``""`` for the list itself."""
    if below == site.row.accounts:
        return ""
    rest = below.removeprefix(site.row.accounts + "/")
    return unquote(rest) if rest != below and "/" not in rest else None


def _order(site: Site, verb: str, fields: Mapping[str, Any]) -> Order:
    row = site.kind(verb) or site.row
    account = fields.get(row.selector)
    if account in (None, ""):
        named = asset_accounts(row, fields)
        account = next(iter(named)) if len(named) == 1 else None
    if "replyUrl" in fields and not on_loopback(fields["replyUrl"]):
        raise ValueError("Parameter replyUrl must be an address on this machine: the stand-in calls no other")
    limit = _number(fields, row.max_jobs or "", shape_of(row.key).max_jobs)
    return Order(row, verb, fields, None if account is None else str(account), limit)


def _number(fields: Mapping[str, Any], name: str, valid: tuple[int, int] = (1, 100)) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    low, high = valid
    if isinstance(value, bool) or not str(value).isdecimal() or not low <= int(value) <= high:
        raise ValueError(f"Parameter {name} must be in the range {low}…{high}")
    return int(value)


def _fields(request: Request) -> dict[str, Any]:
    """Return the fields of a JSON, form or multipart body; none of a body of another type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _multipart(request)
    # A JSON object is one whatever its type says: ``curl -d`` calls it a form.
    if kind.endswith("json") or not kind or request.body.lstrip()[:1] == b"{":
        body = json.loads(request.body or b"{}")
        if not isinstance(body, dict):
            raise ValueError("The body must be a JSON object")
        return body
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(request.body.decode("utf-8", "replace")))
    return {}


def _multipart(request: Request) -> dict[str, Any]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode("latin-1")
    parts = BytesParser(policy=HTTP).parsebytes(head + request.body)
    if not parts.is_multipart():
        raise ValueError("The body must be multipart/form-data with a boundary")
    fields: dict[str, Any] = {}
    for part in parts.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            # Of a file only its name is kept: nothing here looks at pictures.
            fields[name] = part.get_filename() or content.decode("utf-8", "replace")
    return fields
