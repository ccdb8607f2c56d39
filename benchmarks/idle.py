"""What callers who wait cost while nothing happens."""

from __future__ import annotations

import asyncio
import threading
import time

from balancer import AsyncAccountPool, PoolClosed
from benchmarks.harness import Effort, Spread
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_most

TEXT = """\
Processor time of the whole process while 1,000 callers wait for a slot of a pool that is full, in
percent of one core: threads, and tasks of one event loop. The pool reads its configuration every
second, sixty times as often as it would."""

WAITERS = 1_000
TTL = 1.0


def run(effort: Effort) -> Section:
    """Measure waiting threads and waiting tasks."""
    section = Section("idle", "1,000 callers who wait", TEXT)
    waiters, seconds, times = effort.pick(WAITERS, 20), effort.pick(3.0, 0.05), effort.pick(3, 1)
    threads = Spread.of(_threads(waiters, seconds) for _ in range(times))
    section.add(f"{waiters:,} waiting threads", threads, "%", at_most(1.0))
    tasks = Spread.of(asyncio.run(_tasks(waiters, seconds)) for _ in range(times))
    section.add(f"{waiters:,} waiting tasks", tasks, "%", at_most(1.0))
    return section


def _threads(waiters: int, seconds: float) -> float:
    pool = open_pool(1, capacity=1, ttl=TTL)
    lease = pool.acquire()

    def wait() -> None:
        try:
            pool.acquire()
        except PoolClosed:
            pass

    crew = [threading.Thread(target=wait) for _ in range(waiters)]
    for member in crew:
        member.start()
    while pool.stats().waiting < waiters:
        time.sleep(0.01)
    begin = time.process_time()
    time.sleep(seconds)
    busy = time.process_time() - begin
    pool.close()
    for member in crew:
        member.join()
    lease.release()
    return 100 * busy / seconds


async def _tasks(waiters: int, seconds: float) -> float:
    pool = AsyncAccountPool(pool=open_pool(1, capacity=1, ttl=TTL))
    lease = await pool.acquire()

    async def wait() -> None:
        try:
            await pool.acquire()
        except PoolClosed:
            pass

    crew = [asyncio.create_task(wait()) for _ in range(waiters)]
    await asyncio.sleep(0.1)
    assert (await pool.stats()).waiting == waiters
    begin = time.process_time()
    await asyncio.sleep(seconds)
    busy = time.process_time() - begin
    await pool.close()
    await asyncio.gather(*crew)
    await lease.release()
    return 100 * busy / seconds
