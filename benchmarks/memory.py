"""How many bytes an account and a lease take."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from balancer import AccountPool, Lease
from benchmarks.harness import Effort, Spread
from benchmarks.pools import accounts
from benchmarks.report import Section, at_most

T = TypeVar("T")

TEXT = """\
Bytes that Python's allocator hands out, by `tracemalloc`. An account: what a pool holds for it beside
its id and its entry in the configuration, which are there before. A lease: what is held while it is
out, the user's handle included, with six leases on each account, and with one. A
`threading.BoundedSemaphore` for each account is measured alike."""


def run(effort: Effort) -> Section:
    """Measure accounts and leases."""
    section = Section("memory", "Memory: an account, a lease", TEXT)
    number = effort.pick(100_000, 500)
    source = accounts(number)
    size, pool = _allocated(lambda: _loaded(source))
    section.add("an account", _one(size / number), "B", at_most(350))
    section.add("a lease, six on an account", _one(_lease(pool, number * 6)), "B", at_most(320))
    pool.close()
    single = _loaded(accounts(number, capacity=1))
    section.add("a lease, one on an account", _one(_lease(single, number)), "B")
    size, _semaphores = _allocated(lambda: {id: threading.BoundedSemaphore(6) for id in source})
    section.add("a BoundedSemaphore for each account", _one(size / number), "B")
    return section


def _lease(pool: AccountPool, number: int) -> float:
    """Return the bytes of each of ``number`` leases; the list that keeps them is there before."""
    leases: list[Lease | None] = [None] * number

    def fill() -> None:
        for place in range(number):
            leases[place] = pool.acquire()

    return _allocated(fill)[0] / number


def _loaded(source: dict[str, int]) -> AccountPool:
    pool = AccountPool(source=source, store="memory://", ttl=3600.0)
    pool.acquire(timeout=60).release()
    return pool


def _allocated(make: Callable[[], T]) -> tuple[int, T]:
    """Return how many bytes ``make`` leaves allocated, and what it made."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return size, made


def _one(value: float) -> Spread:
    """Return a figure that is the same each time."""
    return Spread(value, value, value)
