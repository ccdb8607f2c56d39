"""The face for tasks: what it has of its own, and what it shares with the face for threads."""

import asyncio
import inspect
import threading

import pytest
from stepping import HeldSource, SteppedLoop, at_once, until

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, PoolClosed, Verdict
from balancer.testing import ManualClock


def pool_of(**accounts):
    """Return both faces of one pool whose first table is read."""
    sync = AccountPool(source=accounts, reconcile_every=None)
    sync.refresh()
    return sync, AsyncAccountPool(pool=sync)


def test_over_memory_no_method_suspends_that_need_not_wait():
    """A task that uses a pool with room never gives up its turn, so nothing can come between."""
    sync, pool = pool_of(a=2, b=1)

    async def everything():
        lease = await pool.acquire(label="x")
        assert await lease.report((200, {}, '{"jobid": "j1"}')) is Verdict.ACCEPTED
        await lease.bind("j1")
        await lease.renew(60)
        await pool.renew(job_id="j1", ttl=60)
        assert [holder.state for holder in await pool.holders()] == ["bound"]
        assert await pool.release(job_id="j1") is True
        assert await lease.release() is False
        async with pool.acquire(account="b", timeout=3) as pinned:
            assert pinned.account.id == "b"
            assert await pool.release(pinned.id) is True
        await pool.cool("a", 5)
        assert (await pool.explain())["a"].startswith("cooldown")
        await pool.reset("a")
        async with pool.acquire(timeout=0, exclude=["b"], where=lambda account: account.capacity > 1):
            assert (await pool.stats()).in_flight == 1
        await pool.run(call, bind="jobid")
        await pool.with_lease()(keyword)(1)
        await pool.close()

    async def call(lease):
        return {"jobid": "j2"}

    async def keyword(number, *, lease):
        return number

    at_once(everything())
    assert [(holder.job_id, holder.state) for holder in sync.holders()] == [("j2", "bound")]


def test_both_faces_have_the_same_names_and_the_same_parameters():
    """What is learnt of one face holds for the other."""

    def public(kind):
        return {
            name: [
                (each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()
            ]
            for name, member in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    twin = public(AsyncAccountPool)
    twin.pop("acquiring")  # the flow behind acquire
    assert twin == public(AccountPool)


def test_a_shared_pool_takes_no_arguments_of_its_own():
    """There is one configuration, and it is the first one's."""
    sync, _ = pool_of(a=1)
    with pytest.raises(TypeError, match="no further arguments"):
        AsyncAccountPool(pool=sync, ttl=5)
    with pytest.raises(TypeError, match="must be an AccountPool"):
        AsyncAccountPool(pool=object())


def test_threads_and_tasks_stand_in_one_queue_in_the_order_of_their_arrival():
    """P-12, P-34: neither kind overtakes the other."""
    sync, pool = pool_of(a=1)
    first = sync.acquire()
    order, done = [], []
    with SteppedLoop() as loop:

        def thread(number):
            with sync.acquire():
                order.append(number)

        async def task(number):
            async with pool.acquire():
                order.append(number)

        for number in range(8):
            if number % 2:
                worker = threading.Thread(target=thread, args=(number,))
                worker.start()
                done.append(lambda worker=worker: not worker.is_alive())
                until(lambda number=number: sync.stats().waiting == number + 1)
            else:
                done.append(loop.create_task(task(number)).done)
                loop.tick(2)
        first.release()

        def all_done():
            loop.tick()
            return all(each() for each in done)

        until(all_done)
    assert order == list(range(8))
    assert sync.stats().in_flight == 0


def test_a_thread_that_runs_a_loop_is_never_put_to_sleep():
    """A sync acquire that would have to wait there names the pool to use, and leaves the queue."""
    sync, _ = pool_of(a=1)

    async def use_the_wrong_face():
        with sync.acquire():  # a free slot needs no waiting
            with pytest.raises(RuntimeError, match=r"AsyncAccountPool\(pool=this_pool\)"):
                sync.acquire(timeout=5)
            with pytest.raises(AcquireTimeout):
                sync.acquire(timeout=0)

    asyncio.run(use_the_wrong_face())
    assert not sync._core.store.lines.waiters
    assert sync.stats().in_flight == 0


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
    sync, pool = pool_of(a=1)
    holder = sync.acquire()

    async def abandon():
        asyncio.create_task(pool.acquire()._slowly())  # noqa: RUF006  # nobody waits for it: that is the case
        await asyncio.sleep(0)
        assert sync._core.store.lines.waiters

    async def next_one():
        return await pool.acquire(timeout=20)

    asyncio.run(abandon())
    assert not sync._core.store.lines.waiters
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
    sync, pool = pool_of(**limits)
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
    assert not sync._core.store.lines.waiters


def test_closing_sends_the_waiting_tasks_of_every_loop_away():
    """P-16, P-33: close wakes tasks and threads alike; leases that are out stay valid."""
    sync, pool = pool_of(a=1)
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
