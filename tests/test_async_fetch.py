"""Tasks that wait for the configuration or for the list of jobs."""

import pytest
from stepping import HeldSource, SteppedLoop

from balancer import AccountPool, AsyncAccountPool
from balancer.testing import ManualClock


def test_many_callers_of_an_old_table_start_one_fetch_and_its_end_serves_them():
    """P-55: cancelling the caller that started it takes the fetch from nobody."""
    clock = ManualClock()
    source = HeldSource(a=1)
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=clock, ttl=60, reconcile_every=None))
        pool = AsyncAccountPool(pool=sync)
        tasks = [loop.create_task(pool.acquire(account=name)._slowly()) for name in ("a", "b", "b")]
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
        assert not sync._core.upkeep.watching
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


def test_tasks_that_reconcile_at_once_get_one_answer():
    """P-55: one request for all who ask while it is on its way; its result is told to each."""
    source = HeldSource(a=2)
    with SteppedLoop() as loop:
        sync = source.hold(AccountPool(source=source, clock=ManualClock()))
        pool = AsyncAccountPool(pool=sync)
        load(loop, pool, source)
        source.running = [{"id": "j", "account": "a"}]
        tasks = [loop.create_task(pool.reconcile()) for _ in range(3)]
        loop.tick(2)
        assert len(source.asked) == 1
        source.land()
        loop.tick(3)
        assert [task.result().adopted for task in tasks] == [{"a": 1}] * 3
