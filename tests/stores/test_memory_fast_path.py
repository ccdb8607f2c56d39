"""The fast path: what makes it safe without a lock, and that it is safe where that does not hold."""

from __future__ import annotations

import dis
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from balancer import AccountPool
from balancer.stores import memory_fast_path
from balancer.stores.memory_fast_path import never
from balancer.testing import ManualClock

MAXIMA = {"one": 1, "two": 2, "three": 3}
CHECKS = ("CALL", "RESUME", "JUMP_BACKWARD", "FOR_ITER", "SEND", "YIELD", "IMPORT", "BUILD")
"""Instructions where CPython may let others in, and those that may set off a garbage collection."""


@pytest.fixture
def pool():
    """Return a pool whose table is loaded and fresh for ever."""
    pool = AccountPool(source=MAXIMA, ttl=1e9, reconcile_every=None)
    pool.refresh()
    return pool


def paths(pool):
    """Return the two functions of the fast path."""
    return pool._core.take, pool._core.give_back


SOURCE = Path(memory_fast_path.__file__).read_text(encoding="utf-8").splitlines()


def critical(path):
    """Return the names of the instructions from the entry of the path to the end of what it guards."""
    lines = [line for _, _, line in path.__code__.co_lines() if line is not None]
    begin = next(line for line in lines if SOURCE[line - 1].strip() == "busy, fast.busy = fast.busy, True")
    end = max(line for line in lines if SOURCE[line - 1].strip() == "return True")
    assert end - begin > 5
    names = {at.offset: at.opname for at in dis.get_instructions(path.__code__)}
    spans = [(start, stop) for start, stop, line in path.__code__.co_lines() if line and begin <= line <= end]
    return [names[offset] for start, stop in spans for offset in range(start, stop) if offset in names]


@pytest.mark.parametrize("which", [0, 1], ids=["take", "give_back"])
def test_nothing_in_the_middle_of_the_straight_path_lets_another_thread_in(pool, which):
    """P-1: no call, no loop and no new container from the look at ``busy`` to the end of what it guards."""
    instructions = critical(paths(pool)[which])
    assert "STORE_SUBSCR" in instructions or "DELETE_SUBSCR" in instructions
    assert [name for name in instructions if name.startswith(CHECKS)] == []


class Account:
    """Counts what runs on each account at once."""

    def __init__(self):
        self.lock, self.running, self.most = threading.Lock(), Counter(), Counter()

    def __call__(self, lease):
        with self.lock:
            self.running[lease.account.id] += 1
            self.most[lease.account.id] = max(self.most[lease.account.id], self.running[lease.account.id])
        time.sleep(0)
        with self.lock:
            self.running[lease.account.id] -= 1


def test_threads_that_are_traced_line_by_line_still_share_the_slots_rightly(pool):
    """P-1: a tracer lets others in between any two lines; nobody gets a slot too many, and none is lost."""
    inside = Counter()

    def each_line(frame, event, _):
        if event == "line":
            inside[frame.f_lineno] += 1
            time.sleep(0)
        return each_line

    def tracer(frame, *_):
        return each_line if frame.f_code.co_filename == memory_fast_path.__file__ else None

    accounts = Account()

    def work(_):
        sys.settrace(tracer)
        try:
            for _ in range(100):
                with pool.acquire() as lease:
                    accounts(lease)
        finally:
            sys.settrace(None)

    with ThreadPoolExecutor(8) as crew:
        list(crew.map(work, range(8)))
    assert len(inside) > 20
    assert all(0 < accounts.most[id] <= most for id, most in MAXIMA.items())
    stats = pool.stats()
    assert (stats.in_flight, stats.free, stats.acquired, stats.released) == (0, 6, 800, 800)


def test_whoever_finds_the_path_busy_goes_the_way_of_everybody(pool):
    """What a tracer can bring about, done by hand: another caller waits until the path is clear."""
    path = pool._core.store.fast
    lease = pool.acquire()
    path.busy = True
    with ThreadPoolExecutor(2) as crew:
        waiting = crew.submit(pool.acquire), crew.submit(lease.release)
        time.sleep(0.02)
        assert not any(work.done() for work in waiting)
        path.busy = False
        assert waiting[1].result(30) is True
        waiting[0].result(30).release()
    assert pool.stats().in_flight == 0


@pytest.mark.parametrize("sign", ["no lock", "other"])
def test_where_threads_run_at_once_the_path_is_not_opened(monkeypatch, sign):
    """On a free-threaded build, or another interpreter, everybody takes the lock, and all works as well."""
    if sign == "no lock":
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    else:
        monkeypatch.setattr(sys.implementation, "name", "pypy")
    pool = AccountPool(source=MAXIMA, clock=ManualClock(), reconcile_every=None)
    pool.refresh()
    assert pool._core.give_back is never
    leases = [pool.acquire(timeout=0) for _ in range(6)]
    assert Counter(lease.account.id for lease in leases) == MAXIMA
    assert [lease.release() for lease in leases] == [True] * 6
    assert [lease.release() for lease in leases] == [False] * 6


def test_a_step_that_is_under_way_closes_the_path(pool):
    """P-14: who looks at the whole pool sees it at one moment, and nobody takes a slot meanwhile."""
    store, (take, give_back) = pool._core.store, paths(pool)
    lease = pool.acquire()

    def look(_):
        handle = object.__new__(type(lease))
        return take(pool._core, handle, None), store.fast.closed

    assert store._step(look) == (False, True)
    assert not store.fast.closed
    assert give_back(lease._record) is True
