"""What the stand-in keeps: its sites, their accounts, and every job, behind one lock; and its audit.

No thread ends a job. A job knows when it ends, and every question first settles what has ended
since the last one.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from balancer.clock import Clock
from balancer.services import SERVICES, find
from balancer.services.schema import Service
from balancer.useapi.following import created_by, takes_no_slot


@dataclass(frozen=True, slots=True)
class Violation:
    """One job that took an account over its maximum."""

    service: str
    account: str
    running: int
    """Jobs that ran on it from then on, this one included."""
    limit: int
    """The account's own maximum at that moment."""
    cause: str
    """``create``; ``override`` if the request's own ``maxJobs`` allowed it; ``stranger``."""


@dataclass(frozen=True, slots=True)
class AccountAudit:
    """One account of one service, from the start to now."""

    peak: int = 0
    """Most jobs that ever ran at once, strangers included."""
    limit: int = 0
    """Its maximum at the moment of the peak."""
    accepted: int = 0
    """Creates that became jobs here."""
    picked: int = 0
    """Those of them for which the server chose the account."""
    refused: int = 0
    """Creates that named it and were answered 429 because it was full."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything counted so far."""

    accounts: Mapping[str, Mapping[str, AccountAudit]]
    """Service key -> account id -> what happened there."""
    over: tuple[Violation, ...]
    """Every time an account had more jobs running than its maximum, in order."""
    accepted: int
    """Creates that became jobs."""
    refused: int
    """Creates answered 429 because no slot was free."""
    refused_other: int
    """Creates turned away for any other reason, scripted faults aside."""
    requests: Mapping[str, int]
    """``"GET /v1/flowmusic/accounts"`` -> requests; an id in a path is written ``*``."""

    @property
    def clean(self) -> bool:
        """Whether no plain create ever took an account over its maximum."""
        return not any(violation.cause == "create" for violation in self.over)


@dataclass(frozen=True, slots=True)
class Site:
    """Everything below one path: ``minimax`` holds the rows ``minimax`` and ``minimax/images``."""

    name: str
    path: str
    kinds: Mapping[str, Service]
    """Last part of a row's key, ``""`` for the site's own row -> the row."""

    @property
    def row(self) -> Service:
        """The site's own row."""
        return self.kinds.get("") or next(iter(self.kinds.values()))

    def kind(self, verb: str) -> Service | None:
        """Return the row that counts a create at ``verb``, such as ``images/create``; None: it is none.

        Where a row does not say what its creates are, the name of its kind in the path tells, and where
        no row of the site says so, every path is one.
        """
        if row := created_by(self.kinds.values(), verb):
            return row
        named = (self.kinds[part] for part in verb.split("/") if part in self.kinds)
        return next((row for row in named if not row.creates), None if self._told else self.row)

    def slotless(self, verb: str) -> bool:
        """Return whether a POST to ``verb`` is answered without a slot."""
        return any(takes_no_slot(row, verb) for row in self.kinds.values())

    @property
    def _told(self) -> bool:
        return any(row.creates for row in self.kinds.values())


class Sites:
    """The sites of one stand-in: those of the table, and of rows that are not in it."""

    def __init__(self, rows: Iterable[Service] = ()) -> None:
        self._rows = {row.key: row for row in rows}
        self._sites = _sites({**SERVICES, **self._rows}.values())

    def row(self, service: str) -> Service:
        """Return the row of a service key. An unknown key is a ValueError that lists near ones."""
        return self._rows.get(service) or find(service)

    def of(self, service: str) -> Site:
        """Return the site of a service key. An unknown key is a ValueError that lists near ones."""
        return self._sites[_name(self.row(service))]

    def locate(self, path: str) -> tuple[Site, str] | None:
        """Return the site that ``path`` belongs to and what follows below it, or None."""
        for site in self._sites.values():
            if path.startswith(site.path + "/"):
                return site, path[len(site.path) + 1 :].strip("/")
        return None


def _name(row: Service) -> str:
    return row.key.partition("/")[0]


def _sites(rows: Iterable[Service]) -> dict[str, Site]:
    kinds: dict[str, dict[str, Service]] = {}
    for row in rows:
        kinds.setdefault(_name(row), {})[row.key.partition("/")[2]] = row
    sites = [
        Site(name, next(iter(group.values())).path, MappingProxyType(group)) for name, group in kinds.items()
    ]
    # The longest paths first: /v2/pixverse is not a job below /v2.
    return {site.name: site for site in sorted(sites, key=lambda site: -len(site.path))}


@dataclass(slots=True)
class Job:
    """One job. Only the state changes it."""

    id: str
    row: Service
    """The row that it counts under."""
    account: str
    verb: str
    """Path of its create below the site: ``music/create-prompt``."""
    request: Mapping[str, Any]
    started: float
    ends: float
    """Clock reading at which its status becomes final."""
    frees: float
    """Clock reading at which its slot is free; before ``ends`` if it was struck off the schedule."""
    outcome: str = "completed"
    """Its status from then on: ``completed`` or ``failed``."""
    cancelled: bool = False
    listed: bool = True
    """Whether the load endpoints show it."""

    @property
    def service(self) -> str:
        """Key of its row."""
        return self.row.key

    def status(self, now: float) -> str:
        """Return ``running`` or the outcome."""
        return "running" if now < self.ends else self.outcome

    def at(self, reading: float) -> bool:
        """Return whether it held its slot at that clock reading."""
        return self.started <= reading < self.frees


@dataclass(slots=True)
class Configured:
    """One account as it is configured now. A change replaces its fields, never the object."""

    id: str
    own: Mapping[str, Any]
    """Fields of its entry that were given for it."""
    slots: int | None = None
    """Its maximum for the kinds of job for which the service's entries do not state one."""
    reason: str | None = None
    """Why it is broken, or None."""

    def limit(self, row: Service) -> int:
        """Return how many jobs of that kind it may run at once."""
        if row.capacity is None and self.slots is not None:
            return self.slots
        try:
            return max(0, int(float(self.own[row.capacity or ""])))
        except (KeyError, TypeError, ValueError, OverflowError):
            return row.default_capacity or 1


@dataclass(slots=True)
class Lane:
    """The jobs of one kind on one account, and what was counted there."""

    service: str
    account: str
    keep: float
    """Seconds for which an ended job can still be asked for by the lists."""
    running: dict[str, Job] = field(default_factory=dict)
    _ended: deque[Job] = field(default_factory=deque)
    _next_end: float = math.inf
    _peak: int = 0
    _peak_limit: int = 0
    _accepted: int = 0
    _picked: int = 0
    refused: int = 0

    def expire_due(self, now: float) -> int:
        """Take out what has ended; return how many run."""
        if now >= self._next_end:
            for job in [job for job in self.running.values() if job.frees <= now]:
                del self.running[job.id]
                self._ended.append(job)
            self._next_end = min((job.frees for job in self.running.values()), default=math.inf)
        while self._ended and self._ended[0].frees <= now - self.keep:
            self._ended.popleft()
        return len(self.running)

    def add(self, job: Job, limit: int, *, picked: bool = False, stranger: bool = False) -> int:
        """Let ``job`` run where ``limit`` is the maximum; return how many run now."""
        self.running[job.id] = job
        self.ends_by(job.frees)
        self._accepted += not stranger
        self._picked += picked
        count = len(self.running)
        if count > self._peak:
            self._peak, self._peak_limit = count, limit
        return count

    def ends_by(self, reading: float) -> None:
        """Note that one of its jobs frees its slot at that clock reading."""
        self._next_end = min(self._next_end, reading)

    def at(self, reading: float) -> list[Job]:
        """Return the listed jobs that held a slot at that clock reading, not older than ``keep``."""
        jobs = [*self._ended, *self.running.values()]
        return [job for job in jobs if job.listed and job.at(reading)]

    def audit(self) -> AccountAudit:
        """Return what was counted."""
        return AccountAudit(self._peak, self._peak_limit, self._accepted, self._picked, self.refused)


Name = Callable[[str, str, str, int, random.Random], str]
"""Makes a job's id from its row's key, its account, the path of its create, a number and a source of
randomness."""


class TurnedDownError(Exception):
    """A create that becomes no job: ``why``, and the account that it is about, if it is about one."""

    def __init__(self, why: str, account: str = "", detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.account = account
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Order:
    """What a create asks for."""

    row: Service
    verb: str
    fields: Mapping[str, Any]
    account: str | None = None
    """The account that it names, itself or by an asset."""
    limit: int | None = None
    """The maximum that it sets for itself."""


class State:
    """Mutable: the accounts, the jobs, the counts. Every method is atomic."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        name: Name,
        seconds: Callable[[], float],
        *,
        failures: float,
        enforce: bool,
        lag: float,
    ) -> None:
        self._clock, self._rng, self._name, self._seconds = clock, rng, name, seconds
        self._failures, self._enforce, self._lag = failures, enforce, lag
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._closed = False
        self._numbers = itertools.count(1)
        self._sites: dict[str, dict[str, Configured]] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._jobs: dict[str, Job] = {}
        self._over: list[Violation] = []
        clock.watch(self._tell)

    def configure(self, site: str, account: str, own: Mapping[str, Any], slots: int | None) -> None:
        """Add an account, or replace what is configured for it. Its jobs run on."""
        with self._lock:
            self._sites.setdefault(site, {})[account] = Configured(account, own, slots)

    def remove(self, site: str, account: str) -> None:
        """Take an account out of the configuration. Its jobs run on. KeyError if it is not there."""
        with self._lock:
            del self._sites[site][account]

    def mark(self, site: str, account: str, reason: str | None) -> None:
        """Break an account for ``reason``, or heal it with None. KeyError if it is not there."""
        with self._lock:
            configured = self._sites[site][account]
            self._sites[site][account] = replace(configured, reason=reason)

    def draw(self) -> int:
        """Return a number for an account or a thing that has no name of its own."""
        with self._lock:
            return 100_000 + next(self._numbers)

    def accounts(self, site: str) -> tuple[Configured, ...]:
        """Return the accounts of a site in the order of their configuration."""
        with self._lock:
            return tuple(self._sites.get(site, {}).values())

    def account(self, site: str, account: str) -> Configured | None:
        """Return one account, or None."""
        return self._sites.get(site, {}).get(account)

    def start(self, site: str, order: Order, veto: Callable[[str], None]) -> Job:
        """Choose an account unless one is named, and start the job there.

        ``veto(account)`` may raise to prevent that. Raises TurnedDownError.
        """
        with self._lock:
            now = self._clock.now()
            chosen = self._named(site, order) if order.account else self._picked(site, order, now)
            veto(chosen.id)
            if chosen.reason is not None:
                raise TurnedDownError("broken", chosen.id, chosen.reason)
            own = chosen.limit(order.row)
            limit = order.limit or own
            lane = self._lane(order.row.key, chosen.id)
            if lane.expire_due(now) >= limit and self._enforce:
                lane.refused += 1
                raise TurnedDownError("full", chosen.id)
            job = self._job(order.row, chosen.id, order.verb, order.fields)
            running = lane.add(job, own, picked=not order.account)
            if running > min(limit, own):
                over = (limit, "create") if running > limit else (own, "override")
                self._over.append(Violation(lane.service, lane.account, running, *over))
            return job

    def stranger(self, site: str, row: Service, account: str, *, listed: bool) -> Job:
        """Start a job that no create of ours asked for, even beyond the maximum."""
        with self._lock:
            now = self._clock.now()
            limit = self._sites[site][account].limit(row)
            lane = self._lane(row.key, account)
            lane.expire_due(now)
            job = self._job(row, account, "elsewhere", {})
            job.listed = listed
            running = lane.add(job, limit, stranger=True)
            if running > limit:
                self._over.append(Violation(lane.service, lane.account, running, limit, "stranger"))
            return job

    def end(self, job: Job, outcome: str | None, *, cancelled: bool = False) -> None:
        """End ``job`` now with that outcome; None only frees its slot and lets it run on."""
        with self._lock:
            now = self._clock.now()
            job.frees = min(job.frees, now)
            if outcome is not None and now < job.ends:
                job.ends, job.outcome, job.cancelled = now, outcome, cancelled
            self._lane(job.service, job.account).ends_by(job.frees)
        self._tell()

    def wait(self, job: Job) -> str:
        """Wait until the job has ended, or the server is closed; return its status."""
        with self._ended:
            while (status := job.status(self._clock.now())) == "running" and not self._closed:
                self._ended.wait(self._clock.sleep_for(job.ends))
        return status

    def close(self) -> None:
        """Let go whoever waits for a job."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        with self._ended:
            self._ended.notify_all()

    def job(self, job_id: str) -> Job | None:
        """Return the job of that id, however long ago it ended."""
        return self._jobs.get(job_id)

    def running(self, service: str, account: str | None) -> tuple[Job, ...]:
        """Return what runs now, strangers included."""
        with self._lock:
            now, found = self._clock.now(), list[Job]()
            for lane in self._lanes.values():
                if lane.service == service and account in (None, lane.account):
                    lane.expire_due(now)
                    found += lane.running.values()
            return tuple(found)

    def listed(self, site: Site, omit: Collection[str]) -> list[tuple[Configured, list[Job]]]:
        """Return each account of a site with its listed jobs, as of ``lag`` seconds ago."""
        with self._lock:
            now = self._clock.now()
            accounts = self._sites.get(site.name, {}).values()
            return [(account, self._listed(site, account.id, now, omit)) for account in accounts]

    def lanes(self) -> tuple[tuple[Lane, ...], tuple[Violation, ...]]:
        """Return every lane and every violation so far."""
        with self._lock:
            return tuple(self._lanes.values()), tuple(self._over)

    def _listed(self, site: Site, account: str, now: float, omit: Collection[str]) -> list[Job]:
        jobs = list[Job]()
        for row in site.kinds.values():
            if row.key not in omit and (lane := self._lanes.get((row.key, account))):
                lane.expire_due(now)
                jobs += [job for job in lane.at(now - self._lag) if job.verb not in omit]
        return jobs

    def _named(self, site: str, order: Order) -> Configured:
        try:
            return self._sites.get(site, {})[order.account or ""]
        except KeyError:
            raise TurnedDownError("unknown", order.account or "") from None

    def _picked(self, site: str, order: Order, now: float) -> Configured:
        accounts = list(self._sites.get(site, {}).values())
        if not accounts:
            raise TurnedDownError("none")
        if order.row.selector_required and len(accounts) > 1:
            raise TurnedDownError("unnamed")
        healthy = [account for account in accounts if account.reason is None]
        if not healthy:
            raise TurnedDownError("broken", accounts[0].id, accounts[0].reason or "")
        roomy = [account for account in healthy if not self._enforce or self._has_room(account, order, now)]
        if not roomy:
            raise TurnedDownError("all-full")
        return roomy[int(self._rng.random() * len(roomy))]

    def _has_room(self, account: Configured, order: Order, now: float) -> bool:
        count = self._lane(order.row.key, account.id).expire_due(now)
        return count < (order.limit or account.limit(order.row))

    def _lane(self, service: str, account: str) -> Lane:
        key = (service, account)
        try:
            return self._lanes[key]
        except KeyError:
            return self._lanes.setdefault(key, Lane(service, account, self._lag))

    def _job(self, row: Service, account: str, verb: str, fields: Mapping[str, Any]) -> Job:
        now = self._clock.now()
        ends = now + self._seconds()
        job = Job(
            id=self._name(row.key, account, verb, next(self._numbers), self._rng),
            row=row,
            account=account,
            verb=verb,
            request=fields,
            started=now,
            ends=ends,
            frees=ends,
            outcome="failed" if self._rng.random() < self._failures else "completed",
        )
        self._jobs[job.id] = job
        return job
