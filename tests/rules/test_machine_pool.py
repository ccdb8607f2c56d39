"""A pool with callers who wait in threads, held against the naive ledger whenever all is at rest."""

from __future__ import annotations

import gc

import pytest
from crowd import IDS, PATIENCE, Caller, Crowd
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from balancer import AccountPool, AcquireTimeout, NoAccounts, PoolClosed

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


class PoolMachine(Crowd):
    """Its rules have no preconditions, as what threads have done is not the same each time."""

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
        lease = self.pool.acquire(
            timeout=0
        )  # else a fault would stand still, each time that it is tried anew
        assert lease.account.id in eligible
        self.granted(lease, {})

    @rule()
    def take_all_that_is_free(self):
        while self.eligible({}):
            self.acquire_what_is_free()
        with pytest.raises((AcquireTimeout, NoAccounts)):
            self.pool.acquire(timeout=0)

    @rule(wish=wishes, timeout=st.sampled_from((None, 5.0, 1000.0)))
    def wait_in_line(self, wish, timeout):
        if len(self.callers) >= 6:
            return
        deadline = FOR_EVER if timeout is None else self.clock() + timeout
        wish = {**wish, "timeout": timeout}
        caller = Caller(self.pool, wish, deadline, next(self.numbers), came=self.clock())
        self.callers.append(caller)
        self.settle()

    # -- ending -----------------------------------------------------------------------------------------

    @rule(number=pick, by=st.sampled_from(("lease", "lease id", "job id")))
    def release(self, number, by):
        if not self.leases:
            return
        key = self.choose(number)
        lease = self.leases.pop(key)
        if by == "job id" and lease.job_id is not None:
            assert self.pool.release(job_id=lease.job_id) is True
        else:
            assert (self.pool.release(lease.id) if by == "lease id" else lease.release()) is True
        self.model.release(self.model.lease(key))
        assert lease.release() is False
        self.settle()

    @rule(number=pick, ttl=st.sampled_from((5.0, 50.0, FOR_EVER)), over=st.booleans())
    def bind(self, number, ttl, over):
        unbound = [key for key, lease in sorted(self.leases.items()) if lease.job_id is None]
        if not unbound:
            return
        key = unbound[number % len(unbound)]
        job = f"job-{key}"
        if over:
            assert self.pool.release(job_id=job) is False
            self.model.release_job(job)
        self.leases[key].bind(job, ttl)
        if self.model.bind(self.model.lease(key), job, self.clock() + ttl) is False:
            del self.leases[key]
        self.settle()

    @rule(number=pick)
    def abandon(self, number):
        unbound = [key for key, lease in sorted(self.leases.items()) if lease.job_id is None]
        if not unbound:
            return
        key = unbound[number % len(unbound)]
        del self.leases[key]
        gc.collect(0)
        self.model.end(self.model.lease(key))
        self.pool.stats()
        self.settle()

    # -- accounts and time --------------------------------------------------------------------------------

    @rule(number=pick, seconds=st.sampled_from((5.0, 50.0)))
    def cool(self, number, seconds):
        if not self.model.config:
            return
        account = sorted(self.model.config)[number % len(self.model.config)]
        self.pool.cool(account, seconds)
        self.model.cool(account, None, self.clock() + seconds, worth_waiting=True)

    @rule(number=pick)
    def reset(self, number):
        if not self.model.config:
            return
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

    @invariant()
    def pool_equals_the_model(self):
        if self.pool is None:
            return
        stats = self.pool.stats()
        assert stats.accounts.keys() == self.model.known(), stats
        kept = self.kept()
        for id, account in stats.accounts.items():
            state = "full" if id in kept else self.model.state(id)
            assert (account.in_flight, account.state) == (len(self.model.on(id)), state)
            assert (account.free > 0) is (state == "ready")
        assert (stats.free > 0) is bool(self.eligible({}))
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
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))
