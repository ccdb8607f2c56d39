"""What a slot costs that the processes of one machine share in a SQLite file."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from functools import partial
from itertools import repeat
from pathlib import Path

from benchmarks.harness import Effort, Loop, Spread, compare, race
from benchmarks.pair import pairs
from benchmarks.pools import open_pool
from benchmarks.processes import Crowd, Partner, open_shared
from benchmarks.report import Section, at_least, at_most, duration

TEXT = """\
The yardstick is a pair of empty transactions, `BEGIN IMMEDIATE; COMMIT` twice, on a file with the same
settings: what SQLite takes for changing nothing. *Processes*: so many do pairs on one file as fast as
they can, with room for all, against one process alone. *Hand-off*: a process waits for the only slot;
measured is from the release in another process to its having the lease."""

PROCESSES = 4


def run(effort: Effort) -> Section:
    """Measure pairs, processes and hand-off."""
    section = Section("sqlite", "SQLite: one file for the processes of a machine", TEXT)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _pairs(section, effort, place)
        _processes(section, effort, f"sqlite://{place / 'processes.db'}")
        _hand_off(section, effort, f"sqlite://{place / 'hand-off.db'}")
    return section


def _pairs(section: Section, effort: Effort, place: Path) -> None:
    many = effort.pick(10_000, 50)
    pools = {n: open_pool(n, store=f"sqlite://{place / f'pool-{n}.db'}") for n in (10, many)}
    empty = _transactions(place / "empty.db")
    loops = {f"pair, {n:,} accounts": pairs(pool) for n, pool in pools.items()}
    samples = race(empty, loops, effort, time.perf_counter)
    for name in loops:
        budget = at_most(12) if "10 " in name else None
        section.add(name, samples.ratio(name), budget=budget, absolute=duration(samples.of(name).median))
    growth = f"pair, {many:,} accounts ÷ 10 accounts"
    samples = race(pairs(pools[10]), {growth: pairs(pools[many])}, effort, time.perf_counter)
    section.add(growth, samples.ratio(growth), budget=at_most(1.15))
    for pool in pools.values():
        pool.close()


def _transactions(path: Path) -> Loop:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    execute = connection.execute

    def loop(times: int) -> None:
        for _ in repeat(None, times * 2):
            execute("BEGIN IMMEDIATE")
            execute("COMMIT")

    return loop


def _processes(section: Section, effort: Effort, store: str) -> None:
    seconds, rounds = effort.pick(1.0, 0.05), effort.pick(7, 1)
    slots = partial(open_shared, store, 10, 6)
    alone, crowd = Crowd(slots, 1), Crowd(slots, PROCESSES)
    shares: list[float] = []

    def together() -> float:
        served = crowd.served(seconds)
        shares.append(min(served) / max(served))
        return sum(served) / seconds

    samples = compare(partial(alone.rate, seconds), {"all": together}, rounds)
    rate = f"{samples.of('all').median:,.0f} pairs/s"
    name = f"throughput of {PROCESSES} processes ÷ of one"
    section.add(name, samples.ratio("all"), budget=at_least(0.8), absolute=rate)
    section.add(f"least ÷ most served of {PROCESSES} processes", Spread.of(shares), budget=at_least(0.6))
    alone.close()
    crowd.close()


def _hand_off(section: Section, effort: Effort, store: str) -> None:
    pool, partner = open_pool(1, capacity=1, store=store), Partner(partial(open_shared, store, 1, 1))
    enter = partial(pool.acquire, timeout=60)
    taken = Spread.of(1000 * partner.hand_off(enter) for _ in range(effort.pick(60, 2)))
    section.add("hand-off between processes", taken, "ms", at_most(3.0))
    idle = Spread.of(100 * partner.idle(enter, effort.pick(2.0, 0.1)) for _ in range(effort.pick(3, 1)))
    section.add("a waiting process", idle, "% of a core", at_most(1.0))
    partner.close()
    pool.close()
