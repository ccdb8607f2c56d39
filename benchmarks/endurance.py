"""What a SQLite store bears: many processes at once, many accounts and leases, many operations.

``python -m benchmarks.endurance [processes|leases|operations …]`` prints a line for each as JSON. It takes
minutes, and is no part of a whole run; the numbers of seconds depend on the machine, the rest must not.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balancer import AccountPool
from benchmarks.pools import accounts

PROCESSES, EACH = 200, 5
ACCOUNTS, LEASES = 20_000, 50_000
OPERATIONS, CHECKS = 200_000, 10
_fork = multiprocessing.get_context("forkserver")


def _open(path: str, number: int, capacity: int) -> AccountPool:
    source = accounts(number, capacity)
    return AccountPool("custom", source=source, store=f"sqlite://{path}", ttl=3600.0, reconcile_every=None)


def _visit(path: str, gate: Any, results: Any) -> None:
    """Take and give back some slots; say how many leases were seen on an account at most, or what failed."""
    logging.disable()
    gate.wait(600)
    begun, most = time.monotonic(), 0
    try:
        with _open(path, 10, 5) as pool:
            for _ in range(EACH):
                with pool.acquire(timeout=120) as lease:
                    most = max(most, pool.stats().accounts[lease.account.id].in_flight)
    except Exception as error:  # noqa: BLE001  # told to whoever counts
        results.put(repr(error))
    else:
        results.put((time.monotonic() - begun, most))


def processes(folder: Path) -> dict[str, Any]:
    """Have 200 processes begin at once, with 50 slots for all."""
    path, gate, results = str(folder / "crowd.db"), _fork.Barrier(PROCESSES + 1), _fork.Queue()
    _fork.set_forkserver_preload(["balancer.stores.sqlite", "benchmarks.pools"])
    crowd = [_fork.Process(target=_visit, args=(path, gate, results)) for _ in range(PROCESSES)]
    for process in crowd:
        process.start()
    gate.wait(600)
    found = [results.get(timeout=600) for _ in crowd]
    for process in crowd:
        process.join()
    served = [each for each in found if not isinstance(each, str)]
    with _open(path, 10, 5) as pool:
        left = pool.stats().in_flight
    return {
        "served": len(served),
        "failed": sorted({each for each in found if isinstance(each, str)}),
        "slowest_s": round(max(seconds for seconds, _ in served), 2),
        "most_on_an_account_of_5": max(most for _, most in served),
        "left": left,
    }


def leases(folder: Path) -> dict[str, Any]:
    """Have 50,000 leases on 20,000 accounts, and a process that begins among them."""
    path = str(folder / "leases.db")
    with _open(path, ACCOUNTS, 3) as pool, _open(path, ACCOUNTS, 3) as newcomer:
        begun = time.process_time()
        held = [pool.acquire(timeout=60) for _ in range(LEASES)]
        taken = time.process_time() - begun
        begun = time.process_time()
        newcomer.acquire(timeout=60).release()
        first = time.process_time() - begun
        told = newcomer.stats()
        begun = time.process_time()
        for lease in held:
            lease.release()
        ended = time.process_time() - begun
        left = newcomer.stats().in_flight
    return {
        "grant_us": round(1e6 * taken / LEASES),
        "end_us": round(1e6 * ended / LEASES),
        "first_acquire_of_a_pool_ms": round(1000 * first),
        "seen": told.in_flight,
        "left": left,
    }


def operations(folder: Path) -> dict[str, Any]:
    """Do 200,000 operations, and see how the file and its log grow."""
    path, sizes = folder / "operations.db", []
    with _open(str(path), 10, 5) as pool:
        for _ in range(CHECKS):
            for _ in range(OPERATIONS // 2 // CHECKS):
                pool.acquire(timeout=60).release()
            parts = [folder / f"{path.name}{end}" for end in ("", "-wal")]
            sizes.append([part.stat().st_size >> 10 for part in parts])
    return {"file_and_log_kib": sizes}


def main() -> None:
    """Do what was asked for, or all."""
    every: dict[str, Callable[[Path], dict[str, Any]]] = {
        "processes": processes, "leases": leases, "operations": operations,
    }  # fmt: skip
    for name in sys.argv[1:] or every:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            told = every[name](Path(folder))
        print(json.dumps({name: told, "seconds": round(time.monotonic() - begun, 1)}), flush=True)


if __name__ == "__main__":
    main()
