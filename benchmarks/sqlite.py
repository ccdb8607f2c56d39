"""What a slot costs that the processes of one machine share in a SQLite file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import repeat
from pathlib import Path

from balancer import AccountPool, AcquireTimeout
from benchmarks.harness import Effort, Loop, Spread, compare, race
from benchmarks.pair import pairs
from benchmarks.pools import open_pool
from benchmarks.processes import Crowd, Partner, open_shared
from benchmarks.report import Section, at_least, at_most, duration

TEXT = """\
The yardstick is a pair of empty transactions, `BEGIN IMMEDIATE; COMMIT` twice, on a file with the same
settings: what SQLite takes for changing nothing. *Processes*: so many do pairs on one file as fast as
they can, with room for all, against one process alone. *Refusal*: `timeout=0` while every slot is taken.
*First acquire*: what a process that begins spends of its processor until it has its first lease, imports
apart, on accounts that others have read. *Hand-off*: a process waits for the only slot;
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
        budget = at_most(10) if "10 " in name else None
        section.add(name, samples.ratio(name), budget=budget, absolute=duration(samples.of(name).median))
    growth = f"pair, {many:,} accounts ÷ 10 accounts"
    samples = race(pairs(pools[10]), {growth: pairs(pools[many])}, effort, time.perf_counter)
    section.add(growth, samples.ratio(growth), budget=at_most(1.05))
    _refusals(section, effort, pools, place)
    for pool in pools.values():
        pool.close()
    firsts = [_first_acquire(place / f"pool-{many}.db", many) for _ in range(effort.pick(9, 1))]
    section.add(
        f"first acquire of a process, {many:,} accounts", Spread.of(firsts), "ms of CPU", at_most(100)
    )


def _refusals(section: Section, effort: Effort, pools: dict[int, AccountPool], place: Path) -> None:
    """Measure what it costs to be turned away from a full pool, in pairs of one with room."""
    for number, pool in pools.items():
        full = open_pool(number, capacity=1, store=f"sqlite://{place / f'full-{number}.db'}")
        leases = [full.acquire(timeout=60) for _ in range(number)]
        name = f"refusal, {number:,} accounts ÷ pair"
        samples = race(pairs(pool), {name: partial(_be_refused, full)}, effort, time.perf_counter)
        section.add(name, samples.ratio(name), budget=at_most(3))
        for lease in leases:
            lease.release()
        full.close()


def _be_refused(pool: AccountPool, times: int) -> None:
    for _ in range(times):
        try:
            pool.acquire(timeout=0)
        except AcquireTimeout:
            continue
        raise AssertionError("it was to be full")


_FIRST = """
import sys, time
from balancer import AccountPool
import balancer.stores.sqlite
accounts = {f"account-{n}": 6 for n in range(int(sys.argv[2]))}
pool = AccountPool("custom", source=accounts, store=sys.argv[1], ttl=3600.0)
begun = time.process_time()
lease = pool.acquire(timeout=60)
print(1000 * (time.process_time() - begun))
lease.release()
"""


def _first_acquire(file: Path, number: int) -> float:
    """Return the milliseconds of processor time that a new process spends until it has its first lease."""
    command = [sys.executable, "-c", _FIRST, f"sqlite://{file}", str(number)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


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
