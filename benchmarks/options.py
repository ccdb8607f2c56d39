"""What acquire costs with what people ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat

from benchmarks.harness import Effort, Loop, race
from benchmarks.pair import pairs, semaphore_pairs
from benchmarks.pools import open_pool
from benchmarks.report import Section, at_most, duration

TEXT = """\
The yardstick is one acquire and one release of a `threading.BoundedSemaphore`. `with timeout, label` is
`with pool.acquire(timeout=120, label="x"): pass`; the others are pairs with that option. To exclude one
account means that any of the others will do: that is worked out from the table, in the caller's thread."""

BUDGETS = {
    "with timeout, label; 10 accounts": at_most(1.2, aim=1.0),
    "account=, 10 accounts": at_most(7.0, aim=4.0),
}


def run(effort: Effort) -> Section:
    """Measure pairs with options."""
    section = Section("options", "One acquire and release, as people ask for it", TEXT)
    numbers = effort.pick([10, 1_000, 10_000], [10, 100])
    pools = {n: open_pool(n) for n in numbers}
    loops: dict[str, Loop] = {
        "with timeout, label; 10 accounts": _blocks(partial(pools[10].acquire, timeout=120, label="x")),
        **{f"account=, {n:,} accounts": pairs(pools[n], account="account-7") for n in numbers},
        **{f"exclude=[one], {n:,} accounts": pairs(pools[n], exclude=["account-7"]) for n in numbers},
    }
    samples = race(semaphore_pairs(threading.BoundedSemaphore(60)), loops, effort)
    for name in loops:
        cost = duration(samples.of(name).median)
        section.add(name, samples.ratio(name), budget=BUDGETS.get(name), absolute=cost)
    return section


def _blocks(acquire: Callable[[], AbstractContextManager[object]]) -> Loop:
    def loop(times: int) -> None:
        for _ in repeat(None, times):
            with acquire():
                pass

    return loop
