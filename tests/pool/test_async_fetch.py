"""Tasks that wait for the configuration or for the list of jobs."""

import asyncio

import pytest
from stepping import HeldSource, SteppedLoop

from balancer import AccountPool, AsyncAccountPool, SourceUnavailable
from balancer.testing import ManualClock, at_rest


def test_many_callers_of_an_old_table_start_one_fetch_and_its_end_serves_them():
    """P-55: cancelling the caller that started it takes the fetch from nobody."""
    clock = ManualClock()
    source = HeldSource(a=1)
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=clock, ttl=60, reconcile_every=None))
        pool = AsyncAccountPool(pool=sync)
        tasks = [asyncio.ensure_future(pool.acquire(account=name), loop=loop) for name in ("a", "b", "b")]
        loop.tick(2)
        assert len(source.asked) == 1
        tasks[0].cancel()
        loop.tick(2)
        source.table = {"a": 1, "b": 2}
        source.land()
        loop.tick(4)
        assert tasks[0].cancelled()
        assert [task.result().account.id for task in tasks[1:]] == ["b", "b"]
        assert sync.stats().refreshes == 1


@pytest.mark.parametrize("method", ["refresh", "reconcile", "stats"])
def test_a_request_that_a_task_waits_for_outlives_the_task(method):
    """P-55: cancelled in the middle, it leaves nobody behind who watches, and the answer is taken over."""
    source = HeldSource(a=1)
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=ManualClock()))
        pool = AsyncAccountPool(pool=sync)
        if method == "reconcile":
            load(loop, pool, source)
        task = loop.create_task(getattr(pool, method)())
        loop.tick(2)
        assert len(source.asked) == 1
        task.cancel()
        loop.tick(2)
        assert task.cancelled()
        assert at_rest(sync, callers=0, landed=False)
        source.table, source.running = {"a": 2}, [{"id": "j", "account": "a"}]
        while source.asked:
            source.land()
        stats = sync.stats()
        assert stats.external == 1
        assert stats.capacity == (1 if method == "reconcile" else 2)


def load(loop, pool, source):
    """Have the first table and the first list read."""
    task = loop.create_task(pool.refresh())
    loop.tick(2)
    while source.asked:
        source.land()
    loop.tick(3)
    task.result()


def test_tasks_that_reconcile_at_once_share_the_next_list():
    """P-55: one request at a time; one that was asked before a caller came does not answer that caller."""
    source = HeldSource(a=2)
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=ManualClock()))
        pool = AsyncAccountPool(pool=sync)
        load(loop, pool, source)
        tasks = [loop.create_task(pool.reconcile()) for _ in range(20)]
        for running in ([], [{"id": "j", "account": "a"}]):
            loop.tick(2)
            assert len(source.asked) == 1
            source.running = running
            source.land()
        loop.tick(3)
        assert not source.asked
        assert [task.result().adopted for task in tasks] == [{}] + [{"a": 1}] * 19


@pytest.mark.parametrize(("method", "deadline"), [("refresh", 60), ("reconcile", 30)])
def test_an_answer_that_comes_after_it_was_given_up_is_void(method, deadline):
    """P-55: a newer one may have landed, and the late one would overwrite it."""
    source, clock = HeldSource(a=1), ManualClock()
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=clock, ttl=1e6))
        pool = AsyncAccountPool(pool=sync)
        load(loop, pool, source)
        late = loop.create_task(getattr(pool, method)())
        loop.tick(2)
        (old,) = source.asked
        clock.advance(deadline)
        loop.tick(2)
        assert isinstance(late.exception(), SourceUnavailable)
        clock.advance(30)
        source.asked.clear()
        newer = loop.create_task(getattr(pool, method)())
        loop.tick(2)
        source.table, source.running = {"a": 7}, []
        source.land()
        loop.tick(2)
        newer.result()
        source.table, source.running = {"a": 2}, [{"id": "j", "account": "a"}]
        old()
        stats = sync.stats()
        assert (stats.external, stats.capacity) == (0, 7 if method == "refresh" else 1)
