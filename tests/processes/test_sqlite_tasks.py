"""Tasks of one event loop, which share one thread, while somebody else has the file and does not get on."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from backends import configure, rows
from sqlite_workers import connect, operators_transaction, stopped_in_its_turn

from balancer import AsyncAccountPool, StoreUnavailable
from balancer.rules import operations as ops

TASKS = 60
IN_THE_WAY = pytest.mark.parametrize("in_the_way", [operators_transaction, stopped_in_its_turn])


def open_pool(path):
    """Return a pool with one slot for each task."""
    return AsyncAccountPool("custom", source={"a": TASKS}, store=f"sqlite://{path}", reconcile_every=None)


async def timed(asked):
    """Return what became of it, and after how many seconds."""
    begun = time.monotonic()
    try:
        said = await asked
    except StoreUnavailable as error:
        said = error
    return said, time.monotonic() - begun


async def all_timed(asked):
    """Ask all at once; return what each was told, and how long the slowest took."""
    told, took = zip(*await asyncio.gather(*map(timed, asked)), strict=True)
    return told, max(took)


async def take_all(pool):
    """Take every slot there is: none was lost."""
    leases = await asyncio.gather(*(pool.acquire(timeout=30) for _ in range(TASKS)))
    assert (await pool.stats()).free == 0
    return leases


async def give_back(leases):
    """Release them all."""
    assert all(await asyncio.gather(*(lease.release() for lease in leases)))


async def until_free(pool):
    """Wait until what was put off has been said."""
    end = time.monotonic() + 30.0
    while (await pool.stats()).free < TASKS:
        assert time.monotonic() < end, "a slot was lost"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def no_slot_lost(path):
    """A pool of which every slot can be had before and after what is done to it."""
    async with open_pool(path) as pool:
        await give_back(await take_all(pool))
        yield pool
        await until_free(pool)
        await give_back(await take_all(pool))


@IN_THE_WAY
@pytest.mark.parametrize("timeout", [0, 1])
def test_no_task_pays_for_those_before_it(path, in_the_way, timeout):
    """P-15, P-43: each waits for its own timeout, hears who it is, and all goes on when it is over."""

    async def main():
        async with no_slot_lost(path) as pool:
            with in_the_way(path) as pid:
                told, longest = await all_timed(pool.acquire(timeout=timeout) for _ in range(TASKS))
            assert longest < 2.5
            assert all(f"process {pid}" in str(error) for error in told), set(map(str, told))

    asyncio.run(main())


@IN_THE_WAY
def test_a_task_that_does_not_wait_is_not_held_up_by_one_that_does(path, in_the_way):
    """P-15: what is asked first may take seconds; who stands behind it in the same thread is told in time."""

    async def main():
        async with no_slot_lost(path) as pool:
            with in_the_way(path):
                patient = [asyncio.create_task(timed(pool.acquire(timeout=4))) for _ in range(TASKS // 2)]
                await asyncio.sleep(0)
                _, longest = await all_timed(pool.acquire(timeout=0) for _ in range(TASKS // 2))
                assert longest < 2.5
                told, took = zip(*await asyncio.gather(*patient), strict=True)
                assert all(isinstance(error, StoreUnavailable) for error in told)
                assert max(took) < 5.5

    asyncio.run(main())


@IN_THE_WAY
def test_tasks_that_give_back_or_bind_go_on_in_time(path, in_the_way):
    """P-27: what could not be said is kept, and said once the lock is free, whichever task said it."""

    async def main():
        async with no_slot_lost(path) as pool:
            leases = await take_all(pool)
            half = TASKS // 2
            with in_the_way(path):
                told, longest = await all_timed(lease.release() for lease in leases[:half])
                assert all(told)
                assert longest < 2.5
                _, longest = await all_timed(lease.bind(f"job-{lease.id}") for lease in leases[half:])
                assert longest < 7.0
            # A job may be over before the store has heard of it: that is remembered, so none is missed.
            await asyncio.gather(*(pool.release(job_id=f"job-{lease.id}") for lease in leases[half:]))

    asyncio.run(main())


@IN_THE_WAY
def test_tasks_cancelled_in_line_lose_no_slot(path, in_the_way):
    """P-9, P-15: whoever is cancelled hears so at once, and nothing of theirs is taken later."""

    async def main():
        async with no_slot_lost(path) as pool:
            with in_the_way(path):
                tasks = [asyncio.create_task(timed(pool.acquire(timeout=30))) for _ in range(TASKS)]
                await asyncio.sleep(0.2)
                begun = time.monotonic()
                for task in tasks:
                    task.cancel()
                told = await asyncio.gather(*tasks, return_exceptions=True)
                assert time.monotonic() - begun < 1.0
                assert all(isinstance(error, asyncio.CancelledError) for error in told)

    asyncio.run(main())


def test_what_was_refused_or_cancelled_in_line_is_not_done_later(path):
    """P-9: an operation that had not begun when nobody waited for it any more is never carried out."""
    backend = connect(path, "one")
    configure(backend, {"a": 9})

    async def main():
        with stopped_in_its_turn(path):
            first, refused, cancelled = (
                asyncio.create_task(backend.acall(ops.Acquire(key=f"one-{number}"), limit))
                for number, limit in enumerate((4.0, 0.2, 4.0))
            )
            with pytest.raises(StoreUnavailable):
                await refused
            assert not first.done()
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert not first.done()
        await first
        await backend.acall(ops.Heartbeat())

    asyncio.run(main())
    assert set(rows(backend)) == {"one-0"}
    backend.close()


@pytest.mark.parametrize("cancelled_at", [0.099, 0.101])
def test_a_task_that_is_cancelled_as_its_time_is_over_is_cancelled(path, cancelled_at):
    """P-15: a loop that was held up finds a task both out of time and cancelled: the latter is not lost."""
    backend = connect(path, "one")
    configure(backend, {"a": 9})

    async def main():
        loop = asyncio.get_running_loop()
        with stopped_in_its_turn(path):
            first = asyncio.create_task(backend.acall(ops.Acquire(key="one-0"), 4.0))
            task = asyncio.create_task(backend.acall(ops.Acquire(key="one-1"), 0.1))
            loop.call_later(cancelled_at, task.cancel)
            loop.call_later(0.05, time.sleep, 0.1)
            with pytest.raises(asyncio.CancelledError):
                await task
        await first

    asyncio.run(main())
    assert set(rows(backend)) == {"one-0"}
    backend.close()
