"""Measures by comparison: what is compared runs in one process, in rounds, in a new order each round.

Absolute times do not travel from machine to machine, and drift on one. A ratio of two neighbours in
one round does neither, and the median over the rounds forgets those that something else disturbed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")

Loop = Callable[[int], object]
"""Carries out an operation so many times."""
Measure = Callable[[], float]
"""Takes one sample."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is spent on a measurement."""

    rounds: int
    seconds: float
    """Length of one sample."""
    quick: bool = False

    def pick(self, full: T, quick: T) -> T:
        """Return the size to work with."""
        return quick if self.quick else full


FULL = Effort(rounds=31, seconds=0.01)
QUICK = Effort(rounds=3, seconds=0.0005, quick=True)


class Spread(NamedTuple):
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """Return the spread of some values."""
        known = sorted(values)
        if len(known) == 1:
            return Spread(known[0], known[0], known[0])
        low, median, high = statistics.quantiles(known, n=4, method="inclusive")
        return Spread(median, low, high)


@dataclass(frozen=True, slots=True)
class Samples:
    """Of each thing that was compared, what it took, and what the yardstick took right beside it."""

    pairs: Mapping[str, list[tuple[float, float]]]

    def of(self, name: str, scale: float = 1.0) -> Spread:
        """Return what ``name`` took, in units of 1/``scale``."""
        return Spread.of(value * scale for value, _ in self.pairs[name])

    def ratio(self, name: str) -> Spread:
        """Return ``name`` divided by the yardstick, neighbour by neighbour."""
        return Spread.of(value / yard for value, yard in self.pairs[name])


def compare(yardstick: Measure, measures: Mapping[str, Measure], rounds: int) -> Samples:
    """Take each measure once in every round, beside the yardstick; the first round only warms up."""
    order = list(measures)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in order}
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            neighbours = _neighbours(measures[name], yardstick)
            if number:
                pairs[name].append(neighbours)
    return Samples(pairs)


def race(
    yardstick: Loop, loops: Mapping[str, Loop], effort: Effort, clock: Clock = time.thread_time
) -> Samples:
    """Compare the seconds that one operation of each loop takes.

    The clock is this thread's share of the processor, so that another process that wants it too does
    not count; ``time.perf_counter`` is for operations that wait.
    """
    measures = {name: _sampler(loop, effort.seconds, clock) for name, loop in loops.items()}
    return compare(_sampler(yardstick, effort.seconds, clock), measures, effort.rounds)


def clocked(loop: Loop, times: int, clock: Clock = time.perf_counter) -> float:
    """Return how many seconds ``times`` operations take."""
    begin = clock()
    loop(times)
    return clock() - begin


def _neighbours(compute_left: Measure, yardstick: Measure) -> tuple[float, float]:
    if random.random() < 0.5:
        return compute_left(), yardstick()
    yard = yardstick()
    return compute_left(), yard


def _sampler(loop: Loop, seconds: float, clock: Clock) -> Measure:
    times = 1
    while (taken := clocked(loop, times, clock)) < seconds / 2:
        times *= 2 if taken > seconds / 16 else 8
    return lambda: clocked(loop, times, clock) / times
