"""What the ledger writes down: a row for each lease, a tally for each account, a pause for each cooldown."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from balancer.models import Account
from balancer.rules.selection import OUT

Key = Hashable
"""Names a lease inside one ledger."""

NEW, HELD, BOUND, AMBIGUOUS, ENDED = "new", "held", "bound", "ambiguous", "ended"


class LeaseRecord:
    """One lease as the ledger knows it. It is made, and in its user's hands, before it is granted.

    What most leases never need has its default in the class and costs nothing until it is set.
    """

    __slots__ = ("__dict__", "account_state", "held_since", "key", "state")

    key: Key
    state: str
    account_state: AccountState
    held_since: float

    label: str | None = None
    scope: str | None = None
    job_id: str | None = None
    state_since: float = 0.0
    """When it became bound or ambiguous."""
    end: float | None = None
    """When it ends by itself; None while its process keeps it."""
    adverse: bool = False
    """An answer spoke against the account: its end does not prove the account well."""
    owner: str | None = None
    """``host:pid`` of its process where that may be another one."""
    missed: int = 0
    """Lists in a row that its job was missing from."""

    def __init__(self, key: Key, label: str | None = None, scope: str | None = None) -> None:
        self.key, self.state = key, NEW
        if label is not None:
            self.label = label
        if scope is not None:
            self.scope = scope


class Blank(LeaseRecord):
    """A row that whoever makes it fills in: an ``__init__`` costs as much as making it."""

    __slots__ = ()

    __init__ = object.__init__


class SlotRequest(NamedTuple):
    """What one caller asks for; tickets that are ``alike`` can be served by the same accounts."""

    record: LeaseRecord
    """The lease to be granted."""
    draw: float = 0.0
    """The caller's random number in [0, 1): the only chance in a decision."""
    accounts: frozenset[str] | None = None
    """The accounts it may use; None: any."""
    max_jobs: int | None = None

    @property
    def scope(self) -> str | None:
        """What the job uses."""
        return self.record.scope

    @property
    def alike(self) -> tuple[frozenset[str] | None, int | None, str | None]:
        """What decides, beside chance, which account can serve it."""
        return self.accounts, self.max_jobs, self.record.scope


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


class AccountState:
    """One account as the ledger knows it. ``in_flight`` is the size of ``held``, never its own number."""

    __slots__ = ("account", "cooldowns", "draining", "external", "held", "id", "left", "place")

    def __init__(self, account: Account) -> None:
        self.id = account.id
        self.account = account
        self.held: dict[Key, LeaseRecord] = {}
        self.external = 0
        self.cooldowns: Mapping[str | None, Cooldown] = NO_COOLDOWNS
        """By scope; the account's own under None."""
        self.draining = False
        self.left = 0
        """Leases that unconstrained jobs may still take: capacity, none if not usable, less external
        jobs and ``held``. Below 0: it is over its capacity."""
        self.place = OUT
        self.compute_left()

    @property
    def usable(self) -> bool:
        """Whether the configuration lets jobs run on it."""
        return not self.draining and self.account.broken is None

    @property
    def load(self) -> float:
        """Share of the capacity that is in use."""
        return (len(self.held) + self.external) / self.account.capacity

    def compute_left(self) -> None:
        """Work ``left`` out again, from the whole state: differences would let it drift."""
        limit = max(0, self.account.capacity - self.external) if self.usable else 0
        self.left = limit - len(self.held)

    def put_cooldown(self, pause: Cooldown) -> None:
        """Have ``pause`` in force for its scope."""
        self.cooldowns = {**self.cooldowns, pause.scope: pause}

    def drop_cooldown(self, scope: str | None) -> None:
        """End the pause for ``scope``, if there is one."""
        self.cooldowns = {key: pause for key, pause in self.cooldowns.items() if key != scope} or NO_COOLDOWNS

    def cooldowns_for(self, scope: str | None) -> Iterator[Cooldown]:
        """Yield the pauses that concern a job of ``scope``; a job without scope meets all of them."""
        for pause in self.cooldowns.values():
            if scope is None or pause.scope is None or pause.scope == scope:
                yield pause

    def fits(self, capacity: int | None = None, scope: str | None = None) -> bool:
        """Whether one more job may be granted. This is the only place that decides it.

        ``capacity`` replaces the account's own for this decision.
        """
        if capacity is None:
            if self.left <= 0:
                return False
        elif not self.usable or len(self.held) + self.external >= capacity:
            return False
        return not self.cooldowns or not any(pause.blocks for pause in self.cooldowns_for(scope))

    def worth_waiting(self, scope: str | None) -> bool:
        """Whether a slot of it can be expected without anybody mending it."""
        return self.usable and all(
            pause.worth_waiting for pause in self.cooldowns_for(scope) if pause.cooling
        )

    def why_not(self, capacity: int | None, scope: str | None) -> str:
        """Say why it does not fit."""
        if self.draining:
            return "draining: no longer in the configuration"
        if self.account.broken is not None:
            return f"broken: {self.account.broken}"
        for pause in self.cooldowns_for(scope):
            if pause.cooling:
                return f"cooldown: {pause.reason}"
        for pause in self.cooldowns_for(scope):
            if pause.probe is not None:
                return "full: probing after a cooldown, one lease at a time"
        allowed = self.account.capacity if capacity is None else capacity
        return f"full: {len(self.held)} in flight and {self.external} external of {allowed}"

    @property
    def state(self) -> str:
        """``draining``, ``broken``, ``cooldown``, ``full`` or ``ready``: the first that holds."""
        if self.draining:
            return "draining"
        if self.account.broken is not None:
            return "broken"
        if any(pause.cooling for pause in self.cooldowns.values()):
            return "cooldown"
        return "ready" if self.fits() else "full"

    @property
    def free(self) -> int:
        """Jobs that it would take now, were there no constraints."""
        if not self.fits():
            return 0
        return 1 if self.cooldowns else self.left
