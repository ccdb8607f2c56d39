"""What one step costs while many callers stand in line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import combinations, islice
from typing import Any

from balancer import AccountPool, AsyncAccountPool, AsyncLease, Lease, PoolClosed
from benchmarks.harness import Effort, Spread
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_most

TEXT = """\
Tasks of one event loop wait on a pool that is full. *A release*: each of them excludes two accounts of
its own choice, no two the same, and the slot that comes free would do for all; it serves one.
*An account that is exhausted*: an answer says so (412) of one of two accounts, so the others wait on in
hope; measured is how long the loop does nothing else, those who are woken for it included."""

EXHAUSTED = (412, {}, '{"error": "Not enough credits"}')


def run(effort: Effort) -> Section:
    """Measure a release and a verdict."""
    section = Section("crowds", "One step, with a crowd in line", TEXT)
    wishes, crowd, times = effort.pick((1_000, 2_000, 31), (10, 20, 3))
    spent = asyncio.run(_releases(wishes, times))
    section.add(f"a release, {wishes:,} who wait, each with a wish of its own", spent, "ms", at_most(2.0))
    spent = asyncio.run(_verdicts(crowd, times))
    section.add(f"an account that is exhausted, {crowd:,} who wait", spent, "ms", at_most(5.0))
    return section


async def _releases(wishes: int, times: int) -> Spread:
    accounts = [f"account-{n}" for n in range(50)]
    pool = open_pool(len(accounts), capacity=1)
    holders = {account: pool.acquire(account=account) for account in accounts}
    lease: Lease | AsyncLease = holders[accounts[0]]
    spent = list[float]()
    pairs = islice(combinations(accounts[1:], 2), wishes)
    async with _crowd(pool, [{"exclude": pair} for pair in pairs]) as served:
        for _ in range(times):
            begin = time.perf_counter()
            pool.release(lease.id)
            spent.append(1000 * (time.perf_counter() - begin))
            while not served:  # noqa: ASYNC110  # an event would be one more thing to pay for
                await asyncio.sleep(0)
            lease = served.pop()
    return Spread.of(spent)


async def _verdicts(crowd: int, times: int) -> Spread:
    pool = open_pool(2, capacity=1)
    lease, _other = pool.acquire(), pool.acquire()
    spent = list[float]()
    async with _crowd(pool, [{} for _ in range(crowd)]):
        for _ in range(times):
            begin = time.perf_counter()
            lease.report(EXHAUSTED)
            for _ in range(3):  # who was woken runs in the next rounds of the loop
                await asyncio.sleep(0)
            spent.append(1000 * (time.perf_counter() - begin))
            pool.reset(lease.account)
    return Spread.of(spent)


@asynccontextmanager
async def _crowd(pool: AccountPool, wishes: Sequence[dict[str, Any]]) -> AsyncIterator[list[AsyncLease]]:
    """Have a task wait for each wish; give the list of the leases that they get."""
    tasks, served = AsyncAccountPool(pool=pool), list[AsyncLease]()

    async def wait(wish: dict[str, Any]) -> None:
        served.append(await tasks.acquire(**wish))

    waiting = [asyncio.create_task(wait(wish)) for wish in wishes]
    while pool.stats().waiting < len(wishes):  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.01)
    try:
        yield served
    finally:
        pool.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(end is None or isinstance(end, PoolClosed) for end in ends)
