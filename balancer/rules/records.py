"""What the ledger writes down: a record for each lease, a state for each account, and cooldowns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from balancer.models import Account
from balancer.rules import limits
from balancer.rules.limits import Limit

OUT = -1
"""Place of an account that stands in no list of a selector."""
Key = Hashable
"""Names a lease inside one ledger."""

NEW, HELD, BOUND, AMBIGUOUS, ENDED = "new", "held", "bound", "ambiguous", "ended"


class LeaseRecord:
    """One lease as the ledger knows it. It is made, and in its user's hands, before it is granted.

    What most leases never need has its default in the class and costs nothing until it is set.
    """

    __slots__ = ("__dict__", "account_state", "held_since", "key", "label", "state")

    key: Key
    state: str
    account_state: AccountState
    held_since: float
    label: str | None

    scope: str | None = None
    job_id: str | None = None
    other_jobs: tuple[str, ...] = ()
    """What it is bound to beside the first."""
    ended_jobs: frozenset[str] = frozenset()
    """Those of its jobs that are over, while others run."""
    state_since: float = 0.0
    """When it became bound or ambiguous."""
    end: float | None = None
    """When it ends by itself; None while its process keeps it."""
    adverse: bool = False
    """An answer spoke against the account: its end does not prove the account well."""
    accepted: bool = False
    """Its job was taken, as an answer or a bind has said: what comes later is about something else."""
    declined: bool = False
    """Its last answer proves that no job was taken: nothing runs on its slot."""
    reserves: bool = False
    """It is no lease: it stands for a slot that is offered to a process."""
    owner: str | None = None
    """``host:pid`` of its process where that may be another one."""
    missed: int = 0
    """Lists in a row that its job was missing from."""
    max_jobs: int | None = None
    """What replaced the account's capacity when it was granted."""
    spacing: float = 0.0
    """Seconds that its account is left alone for, once it was granted."""
    accepted_job: str | None = None
    """The job that an answer named, while the lease is not bound to it."""
    inherited: bool = False
    """It belongs to the process that this one was forked from."""
    waiter: Any = None
    """Who stands in the queue for it."""
    acquired_by: str | None = None
    """The line of the program that acquired it, once its object was dropped and if that is known."""
    refused: bool = False
    """A shared store had no room for it a moment ago, and waiting may help."""
    lease_id: str | None = None
    """Its id, where that is not made from the key any more."""

    def __init__(self, key: Key, label: str | None = None, scope: str | None = None) -> None:
        self.key, self.state, self.label = key, NEW, label
        if scope is not None:
            self.scope = scope

    @property
    def job_ids(self) -> tuple[str, ...]:
        """All jobs that it was bound to."""
        return () if self.job_id is None else (self.job_id, *self.other_jobs)

    @property
    def running_jobs(self) -> tuple[str, ...]:
        """Those that are not over."""
        if not self.ended_jobs:
            return self.job_ids
        return tuple(job_id for job_id in self.job_ids if job_id not in self.ended_jobs)


Alike = tuple[frozenset[str] | None, frozenset[str], int | None, str | None, int]
NONE: frozenset[str] = frozenset()
ANY: Alike = (None, NONE, None, None, 0)
"""Any account will do."""


class ListedJob(NamedTuple):
    """A job that the last list showed, which no lease was bound to."""

    account: str
    lease: Key | None = None
    """The unbound lease that it names; None: it names none."""


class SlotRequest(NamedTuple):
    """What one caller asks for; requests that are ``alike`` can be served by the same accounts."""

    record: LeaseRecord
    """The lease to be granted."""
    draw: float = 0.0
    """The caller's random number in [0, 1): the only chance in a decision."""
    accounts: frozenset[str] | None = None
    """The accounts it may use; None: any."""
    max_jobs: int | None = None
    exclude: frozenset[str] = NONE
    """Accounts that it may not use."""
    priority: int = 0
    """Who waits with a higher one is served first."""

    @property
    def scope(self) -> str | None:
        """What the job uses."""
        return self.record.scope

    @property
    def alike(self) -> Alike:
        """What decides, beside chance, which account can serve it, and before whom."""
        return self.accounts, self.exclude, self.max_jobs, self.record.scope, self.priority

    def admits(self, account_id: str) -> bool:
        """Whether the constraints leave this account."""
        return account_id not in self.exclude and (self.accounts is None or account_id in self.accounts)


class Cooldown:
    """A cooldown, and after its end the probing that it leaves behind."""

    __slots__ = ("account_state", "cooling", "probe", "reason", "scope", "until", "worth_waiting")

    def __init__(
        self, account_state: AccountState, scope: str | None, until: float, reason: str, worth_waiting: bool
    ) -> None:
        self.account_state, self.scope, self.until, self.reason = account_state, scope, until, reason
        self.worth_waiting = worth_waiting
        self.cooling = True
        self.probe: Key | None = None
        """The one lease that tries the account out, while it is out."""

    @property
    def blocks(self) -> bool:
        """Whether it keeps jobs away just now."""
        return self.cooling or self.probe is not None


NO_COOLDOWNS: Mapping[str | None, Cooldown] = MappingProxyType({})
"""What nearly all accounts have: one for all, as a dict for each would be a quarter of its memory."""


class Hope(NamedTuple):
    """Whether a slot of an account can be expected without anybody mending it."""

    account: bool
    """As far as its configuration and the cooldown of the whole account go."""
    scopes: frozenset[str]
    """The scopes whose cooldown is not worth waiting for."""


_ANY_HOPE, _NO_HOPE = Hope(account=True, scopes=frozenset()), Hope(account=False, scopes=frozenset())


class AccountState:
    """One account as the ledger knows it. ``in_flight`` is the size of ``held``, never its own number."""

    __slots__ = (
        "account",
        "cooldowns",
        "draining",
        "external",
        "held",
        "hope",
        "id",
        "kept_for",
        "left",
        "limit",
        "place",
        "plain",
        "spaced_until",
    )

    def __init__(self, account: Account) -> None:
        self.id = account.id
        self.account = account
        self.held: dict[Key, LeaseRecord] = {}
        self.external = 0
        self.cooldowns: Mapping[str | None, Cooldown] = NO_COOLDOWNS
        """By scope; the account's own under None."""
        self.draining = False
        self.limit: Limit | None = None
        """What refusals have taught about it."""
        self.left = 0
        """Leases that unconstrained jobs may still take: its bound, none if not usable, less external
        jobs and ``held``. Below 0: it is over its bound."""
        self.plain = True
        """``left`` is all that decides. Follows from the rest in :meth:`Ledger.update_selector`."""
        self.spaced_until: float | None = None
        """Until when the last grant leaves it alone; None: no longer."""
        self.place = OUT
        self.kept_for: LeaseRecord | None = None
        """The one lease that may be granted on it: its caller needs it emptier than others leave it."""
        self.hope: Hope | None = None
        """What the ledger has counted of it for :meth:`balancer.rules.ledger.Ledger.hopeless`."""
        self.compute_left()

    @property
    def usable(self) -> bool:
        """Whether the configuration lets jobs run on it."""
        return not self.draining and self.account.broken is None

    @property
    def cooling(self) -> bool:
        """Whether a cooldown of it goes on, be it for some scope only."""
        return any(cooldown.cooling for cooldown in self.cooldowns.values())

    @property
    def running(self) -> int:
        """Jobs that count against its bound."""
        return len(self.held) + self.external

    def jobs_beside(self, key: Key) -> int:
        """Return how many jobs are known to run there beside that of the lease ``key``."""
        return self.external + sum(
            not each.declined and not each.reserves and each.state is not AMBIGUOUS
            for each in self.held.values()
            if each.key != key
        )

    @property
    def load(self) -> float:
        """Share of the capacity that is in use."""
        return self.running / self.account.capacity

    def compute_left(self) -> None:
        """Work ``left`` out again, from the whole state: differences would let it drift."""
        bound = self.account.capacity
        if self.limit is not None:
            bound = limits.bound(bound, self.limit)
        self.left = (max(0, bound - self.external) if self.usable else 0) - len(self.held)

    @property
    def restricted(self) -> bool:
        """Whether it takes less than its capacity for what was learned, or for its last grant."""
        return self.limit is not None or self.spaced_until is not None

    @property
    def changes_at(self) -> float:
        """When something about it changes by itself, beside its cooldowns and leases; infinity: never."""
        trial = limits.due_at(self.limit)
        return min(trial, math.inf if self.spaced_until is None else self.spaced_until)

    def put_cooldown(self, cooldown: Cooldown) -> None:
        """Have ``cooldown`` in force for its scope."""
        self.cooldowns = {**self.cooldowns, cooldown.scope: cooldown}

    def drop_cooldown(self, scope: str | None) -> None:
        """End the cooldown for ``scope``, if there is one."""
        self.cooldowns = {
            key: cooldown for key, cooldown in self.cooldowns.items() if key != scope
        } or NO_COOLDOWNS

    def cooldowns_for(self, scope: str | None) -> Iterator[Cooldown]:
        """Yield the cooldowns that concern a job of ``scope``; a job without scope meets all of them."""
        for cooldown in self.cooldowns.values():
            if scope is None or cooldown.scope is None or cooldown.scope == scope:
                yield cooldown

    def fits(
        self, capacity: int | None = None, scope: str | None = None, record: LeaseRecord | None = None
    ) -> bool:
        """Whether one more job may be granted. This is the only place that decides it.

        ``capacity`` replaces the account's own for this decision; ``record`` is the lease to be granted.
        """
        if self.spaced_until is not None or (self.kept_for is not None and self.kept_for is not record):
            return False
        if capacity is None:
            if self.left <= 0:
                return False
        elif not self.usable or self.running >= limits.bound(capacity, self.limit, may_try=False):
            return False
        return not self.cooldowns or not any(cooldown.blocks for cooldown in self.cooldowns_for(scope))

    def compute_hope(self) -> Hope:
        """Work out what can be expected of it."""
        if not self.cooldowns:
            return _ANY_HOPE if self.usable else _NO_HOPE
        hopeless = [each.scope for each in self.cooldowns.values() if each.cooling and not each.worth_waiting]
        return Hope(
            self.usable and None not in hopeless, frozenset(scope for scope in hopeless if scope is not None)
        )

    def worth_waiting(self, scope: str | None) -> bool:
        """Whether a slot of it can be expected without anybody mending it."""
        return self.usable and all(
            cooldown.worth_waiting for cooldown in self.cooldowns_for(scope) if cooldown.cooling
        )

    def why_not(self, capacity: int | None, scope: str | None) -> str:
        """Say why it does not fit."""
        if self.draining:
            return "draining: no longer in the configuration"
        if self.account.broken is not None:
            return f"broken: {self.account.broken}"
        if self.cooldowns:
            concerned = list(self.cooldowns_for(scope))
            for cooldown in concerned:
                if cooldown.cooling:
                    return f"cooldown: {cooldown.reason}"
            if any(cooldown.probe is not None for cooldown in concerned):
                return "full: probing after a cooldown, one lease at a time"
        if self.kept_for is not None:
            return "full: kept for a caller who needs it emptier than others leave it"
        return self._why_full(capacity)

    def _why_full(self, capacity: int | None) -> str:
        if self.spaced_until is not None:
            return "full: left alone for a moment after its last grant"
        allowed = self.account.capacity if capacity is None else capacity
        bound = limits.bound(allowed, self.limit, may_try=capacity is None)
        if bound == allowed:
            return f"full: {len(self.held)} in flight and {self.external} external of {allowed}"
        external = f" and {self.external} external" if self.external else ""
        return f"full: {len(self.held)} in flight{external}, limited to {bound} of {allowed} by a 429"

    @property
    def state(self) -> str:
        """``draining``, ``broken``, ``cooldown``, ``full`` or ``ready``: the first that holds."""
        if self.draining:
            return "draining"
        if self.account.broken is not None:
            return "broken"
        if self.cooling:
            return "cooldown"
        return "ready" if self.fits() else "full"

    @property
    def free(self) -> int:
        """Jobs that it would take now, were there no constraints."""
        if not self.fits():
            return 0
        return 1 if self.cooldowns else self.left
