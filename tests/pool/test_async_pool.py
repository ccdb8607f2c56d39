"""The face for tasks: what it has of its own, and what it shares with the face for threads."""

import asyncio
import inspect
import threading

import pytest
from stepping import SteppedLoop, at_once, two_faces, until

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, Verdict
from balancer.testing import at_rest


def test_over_memory_no_method_suspends_that_need_not_wait():
    """A task that uses a pool with room never gives up its turn, so nothing can come between."""
    sync, pool = two_faces(a=2, b=1)

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
    assert twin == public(AccountPool)


def test_a_shared_pool_takes_no_arguments_of_its_own():
    """There is one configuration, and it is the first one's."""
    sync, _ = two_faces(a=1)
    with pytest.raises(TypeError, match="no further arguments"):
        AsyncAccountPool(pool=sync, ttl=5)
    with pytest.raises(TypeError, match="must be an AccountPool"):
        AsyncAccountPool(pool=object())


def test_threads_and_tasks_stand_in_one_queue_in_the_order_of_their_arrival():
    """P-12, P-34: neither kind overtakes the other."""
    sync, pool = two_faces(a=1)
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
    sync, _ = two_faces(a=1)

    async def use_the_wrong_face():
        with sync.acquire():  # a free slot needs no waiting
            with pytest.raises(RuntimeError, match=r"AsyncAccountPool\(pool=this_pool\)"):
                sync.acquire(timeout=5)
            with pytest.raises(AcquireTimeout):
                sync.acquire(timeout=0)

    asyncio.run(use_the_wrong_face())
    assert at_rest(sync, callers=0)
    assert sync.stats().in_flight == 0
