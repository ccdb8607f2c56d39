"""Jobs finished over time, and calls refused, for the ways in which clients share accounts."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from heapq import heapify, heapreplace
from itertools import islice

from benchmarks.clients import CLIENTS, Client
from benchmarks.harness import Effort, Spread
from benchmarks.report import Section, at_most
from benchmarks.upstream import Upstream

TEXT = """\
600 jobs of log-normal length, two minutes on average, for 5 accounts that run 6 each; 60 threads send
them. One minute passes in 30 ms. The upstream is simulated in the process: it counts, and refuses a
job of an account that is full. *Makespan* is the time until the last job is done, against a greedy
schedule that starts each job the moment a slot is free and calls cost nothing.

- *pool*: `AccountPool`; the slot is released when the job is done.
- *semaphore + random*: one semaphore over all 30 slots, then a random account until one takes the job.
- *semaphore each*: a random account, then its semaphore: it may wait while others are free.
- *vendor's loop*: names no account, lets the server choose, and asks again 10 to 30 s after a refusal.
  Many services of useapi.net do not offer that choice.
- *blind retry*: a random account, and after a refusal another, with exponential back-off from 1 s to 30 s."""

ACCOUNTS, SLOTS, JOBS, THREADS = 5, 6, 600, 60
MINUTE = 0.03
AVERAGE, SPREAD = 2.0, 0.6
"""Minutes, and sigma of the logarithm."""


def run(effort: Effort) -> Section:
    """Have every kind of client do the same jobs."""
    section = Section("end_to_end", f"End to end: {JOBS} jobs", TEXT)
    jobs, minute = effort.pick(JOBS, 40), effort.pick(MINUTE, 0.001)
    found: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name in CLIENTS}
    for number in range(effort.pick(5, 1)):
        lengths = [minute * length for length in islice(_lengths(number), jobs)]
        for name in random.sample(list(CLIENTS), len(CLIENTS)):
            found[name].append(_run(CLIENTS[name], lengths, minute))
    for name, runs in found.items():
        ours = name == "pool"
        makespan = Spread.of(makespan for makespan, _, _ in runs)
        section.add(f"{name}: makespan ÷ ideal", makespan, budget=at_most(1.03) if ours else None)
        refused = Spread.of(refused for _, refused, _ in runs)
        section.add(f"{name}: refused calls per job", refused, "", at_most(0.0) if ours else None)
    section.series = {name: runs[-1][2] for name, runs in found.items()}
    return section


def _run(make: type[Client], lengths: list[float], minute: float) -> tuple[float, float, list[float]]:
    """Return the makespan ÷ ideal, refused calls per job, and when the jobs finished (÷ ideal)."""
    upstream = Upstream(ACCOUNTS, SLOTS)
    client = make(upstream, minute)
    ideal = _greedy(lengths, ACCOUNTS * SLOTS)
    finished: list[float] = []

    def work(length: float) -> None:
        client.do(partial(time.sleep, length))
        finished.append(time.perf_counter())

    with ThreadPoolExecutor(THREADS) as crew:
        begin = time.perf_counter()
        list(crew.map(work, lengths))
    client.close()
    assert upstream.most <= SLOTS
    assert upstream.done == len(lengths)
    times = sorted((moment - begin) / ideal for moment in finished)
    return times[-1], upstream.refused / len(lengths), times


def _greedy(lengths: list[float], slots: int) -> float:
    """Return when the last job is done if each starts the moment a slot is free."""
    free = [0.0] * slots
    heapify(free)
    for length in lengths:
        heapreplace(free, free[0] + length)
    return max(free)


def _lengths(seed: int) -> Iterator[float]:
    """Yield lengths of jobs in minutes, the same for each client."""
    draw = random.Random(seed)
    middle = math.log(AVERAGE) - SPREAD**2 / 2
    while True:
        yield draw.lognormvariate(middle, SPREAD)
