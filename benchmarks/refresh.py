"""How long a refresh of a very large pool holds up those who use it."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from balancer import AccountPool
from benchmarks.harness import Effort, Spread
from benchmarks.pools import accounts
from benchmarks.report import Section, duration

TEXT = """\
A pool of 1,000,000 accounts is used by two threads without pause while its configuration is read again:
once unchanged, and once with every hundredth account at another capacity. The yardstick is the
interpreter's switch interval (5 ms): for that long any thread may be held up by another that computes.
The refresh is mostly our checking of a million entries, in a thread of its own. What holds people up
meanwhile is the interpreter's garbage collector, which looks at all of them at once."""


def run(effort: Effort) -> Section:
    """Measure the longest pause of the users of a pool that is refreshed."""
    number = effort.pick(1_000_000, 2_000)
    section = Section("refresh", f"A refresh of {number:,} accounts while in use", TEXT)
    source = accounts(number)
    pool = AccountPool(source=source, store="memory://", ttl=3600.0)
    pool.refresh()
    calm = [_pauses(pool, lambda: time.sleep(0.5)) for _ in range(effort.pick(3, 1))]
    _add(section, "in calm", calm)
    same = [_pauses(pool, pool.refresh) for _ in range(effort.pick(3, 1))]
    _add(section, "refresh without changes", same)
    changed = []
    for number_of_run in range(effort.pick(3, 1)):
        for n in range(number_of_run, number, 100):
            source[f"account-{n}"] = 7
        changed.append(_pauses(pool, pool.refresh))
    _add(section, "refresh with 1 % changed", changed)
    return section


def _add(section: Section, name: str, found: list[tuple[float, float, float]]) -> None:
    cooldowns, lengths, collections = zip(*found, strict=True)
    interval = sys.getswitchinterval()
    longest = Spread.of(pause / interval for pause in cooldowns)
    cost = duration(Spread.of(cooldowns).median)
    section.add(f"{name}: longest pause ÷ switch interval", longest, absolute=cost)
    if name.startswith("refresh"):
        collected = Spread.of(seconds / interval for seconds in collections)
        cost = duration(Spread.of(collections).median)
        section.add(f"{name}: longest garbage collection ÷ switch interval", collected, absolute=cost)
        section.add(f"{name}: duration", Spread.of(lengths), "s")


def _pauses(pool: AccountPool, act: Callable[[], object]) -> tuple[float, float, float]:
    """Return the longest pair while ``act`` ran, how long that took, and the longest garbage collection."""
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
    with _collections() as collected:
        act()
    taken = time.perf_counter() - begin
    over.set()
    for user in users:
        user.join()
    return max(longest), taken, max(collected, default=0.0)


@contextmanager
def _collections() -> Iterator[list[float]]:
    """Note how long each run of the garbage collector takes."""
    begun, taken = [0.0], []

    def note(phase: str, _: object) -> None:
        if phase == "start":
            begun[0] = time.perf_counter()
        else:
            taken.append(time.perf_counter() - begun[0])

    gc.callbacks.append(note)
    try:
        yield taken
    finally:
        gc.callbacks.remove(note)
