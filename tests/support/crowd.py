"""Callers who wait in threads, and how to tell that all of them are at rest and were served rightly."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from naive import NaiveLedger

from balancer import AccountPool, AcquireTimeout, NoAccounts
from balancer.testing import ManualClock, at_rest

IDS = ("a", "b", "c")
PATIENCE = 20.0


@dataclass(eq=False)
class Caller:
    """One acquire, in a thread of its own."""

    pool: AccountPool
    wish: dict[str, Any]
    deadline: float
    number: int
    outcome: Any = None
    came: float = 0.0
    """What the pool's clock read when it came."""
    thread: threading.Thread = field(init=False)

    def __post_init__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.outcome = self.pool.acquire(**self.wish)
        except Exception as error:  # noqa: BLE001  # the machine judges it
            self.outcome = error


class Crowd(RuleBasedStateMachine):
    """A pool beside the naive ledger, and the callers who wait for it."""

    strategy = "random"

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.model = NaiveLedger(self.strategy, lower_only=False)
        self.source = {}
        self.pool = None
        self.leases = {}
        """Key in the model -> lease."""
        self.handed_over = []
        """Callers that got a lease since the last time that all was at rest."""
        self.callers = []
        self.numbers = itertools.count(1)

    # -- what a caller may expect -------------------------------------------------------------------

    def constraints(self, wish):
        """Return the accounts that a wish leaves, or None for any, and its max_jobs."""
        if "account" not in wish and "exclude" not in wish:
            return None, wish.get("max_jobs")
        ids = {wish["account"]} if "account" in wish else set(self.model.config)
        return frozenset(ids - set(wish.get("exclude", ()))), wish.get("max_jobs")

    def eligible(self, wish, caller=None):
        """Return where a wish may be served; what is kept for others is out before loads are compared."""
        ids, max_jobs = self.constraints(wish)
        ids = frozenset(self.model.config) if ids is None else ids
        return set(self.model.eligible(ids - self.kept(caller), max_jobs))

    def hopeless(self, wish):
        return self.model.hopeless(self.constraints(wish)[0], None)

    def granted(self, lease, wish):
        account = lease.account.id
        assert account in (self.constraints(wish)[0] or IDS)
        key = next(self.numbers)
        self.model.grant(key, account, None)
        self.leases[key] = lease

    def check_capacity(self, grants):
        """Check that there is an order of ``grants`` in which each of them found room."""
        for account in IDS:
            room = sorted(
                self.model.capacity(account, wish.get("max_jobs")) for id, wish in grants if id == account
            )
            before = self.model.taken(account) - len(room)
            assert all(before + n < capacity for n, capacity in enumerate(room)), "granted over capacity"

    def choose(self, number):
        return sorted(self.leases)[number % len(self.leases)]

    # -- rest -----------------------------------------------------------------------------------------------

    def settle(self):
        """Wait until nobody moves any more, and judge what has become of those who waited."""
        end = time.monotonic() + PATIENCE
        while not self.at_rest():
            assert time.monotonic() < end, f"stranded: {[caller.wish for caller in self.callers]}"
            time.sleep(0.0002)
        self.check_capacity([(caller.outcome.account.id, caller.wish) for caller in self.handed_over])
        for caller in self.handed_over:
            older = [other for other in self.callers if other.number < caller.number]
            assert not any(self.alike(caller, other) for other in older), (
                "overtaken by one who wants the same"
            )
        self.handed_over = []

    def at_rest(self):
        finished = [caller for caller in self.callers if not caller.thread.is_alive()]
        self.callers = [caller for caller in self.callers if caller not in finished]
        for caller in finished:
            self.judge(caller)
        return (
            self.pool.stats().waiting == len(self.callers)
            and self.nothing_moves()
            and not any(
                self.clock() >= caller.deadline
                or self.hopeless(caller.wish)
                or self.eligible(caller.wish, caller)
                for caller in self.callers
            )
        )

    def kept(self, caller=None):
        """Return the account that is kept for somebody else, who has waited for an emptier one than it is."""
        lowering = [each for each in self.callers if "max_jobs" in each.wish]
        first = min(lowering, key=lambda each: each.number, default=None)
        if first is None or first is caller or self.clock() < first.came + 5.0:
            return set()
        kept = {id for id, why in self.pool.explain().items() if "kept" in why}
        assert len(kept) <= 1
        return kept

    def nothing_moves(self):
        try:
            return at_rest(self.pool, timeout=0)
        except TimeoutError:
            return False

    def judge(self, caller):
        if isinstance(caller.outcome, NoAccounts):
            assert self.hopeless(caller.wish)
        elif isinstance(caller.outcome, AcquireTimeout):
            assert self.clock() >= caller.deadline
        elif isinstance(caller.outcome, Exception):
            raise caller.outcome
        else:
            self.granted(caller.outcome, caller.wish)
            self.handed_over.append(caller)

    def alike(self, one, other):
        return self.constraints(one.wish) == self.constraints(other.wish)
