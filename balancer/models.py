"""The values that travel through the library. All are frozen; none holds a secret.

They may stand in sets and be keys of mappings, travel to other processes in pickles, be copied, and be
taken apart by :func:`dataclasses.asdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NoReturn, TypeVar

MAX_CAPACITY = 1_000_000
K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that never changes, and so can be hashed if its values can."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none as it may change
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be changed; dict(…) makes one that can")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


_EMPTY: FrozenDict[str, Any] = FrozenDict()


def freeze(value: Any, *names: str) -> None:
    """Have these fields of a frozen dataclass, or all, hold what cannot change, whatever they were given."""
    for name in names or [each.name for each in fields(value)]:
        given = getattr(value, name)
        frozen = _frozen(given)
        if frozen is not given:
            object.__setattr__(value, name, frozen)


def _frozen(given: Any) -> Any:
    if isinstance(given, list):
        return tuple(given)
    if isinstance(given, Mapping) and type(given) is not FrozenDict:
        return FrozenDict({key: _frozen(item) for key, item in given.items()})
    return given


@dataclass(frozen=True, slots=True)
class Account:
    """One account as the configuration describes it."""

    id: str
    """The key of the account in the configuration, whatever its entry says."""
    capacity: int = 1
    """How many jobs it runs at once (``maxJobs``)."""
    fields: Mapping[str, bool | int | float | str] = field(default_factory=lambda: _EMPTY)
    """Top-level booleans and numbers of its entry, and the strings that its service's row names."""
    broken: str | None = None
    """Why the configuration says that it cannot be used, or None."""
    note: str | None = None
    """What was assumed about it (a capacity that its entry does not state), or None."""

    def __post_init__(self) -> None:
        if type(self.fields) is not FrozenDict:  # most are: a store has thousands of accounts read at once
            freeze(self, "fields")


@dataclass(frozen=True, slots=True)
class AccountTable:
    """The accounts of one service, as read at one moment."""

    accounts: Mapping[str, Account]
    version: int = field(default=0, compare=False)
    """Number that a shared store knows it by; 0: it is in none."""

    def __post_init__(self) -> None:
        if type(self.accounts) is dict:  # accounts are frozen already, and there may be thousands
            object.__setattr__(self, "accounts", FrozenDict(self.accounts))
        else:
            freeze(self, "accounts")

    def __len__(self) -> int:
        return len(self.accounts)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that the server says is running."""

    id: str | None
    """The job's id; None where the list gives none."""
    account: str | None
    """The account it runs on; None where the list does not tell."""
    ref: str | None = None
    """The ``replyRef`` it was submitted with, where the list gives it back."""


@dataclass(frozen=True, slots=True)
class JobList:
    """What a service says is running: jobs by name, and bare counts where it gives no names."""

    jobs: tuple[Job, ...] = ()
    counts: Mapping[str, int] = field(default_factory=lambda: _EMPTY)
    """Account id -> number running, for accounts of which only the number is known."""
    complete: bool = True
    """Whether a job of this kind that is missing from the list is known not to run."""

    def __post_init__(self) -> None:
        freeze(self, "jobs", "counts")


@dataclass(frozen=True, slots=True)
class AccountStats:
    """One account at one moment."""

    id: str
    capacity: int
    in_flight: int
    """Live leases: ours and, with a shared store, those of every other process."""
    external: int
    """Jobs that the server lists and that are nobody's lease."""
    free: int
    """Jobs that it would take now; 0 unless its state is ``ready``."""
    state: str
    """``draining``, ``broken``, ``cooldown``, ``full`` or ``ready``: the first that holds."""
    reason: str | None = None
    until: datetime | None = None
    """End of its cooldown, or of the time that its last grant leaves it alone for (UTC), if it is in one."""
    limit: int | None = None
    """Jobs that it has been seen to bear, fewer than its capacity; None: no refusal has taught any."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment. Numbers of accounts and slots are the fleet's, totals this process's."""

    service: str
    accounts: Mapping[str, AccountStats]
    capacity: int
    """Of all accounts but the broken and the draining."""
    in_flight: int
    external: int
    free: int
    """More than 0 exactly if an acquire without constraints would succeed now."""
    waiting: int
    """Callers of this process that wait for a slot."""
    fetched_at: datetime | None
    """When the configuration in force was read (UTC)."""
    age: float | None
    """Seconds since then."""
    stale: bool
    """The configuration is older than its ttl because refreshes fail."""
    last_error: str | None
    """What the last refresh or reconciliation failed with, if it did."""
    acquired: int = 0
    released: int = 0
    expired: int = 0
    reclaimed: int = 0
    timeouts: int = 0
    refreshes: int = 0
    refresh_failures: int = 0

    def __post_init__(self) -> None:
        freeze(self, "accounts")


@dataclass(frozen=True, slots=True)
class Holder:
    """A live lease, as an operator wants to see it."""

    id: str
    account: str
    job_id: str | None
    label: str | None
    owner: str
    """``host:pid`` of the process that acquired it."""
    age: float
    """Seconds since it was acquired."""
    expires_in: float | None
    """Seconds until it ends by itself; None while its process keeps it."""
    state: str
    """``held``, ``bound`` or ``ambiguous``."""
    job_ids: tuple[str, ...] = ()
    """All jobs that it is bound to; ``job_id`` is the first."""


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What one comparison with the server's list did. All ids are lease ids but ``adopted``."""

    adopted: Mapping[str, int] = field(default_factory=lambda: _EMPTY)
    """Account id -> external jobs now counted against it, where there are any."""
    reclaimed: tuple[str, ...] = ()
    """Bound leases ended because their job was missing from two lists in a row."""
    resolved: tuple[str, ...] = ()
    """Ambiguous leases that ended, or became bound to the job that carries their ``replyRef``."""
    kept: tuple[str, ...] = ()
    """Bound and ambiguous leases that stay."""

    def __post_init__(self) -> None:
        freeze(self, "adopted", "reclaimed", "resolved", "kept")
