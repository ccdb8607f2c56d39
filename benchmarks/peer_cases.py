"""What the peers take for a pair, run by the interpreter of an environment that has them (see ``peers.py``).

Each case names what must be installed, and returns the loop of its pairs. A case that cannot be opened
is told with the reason.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import SimpleNamespace
from typing import Any

from benchmarks.harness import FULL, QUICK, Effort, Loop, race
from benchmarks.pair import NaivePool, naive_pairs, pairs, semaphore_pairs
from benchmarks.pools import accounts, open_pool
from benchmarks.server import redis_server

SLOTS = 60


def entries(enter: Callable[[], AbstractContextManager[Any]]) -> Loop:
    """Return entries of blocks."""

    def loop(times: int) -> None:
        for _ in range(times):
            with enter():
                pass

    return loop


def balancer(number: int) -> Loop:
    """``AccountPool`` in memory."""
    return pairs(open_pool(number))


def naive(number: int) -> Loop:
    """A lock, a list and ``random.choice``."""
    return naive_pairs(NaivePool(accounts(number)))


def sqlalchemy(_: int) -> Loop:
    """``QueuePool`` with connections that do nothing."""
    pool_module = importlib.import_module("sqlalchemy.pool")

    class Connection:
        """Nothing."""

        def close(self) -> None:
            """Do nothing."""

    pool = pool_module.QueuePool(Connection, pool_size=SLOTS, reset_on_return=None)

    def loop(times: int) -> None:
        for _ in range(times):
            pool.connect().close()

    return loop


def psycopg_pool(_: int) -> Loop:
    """``ConnectionPool`` with connections that do nothing."""
    module, pq = importlib.import_module("psycopg_pool"), importlib.import_module("psycopg.pq")

    class Connection:
        """An idle connection to nowhere."""

        closed = False
        pgconn = SimpleNamespace(transaction_status=pq.TransactionStatus.IDLE)

        @classmethod
        def connect(cls, *_: Any, **__: Any) -> Connection:
            """Return one."""
            return cls()

        def close(self) -> None:
            """Do nothing."""

    pool = module.ConnectionPool(connection_class=Connection, min_size=SLOTS, max_size=SLOTS, open=True)
    pool.wait()

    def loop(times: int) -> None:
        for _ in range(times):
            pool.putconn(pool.getconn())

    return loop


def dramatiq(_: int) -> Loop:
    """``ConcurrentRateLimiter`` on its stub backend."""
    limits = importlib.import_module("dramatiq.rate_limits")
    backends = importlib.import_module("dramatiq.rate_limits.backends")
    return entries(limits.ConcurrentRateLimiter(backends.StubBackend(), "slots", limit=SLOTS).acquire)


def steindamm(_: int) -> Loop:
    """``SyncSemaphore`` in memory."""
    semaphore = importlib.import_module("steindamm").SyncSemaphore.create(name="slots", capacity=SLOTS)
    return entries(lambda: semaphore)


def credweave(number: int) -> Loop:
    """``CredentialPool`` with its default strategy."""
    module = importlib.import_module("credweave")
    credentials = [module.Credential(id=id, secrets={"key": "x"}) for id in accounts(number)]
    pool, success = module.CredentialPool(credentials=credentials), module.Outcome.success()

    def loop(times: int) -> None:
        for _ in range(times):
            pool.report_sync(pool.acquire_sync(), success)

    return loop


def litellm(number: int) -> Loop:
    """``Router.get_available_deployment``: the choice alone."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    module = importlib.import_module("litellm")

    def deployment(id: str) -> dict[str, Any]:
        parameters = {"model": "openai/x", "api_key": "x", "max_parallel_requests": 6}
        return {"model_name": "m", "litellm_params": parameters, "model_info": {"id": id}}

    router = module.Router(model_list=[deployment(id) for id in accounts(number)])

    def loop(times: int) -> None:
        for _ in range(times):
            router.get_available_deployment("m", messages=[])

    return loop


def redis_balancer(url: str) -> Loop:
    """``AccountPool`` on Redis."""
    return pairs(open_pool(10, store=url))


def redis_lock(url: str) -> Loop:
    """``redis.lock.Lock``."""
    return entries(partial(importlib.import_module("redis").Redis.from_url(url).lock, "lock", timeout=60))


def redis_steindamm(url: str) -> Loop:
    """``SyncSemaphore`` on Redis."""
    client = importlib.import_module("redis").Redis.from_url(url)
    module = importlib.import_module("steindamm")
    semaphore = module.SyncSemaphore.create(name="slots", capacity=SLOTS, connection=client)
    return entries(lambda: semaphore)


def redis_dramatiq(url: str) -> Loop:
    """``ConcurrentRateLimiter`` on Redis."""
    limits = importlib.import_module("dramatiq.rate_limits")
    backends = importlib.import_module("dramatiq.rate_limits.backends")
    backend = backends.RedisBackend(url=url)
    return entries(limits.ConcurrentRateLimiter(backend, "slots", limit=SLOTS).acquire)


def redis_semaphore(url: str) -> Loop:
    """``redis_semaphore.Semaphore`` of py-redis-semaphore."""
    client = importlib.import_module("redis").Redis.from_url(url)
    module = importlib.import_module("redis_semaphore")
    semaphore = module.Semaphore(client, module.SemaphoreConfig(name="slots", limit=SLOTS))

    def loop(times: int) -> None:
        for _ in range(times):
            assert semaphore.acquire(blocking=False).success
            semaphore.release()

    return loop


LOCAL: dict[str, tuple[Callable[[int], Loop], int]] = {
    "balancer, 10 accounts": (balancer, 10),
    "balancer, 1,000 accounts": (balancer, 1_000),
    "naive pool, 10 accounts": (naive, 10),
    "naive pool, 1,000 accounts": (naive, 1_000),
    "SQLAlchemy QueuePool": (sqlalchemy, 0),
    "psycopg_pool": (psycopg_pool, 0),
    "dramatiq ConcurrentRateLimiter, stub": (dramatiq, 0),
    "steindamm SyncSemaphore, local": (steindamm, 0),
    "credweave CredentialPool, 10 credentials": (credweave, 10),
    "credweave CredentialPool, 100 credentials": (credweave, 100),
    "LiteLLM Router, 10 deployments": (litellm, 10),
    "LiteLLM Router, 100 deployments": (litellm, 100),
}
REDIS: dict[str, Callable[[str], Loop]] = {
    "balancer on Redis, 10 accounts": redis_balancer,
    "redis-py Lock": redis_lock,
    "steindamm SyncSemaphore on Redis": redis_steindamm,
    "dramatiq ConcurrentRateLimiter on Redis": redis_dramatiq,
    "py-redis-semaphore Semaphore": redis_semaphore,
}


def main(effort: Effort) -> None:
    """Measure all, and print what was found."""
    found: list[dict[str, Any]] = []
    local = {name: partial(open_case, number) for name, (open_case, number) in LOCAL.items()}
    _measure(found, local, semaphore_pairs(threading.BoundedSemaphore(SLOTS)), effort, time.thread_time)
    with redis_server() as url:
        client = importlib.import_module("redis").Redis.from_url(url)
        sha = client.script_load("return 1")

        def yardstick(times: int) -> None:
            for _ in range(2 * times):
                client.evalsha(sha, 0)

        remote = {name: partial(open_case, url) for name, open_case in REDIS.items()}
        _measure(found, remote, yardstick, effort, time.perf_counter)
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # some peers leave threads behind that nothing ends


def _measure(
    found: list[dict[str, Any]],
    cases: dict[str, Callable[[], Loop]],
    yardstick: Loop,
    effort: Effort,
    clock: Callable[[], float],
) -> None:
    loops = {}
    for name, open_case in cases.items():
        try:
            loop = open_case()
            loop(3)
        except Exception as error:  # noqa: BLE001  # a peer that does not work is a finding
            found.append({"name": name, "missing": f"{type(error).__name__}: {error}"})
        else:
            loops[name] = loop
    samples = race(yardstick, loops, effort, clock)
    found += [{"name": n, "ratio": samples.ratio(n), "seconds": samples.of(n).median} for n in loops]


if __name__ == "__main__":
    main(QUICK if "--quick" in sys.argv else FULL)
