"""What a slot costs that many machines share in Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat
from typing import Any

import redis
import redis.asyncio

from balancer import AccountPool, AsyncAccountPool
from benchmarks.harness import Effort, Loop, Spread, compare, race
from benchmarks.pair import pairs
from benchmarks.pools import accounts, open_pool
from benchmarks.processes import Crowd, Partner, open_shared
from benchmarks.report import Section, at_least, at_most, duration
from benchmarks.server import redis_server

TEXT = """\
The yardstick is two `EVALSHA` of `return 1` in a row through redis-py: the least that two script calls
cost. *Processes*: 16 do pairs as fast as they can, with room for all, against 16 that each take and
release a `redis.lock.Lock` of their own (that lock makes one holder sure, and counts nothing). *Hand-off*:
a process waits for the only slot; measured is from the release in another one to its having the lease,
against one idle `EVALSHA`. *Script calls* are what the server counts."""

PROCESSES = 16


def run(effort: Effort) -> Section:
    """Measure pairs, tasks, processes and hand-off."""
    section = Section("redis", "Redis: one store for many machines", TEXT)
    with redis_server() as url:
        _pairs(section, effort, url)
        asyncio.run(_tasks(section, effort, url))
        _processes(section, effort, url)
        _hand_off(section, effort, url)
    return section


def _pairs(section: Section, effort: Effort, url: str) -> None:
    many = effort.pick(10_000, 50)
    client = redis.Redis.from_url(url)
    pools = {n: _pool(url, n) for n in (10, many)}
    loops = {f"pair, {n:,} accounts": pairs(pool) for n, pool in pools.items()}
    samples = race(_evalshas(client), loops, effort, time.perf_counter)
    for name in loops:
        cost = duration(samples.of(name).median)
        section.add(name, samples.ratio(name), budget=at_most(1.6, aim=0.85), absolute=cost)
    growth = f"pair, {many:,} accounts ÷ 10 accounts"
    samples = race(pairs(pools[10]), {growth: pairs(pools[many])}, effort, time.perf_counter)
    section.add(growth, samples.ratio(growth), budget=at_most(1.15))
    calls = _script_calls(client, partial(pairs(pools[10]), 100)) / 100
    section.add("script calls for a pair", Spread.of([calls]), "", at_most(2.0))
    for pool in pools.values():
        pool.close()


def _pool(url: str, number: int) -> AccountPool:
    # A service of its own for each size: pools of one service would share their accounts.
    return open_pool(number, store=url, service=("mureka", "kling")[number > 10])


def _evalshas(client: Any) -> Loop:
    sha = client.script_load("return 1")

    def loop(times: int) -> None:
        for _ in repeat(None, times * 2):
            client.evalsha(sha, 0)

    return loop


def _script_calls(client: Any, act: Callable[[], object]) -> int:
    def counted() -> int:
        stats: dict[str, Any] = client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))

    before = counted()
    act()
    return counted() - before


async def _tasks(section: Section, effort: Effort, url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    sha = await client.script_load("return 1")
    pool = AsyncAccountPool("custom", source=accounts(10), store=url, ttl=3600.0)
    await (await pool.acquire(timeout=60)).release()

    async def yardstick(times: int) -> None:
        for _ in repeat(None, times * 2):
            await client.evalsha(sha, 0)

    async def leases(times: int) -> None:
        for _ in repeat(None, times):
            lease = await pool.acquire()
            await lease.release()

    ratios, times = [], effort.pick(100, 3)
    for _ in range(effort.rounds):
        spent = []
        for body in (yardstick, leases):
            begin = time.perf_counter()
            await body(times)
            spent.append(time.perf_counter() - begin)
        ratios.append(spent[1] / spent[0])
    section.add("pair of a task ÷ two async EVALSHA", Spread.of(ratios), budget=at_most(1.4))
    await pool.close()
    await client.aclose()


def _processes(section: Section, effort: Effort, url: str) -> None:
    number, seconds = effort.pick(PROCESSES, 2), effort.pick(1.0, 0.05)
    locks = Crowd(partial(_open_locks, url), number)
    crowd = Crowd(partial(open_shared, url, 10, 6), number)
    samples = compare(partial(locks.rate, seconds), {"pool": partial(crowd.rate, seconds)}, effort.pick(7, 1))
    rate = f"{samples.of('pool').median:,.0f} pairs/s"
    name = f"throughput of {number} processes ÷ of redis-py's Lock"
    section.add(name, samples.ratio("pool"), budget=at_least(1.0, aim=2.5), absolute=rate)
    locks.close()
    crowd.close()


def _open_locks(url: str) -> Callable[[], AbstractContextManager[Any]]:
    client = redis.Redis.from_url(url)
    return partial(client.lock, f"lock-{os.getpid()}", timeout=60)


def _hand_off(section: Section, effort: Effort, url: str) -> None:
    client = redis.Redis.from_url(url)
    client.flushdb()
    one_call = partial(_evalshas(client), 1)
    pool, partner = open_pool(1, capacity=1, store=url), Partner(partial(open_shared, url, 1, 1))
    enter = partial(pool.acquire, timeout=60)
    ratios, taken = [], []
    for _ in range(effort.pick(60, 2)):
        begin = time.perf_counter()
        one_call()
        idle_call = (time.perf_counter() - begin) / 2
        taken.append(partner.hand_off(enter))
        ratios.append(taken[-1] / idle_call)
    cost = duration(Spread.of(taken).median)
    section.add(
        "hand-off between processes ÷ one EVALSHA",
        Spread.of(ratios),
        budget=at_most(5.0, aim=2),
        absolute=cost,
    )
    idle = Spread.of(100 * partner.idle(enter, effort.pick(2.0, 0.1)) for _ in range(effort.pick(3, 1)))
    # Last: a process that has just connected also says what it holds, for a few seconds.
    calls = _script_calls(client, partial(partner.hand_off, enter))
    section.add("script calls for a pair, and a pair that waits", Spread.of([float(calls)]), "", at_most(6.0))
    section.add("a waiting process", idle, "% of a core")
    partner.close()
    pool.close()
