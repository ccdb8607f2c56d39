"""What a row of the service table says: the form, field by field.

A row is data: where the accounts are listed, what their fields are called, how a request names its
account, how the server lists running jobs, and where its answers mean something else than the
common rules of :mod:`balancer.useapi.verdicts` say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from balancer.models import FrozenDict, freeze

_NONE: Mapping[str, Any] = FrozenDict()
_MISSING = ("running", "gone", "failed")
_VERDICTS = ("ACCEPTED", "NOT_SENT", "BUSY", "EXHAUSTED", "BROKEN", "TOKEN", "REFUSED", "AMBIGUOUS")
_LONGEST_ID = 1000
"""No id is longer: what is says nothing, and would take its time to be searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsEndpoint:
    """How a service lists its running jobs, one GET for all of them."""

    path: str
    """Below the service's path, query included: ``"scheduler"``, ``"jobs/?options=executing"``."""
    rows: tuple[str, ...] = ("",)
    """Where the job rows stand: dotted paths into the body, all that exist are read. ``""`` is the
    body itself, ``*`` every key of a map of accounts, ``#`` every key of a map of jobs (the key is
    the job's id): ``"executing"``, ``"accounts.*.jobs"``, ``"videos.executing.#"``."""
    job: tuple[str, ...] = ("jobid", "jobId", "job_id", "id")
    """Fields of a row that hold the job's id, the first present counts. A row that is a bare string
    or number is the id itself."""
    account: tuple[str, ...] = ()
    """Fields of a row that hold the account id, the first present counts."""
    account_in_id: str | None = None
    """Regular expression whose first group is the account id inside a job id, where no field tells."""
    ref: str = "replyRef"
    """Field of a row that gives the ``replyRef`` back."""
    counts: str | None = None
    """Where bare numbers stand, for accounts with fewer rows: ``"*.executing"``, ``"summary.*.running"``."""
    only: str | None = None
    """Regular expression that must be found in a row's id for it to be of this kind of job."""
    covers: bool = True
    """Whether every running job of this kind is on the list. If not, none is ever called missing."""

    def __post_init__(self) -> None:
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRule:
    """An answer that means something else at this service than the common rules say."""

    status: int | tuple[int, ...]
    """HTTP status, or several."""
    verdict: str
    """Name of the :class:`balancer.Verdict`."""
    match: str | None = None
    """Regular expression searched for in the body's text, case ignored. None: any body."""
    longer: float | None = None
    """It holds only if the answer names a pause of more than so many seconds. None: whatever it names."""
    scoped: bool = False
    """The cooldown concerns only jobs of the lease's ``scope``."""
    until: str | None = None
    """``"utc-midnight"``: the cooldown ends then, unless the answer names a time."""
    seconds: float | None = None
    """Length of the cooldown, unless the answer names a time."""
    pool_wide: bool = False
    """Says nothing about this account: no cooldown is put on it."""
    refresh: bool = False
    """The configuration has changed under us: a refresh is due."""
    teaches: bool = True
    """A 429 that is BUSY by this rule tells how many jobs the account bears. False: it is about how fast or
    what was asked, or about the service; the account cools down and keeps the limit that it has."""

    def __post_init__(self) -> None:
        # Found with the first such answer, it would be found when a job was paid.
        if self.verdict not in _VERDICTS:
            raise ValueError(
                f"VerdictRule.verdict must be one of {', '.join(_VERDICTS)}, not {self.verdict!r}"
            )
        if self.until not in (None, "utc-midnight"):
            raise ValueError(f"VerdictRule.until must be 'utc-midnight' or None, not {self.until!r}")
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEndpoint:
    """Where one job is asked for: ``StatusEndpoint(path="jobs/{job}")``."""

    path: str
    """Below the service's path. ``{job}`` stands for the job's id, ``{account}`` for its account's."""
    only: str | None = None
    """Regular expression that must be found in the ids of jobs that are asked for here; None: any id."""
    missing: str = "gone"
    """What a 404 says of a job that was accepted: it is still ``running``, ``gone``, or it ``failed``."""

    def __post_init__(self) -> None:
        freeze(self)

    @property
    def needs_account(self) -> bool:
        """Whether the question names the account too."""
        return "{account}" in self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEndpoint:
    """How a running job is called off. What it has cost stays spent."""

    path: str
    """Below the service's path, with ``{job}`` for the job's id where the path holds it."""
    method: str = "DELETE"
    field: str | None = None
    """Field of the body that holds the job's id, where the path does not."""

    def __post_init__(self) -> None:
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the library has to know about a service; every field but two has a default."""

    key: str
    """Name in the table: ``"flowmusic"``; with a kind that has limits of its own, ``"minimax/images"``."""
    path: str
    """Base path below the host: ``"/v1/flowmusic"``."""
    accounts: str = "accounts"
    """Path of the account list below the base path."""
    selector: str = "email"
    """Request parameter that names the account."""
    selector_required: bool = False
    """The server does not choose: a create without the selector is a 400 as soon as there are two."""
    capacity: str | None = "maxJobs"
    """Field of an entry that holds its capacity; None where the service has none."""
    default_capacity: int | None = None
    """Documented capacity where an entry does not state one."""
    assumed: bool = False
    """No page documents ``default_capacity``: it is a guess, and people are told so."""
    max_jobs: str | None = None
    """Request parameter that replaces the capacity for one call; None where there is none."""
    error: tuple[str, ...] = ("error",)
    """Fields of an entry whose presence, if not empty, means that the account is broken."""
    health: str | None = "health"
    """Field of an entry that says ``OK`` on a healthy account."""
    strings: tuple[str, ...] = ()
    """Harmless strings of an entry that ``where`` may want: plan, tier, region."""
    reply_ref: bool = False
    """The service takes ``replyRef`` and lists it back: the lease id travels in it."""
    plain: tuple[str, ...] = ()
    """Creates that take neither ``max_jobs`` nor ``replyRef``, though the service's others do."""
    load: JobsEndpoint | None = None
    """How running jobs are listed; None where they are not."""
    job_id: tuple[str, ...] = ("jobid", "jobId", "job_id")
    """Where a create answer names its job: dotted paths, the first present counts."""
    final: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: _NONE)
    """Field of a status body or callback -> the values that are final."""
    creates: tuple[str, ...] = ()
    """Paths below the service's whose POST starts a job of this kind; ``*`` is any part of one name:
    ``"music"``, ``"videos/create-*"``. Empty: not known."""
    slotless: tuple[str, ...] = ()
    """Paths whose POST takes no slot and starts no job: uploads, lyrics, what is free of limits."""
    inline: tuple[str, ...] = ()
    """Fields by which a create's answer is known to hold the result itself: nothing is left to wait for."""
    status: tuple[StatusEndpoint, ...] = ()
    """Where a job is asked for: the first whose ``only`` fits its id. Empty: not known."""
    succeeded: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: _NONE)
    """Field of a final body -> the values that mean success; every other value is failure. Where a body
    has none of these fields, it succeeded if it shows results and names no error."""
    poll: tuple[float, float] = (2.0, 15.0)
    """Seconds until a new job is first asked for, and at most between two questions after it."""
    cancel: CancelEndpoint | None = None
    """How a running job is called off; None where the service cannot, or only stops to follow it."""
    results: tuple[str, ...] = ()
    """Where a final body holds the URLs of what was made: dotted paths, ``*`` for each item of an array.
    The first that leads anywhere counts."""
    download: str | None = None
    """Path at which a result is fetched where ``results`` leads to ids instead of URLs: ``"media/{id}"``."""
    assets: tuple[str, ...] = ()
    """Fields of a create that may hold the ids of uploads and earlier results; ``*`` as in ``creates``."""
    account_in_asset: str | None = None
    """Regular expression over ids of assets and jobs. Its group ``hex`` is the account in hexadecimal
    UTF-8; any other group that took part is the account as it is."""
    rules: tuple[VerdictRule, ...] = ()
    """Answers that mean something else here; tried in order before the common rules."""
    retired: str | None = None
    """Since when and why it is no more, or None while it is alive."""
    docs: str = ""
    """Page of the vendor's documentation that the row was read from."""
    checked: str = ""
    """What the row was held against last, with dates, and what of it is assumed."""

    def __post_init__(self) -> None:
        for name in ("key", "path", "accounts", "selector"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"Service.{name} must be a non-empty string, not {value!r}")
        if not self.path.startswith("/"):
            raise ValueError(f"Service.path must start with '/', not {self.path!r}")
        for endpoint in self.status:
            if endpoint.missing not in _MISSING:
                raise ValueError(f"missing must be one of {_MISSING}, not {endpoint.missing!r}")
        freeze(self)

    @property
    def alive(self) -> bool:
        """Whether the service still takes jobs."""
        return self.retired is None

    def account_of(self, asset: str) -> str | None:
        """Return the account that the id of an upload, a result or a job names, or None if it names none.

        Work on an asset must run where the asset lives, so its id carries the account.
        """
        if self.account_in_asset is None or len(asset) > _LONGEST_ID:
            return None
        found = re.search(self.account_in_asset, asset)
        if found is None:
            return None
        if (digits := found.groupdict().get("hex")) is None:
            return next(filter(None, found.groups()), None)
        try:
            return bytes.fromhex(digits).decode() or None
        except ValueError:
            return None


def check_patterns(row: Service) -> None:
    """Compile the regular expressions of a user's own row; those of the table are known to be right.

    Raises:
        ValueError: naming one that is none. Found with an answer, it would be found when a job was paid.
    """
    parts = (row, row.load, *row.rules, *row.status)
    for part, name in itertools.product(parts, ("account_in_asset", "account_in_id", "only", "match")):
        try:
            re.compile(getattr(part, name, None) or "")
        except (re.error, TypeError) as error:
            raise ValueError(f"{type(part).__name__}.{name} is no regular expression: {error}") from None
