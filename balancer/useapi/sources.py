"""Where accounts and running jobs come from: useapi.net over HTTP, or a mapping of the user's.

A source is any object with ``accounts()`` that returns a mapping of account ids to capacities or
entries, and, for reconciliation, ``jobs()`` that returns running jobs. It is called in a thread of
its own, one call at a time, and may raise what it likes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from balancer.errors import (
    BalancerError,
    InvalidConfiguration,
    SourceUnavailable,
    Unauthorized,
    sanitized,
)
from balancer.models import AccountTable, FrozenDict, Job, JobList
from balancer.services import find
from balancer.services.schema import Service
from balancer.useapi import parsing
from balancer.useapi.api_token import Token
from balancer.useapi.http_client import Http, status_error, what_failed

__all__ = ["DEFAULT_BASE_URL", "HttpSource", "MappingSource", "Token", "root_url", "to_listing", "to_table"]

DEFAULT_BASE_URL = "https://api.useapi.net"
T = TypeVar("T")
_NONE: Mapping[str, Any] = FrozenDict()
"""In place of the body of an answer by whose status nothing is configured."""


def root_url(given: str | None) -> str:
    """Return the host root that is meant: the one given, else ``$USEAPI_BASE_URL``, else useapi.net's own."""
    return given if given is not None else os.environ.get("USEAPI_BASE_URL") or DEFAULT_BASE_URL


class HttpSource:
    """The accounts and running jobs of one service, read from useapi.net over HTTP.

    Args:
        service: A key of the table or a row of your own.
        token: The API token, or a callable that returns it and is asked at each fetch.
        base_url: Host root; the service's path is appended.
        session: Your own ``requests.Session`` (proxies, certificates, retries). Without one, the
            source makes one with urllib3's retries for GET.
        timeout: Seconds to connect, and to wait for each piece of an answer.
        default_capacity: Capacity of accounts that do not state one; default the service's own.
        deadline: Seconds after which one fetch is given up, its retries and body included.

    Raises:
        ValueError, TypeError: naming the argument that is wrong.
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
        problem = token.problem() if token.fixed else None
        if problem is not None:
            raise ValueError(f"token {problem}")
        self.token = token
        self.service = find(service)
        self.base_url = _checked_url(base_url)
        self.default_capacity = default_capacity
        self._http = Http(session, _checked_timeout(timeout), deadline)
        self._failed: dict[str, str] = {}
        """Path -> why the last try failed, while it is tried again."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("an HttpSource holds the token and cannot be pickled: make one in each process")

    def __repr__(self) -> str:
        known = vars(self)  # a traceback with locals may show it half made
        service = known.get("service")
        return f"HttpSource({service and service.key!r}, base_url={known.get('base_url')!r})"

    def accounts(self) -> AccountTable:
        """Fetch the configuration: ``GET <base><service path>/accounts``.

        Raises:
            Unauthorized: 401. SubscriptionRequired: 402.
            SourceUnavailable: network, timeout, 429 or 5xx, or the token could not be read.
            InvalidConfiguration: the answer is no account configuration.
        """
        return _raised_here(self._read(self.service.accounts, self._table, none_when=(404,)))

    def jobs(self) -> JobList:
        """Fetch what the service says is running, in one request. Raises as :meth:`accounts`.

        What says that nothing is configured lists nothing, and is not complete: no job ends by it.
        """
        load = self.service.load
        if load is None:
            return JobList(complete=False)
        return _raised_here(self._read(load.path, self._job_list, none_when=(400, 404)))

    def fetch(self, path: str) -> object:
        """Fetch what the service answers at ``path`` below its own, as it is: secrets and all.

        What says that nothing is configured is an empty map. Raises as :meth:`accounts`.
        """
        return _raised_here(self._read(path, lambda body: body, none_when=(400, 404)))

    @property
    def lists_jobs(self) -> bool:
        """Whether the service has a list of running jobs."""
        return self.service.load is not None

    def describe(self, *, jobs: bool) -> str:
        """Return what is asked for the accounts, or for the running jobs."""
        return f"GET {self._url(self._path(jobs=jobs))}"

    def failing(self, *, jobs: bool) -> str | None:
        """Return why the last try of a request that is tried again just now has failed, if one has."""
        return self._failed.get(self._path(jobs=jobs))

    def after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""
        self._http.after_fork()

    def close(self) -> None:
        """Close the source's own session."""
        self._http.close()

    def _path(self, *, jobs: bool) -> str:
        return self.service.load.path if jobs and self.service.load is not None else self.service.accounts

    def _url(self, path: str) -> str:
        return f"{self.base_url}{self.service.path}/{path}"

    def _table(self, body: object) -> AccountTable:
        return parsing.table(body, self.service, self.default_capacity)

    def _job_list(self, body: object) -> JobList:
        found = parsing.job_list(body, self.service)
        return replace(found, complete=False) if body is _NONE else found

    def _read(
        self, path: str, parsed: Callable[[object], T], none_when: tuple[int, ...]
    ) -> T | BalancerError:
        """Return what the answer to one GET says, or the error that it stands for.

        Returned, not raised: a traceback from in here would hold headers and bodies as locals.
        ``none_when`` are the statuses by which services say that nothing is configured.
        """
        token = self._current_token()
        if isinstance(token, BalancerError):
            return token
        url = self._url(path)
        try:
            reply = self._http.get(url, token, lambda why: self._failed.update({path: why}))
            if reply.status in none_when and not reply.body.lstrip().startswith(b"<"):
                return parsed(_NONE)
            refused = status_error(reply)
            if refused is None:
                return parsed(parsing.body(reply.body, reply.headers.get("Content-Type")))
            return _told(refused, url)
        except BalancerError as error:
            return _told(error.with_traceback(None), url)
        except (requests.RequestException, HTTPError, OSError) as error:
            hidden = self._http.hidden()
            unavailable = SourceUnavailable(f"GET {url}: {what_failed(error, hidden)}")
            unavailable.__cause__ = sanitized(error, hidden)
            return unavailable
        finally:
            self._failed.pop(path, None)

    def _current_token(self) -> Token | BalancerError:
        """Read the token once for a fetch, so that what was checked is what is sent."""
        try:
            token = self.token.now()
        except Exception as error:  # noqa: BLE001  # the user's callable may raise whatever it likes
            return SourceUnavailable(f"the token could not be read: {type(error).__name__}")
        problem = token.problem()
        return token if problem is None else Unauthorized(f"the token {problem}")


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

    def accounts(self) -> AccountTable:
        """Return the mapping as a table."""
        return to_table(self._accounts, self._service, self._default_capacity)


def lists_jobs(source: Any) -> bool:
    """Return whether a source can list running jobs."""
    return callable(getattr(source, "jobs", None)) and bool(getattr(source, "lists_jobs", True))


def describe(source: Any, *, jobs: bool) -> str:
    """Return what of ``source`` is asked for the accounts, or for the running jobs."""
    if isinstance(source, HttpSource):
        return source.describe(jobs=jobs)
    return f"{'jobs' if jobs else 'accounts'}() of {type(source).__name__}"


def to_table(accounts: Any, service: Service, default_capacity: int | None) -> AccountTable:
    """Turn what a source's ``accounts()`` returned into a table.

    Raises:
        InvalidConfiguration: it is no mapping of account ids. An AccountTable is read as a mapping is: what
            is wrong with one account makes that one broken.
    """
    found = accounts.accounts if isinstance(accounts, AccountTable) else accounts
    if not isinstance(found, Mapping):
        given = type(found).__name__
        raise InvalidConfiguration(f"accounts() must return a mapping or an AccountTable, not {given}")
    entries = [parsing.entry(str(id), value, service, default_capacity) for id, value in list(found.items())]
    return AccountTable({account.id: account for account in entries})


def to_listing(jobs: Any) -> JobList:
    """Turn what a source's ``jobs()`` returned into a job list.

    A job is a :class:`balancer.Job`, or a mapping with ``id``, ``account`` and perhaps ``ref``.

    Raises:
        InvalidConfiguration: it is no collection of jobs.
    """
    given = jobs.jobs if isinstance(jobs, JobList) else jobs
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidConfiguration(f"jobs() must return a collection of jobs, not {type(given).__name__}")
    found = tuple(_job(job) for job in given)
    return replace(jobs, jobs=found, counts=_counts(jobs)) if isinstance(jobs, JobList) else JobList(found)


def _job(job: Any) -> Job:
    if not isinstance(job, Job | Mapping):
        raise InvalidConfiguration(f"a job must be a Job or a mapping, not {type(job).__name__}")
    parts = [getattr(job, k) if isinstance(job, Job) else job.get(k) for k in ("id", "account", "ref")]
    return Job(*(None if part is None else str(part) for part in parts))


def _counts(jobs: JobList) -> Mapping[str, int]:
    counts: Mapping[Any, Any] = jobs.counts  # whatever the annotation asks for
    for id, number in counts.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InvalidConfiguration(f"counts of jobs() must be whole numbers; that of {str(id)!r} is not")
    return {str(id): number for id, number in counts.items()}


def _told(error: BalancerError, url: str) -> BalancerError:
    error.args = (f"GET {url}: {error}",)
    return error


def _raised_here(outcome: T | BalancerError) -> T:
    if isinstance(outcome, BalancerError):
        raise outcome
    return outcome


def _checked_timeout(timeout: object) -> tuple[float, float]:
    if not isinstance(timeout, tuple) or [type(part) in (int, float) for part in timeout] != [True, True]:
        raise TypeError("timeout must be two numbers of seconds: to connect, and for each piece of an answer")
    if min(timeout) <= 0:
        raise ValueError(f"timeout must be more than 0 seconds each, not {timeout}")
    return timeout


def _checked_url(base_url: object) -> str:
    if not isinstance(base_url, str):
        raise TypeError(f"base_url must be a string, not {type(base_url).__name__}")
    try:
        parts = urlsplit(base_url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or not base_url.isprintable() or " " in base_url:
        raise ValueError("base_url must be an http or https URL with a host")
    if parts.username or parts.password:
        raise ValueError("base_url must not carry a user or password: they would end up in logs")
    if parts.query or parts.fragment:
        raise ValueError("base_url must end with the host or a path: a query would swallow what is appended")
    return base_url.rstrip("/")
