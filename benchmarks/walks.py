"""How far a call walks through the code: calls, files, and jumps from file to file.

``python -m benchmarks.walks [STORE…]`` prints them as JSON. They do not depend on the machine: each
operation is done several times, and the shortest walk counts, as a collection of garbage or a thread
that was quicker can only make one longer. The thread that calls is followed, and no other.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import balancer
from balancer import AccountPool, Lease
from benchmarks.pools import open_pool
from benchmarks.server import redis_server

T = TypeVar("T")

STORES = ("memory", "sqlite", "redis")
TIMES = 20
PACKAGE = Path(balancer.__file__).parent
BESIDE = ("cli", "testing")
"""Folders that no call of the library goes through."""
STILL = 0.05
"""Seconds without a step after which a thread is taken to be asleep."""


class Walk(NamedTuple):
    """The way of one operation."""

    calls: int
    files: int
    jumps: int


class Tracker:
    """Notes in which file each function is that the thread calls, while it is on."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, frame: Any, event: str, _: object) -> None:
        """Take in an event of the interpreter's profiler."""
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents and path.relative_to(PACKAGE).parts[0] not in BESIDE:
                self.files.append(frame.f_code.co_filename)

    def follow(self, act: Callable[[], T]) -> T:
        """Return what ``act`` returns, having followed it."""
        sys.setprofile(self)
        try:
            return act()
        finally:
            sys.setprofile(None)

    @property
    def walk(self) -> Walk:
        """What was seen."""
        files = self.files
        jumps = sum(a != b for a, b in pairwise(files))
        return Walk(len(files), len(set(files)), jumps)


def walks(store: str) -> dict[str, Walk]:
    """Return the walk of each operation on a store."""
    found: dict[str, list[Walk]] = {}
    with _url(store) as url:
        pool = open_pool(2, capacity=1, store=url, service="flowmusic")
        for _ in range(TIMES):
            for name, walk in _round(pool).items():
                found.setdefault(name, []).append(walk)
        pool.close()
    return {name: Walk(*map(min, zip(*seen, strict=True))) for name, seen in found.items()}


def _round(pool: AccountPool) -> dict[str, Walk]:
    """Do each operation once, on a pool of two slots that nobody else uses."""
    seen: dict[str, Walk] = {}

    def follow(name: str, act: Callable[[], T]) -> T:
        tracker = Tracker()
        result = tracker.follow(act)
        seen[name] = tracker.walk
        return result

    gc.collect()
    gc.disable()
    try:
        lease = follow("acquire", pool.acquire)
        follow("release", lease.release)
        follow("acquire, one account", lambda: pool.acquire(account="account-0")).release()
        follow("acquire, with a label in time", lambda: pool.acquire(timeout=60, label="x")).release()
        for what, options in (("", {}), (", one account", {"account": "account-0"})):
            first, second = pool.acquire(account="account-0"), pool.acquire()
            waiter = _Waiter(pool, options)
            follow(f"release to one who waits{what}", first.release)
            waiter.got().release()
            seen[f"acquire{what}, after a wait"] = waiter.tracker.walk
            second.release()
    finally:
        gc.enable()
    return seen


class _Waiter:
    """A thread that waits for a slot, and is followed."""

    def __init__(self, pool: AccountPool, options: dict[str, Any]) -> None:
        self.tracker, self._leases = Tracker(), list[Lease]()
        self._thread = threading.Thread(target=self._wait, args=(pool, options))
        self._thread.start()
        seen = -1
        while pool.stats().waiting != 1 or len(self.tracker.files) != seen:
            seen = len(self.tracker.files)
            time.sleep(STILL)

    def _wait(self, pool: AccountPool, options: dict[str, Any]) -> None:
        self._leases.append(self.tracker.follow(lambda: pool.acquire(timeout=60, **options)))

    def got(self) -> Lease:
        """Return the lease, once it has got it."""
        self._thread.join()
        return self._leases[0]


@contextmanager
def _url(store: str) -> Iterator[str]:
    if store == "memory":
        yield "memory://"
    elif store == "redis":
        with redis_server() as url:
            yield url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite://{folder}/slots.db"


if __name__ == "__main__":
    print(json.dumps({store: walks(store) for store in sys.argv[1:] or STORES}))
