"""What a task pays for one acquire and one release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import repeat

from balancer import AsyncAccountPool
from benchmarks.harness import Effort, Loop, race
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_most, duration

TEXT = """\
The yardstick is an `asyncio.Semaphore` used alike: `await acquire(); release()`, `async with`, and 100
tasks that take turns on 50 slots, each giving way to the others once while it holds one. The semaphore
is bound to one event loop and knows no threads, accounts, order or time limit; with a time limit
the yardstick is `asyncio.wait_for` around it. The pool's tasks stand in one queue with its threads."""

TASKS, SLOTS = 100, 50


def run(effort: Effort) -> Section:
    """Measure pairs, blocks and a crowd."""
    section = Section("aio", "Tasks: pairs, blocks, a crowd", TEXT)
    pool = AsyncAccountPool(pool=open_pool(10))
    semaphore = asyncio.BoundedSemaphore(60)
    with asyncio.Runner() as runner:

        def loop(body: Callable[[int], Awaitable[None]]) -> Loop:
            return lambda times: runner.run(body(times))

        cases = {
            "pair": (_pairs(pool), at_most(2.0)),
            "async with": (_blocks(pool), at_most(3.2)),
        }
        samples = race(loop(_semaphore_pairs(semaphore)), {k: loop(v) for k, (v, _) in cases.items()}, effort)
        for name, (_, budget) in cases.items():
            cost = duration(samples.of(name).median)
            section.add(name, samples.ratio(name), budget=budget, absolute=cost)
        _crowds(section, effort, loop)
    return section


def _crowds(
    section: Section, effort: Effort, loop: Callable[[Callable[[int], Awaitable[None]]], Loop]
) -> None:
    pool = AsyncAccountPool(pool=open_pool(10, capacity=SLOTS // 10))
    semaphore = asyncio.BoundedSemaphore(SLOTS)

    async def taking() -> None:
        async with semaphore:
            await asyncio.sleep(0)

    async def taking_in_time() -> None:
        await asyncio.wait_for(semaphore.acquire(), 60)
        await asyncio.sleep(0)
        semaphore.release()

    async def leasing() -> None:
        async with pool.acquire():
            await asyncio.sleep(0)

    async def leasing_in_time() -> None:
        async with pool.acquire(timeout=60):
            await asyncio.sleep(0)

    crowd = f"{TASKS} tasks on {SLOTS} slots"
    effort = Effort(effort.rounds, effort.seconds * 5, effort.quick)
    plain = race(loop(_crowd(taking)), {crowd: loop(_crowd(leasing))}, effort)
    limited = race(
        loop(_crowd(taking_in_time)), {f"{crowd}, with a time limit": loop(_crowd(leasing_in_time))}, effort
    )
    for samples, budget in ((plain, at_most(1.4)), (limited, None)):
        for name in samples.pairs:
            cost = f"{duration(samples.of(name, 1 / TASKS).median)} a turn"
            section.add(name, samples.ratio(name), budget=budget, absolute=cost)


def _semaphore_pairs(semaphore: asyncio.BoundedSemaphore) -> Callable[[int], Awaitable[None]]:
    async def body(times: int) -> None:
        for _ in repeat(None, times):
            await semaphore.acquire()
            semaphore.release()

    return body


def _pairs(pool: AsyncAccountPool) -> Callable[[int], Awaitable[None]]:
    async def body(times: int) -> None:
        for _ in repeat(None, times):
            lease = await pool.acquire()
            await lease.release()

    return body


def _blocks(pool: AsyncAccountPool) -> Callable[[int], Awaitable[None]]:
    async def body(times: int) -> None:
        for _ in repeat(None, times):
            async with pool.acquire():
                pass

    return body


def _crowd(turn: Callable[[], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
    """Return what has each of ``TASKS`` tasks take so many turns."""

    async def body(times: int) -> None:
        async def member() -> None:
            for _ in repeat(None, times):
                await turn()

        await asyncio.gather(*(member() for _ in range(TASKS)))

    return body
