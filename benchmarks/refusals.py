"""What it costs to be turned away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

from balancer import AccountPool, AcquireTimeout
from benchmarks.harness import Clock, Effort, Loop, race
from benchmarks.pair import pairs
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_most, duration
from benchmarks.server import redis_server

TEXT = """\
`acquire(timeout=0)` while every account is full. The yardstick is one acquire and one release on a pool
of 10 accounts on the same store that are free. The error shows at most 20 accounts, and should cost no
more the more there are."""

SERVICES = ("flowmusic", "mureka", "kling", "riffusion")
"""One for each pool of a store: pools of one service would share their accounts."""


def run(effort: Effort) -> Section:
    """Measure refusals on each store, over the number of accounts."""
    section = Section("refusals", "A refusal, over the number of accounts", TEXT)
    numbers = effort.pick([10, 1_000, 10_000], [10, 50])
    few = Effort(effort.pick(7, 2), effort.seconds, effort.quick)
    _refusals(section, effort, "memory", "memory://", numbers)
    with _file() as url:
        _refusals(section, few, "SQLite", url, numbers)
    with redis_server() as url:
        _refusals(section, few, "Redis", url, numbers)
    return section


def _refusals(section: Section, effort: Effort, store: str, url: str, numbers: list[int]) -> None:
    memory = store == "memory"
    clock: Clock = time.thread_time if memory else time.perf_counter
    free = open_pool(10, store=url, service=SERVICES[0])
    full = {n: open_pool(n, 1, store=url, service=s) for n, s in zip(numbers, SERVICES[1:], strict=False)}
    leases = [pool.acquire() for n, pool in full.items() for _ in range(n)]
    loops = {f"{store}, {n:,} accounts": refusals(pool) for n, pool in full.items()}
    samples = race(pairs(free), loops, effort, clock)
    for name in loops:
        cost = duration(samples.of(name).median)
        section.add(name, samples.ratio(name), budget=at_most(30.0 if memory else 3.0), absolute=cost)
    few, many = numbers[0], numbers[-1]
    growth = f"{store}, {many:,} accounts ÷ {few:,} accounts"
    samples = race(refusals(full[few]), {growth: refusals(full[many])}, effort, clock)
    section.add(growth, samples.ratio(growth), budget=at_most(1.15))
    for lease in leases:
        lease.release()
    for pool in (free, *full.values()):
        pool.close()


def refusals(pool: AccountPool) -> Loop:
    """Return calls of a pool that is full."""

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            try:
                pool.acquire(timeout=0)
            except AcquireTimeout:
                continue
            raise AssertionError("there was room")

    return loop


@contextmanager
def _file() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite://{folder}/slots.db"
