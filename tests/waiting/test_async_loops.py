"""One pool and several event loops: one after another, at once, and among threads."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from crew import result, start
from stepping import SteppedLoop, at_once, two_faces, until

from balancer import AccountPool, AsyncAccountPool, PoolClosed
from balancer.rules.records import LeaseRecord
from balancer.testing import at_rest
from balancer.waiting.tasks import TaskWaiter


def test_one_pool_serves_loops_one_after_another():
    """P-16: nothing in a pool belongs to the loop that used it first."""
    pool = AsyncAccountPool(source={"a": 1}, reconcile_every=None)

    async def crowd():
        async def one():
            async with pool.acquire(timeout=20):
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(5)))
        return (await pool.stats()).in_flight

    assert [asyncio.run(crowd()) for _ in range(3)] == [0, 0, 0]


def test_a_task_left_behind_by_a_loop_holds_up_nobody_in_the_next():
    """P-16, P-29: ``asyncio.run`` cancels what still waits, and its place is given up."""
    sync, pool = two_faces(a=1)
    holder = sync.acquire()

    async def abandon():
        asyncio.ensure_future(pool.acquire())  # noqa: RUF006  # nobody waits for it: that is the case
        assert await at_rest(pool, callers=1)

    async def next_one():
        return await pool.acquire(timeout=20)

    asyncio.run(abandon())
    assert at_rest(sync, callers=0)
    holder.release()
    assert at_once(asyncio.run(next_one()).release())


class Meter:
    """Counts who is on each account at the same time."""

    def __init__(self, limits):
        self.limits, self.lock = limits, threading.Lock()
        self.now = dict.fromkeys(limits, 0)
        self.passed, self.over = 0, []

    def enter(self, account):
        with self.lock:
            self.now[account] += 1
            self.passed += 1
            if self.now[account] > self.limits[account]:
                self.over.append(account)

    def leave(self, account):
        with self.lock:
            self.now[account] -= 1


def test_loops_and_threads_at_once_never_share_one_slot_too_many():
    """P-16: two loops in two threads and four plain threads, all hungry, on three slots."""
    limits = {"a": 2, "b": 1}
    sync, pool = two_faces(**limits)
    meter, errors, rounds = Meter(limits), [], 40

    async def task():
        for _ in range(rounds):
            async with pool.acquire(timeout=60) as lease:
                meter.enter(lease.account.id)
                await asyncio.sleep(0)
                meter.leave(lease.account.id)

    async def loop():
        await asyncio.gather(*(task() for _ in range(6)))

    def plain():
        for _ in range(rounds):
            with sync.acquire(timeout=60) as lease:
                meter.enter(lease.account.id)
                meter.leave(lease.account.id)

    def guarded(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # the test's own thread looks at it
            errors.append(error)

    jobs = [lambda: asyncio.run(loop())] * 2 + [plain] * 4
    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not meter.over
    assert meter.passed == rounds * (2 * 6 + 4)
    assert sync.stats().free == 3
    assert at_rest(sync, callers=0)


def test_closing_sends_the_waiting_tasks_of_every_loop_away():
    """P-16, P-33: close wakes tasks and threads alike; leases that are out stay valid."""
    sync, pool = two_faces(a=1)
    lease = at_once(pool.acquire().__await__())
    refused = []

    async def wait():
        try:
            await pool.acquire()
        except PoolClosed:
            refused.append("task")

    def plain():
        try:
            sync.acquire()
        except PoolClosed:
            refused.append("thread")

    threads = [threading.Thread(target=work) for work in (lambda: asyncio.run(wait()), plain)]
    for thread in threads:
        thread.start()
    until(lambda: sync.stats().waiting == 2)
    sync.close()
    for thread in threads:
        thread.join()
    assert sorted(refused) == ["task", "thread"]
    assert at_once(lease.release())


def test_a_task_that_was_woken_before_it_fell_asleep_does_not_sleep():
    """P-28: a hand-over between the look at the queue and the sleep is not missed, from any thread."""
    waiter = TaskWaiter(LeaseRecord(None))
    thread = threading.Thread(target=waiter.wake)
    thread.start()
    thread.join()
    with SteppedLoop() as loop:
        first = loop.create_task(waiter.park(None))
        loop.tick(2)
        assert first.done()
        second = loop.create_task(waiter.park(None))  # each wake-up counts once
        loop.tick(2)
        assert not second.done()
        waiter.wake()
        loop.tick(2)
        assert second.done()


@pytest.mark.parametrize("want", [{}, {"account": "a"}], ids=["plain", "pinned"])
def test_a_task_that_is_garbage_may_be_collected_in_the_middle_of_a_step(want):
    """P-18: it was handed a slot and never ran again; its end takes no lock, and the slot comes back."""
    sync, pool = two_faces(a=1)
    holder = sync.acquire()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it says that a task was destroyed

    async def one():
        return await pool.acquire(**want)

    cycle = [loop, loop.create_task(one())]
    cycle.append(cycle)
    loop.run_until_complete(asyncio.sleep(0))
    assert sync.stats().waiting == 1
    holder.release()
    loop.close()
    del cycle, loop
    step = start(sync._core.store._step, lambda _: gc.collect())
    assert result(step)
    assert (sync.stats().in_flight, sync.stats().free) == (0, 1)


def test_a_loop_that_goes_on_in_another_thread_is_woken_there():
    """P-18: what counts is whose loop runs, and not the thread in which it ran when the wait began."""
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    tasks = AsyncAccountPool(pool=pool)
    lease = pool.acquire()
    loop = asyncio.new_event_loop()

    async def wait():
        return (await tasks.acquire()).account.id

    async def begin():
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(begin())
    over = threading.Event()
    task.add_done_callback(lambda _: over.set())
    with ThreadPoolExecutor(1) as thread:
        elsewhere = thread.submit(loop.run_until_complete, task)
        until(loop.is_running)
        lease.release()  # by the thread in which the wait began
        woken = over.wait(10)
        loop.call_soon_threadsafe(int)  # else a loop that was not told would sleep for ever
        assert elsewhere.result(60) == "a"
    loop.close()
    assert woken
