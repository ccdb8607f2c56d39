"""A process of a fleet, with callers in threads: ``shared_workers.py JSON``, told by stdin to begin."""

from __future__ import annotations

import json
import pathlib
import random
import sys
import threading
import time

from sqlite_workers import Log

from balancer import AccountPool


def work(*, store, accounts, log, callers, turns, options):
    """Have so many callers take and give back so many leases each, and write each of them down."""
    pool = AccountPool("custom", source=accounts, store=store)
    pool.stats()
    book = Log(pathlib.Path(log))

    def call(number):
        for _ in range(turns):
            with pool.acquire(timeout=100, **options[number % len(options)]) as lease:
                book.write("+", lease.id, lease.account.id)
                time.sleep(random.random() * 0.002)
                book.write("-", lease.id, lease.account.id)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    print(pool._core.store.process.name, flush=True)  # noqa: T201


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
