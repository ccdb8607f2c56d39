"""Several processes that use one store at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from balancer import AccountPool
from benchmarks.pools import accounts

Open = Callable[[], Callable[[], AbstractContextManager[Any]]]
"""Makes, in the process that it is called in, what enters a slot. It must be picklable."""
PATIENCE = 60.0
_spawn = multiprocessing.get_context("spawn")


def open_shared(store: str, number: int, capacity: int) -> Callable[[], AbstractContextManager[Any]]:
    """Open a pool on a shared store."""
    pool = AccountPool("custom", source=accounts(number, capacity), store=store, ttl=3600.0)
    pool.acquire(timeout=PATIENCE).release()
    return partial(pool.acquire, timeout=PATIENCE)


class Crowd:
    """Processes that do pairs at the same time, again and again, when told to."""

    def __init__(self, open_slots: Open, number: int) -> None:
        self.gate = _spawn.Barrier(number + 1)
        self.results: Any = _spawn.SimpleQueue()
        self.seconds = _spawn.Value("d", 0.0)
        arguments = (open_slots, self.gate, self.seconds, self.results)
        self.members = [_spawn.Process(target=_member, args=arguments) for _ in range(number)]
        for member in self.members:
            member.start()

    def served(self, seconds: float) -> list[int]:
        """Return how many pairs each of them did in so many seconds."""
        self.seconds.value = seconds
        self.gate.wait(PATIENCE)
        return [self.results.get() for _ in self.members]

    def rate(self, seconds: float) -> float:
        """Return how many pairs they did together in a second."""
        return sum(self.served(seconds)) / seconds

    def close(self) -> None:
        """Have them end."""
        self.seconds.value = 0.0
        self.gate.wait(PATIENCE)
        for member in self.members:
            member.join(PATIENCE)


class Partner:
    """Another process that waits for a slot each time it is told to, and says when it got it."""

    def __init__(self, open_slots: Open) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(target=_partner, args=(open_slots, theirs))
        self.process.start()
        self.pipe.recv()

    def hand_off(self, enter: Callable[[], AbstractContextManager[Any]]) -> float:
        """Return the seconds from our release to the moment at which the partner had the slot."""
        with enter():
            self.pipe.send("wait")
            time.sleep(0.03)
            left = time.monotonic()
        got: float = self.pipe.recv()
        return got - left

    def idle(self, enter: Callable[[], AbstractContextManager[Any]], seconds: float) -> float:
        """Return the share of a core that the partner uses while it waits for so long."""
        with enter():
            self.pipe.send("wait")
            time.sleep(min(0.2, seconds))
            before = _busy(self.process.pid)
            time.sleep(seconds)
            busy = _busy(self.process.pid) - before
        self.pipe.recv()
        return busy / seconds

    def close(self) -> None:
        """Have it end."""
        self.pipe.send("end")
        self.process.join(PATIENCE)


def _member(open_slots: Open, gate: Any, seconds: Any, results: Any) -> None:
    enter = open_slots()
    while True:
        gate.wait(PATIENCE)
        length = seconds.value
        if not length:
            return
        end, done = time.monotonic() + length, 0
        while time.monotonic() < end:
            with enter():
                pass
            done += 1
        results.put(done)


def _partner(open_slots: Open, pipe: Any) -> None:
    enter = open_slots()
    pipe.send("ready")
    while pipe.recv() == "wait":
        with enter():
            got = time.monotonic()
        pipe.send(got)


def _busy(pid: int | None) -> float:
    """Return the seconds of processor time that a process has used."""
    assert pid is not None
    return time.clock_gettime((~pid << 3) | 2)  # the clock of a process, as clock_getcpuclockid makes it
