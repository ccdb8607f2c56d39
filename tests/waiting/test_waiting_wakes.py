"""What wakes a caller who waits."""

from __future__ import annotations

import asyncio
import threading

import pytest
import structlog
from crew import Played, error, in_line, result, start
from stepping import until

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.testing import at_rest
from balancer.waiting.queue import WaitQueue

LABELS = ["one", "three", "two"]


def test_a_release_from_any_thread_and_by_any_name_wakes(pool_of):
    """P-33: by the lease, by its id, by its job."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    by_name = [
        lambda lease: lease.release(),
        lambda lease: pool.release(lease.id),
        lambda lease: (lease.bind("job"), pool.release(job_id="job")),
        lambda lease: lease.__exit__(None, None, None),
        lambda lease: lease.__exit__(KeyError, KeyError(), None),
    ]
    for release in by_name:
        (waiter,) = in_line(pool, 1)
        result(start(release, lease))
        lease = result(waiter)


def test_an_abandoned_lease_wakes_at_the_next_operation(pool_of, clock):
    """P-33, P-3: a slot whose handle nobody has any more goes to who waits."""
    pool = pool_of({"a": 1})
    leases = [pool.acquire()]
    (waiter,) = in_line(pool, 1)
    leases.clear()
    pool.holders()
    assert result(waiter).account.id == "a"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": 1, "b": {"maxJobs": 1, "error": "broken"}}, {"a": 1, "b": {"maxJobs": 1}}),
        ({"a": 1, "b": {"maxJobs": 1, "health": "Expired"}}, {"a": 1, "b": {"maxJobs": 1, "health": "OK"}}),
    ],
    ids=["capacity raised", "account added", "error cleared", "health restored"],
)
def test_a_change_of_the_configuration_wakes(pool_of, before, after):
    """P-33: whatever makes room in the new table serves those in line."""
    pool = pool_of(table := dict(before))
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    table.clear()
    table.update(after)
    pool.refresh()
    assert result(waiter)
    assert lease.release()


def test_the_end_of_a_cooldown_wakes(pool_of, clock):
    """P-33: nobody calls, the clock alone brings the account back."""
    pool = pool_of({"a": 1})
    pool.cool("a", 20)
    (waiter,) = in_line(pool, 1)
    clock.advance(19.9)
    assert not waiter.done()
    clock.advance(0.1)
    assert result(waiter).account.id == "a"


def test_the_end_of_probing_wakes(pool_of, clock):
    """P-33, P-54: after a cooldown one lease at a time, until one ends well; then all the room is there."""
    pool = pool_of({"a": 3})
    pool.cool("a", 20)
    clock.advance(20)
    probe = pool.acquire(timeout=0)
    waiters = in_line(pool, 2)
    assert not any(waiter.done() for waiter in waiters)
    probe.report((200, {}, '{"jobid": "1"}'))
    assert {result(waiter).account.id for waiter in waiters} == {"a"}


def test_the_end_of_a_bound_lease_wakes(pool_of, clock):
    """P-33: a job that nobody reports as over gives its slot back when its time is up."""
    pool = pool_of({"a": 1})
    pool.acquire().bind("job", ttl=100)
    (waiter,) = in_line(pool, 1)
    clock.advance(99)
    assert not waiter.done()
    clock.advance(1)
    assert result(waiter).account.id == "a"


def test_the_end_of_an_ambiguous_lease_wakes(pool_of, clock):
    """P-33: as does a slot kept for a job that may run."""
    pool = pool_of({"a": 1}, ambiguous_ttl=100)
    lease = pool.acquire()
    lease.report((500, {}, ""))
    (waiter,) = in_line(pool, 1)
    clock.advance(99)
    assert not waiter.done()
    clock.advance(1)
    assert result(waiter).account.id == "a"


def test_a_reset_wakes(pool_of):
    """P-33, P-62: the operator says that the account is well."""
    pool = pool_of({"a": 1})
    pool.cool("a", 3600)
    (waiter,) = in_line(pool, 1)
    pool.reset("a")
    assert result(waiter).account.id == "a"


def test_a_change_of_who_is_external_wakes(clock):
    """P-33: a job of somebody else that ends makes room."""
    source = Played(a=1)
    source.running = [{"id": "theirs", "account": "a"}]
    source.jobs = lambda: source.running
    pool = AccountPool(source=source, clock=clock)
    (waiter,) = in_line(pool, 1)
    source.running = []
    pool.reconcile()
    assert result(waiter).account.id == "a"


def test_real_time_wakes_without_a_clock_that_can_be_moved():
    """P-33: with the system's own clock the first in line sleeps until something is due."""
    with AccountPool(source={"a": 1}) as pool:
        pool.refresh()
        pool.cool("a", 0.05)
        assert pool.acquire(timeout=20).account.id == "a"


def test_the_keeper_of_the_time_may_leave(pool_of, clock):
    """The one who wakes for what is due hands that on: the others are not stranded."""
    pool = pool_of({"a": 1})
    pool.cool("a", 20)
    (hasty,) = in_line(pool, 1, timeout=5)
    (patient,) = in_line(pool, 1)
    clock.advance(5)
    assert isinstance(error(hasty), AcquireTimeout)
    clock.advance(15)
    assert result(patient).account.id == "a"


def test_the_keeper_and_its_heir_may_leave_at_once():
    """P-33: who is to keep the time next may be gone before it knows; then another one does."""

    async def main():
        async with AsyncAccountPool(source={"a": 1}, reconcile_every=None) as pool:
            await pool.refresh()
            await pool.cool("a", 0.1)
            keeper, patient, heir = (asyncio.ensure_future(one(pool)) for _ in range(3))
            await asyncio.sleep(0)
            assert (await pool.stats()).waiting == 3
            keeper.cancel()
            heir.cancel()
            return await asyncio.wait_for(patient, 30)

    async def one(pool):
        async with pool.acquire() as lease:
            return lease.account.id

    assert asyncio.run(main()) == "a"


def test_a_lease_dropped_before_anybody_keeps_the_time_is_not_overlooked(monkeypatch):
    """P-33, P-3: the first in line looks once more when it has become the one to be told."""
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    leases, join = [pool.acquire()], WaitQueue.join

    def interrupted(*args):
        leases.clear()  # as a garbage collection may do in the middle of it
        join(*args)

    monkeypatch.setattr(WaitQueue, "join", interrupted)
    assert result(start(pool.acquire)).release()


class Source:
    """A source that takes as long as the test wants from its second fetch on."""

    def __init__(self):
        self.table, self.fetches, self.may_land = {"a": 1}, 0, threading.Event()

    def accounts(self):
        self.fetches += 1
        if self.fetches > 1:
            self.may_land.wait(60)
        return dict(self.table)


@pytest.fixture
def source():
    """Return a source whose second fetch takes long; it lands at the end of the test."""
    source = Source()
    yield source
    source.may_land.set()


def test_who_waits_fetches_when_an_answer_says_that_the_configuration_has_changed(source):
    """P-33: nobody has to come by for that, and no slot has to be given back."""
    pool = AccountPool(source=source, ttl=1e9, reconcile_every=None)
    lease = pool.acquire()
    waiting = start(pool.acquire)
    at_rest(pool, callers=1)
    source.table["b"] = 1
    source.may_land.set()
    pool._core.refresher.expire()
    assert result(waiting).account.id == "b"
    assert lease.release()


@pytest.mark.parametrize("constraint", [{}, {"account": "broken"}], ids=["stale", "hopeless"])
def test_a_fetch_that_takes_long_keeps_nobody_from_a_slot_that_becomes_free(source, monkeypatch, constraint):
    """P-33: the time is kept by nobody who waits for the fetch."""
    monkeypatch.setattr("balancer.engine.acquire.PATIENCE", 60.0)
    monkeypatch.setattr("balancer.rules.freshness.CONFIRMED", 0.0)
    pool = AccountPool(source=source, ttl=1e9, reconcile_every=None)
    source.table["broken"] = {"maxJobs": 1, "error": "expired"}
    pool.refresh()
    pool.cool("a", 1.5)
    waiting = [start(pool.acquire, **constraint)]
    at_rest(pool, callers=1, landed=False)
    waiting.append(start(pool.acquire))
    at_rest(pool, callers=2, landed=False)
    if not constraint:
        pool._core.refresher.expire()
    until(lambda: source.fetches == 2)
    assert result(waiting[bool(constraint)]).account.id == "a"
    assert not source.may_land.is_set()


def test_all_whose_wait_has_become_long_are_logged_in_real_time(monkeypatch):
    """P-59: those who sleep until they are served are told of by the one who keeps the time."""
    for module in ("balancer.waiting.queue", "balancer.engine.acquire"):
        monkeypatch.setattr(f"{module}.LONG_WAIT", 0.1)
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    with structlog.testing.capture_logs() as events:
        lease = pool.acquire()
        waiting = [start(pool.acquire, label=label) for label in LABELS]
        until(lambda: sorted(e["label"] for e in events if e["event"] == "waiting_long") == LABELS)
        lease.release()
        for caller in waiting:
            caller.add_done_callback(lambda served: served.result().release())
        assert all(result(caller) for caller in waiting)


def test_who_comes_after_others_were_told_to_wait_long_is_told_of_too(monkeypatch):
    """P-59: a task, which has no timer of its own for that, as well as a thread; each once."""
    for module in ("balancer.waiting.queue", "balancer.engine.acquire"):
        monkeypatch.setattr(f"{module}.LONG_WAIT", 0.1)
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    tasks = AsyncAccountPool(pool=pool)

    async def wait(label):
        await (await tasks.acquire(label=label)).release()

    with structlog.testing.capture_logs() as events:

        def told():
            return [event["label"] for event in events if event["event"] == "waiting_long"]

        lease = pool.acquire()
        waiting = [start(asyncio.run, wait("first"))]
        until(lambda: told() == ["first"])
        waiting += [start(asyncio.run, wait("second")), start(pool.acquire, label="third")]
        until(lambda: sorted(told()) == ["first", "second", "third"])
        lease.release()
        waiting[2].add_done_callback(lambda served: served.result().release())
        for caller in waiting:
            result(caller)
    assert sorted(told()) == ["first", "second", "third"]
