"""KeyboardInterrupt at any moment: no slot is lost, and nobody who waits is forgotten."""

import asyncio
import itertools
import traceback

import pytest
from interrupts import Interrupter, interrupted
from stepping import SteppedLoop, at_once, full_pool, in_flight

from balancer import AccountPool, AsyncAccountPool
from balancer.testing import ManualClock, at_rest


def get_plainly(pool):
    """Take a free slot."""
    return pool.acquire()


def get_pinned(pool):
    """Take a free slot by the way of those who may have to wait."""
    return pool.acquire(account="a", timeout=5)


def get_as_task(pool):
    """Take a free slot as a task would."""
    return at_once(AsyncAccountPool(pool=pool).acquire().__await__())


def use(pool):
    """Take a slot and give it back."""
    with pool.acquire(timeout=0):
        pass


def use_as_task(pool):
    """Take a slot and give it back as a task would."""

    async def block():
        async with AsyncAccountPool(pool=pool).acquire():
            pass

    at_once(block())


@pytest.mark.parametrize("get", [get_plainly, get_pinned, get_as_task, use, use_as_task])
def test_an_interruption_at_any_moment_leaves_no_slot_taken(get):
    """P-1, P-8: KeyboardInterrupt at each moment between call and return."""
    struck = 0
    for moment in itertools.count(1):
        pool = AccountPool(source={"a": 1})
        pool.refresh()
        lease = None
        try:
            with Interrupter(moment):
                lease = get(pool)
        except KeyboardInterrupt:
            struck += 1
        else:
            break  # it got through: there are no more moments
        assert lease is None
        pool.stats()  # whatever was left behind is swept up by the next operation
        assert in_flight(pool) == 0, f"moment {moment}"
        assert pool.acquire(timeout=0).release()
    assert struck > 3


def waiting(pool, loop, count=2):
    """Return tasks that wait in line, by turns for any account and for a certain one."""
    options = ({}, {"account": "a"})
    tasks = [asyncio.ensure_future(pool.acquire(**options[i % 2]), loop=loop) for i in range(count)]
    loop.tick(2)
    return tasks


def test_an_interrupted_release_strands_nobody_who_waits():
    """P-1, P-7: the slot goes to the first in line, and then to the second, at the next operation."""
    for moment in itertools.count(1):
        with SteppedLoop() as loop:
            sync, pool, holder = full_pool(clock=ManualClock())
            first, second = waiting(pool, loop)
            came = interrupted(moment, holder.release)
            del holder
            sync.stats()
            loop.tick(3)
            assert first.done(), f"moment {moment}"
            assert not second.done()
            at_once(first.result().release())
            loop.tick(3)
            at_once(second.result().release())
            assert in_flight(sync) == 0
            assert at_rest(sync, callers=0)
        if not came:
            break
    assert moment > 10


@pytest.mark.parametrize("handed", [True, False])
def test_a_waiter_that_is_interrupted_leaves_its_place_and_its_slot_to_the_next(handed):
    """P-1, P-12: whether it was just being served or was just joining the queue."""
    for moment in itertools.count(1):
        with SteppedLoop() as loop:
            sync, pool, holder = full_pool(clock=ManualClock())
            tasks = [asyncio.ensure_future(pool.acquire(), loop=loop)]
            if handed:
                loop.tick(2)
                holder.release()
            came = interrupted(moment, lambda: loop.tick(3))
            tasks += waiting(pool, loop)
            holder.release()
            del holder
            if came:
                first = tasks[0]
                if not first.done():  # struck while it was being woken: whoever ends a loop cancels the rest
                    first.cancel()
                    loop.tick(3)
                    del tasks[0]
                elif first.exception() is not None:
                    assert isinstance(first.exception(), KeyboardInterrupt)
                    traceback.clear_frames(first.exception().__traceback__)  # they hold what it was granted
                    del tasks[0]
                del first
            for task in tasks:
                sync.stats()
                loop.tick(3)
                assert task.done(), f"moment {moment}"
                at_once(task.result().release())
            assert in_flight(sync) == 0
            assert at_rest(sync, callers=0)
        if not came:
            break
    assert moment > 3
