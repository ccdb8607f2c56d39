"""What one acquire and one release cost, over the number of accounts."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import repeat
from typing import Any

from balancer import AccountPool
from benchmarks.harness import Effort, Loop, race
from benchmarks.pools import accounts, open_pool
from benchmarks.report import Section, at_most, duration

TEXT = """\
The yardstick is one acquire and one release of a `threading.BoundedSemaphore`, which knows no accounts.
`pair` is `pool.acquire().release()` with every feature on; `with` is `with pool.acquire(): pass`;
`label` and `timeout` are pairs with that option. The naive pool is what one would write in ten
minutes: a lock, a list of the accounts that have room made anew for each choice, and `random.choice`."""

BUDGETS = {
    "pair, 10 accounts": at_most(1.0, aim=0.7),
    "with, 10 accounts": at_most(1.1),
    "pair, 100,000 accounts ÷ 10 accounts": at_most(1.5),
    "pair, 1,000,000 accounts ÷ 10 accounts": at_most(2.0),
}
NAIVE_UP_TO = 10_000


class NaivePool:
    """A lock, and a fresh list of the accounts with room for every choice."""

    def __init__(self, capacity: dict[str, int]) -> None:
        self.capacity = capacity
        self.in_flight = dict.fromkeys(capacity, 0)
        self.lock = threading.Lock()

    def acquire(self) -> str:
        """Return an account with room."""
        with self.lock:
            free = [name for name, most in self.capacity.items() if self.in_flight[name] < most]
            account = random.choice(free)
            self.in_flight[account] += 1
            return account

    def release(self, account: str) -> None:
        """Give its slot back."""
        with self.lock:
            self.in_flight[account] -= 1


def semaphore_pairs(semaphore: threading.BoundedSemaphore) -> Loop:
    """Return the yardstick."""

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            semaphore.acquire()
            semaphore.release()

    return loop


def naive_pairs(pool: NaivePool) -> Loop:
    """Return pairs of the naive pool."""

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            pool.release(pool.acquire())

    return loop


def pairs(pool: AccountPool, **options: Any) -> Loop:
    """Return pairs of a pool."""
    if options:
        return _optioned(lambda: pool.acquire(**options))

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            pool.acquire().release()

    return loop


def blocks(pool: AccountPool) -> Loop:
    """Return entries of a block that holds a lease."""

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            with pool.acquire():
                pass

    return loop


def _optioned(acquire: Callable[[], Any]) -> Loop:
    def loop(times: int) -> None:
        for _ in repeat(None, times):
            acquire().release()

    return loop


def run(effort: Effort) -> Section:
    """Measure pairs over the number of accounts."""
    section = Section("pair", "One acquire and release, over the number of accounts", TEXT)
    numbers = effort.pick([10, 100, 1_000, 10_000, 100_000, 1_000_000], [10, 100])
    pools = {n: open_pool(n) for n in numbers}
    loops: dict[str, Loop] = {
        "pair, 10 accounts": pairs(pools[10]),
        "with, 10 accounts": blocks(pools[10]),
        "label, 10 accounts": pairs(pools[10], label="a job"),
        "timeout, 10 accounts": pairs(pools[10], timeout=60),
        **{f"pair, {n:,} accounts": pairs(pools[n]) for n in numbers[1:]},
        **{
            f"naive pool, {n:,} accounts": naive_pairs(NaivePool(accounts(n)))
            for n in numbers
            if n <= NAIVE_UP_TO
        },
    }
    samples = race(semaphore_pairs(threading.BoundedSemaphore(60)), loops, effort)
    for name in loops:
        cost = duration(samples.of(name).median)
        section.add(name, samples.ratio(name), budget=BUDGETS.get(name), absolute=cost)
    section.series = {
        kind: [
            (n, samples.ratio(name).median) for n in numbers if (name := f"{kind}, {n:,} accounts") in loops
        ]
        for kind in ("pair", "naive pool")
    }
    _growth(section, pools, effort)
    return section


def _growth(section: Section, pools: dict[int, AccountPool], effort: Effort) -> None:
    loops = {f"pair, {n:,} accounts ÷ 10 accounts": pairs(pool) for n, pool in pools.items() if n > 10}
    samples = race(pairs(pools[10]), loops, effort)
    for name in loops:
        section.add(name, samples.ratio(name), budget=BUDGETS.get(name))
