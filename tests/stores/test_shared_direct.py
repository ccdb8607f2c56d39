"""One operation there and one back: the way of most calls, over a store that others share."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading

import pytest
from crew import start
from interrupts import interrupted
from stepping import until

from balancer import AcquireTimeout, AsyncAccountPool, StoreUnavailable
from balancer.rules import operations as ops
from balancer.rules.records import HELD

TWO = {"a": 2}


@pytest.fixture
def pool(pools):
    """Return a pool that knows its accounts."""
    pool = pools(source=TWO, ttl=1e9, reconcile_every=None)
    pool.acquire().release()
    return pool


@pytest.fixture
def no_timekeeper(pool, monkeypatch):
    """Have the timekeeper of the pool see nothing to do: it has the worker look around when it starts."""
    monkeypatch.setattr(pool._core.timekeeper, "_on_due", lambda: math.inf)


def asked(shelf):
    """Return the kinds of the operations that were asked for since this was called last, but for beats."""
    calls = [type(operation) for _, operation in shelf.calls if not isinstance(operation, ops.Heartbeat)]
    shelf.calls.clear()
    return calls


def test_a_slot_costs_one_operation_there_and_one_back(pool, shelf):
    """Nothing is waited for or looked up: not the configuration, not a place in line."""
    asked(shelf)
    with pool.acquire(label="mine", timeout=5) as lease:
        assert [holder.label for holder in pool.holders()] == ["mine"]
        assert lease.account.id == "a"
    assert asked(shelf) == [ops.Acquire, ops.ReadAll, ops.Release]


@pytest.mark.parametrize(
    "wish", [{"account": "a"}, {"scope": "s"}, {"max_jobs": 1}, {"priority": 3}], ids=str
)
def test_who_asks_for_something_of_its_own_pays_no_more(pool, shelf, wish):
    """Neither an account nor anything else that the store is told of takes a place in line first."""
    asked(shelf)
    pool.acquire(timeout=5, **wish).release()
    assert asked(shelf) == [ops.Acquire, ops.Release]


@pytest.mark.usefixtures("never_by_itself", "no_timekeeper")
@pytest.mark.parametrize("wish", [{}, {"account": "a"}], ids=str)
def test_who_is_refused_asks_once(pool, shelf, wish):
    """Nobody asks again what was answered a moment ago: who waits leaves it to the worker to look."""
    leases, askers = [pool.acquire(), pool.acquire()], []

    def note(_, operation):
        if isinstance(operation, ops.Acquire):
            askers.append(threading.current_thread().name)

    shelf.before = note
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0, **wish)
    assert askers == [threading.current_thread().name]
    askers.clear()
    taken = start(pool.acquire, timeout=60, **wish)
    until(lambda: pool.stats().waiting == 1)
    leases.pop().release()
    assert taken.result(10).account.id == "a"
    assert len([name for name in askers if name != "balancer-worker"]) == 1


@pytest.mark.usefixtures("never_by_itself", "no_timekeeper")
@pytest.mark.parametrize("wish", [{}, {"account": "a"}], ids=str)
def test_a_slot_that_comes_free_after_a_refusal_is_not_missed(pool, pools, monkeypatch, wish):
    """P-12: nobody is told of it, as nobody stood in line when it came free."""
    other = pools(source=TWO, ttl=1e9, reconcile_every=None)
    lease, _kept = other.acquire(), other.acquire()
    queue = pool._core.store.queue
    usual = queue.on_refused

    def refused(*told):
        usual(*told)
        lease.release()

    monkeypatch.setattr(queue, "on_refused", refused)
    assert start(pool.acquire, timeout=60, **wish).result(10).account.id == "a"


def test_an_interruption_at_any_moment_of_an_acquire_leaves_no_slot_taken(pool):
    """P-1, P-8: whether the store was asked, had answered, or had not heard of it."""
    leases = []  # to which none is dropped: what strikes in a finalizer is lost
    for moment in itertools.count(1):
        if not interrupted(moment, lambda: leases.append(pool.acquire())):
            break
        for lease in leases:
            lease.release()
        until(lambda: pool.stats().free == 2)
        assert not pool._core.store.held.held
    assert moment > 10


def test_an_interruption_while_a_dropped_lease_is_ended_loses_no_slot(pool):
    """P-1, P-3: whoever comes by next ends it."""
    store = pool._core.store
    for moment in itertools.count(1):
        lease = pool.acquire()
        store.held.abandoned.append(lease._record)  # as its finalizer does, which is not struck here
        came = interrupted(moment, store.collect)
        until(lambda: pool.stats().free == 2)
        assert not store.held.held
        if not came:
            break
    assert moment > 10


def test_an_interruption_at_any_moment_of_a_release_loses_no_slot(pool):
    """P-2: the slot is free soon, or the lease lives and is released again."""
    for moment in itertools.count(1):
        lease = pool.acquire()
        came = interrupted(moment, lease.release)
        if lease._record.state is HELD:
            assert lease.release()
        until(lambda: pool.stats().free == 2)
        assert not pool._core.store.held.held
        if not came:
            break
    assert moment > 10


def test_a_slot_that_was_ended_elsewhere_is_not_given_back_again(pool, pools):
    """P-10: an operator was quicker; True is said once, and nothing is counted twice."""
    operator = pools(source=TWO, ttl=1e9)
    lease = pool.acquire()
    assert operator.release(lease.id)
    before = pool._core.store.released
    assert not lease.release()
    assert pool._core.store.released == before
    assert pool.stats().free == 2


def test_a_take_whose_answer_was_lost_is_undone(pool, shelf):
    """P-36: nobody knows whether it was granted; the caller gets another slot, and the first is freed."""
    lost = iter([1])

    def lose(_, operation):
        shelf.lose_replies = next(lost, 0) if isinstance(operation, ops.Acquire) else 0

    shelf.before = lose
    lease = pool.acquire(timeout=20)
    assert next(lost, None) is None
    until(lambda: [holder.id for holder in pool.holders()] == [lease.id])


def test_a_task_asks_without_blocking_its_loop(pools, shelf, pool):
    """P-35: the way of threads, which blocks, is not taken by tasks, not even of the same pool."""
    tasks, threads = AsyncAccountPool(pool=pool), []
    backend = pool._core.store.backend
    usual = backend.call

    def call(operation, _=None):
        threads.append(threading.current_thread() is threading.main_thread())
        return usual(operation)

    async def acall(operation, _=None):
        return await asyncio.to_thread(call, operation)

    backend.call, backend.acall = call, acall

    async def pair():
        async with tasks.acquire() as lease:
            assert lease.account.id == "a"
        await (await tasks.acquire(label="x")).release()

    asyncio.run(pair())
    assert threads.count(False) >= 4
    assert not any(threads)


def test_what_a_store_that_is_away_is_not_told_is_told_later(pool, shelf):
    """P-36: a release during an outage is a release, once."""
    lease = pool.acquire()
    shelf.away = True
    assert lease.release()
    assert not lease.release()
    with pytest.raises(StoreUnavailable):
        pool._core.store.client.call(ops.ReadAll())
    shelf.away = False
    until(lambda: pool.stats().free == 2)
