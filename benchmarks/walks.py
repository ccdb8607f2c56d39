"""How far a call walks through the code: calls, files, and jumps from file to file.

``python -m benchmarks.walks [STORE…]`` prints them as JSON. They do not depend on the machine: each
operation is done several times, and the shortest walk counts, as a collection of garbage or a thread
that was quicker can only make one longer. The thread that calls is followed, and no other. Where it races
with the worker of a shared store, each of the two is held up once until the other has done its part.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import balancer
from balancer import AccountPool, Lease
from balancer.stores.backend_client import BackendClient
from balancer.stores.offers import Offers
from balancer.testing import at_rest
from benchmarks.pools import open_pool
from benchmarks.server import redis_server

T = TypeVar("T")

STORES = ("memory", "sqlite", "redis")
POOLS, TIMES = 4, 5
"""How many pools each operation is measured on, and how often on each."""
PACKAGE = Path(balancer.__file__).parent
BESIDE = ("cli", "testing")
"""Folders that no call of the library goes through."""


class Walk(NamedTuple):
    """The way of one operation."""

    calls: int
    files: int
    jumps: int


class Tracker:
    """Notes in which file each function is that the thread calls, while it is on.

    Args:
        on_answer: Called when a shared store has answered, before that is taken in.
    """

    def __init__(self, on_answer: Callable[[], object] | None = None) -> None:
        self.files: list[str] = []
        self._on_answer = on_answer

    def __call__(self, frame: Any, event: str, _: object) -> None:
        """Take in an event of the interpreter's profiler."""
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents and path.relative_to(PACKAGE).parts[0] not in BESIDE:
                self.files.append(frame.f_code.co_filename)
            if self._on_answer is not None and frame.f_code is BackendClient.take_in.__code__:
                self._on_answer()

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


_worker_may_serve = threading.Event()
_worker_may_serve.set()


def _hold_worker(frame: Any, event: str, _: object) -> None:
    if event == "call" and frame.f_code is Offers.serve.__code__:
        _worker_may_serve.wait()


def walks(store: str) -> dict[str, Walk]:
    """Return the walk of each operation on a store."""
    found: dict[str, list[Walk]] = {}
    threading.setprofile(_hold_worker)
    with _url(store) as url:
        for _ in range(POOLS):  # the first who waits in a pool starts its worker, those after it call on it
            with open_pool(2, capacity=1, store=url, service="flowmusic") as pool:
                for name, walk in chain.from_iterable(_round(pool).items() for _ in range(TIMES)):
                    found.setdefault(name, []).append(walk)
    return {name: Walk(*map(min, zip(*seen, strict=True))) for name, seen in found.items()}


def _round(pool: AccountPool) -> dict[str, Walk]:
    """Do each operation once, on a pool of two slots that nobody else uses."""
    seen: dict[str, Walk] = {}

    def follow(name: str, act: Callable[[], T], on_answer: Callable[[], object] | None = None) -> T:
        tracker = Tracker(on_answer)
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
            follow(f"release to one who waits{what}", first.release, on_answer=waiter.got)
            seen[f"acquire{what}, after a wait"] = waiter.tracker.walk
            first, waiter = waiter.got(), _Waiter(pool, options)
            _worker_may_serve.clear()
            follow(f"release to one who waits{what}, who is served later", first.release)
            _worker_may_serve.set()
            waiter.got().release()
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
        at_rest(pool, callers=1)
        pool.stats()  # the replica of a file has come to rest, too

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
