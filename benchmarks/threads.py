"""What threads get out of one pool: how much, how evenly, and how fast a slot changes hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from benchmarks.harness import Effort, Spread, compare
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_least, at_most, duration

TEXT = """\
*Throughput*: so many threads do pairs as fast as they can, with a slot for each; the yardstick is one
`threading.BoundedSemaphore` used alike. With 2 and 8 threads the yardstick itself jumps between two
speeds, as threads fall into step on its lock or do not. *Fairness*: 64 threads share 16 slots and hold
each for half a millisecond of sleep, as a job does. *Hand-off*: a thread waits for the only slot;
measured is from the release to its waking up."""

Enter = Callable[[], AbstractContextManager[object]]
HOLD = 0.0005


def run(effort: Effort) -> Section:
    """Measure throughput, fairness and hand-off."""
    section = Section("threads", "Threads: throughput, fairness, hand-off", TEXT)
    _throughput(section, effort)
    _fairness(section, effort)
    _hand_off(section, effort)
    return section


def _throughput(section: Section, effort: Effort) -> None:
    seconds = effort.pick(0.1, 0.01)
    for threads in (2, 8, 32):
        yardstick = partial(_total, _semaphore(threads), threads, seconds)
        pool = open_pool(10, capacity=-(-threads // 10)).acquire
        samples = compare(yardstick, {"pool": partial(_total, pool, threads, seconds)}, effort.pick(11, 2))
        budget = at_least(1.0, aim=4) if threads == 32 else None
        rate = f"{samples.of('pool').median:,.0f} pairs/s"
        section.add(f"throughput of {threads} threads", samples.ratio("pool"), budget=budget, absolute=rate)


def _fairness(section: Section, effort: Effort) -> None:
    threads, slots, seconds = 64, 16, effort.pick(1.0, 0.1)
    enters = {"pool": open_pool(4, capacity=slots // 4).acquire, "semaphore": _semaphore(slots)}
    found: dict[str, list[list[int]]] = {name: [] for name in enters}
    for _ in range(effort.pick(5, 1)):
        for name, enter in enters.items():
            found[name].append(_served(enter, threads, seconds, HOLD))
    for name, runs in found.items():
        evenness = Spread.of(min(served) / max(served) for served in runs)
        budget = at_least(0.9) if name == "pool" else None
        section.add(f"{name}: least ÷ most served of {threads} threads", evenness, budget=budget)
    ratio = Spread.of(sum(ours) / sum(theirs) for ours, theirs in zip(*found.values(), strict=True))
    rate = f"{sum(found['pool'][-1]) / seconds:,.0f} pairs/s"
    section.add("throughput while they wait in line", ratio, budget=at_least(0.8), absolute=rate)
    section.series = {name: sorted(runs[-1]) for name, runs in found.items()}


def _hand_off(section: Section, effort: Effort) -> None:
    times = effort.pick(60, 3)
    pool = open_pool(1, capacity=1).acquire
    yardstick = partial(_passing, _semaphore(1), times)
    samples = compare(yardstick, {"pool": partial(_passing, pool, times)}, effort.pick(11, 2))
    cost = duration(samples.of("pool").median)
    section.add("hand-off to a waiting thread", samples.ratio("pool"), budget=at_most(1.6), absolute=cost)


def _semaphore(slots: int) -> Enter:
    semaphore = threading.BoundedSemaphore(slots)

    class Slot:
        """Has the shape of a lease, at the least cost."""

        __slots__ = ()

        def __enter__(self) -> None:
            semaphore.acquire()

        def __exit__(self, *_: object) -> None:
            semaphore.release()

    return Slot


def _total(enter: Enter, threads: int, seconds: float) -> float:
    return sum(_served(enter, threads, seconds)) / seconds


def _served(enter: Enter, threads: int, seconds: float, hold: float | None = None) -> list[int]:
    counts = [0] * threads
    barrier = threading.Barrier(threads)

    def work(me: int) -> None:
        barrier.wait()
        end, done = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            with enter():
                if hold is not None:
                    time.sleep(hold)
            done += 1
        counts[me] = done

    _together([partial(work, me) for me in range(threads)])
    return counts


def _passing(enter: Enter, times: int) -> float:
    """Return the median seconds from a release to the waking up of the thread that waited for it."""
    taken = []
    for _ in range(times):
        waits, got = threading.Event(), [0.0]
        waiter = threading.Thread(target=_wait, args=(enter, waits, got))
        with enter():
            waiter.start()
            waits.wait()
            time.sleep(0.001)
            left = time.perf_counter()
        waiter.join()
        taken.append(got[0] - left)
    return Spread.of(taken).median


def _wait(enter: Enter, waits: threading.Event, got: list[float]) -> None:
    waits.set()
    with enter():
        got[0] = time.perf_counter()


def _together(tasks: list[Callable[[], None]]) -> None:
    crew = [threading.Thread(target=task) for task in tasks]
    for member in crew:
        member.start()
    for member in crew:
        member.join()
