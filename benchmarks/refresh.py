"""How long a refresh of a very large pool holds up those who use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from balancer import AccountPool
from benchmarks.harness import Effort, Spread
from benchmarks.pools import accounts
from benchmarks.report import Section, duration

TEXT = """\
A pool of 1,000,000 accounts is used by two threads without pause while its configuration is read again:
once unchanged, and once with every hundredth account at another capacity. The yardstick is the
interpreter's switch interval (5 ms): for that long any thread may be held up by another that computes.
The refresh itself is mostly the source's reading and our checking of a million entries."""


def run(effort: Effort) -> Section:
    """Measure the longest pause of the users of a pool that is refreshed."""
    number = effort.pick(1_000_000, 2_000)
    section = Section("refresh", f"A refresh of {number:,} accounts while in use", TEXT)
    source = accounts(number)
    pool = AccountPool(source=source, store="memory://", ttl=3600.0)
    pool.refresh()
    calm = [_pauses(pool, lambda: time.sleep(0.5)) for _ in range(effort.pick(3, 1))]
    _add(section, "in calm", calm)
    same = [_pauses(pool, pool.refresh) for _ in range(effort.pick(5, 1))]
    _add(section, "refresh without changes", same)
    changed = []
    for number_of_run in range(effort.pick(5, 1)):
        for n in range(number_of_run, number, 100):
            source[f"account-{n}"] = 7
        changed.append(_pauses(pool, pool.refresh))
    _add(section, "refresh with 1 % changed", changed)
    return section


def _add(section: Section, name: str, found: list[tuple[float, float]]) -> None:
    longest = Spread.of(pause / 0.005 for pause, _ in found)
    cost = duration(Spread.of(pause for pause, _ in found).median)
    section.add(f"{name}: longest pause ÷ switch interval", longest, absolute=cost)
    if name.startswith("refresh"):
        taken = Spread.of(seconds for _, seconds in found)
        section.add(f"{name}: duration", taken, "s")


def _pauses(pool: AccountPool, act: Callable[[], object]) -> tuple[float, float]:
    """Return the longest that a pair took while ``act`` ran, and how long ``act`` took."""
    over = threading.Event()
    longest = [0.0, 0.0]

    def use(me: int) -> None:
        last = time.perf_counter()
        while not over.is_set():
            pool.acquire().release()
            now = time.perf_counter()
            longest[me] = max(longest[me], now - last)
            last = now

    users = [threading.Thread(target=use, args=(me,)) for me in range(2)]
    for user in users:
        user.start()
    begin = time.perf_counter()
    act()
    taken = time.perf_counter() - begin
    over.set()
    for user in users:
        user.join()
    return max(longest), taken
