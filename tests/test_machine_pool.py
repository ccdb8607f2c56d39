"""A pool with callers who wait in threads, held against the naive ledger whenever all is at rest."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from naive import NaiveLedger

from balancer import AccountPool, AcquireTimeout, NoAccounts, PoolClosed
from balancer.testing import ManualClock

IDS = ("a", "b", "c")
PATIENCE = 20.0
FOR_EVER = 1e9
entries = st.sampled_from(((1, None), (1, None), (2, None), (3, None), (2, "bad"), None))
tables = st.fixed_dictionaries(dict.fromkeys(IDS, entries)).map(
    lambda table: {id: entry for id, entry in table.items() if entry}
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "account": st.sampled_from(IDS),
        "exclude": st.sampled_from((("a",), ("b", "c"))),
        "max_jobs": st.integers(1, 3),
    },
)
pick = st.integers(0, 50)


@dataclass(eq=False)
class Caller:
    """One acquire, in a thread of its own."""

    pool: AccountPool
    wish: dict[str, Any]
    deadline: float
    number: int
    outcome: Any = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.outcome = self.pool.acquire(**self.wish)
        except Exception as error:  # noqa: BLE001  # the machine judges it
            self.outcome = error


class PoolMachine(RuleBasedStateMachine):
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

    @initialize(table=tables)
    def open(self, table):
        self.replace(table)
        self.pool = AccountPool(
            source=self.source,
            clock=self.clock,
            ttl=FOR_EVER,
            job_ttl=FOR_EVER,
            strategy=self.strategy,
        )
        self.pool.refresh()
        self.model.configure(table)

    def replace(self, table):
        self.source.clear()
        for id, (capacity, broken) in table.items():
            self.source[id] = {"maxJobs": capacity, "error": broken} if broken else capacity

    # -- what a caller may expect -------------------------------------------------------------------

    def constraints(self, wish):
        """Return the accounts that a wish leaves, or None for any, and its max_jobs."""
        if "account" not in wish and "exclude" not in wish:
            return None, wish.get("max_jobs")
        ids = {wish["account"]} if "account" in wish else set(self.model.config)
        return frozenset(ids - set(wish.get("exclude", ()))), wish.get("max_jobs")

    def eligible(self, wish):
        return self.model.eligible(*self.constraints(wish))

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

    # -- acquiring ------------------------------------------------------------------------------------

    @rule(wish=wishes)
    def try_acquire(self, wish):
        eligible = self.eligible(wish)
        try:
            lease = self.pool.acquire(timeout=0, **wish)
        except NoAccounts:
            assert self.hopeless(wish)
        except AcquireTimeout:
            assert not eligible
            assert not self.hopeless(wish)
        else:
            assert lease.account.id in eligible
            self.granted(lease, wish)
            self.check_capacity([(lease.account.id, wish)])

    def acquire_what_is_free(self):
        eligible = self.eligible({})
        lease = self.pool.acquire()
        assert lease.account.id in eligible
        self.granted(lease, {})

    @precondition(lambda self: self.eligible({}))
    @rule()
    def take_all_that_is_free(self):
        while self.eligible({}):
            self.acquire_what_is_free()
        with pytest.raises((AcquireTimeout, NoAccounts)):
            self.pool.acquire(timeout=0)

    @precondition(lambda self: len(self.callers) < 6)
    @rule(wish=wishes, timeout=st.sampled_from((None, 5.0, 1000.0)))
    def wait_in_line(self, wish, timeout):
        deadline = FOR_EVER if timeout is None else self.clock() + timeout
        caller = Caller(self.pool, {**wish, "timeout": timeout}, deadline, next(self.numbers))
        self.callers.append(caller)
        self.settle()

    # -- ending -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.leases)
    @rule(number=pick, by=st.sampled_from(("lease", "lease id", "job id")))
    def release(self, number, by):
        key = self.choose(number)
        lease = self.leases.pop(key)
        if by == "job id" and lease.job_id is not None:
            assert self.pool.release(job_id=lease.job_id) is True
        else:
            assert (self.pool.release(lease.id) if by == "lease id" else lease.release()) is True
        self.model.release(self.model.lease(key))
        assert lease.release() is False
        self.settle()

    @precondition(lambda self: any(lease.job_id is None for lease in self.leases.values()))
    @rule(number=pick, ttl=st.sampled_from((5.0, 50.0, FOR_EVER)), over=st.booleans())
    def bind(self, number, ttl, over):
        unbound = [key for key, lease in sorted(self.leases.items()) if lease.job_id is None]
        key = unbound[number % len(unbound)]
        job = f"job-{key}"
        if over:
            assert self.pool.release(job_id=job) is False
            self.model.release_job(job)
        self.leases[key].bind(job, ttl)
        if self.model.bind(self.model.lease(key), job, self.clock() + ttl) is False:
            del self.leases[key]
        self.settle()

    @precondition(lambda self: any(lease.job_id is None for lease in self.leases.values()))
    @rule(number=pick)
    def abandon(self, number):
        unbound = [key for key, lease in sorted(self.leases.items()) if lease.job_id is None]
        key = unbound[number % len(unbound)]
        del self.leases[key]
        gc.collect(0)
        self.model.end(self.model.lease(key))
        self.pool.stats()
        self.settle()

    # -- accounts and time --------------------------------------------------------------------------------

    @precondition(lambda self: self.model.config)
    @rule(number=pick, seconds=st.sampled_from((5.0, 50.0)))
    def cool(self, number, seconds):
        account = sorted(self.model.config)[number % len(self.model.config)]
        self.pool.cool(account, seconds)
        self.model.cool(account, None, self.clock() + seconds, worth_waiting=True)

    @precondition(lambda self: self.model.config)
    @rule(number=pick)
    def reset(self, number):
        account = sorted(self.model.config)[number % len(self.model.config)]
        self.pool.reset(account)
        self.model.reset(account)
        self.settle()

    @rule(table=tables)
    def refresh(self, table):
        self.replace(table)
        self.pool.refresh()
        self.model.configure(table)
        self.settle()

    @rule(seconds=st.sampled_from((1.0, 6.0, 60.0)))
    def let_time_pass(self, seconds):
        self.clock.advance(seconds)
        self.pool.stats()
        self.model.move(seconds)
        live = {lease.key for lease in self.model.leases}
        self.leases = {key: lease for key, lease in self.leases.items() if key in live}
        self.settle()

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
        waiting = self.pool.stats().waiting
        return waiting == len(self.callers) and not any(
            self.clock() >= caller.deadline or self.hopeless(caller.wish) or self.eligible(caller.wish)
            for caller in self.callers
        )

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

    @invariant()
    def pool_equals_the_model(self):
        if self.pool is None:
            return
        stats = self.pool.stats()
        assert stats.accounts.keys() == self.model.known()
        for id, account in stats.accounts.items():
            state = self.model.state(id)
            assert (account.in_flight, account.state) == (len(self.model.on(id)), state)
            assert (account.free > 0) is (state == "ready")
        assert (stats.free > 0) is bool(self.model.eligible())
        assert (stats.waiting, stats.in_flight) == (len(self.callers), len(self.model.leases))
        assert stats.external == 0

    def teardown(self):
        if self.pool is None:
            return
        self.pool.close()
        for caller in self.callers:
            caller.thread.join(PATIENCE)
            assert isinstance(caller.outcome, PoolClosed)
        assert all(lease.release() for lease in self.leases.values())


@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
def test_at_rest_no_waiter_could_use_a_free_slot(strategy):
    """Whatever frees a slot hands it to who can use it; no grant is over capacity (P-7, P-14, P-33)."""
    machine = type("Machine", (PoolMachine,), {"strategy": strategy})
    run_state_machine_as_test(machine, settings=settings(max_examples=80, stateful_step_count=40))
