"""Where accounts and running jobs come from: useapi.net over HTTP, or a mapping of the user's.

A source is any object with ``accounts()`` that returns a mapping of account ids to capacities or
entries, and, for reconciliation, ``jobs()`` that returns running jobs. It is called in a thread of
its own, one call at a time, and may raise what it likes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from balancer import parse
from balancer.errors import (
    BalancerError,
    InvalidConfiguration,
    SourceUnavailable,
    SubscriptionRequired,
    Unauthorized,
    foreign,
)
from balancer.model import Job, Listing, Table
from balancer.service import Service
from balancer.services import find
from balancer.verdict import retry_after

BODY_LIMIT = 8 * 1024 * 1024
DEFAULT_BASE_URL = "https://api.useapi.net"
_CHUNK = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)


@runtime_checkable
class Source(Protocol):
    """What a pool asks of a source."""

    def accounts(self) -> Any:
        """Return the accounts: a mapping of ids to capacities or entries, or a Table."""


class Token:
    """An API token that no repr shows and that is read anew at each request."""

    __slots__ = ("_read", "fixed")

    def __init__(self, value: str | Callable[[], str]) -> None:
        self.fixed = not callable(value)
        """It is a string, and not a callable that is asked at each request."""
        self._read: Callable[[], str] = value if callable(value) else lambda: value

    def __repr__(self) -> str:
        return "Token(***)"

    __reduce__ = None  # type: ignore[assignment]  # a pickle is a file

    @classmethod
    def of(cls, value: str | Callable[[], str] | Token | None) -> Token | None:
        """Wrap a token as users give it. Never raises, so that no traceback can show it."""
        return value if value is None or isinstance(value, Token) else cls(value)

    def problem(self) -> str | None:
        """Say what is wrong with the token without showing it, or None."""
        value = self._read()
        if not isinstance(value, str):
            return f"must be a string, not {type(value).__name__}"
        value = value.strip()
        if not value:
            return "is empty: pass token=, or set USEAPI_TOKEN"
        for place, letter in enumerate(value):
            if not "!" <= letter <= "~":
                return f"has a character at position {place} that a header cannot carry"
        return None

    def bearer(self) -> str:
        """Return the value of the Authorization header."""
        return f"Bearer {self._read().strip()}"

    def customer(self) -> str:
        """Return what names the customer and is no secret: ``user:<num>``, or else a fingerprint."""
        value = self._read().strip()
        head = value.split("-", 1)[0]
        if head.startswith("user:") and head[5:].isdigit():
            return head
        return "token:" + hashlib.sha256(b"balancer customer " + value.encode()).hexdigest()[:16]


class BearerAuth(AuthBase):
    """Sets the header itself, so that neither a .netrc nor a session's own auth replaces it."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the header on ``request``."""
        request.headers["Authorization"] = self._token.bearer()
        return request


class PatientRetry(Retry):
    """urllib3's Retry, within what is left of a fetch: it never sleeps or starts past the deadline."""

    budget = threading.local()

    def increment(self, *args: Any, response: BaseHTTPResponse | None = None, **kwargs: Any) -> Retry:
        """Count a failed try.

        Raises:
            urllib3.exceptions.MaxRetryError: no try is left, or none that would end in time.
        """
        left = getattr(self.budget, "end", time.monotonic()) - time.monotonic()
        asked = response and response.headers.get("Retry-After")
        pause = (self.get_retry_after(response) if asked and response else None) or self.get_backoff_time()
        tired = self.new(total=0) if pause + sum(getattr(self.budget, "timeout", (0.0, 0.0))) > left else self
        return Retry.increment(tired, *args, response=response, **kwargs)


class HttpSource:
    """The accounts and running jobs of one service, read from useapi.net over HTTP.

    Args:
        service: A key of the table or a row of your own.
        token: The API token, or a callable that returns it and is asked at each request.
        base_url: Host root; the service's path is appended.
        session: Your own ``requests.Session`` (proxies, certificates, retries). Without one, the
            source makes one with urllib3's retries for GET.
        timeout: Seconds to connect, and to wait for each piece of an answer.

    One fetch, its retries and body included, is given up after 60 seconds.
    """

    def __init__(
        self,
        service: str | Service,
        *,
        token: str | Callable[[], str] | Token,
        base_url: str = DEFAULT_BASE_URL,
        session: requests.Session | None = None,
        timeout: tuple[float, float] = (5, 30),
        default_capacity: int | None = None,
        deadline: float = 60.0,
    ) -> None:
        token = token if isinstance(token, Token) else Token(token)
        self.service = find(service)
        self.base_url = _checked_url(base_url)
        self.default_capacity = default_capacity
        self._auth = BearerAuth(token)
        self.token = token
        self._timeout = timeout
        self._deadline = deadline
        self._own_session = session is None
        self._session = session or _session()

    def __repr__(self) -> str:
        return f"HttpSource({self.service.key!r}, base_url={self.base_url!r})"

    def accounts(self) -> Table:
        """Fetch the configuration: ``GET <base><service path>/accounts``.

        Raises:
            Unauthorized: 401. SubscriptionRequired: 402.
            SourceUnavailable: network, timeout, 429 or 5xx.
            InvalidConfiguration: the answer is no account configuration.
        """
        return _raised_here(self._read(self.service.accounts, self._table, none_when=(404,)))

    def jobs(self) -> Listing:
        """Fetch what the service says is running, in one request. Raises as :meth:`accounts`."""
        load = self.service.load
        if load is None:
            return Listing(complete=False)
        return _raised_here(self._read(load.path, self._listing, none_when=(400, 404)))

    @property
    def lists_jobs(self) -> bool:
        """Whether the service has a list of running jobs."""
        return self.service.load is not None

    def after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""
        if self._own_session:
            self._session = _session()

    def close(self) -> None:
        """Close the source's own session."""
        if self._own_session:
            self._session.close()

    def _table(self, body: object) -> Table:
        return parse.table(body, self.service, self.default_capacity)

    def _listing(self, body: object) -> Listing:
        return parse.listing(body, self.service)

    def _read(self, path: str, parsed: Callable[[object], Any], none_when: tuple[int, ...]) -> Any:
        """Return what the answer to one GET says, or the error that it stands for.

        Returned, not raised: a traceback from in here would hold headers and bodies as locals.
        ``none_when`` are the statuses by which services say that nothing is configured.
        """
        problem = self._auth_problem()
        if problem is not None:
            return Unauthorized(f"the token {problem}")
        try:
            status, headers, raw = self._get(f"{self.base_url}{self.service.path}/{path}")
            if status in none_when and not raw.lstrip().startswith(b"<"):
                return parsed({})
            return _status_error(status, headers) or parsed(parse.body(raw, headers.get("Content-Type")))
        except BalancerError as error:
            return error.with_traceback(None)
        except (requests.RequestException, OSError) as error:
            unavailable = SourceUnavailable(f"GET {self.service.path}/{path}: {type(error).__name__}")
            unavailable.__cause__ = foreign(error)
            return unavailable

    def _auth_problem(self) -> str | None:
        try:
            return self.token.problem()
        except Exception as error:
            return f"could not be read: {type(error).__name__}"

    def _get(self, url: str) -> tuple[int, Mapping[str, str], bytes]:
        end = time.monotonic() + self._deadline
        PatientRetry.budget.end, PatientRetry.budget.timeout = end, self._timeout
        for _ in range(5):
            with self._session.get(
                url, auth=self._auth, timeout=self._timeout, stream=True, allow_redirects=False
            ) as answer:
                if answer.status_code not in _REDIRECTS:
                    return answer.status_code, answer.headers, _body(answer, end)
                url = _same_host(url, answer.headers.get("Location"))
        raise InvalidConfiguration("the answer is a chain of more than 5 redirects")


class MappingSource:
    """Accounts from a mapping of the user's, read again at each refresh.

    A value is a capacity, an entry as the service's own list has them, or an Account.
    """

    lists_jobs = False

    def __init__(
        self, accounts: Mapping[str, Any], service: Service, default_capacity: int | None = None
    ) -> None:
        self._accounts = accounts
        self._service = service
        self._default_capacity = default_capacity

    def accounts(self) -> Table:
        """Return the mapping as a table."""
        return to_table(self._accounts, self._service, self._default_capacity)


def to_table(accounts: Any, service: Service, default_capacity: int | None) -> Table:
    """Turn what a source's ``accounts()`` returned into a table.

    Raises:
        InvalidConfiguration: it is no mapping of account ids.
    """
    if isinstance(accounts, Table):
        return accounts
    if not isinstance(accounts, Mapping):
        raise InvalidConfiguration(f"accounts() must return a mapping, not {type(accounts).__name__}")
    return Table(
        {
            str(id): parse.entry(str(id), value, service, default_capacity)
            for id, value in list(accounts.items())
        }
    )


def to_listing(jobs: Any) -> Listing:
    """Turn what a source's ``jobs()`` returned into a listing.

    A job is a :class:`balancer.Job`, or a mapping with ``id``, ``account`` and perhaps ``ref``.

    Raises:
        InvalidConfiguration: it is no collection of jobs.
    """
    if isinstance(jobs, Listing):
        return jobs
    if isinstance(jobs, str | bytes | Mapping) or not isinstance(jobs, Iterable):
        raise InvalidConfiguration(f"jobs() must return a collection of jobs, not {type(jobs).__name__}")
    return Listing(tuple(_job(job) for job in jobs))


def _job(job: Any) -> Job:
    if isinstance(job, Job):
        return job
    if not isinstance(job, Mapping):
        raise InvalidConfiguration(f"a job must be a Job or a mapping, not {type(job).__name__}")
    return Job(*(None if job.get(k) is None else str(job[k]) for k in ("id", "account", "ref")))


def _raised_here(outcome: Any) -> Any:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be an http or https URL with a host")
    if parts.username or parts.password:
        raise ValueError("base_url must not carry a user or password: they would end up in logs")
    return base_url.rstrip("/")


def _session() -> requests.Session:
    session = requests.Session()
    retry = PatientRetry(
        total=3,
        backoff_factor=0.5,
        allowed_methods=frozenset({"GET"}),
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _same_host(url: str, location: str | None) -> str:
    target = requests.compat.urljoin(url, location or "")
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise InvalidConfiguration("the answer redirects to another host, which must not see the token")
    return target


def _status_error(status: int, headers: Mapping[str, str]) -> BalancerError | None:
    if status in (200, 201):
        return None
    if status == 401:
        return Unauthorized("the server did not accept the token (401)")
    if status == 402:
        return SubscriptionRequired("the subscription behind the token has ended (402)")
    if status != 429 and status < 500:
        return InvalidConfiguration(f"the server answered {status}")
    error = SourceUnavailable(f"the server answered {status}")
    error.retry_after = retry_after(headers, time.time())
    return error


def _body(answer: requests.Response, end: float) -> bytes:
    pieces, size = [], 0
    for piece in answer.iter_content(_CHUNK):
        size += len(piece)
        if size > BODY_LIMIT:
            raise InvalidConfiguration(f"the answer is larger than {BODY_LIMIT // 1024 // 1024} MiB")
        if time.monotonic() > end:
            raise SourceUnavailable("the answer did not end in time")
        pieces.append(piece)
    return b"".join(pieces)
