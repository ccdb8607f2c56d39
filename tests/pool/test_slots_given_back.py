"""Slots given back: once, by whom it concerns, and by the collector where nobody did."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc

import pytest
import structlog
from crew import in_line, result, start
from two_slots import free

from balancer import AccountPool, AcquireTimeout, LeaseLost
from balancer.testing import at_rest

UNKNOWN = (502, {}, "")


def test_a_release_counts_once(pool):
    """P-10: releasing twice, by whatever name, frees one slot."""
    lease, other = pool.acquire(), pool.acquire()
    assert lease.release()
    assert not lease.release()
    assert not pool.release(lease.id)
    lease.__exit__(None, None, None)
    assert free(pool) == 1
    assert other.release()


def test_a_stranger_cannot_release(pool):
    """P-10, P-23: an id of another pool, of nobody, or of a lease long gone frees nothing."""
    lease = pool.acquire()
    stranger = AccountPool(source={"a": 2})
    theirs = stranger.acquire()
    for id in (theirs.id, "nobody", lease.id + "0", lease.id.upper() + "x", ""):
        assert not pool.release(id)
    assert free(pool) == 1
    with pytest.raises(TypeError, match="either"):
        pool.release()
    with pytest.raises(TypeError, match="either"):
        pool.release(lease.id, job_id="x")
    with pytest.raises(TypeError, match="lease_id"):
        pool.release(17)
    assert pool.release(lease.id)
    assert theirs.release()


def test_a_late_release_does_not_free_the_slot_of_its_successor(pool, clock):
    """P-23: a holder that outlived its ttl gives back nothing."""
    late = pool.acquire()
    late.bind("job-1", ttl=10)
    clock.advance(10)
    leases = [pool.acquire(), pool.acquire()]
    assert not late.release()
    assert not pool.release(job_id="job-1")
    assert free(pool) == 0
    assert all(lease.release() for lease in leases)


def test_a_release_in_the_middle_of_the_block_is_final(pool):
    """P-11: the slot ends with the job, not with the session around it."""
    with pool.acquire() as lease:
        assert lease.release()
        assert free(pool) == 2
        others = [pool.acquire(), pool.acquire()]
    assert free(pool) == 0
    assert all(other.release() for other in others)


def test_the_block_of_a_lease_that_has_ended_cannot_be_entered(pool):
    """Work without a slot would run over the maximum."""
    lease = pool.acquire()
    lease.release()
    with pytest.raises(LeaseLost), lease:
        raise AssertionError("the body must not run")


def test_a_lease_released_by_somebody_else_is_lost_to_its_holder(pool):
    """The operator ended it: bind and renew say so, and the block ends quietly."""
    with pool.acquire() as lease:
        assert result(start(pool.release, lease.id))
        with pytest.raises(LeaseLost):
            lease.bind("job-1")
        with pytest.raises(LeaseLost):
            lease.renew()
    assert free(pool) == 2


def test_an_abandoned_handle_gives_its_slot_back_with_one_warning(pool):
    """P-3: nobody can release it any more, so the next operation does."""
    with structlog.testing.capture_logs() as events:
        pool.acquire(label="lost")
        assert free(pool) == 2
        pool.holders()
    assert [(event["event"], event["label"]) for event in events] == [("lease_abandoned", "lost")]


def test_an_abandoned_handle_is_told_with_the_line_that_made_it_where_python_knows(pool):
    """It is the only trace that leads to the mistake."""
    tracemalloc.start(20)
    try:
        with structlog.testing.capture_logs() as events:
            pool.acquire()
            line = sys._getframe().f_lineno - 1
            assert free(pool) == 2
    finally:
        tracemalloc.stop()
    assert [event["acquired_by"] for event in events] == [f"{__file__}:{line}"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
def test_an_abandoned_slot_comes_back_though_looking_for_its_line_is_cut_short(pool, monkeypatch, error):
    """P-3: a signal may come while the traceback is read, or the stack be used up."""

    def cut_short(_):
        raise error

    monkeypatch.setattr("balancer.lease._asked_for_by", cut_short)
    tracemalloc.start()
    try:
        pool.acquire()
    finally:
        tracemalloc.stop()
    assert free(pool) == 2


def test_an_abandoned_generator_gives_its_slot_back(pool):
    """P-3: a consumer that stops iterating never closes the block inside the generator itself."""

    def stream():
        with pool.acquire():
            yield 1
            yield 2

    generator = stream()
    next(generator)
    assert free(pool) == 1
    del generator
    gc.collect()
    assert free(pool) == 2


@pytest.mark.parametrize("keep", ["bind", "ambiguous"])
def test_the_handle_of_a_bound_or_ambiguous_slot_may_go(pool, keep):
    """The slot is the job's: losing the handle changes nothing."""
    lease = pool.acquire()
    lease.bind("job-1") if keep == "bind" else lease.report(UNKNOWN)
    with structlog.testing.capture_logs() as events:
        del lease
        gc.collect()
        assert pool.stats().in_flight == 1
    assert events == []


def test_a_lease_dropped_while_all_wait_is_noticed_at_once(clock):
    """P-3, P-18: no caller is running who could notice it, and the clock stands still."""
    pool = AccountPool(source={"a": 1}, ttl=1e9, clock=clock)
    kept = [pool.acquire()]
    waiter = start(lambda: pool.acquire(timeout=60))
    at_rest(pool, callers=1)
    with structlog.testing.capture_logs():
        kept.clear()
        assert waiter.result(30).account.id == "a"


def test_finalizers_may_run_at_any_moment(clock):
    """P-18: leases in cycles, collected while the lock is held, neither block nor lose a slot."""
    pool = AccountPool(source={"a": 3, "b": 2}, ttl=1e9)
    pool.refresh()
    rounds, pause = 400, threading.Event()

    class Cycle:
        def __init__(self, lease):
            self.lease, self.me = lease, self

    def work():
        for number in range(rounds):
            try:
                lease = pool.acquire(timeout=20, account="a" if number % 3 else None)
            except AcquireTimeout:
                raise AssertionError("a slot was lost") from None
            if number % 2:
                Cycle(lease)
            else:
                lease.release()
            del lease
            [[] for _ in range(50)]  # enough to have a collection run

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with structlog.testing.capture_logs():
            workers = [start(work) for _ in range(4)]
            # A cycle that a collection has met alive is old, and the interpreter may leave the old alone
            # for as long as everybody waits: so somebody collects all of them, too.
            while not all(worker.done() for worker in workers):
                gc.collect()
                pause.wait(0.05)
            for worker in workers:
                worker.result(60)
            gc.collect()
            assert pool.stats().free == 5
    finally:
        gc.set_threshold(*thresholds)
    assert pool.holders() == ()


def test_capacity_comes_back_without_any_finalizer(pool, clock):
    """P-19: where handles are kept alive by a traceback, the end of the lease is what counts."""
    kept = [pool.acquire(), pool.acquire()]
    kept[0].bind("job-1", ttl=100)
    kept[1].report(UNKNOWN)
    (waiter,) = in_line(pool, 1)
    clock.advance(100)
    assert result(waiter)
    clock.advance(500)
    assert pool.stats().in_flight == 1


def test_releasing_from_many_threads_at_once_counts_once(pool):
    """P-10: of a hundred releases of one lease exactly one is the one that ended it."""
    for _ in range(20):
        lease = pool.acquire()
        gate = threading.Barrier(8)

        def release(lease=lease, gate=gate):
            gate.wait(20)
            return lease.release()

        assert sum(result(caller) for caller in [start(release) for _ in range(8)]) == 1
    assert free(pool) == 2
