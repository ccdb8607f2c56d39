"""A crowd in one process and seven processes around it, over one real store."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import SUPPORT
from redis_server import RedisServer
from sqlite_workers import Log

from balancer import AccountPool

WORKER = str(SUPPORT.joinpath("shared_workers.py"))
ACCOUNTS = {"a": 2, "b": 1, "c": 3}
CROWD, NEIGHBOURS, CALLERS, TURNS = 100, 7, 3, 6


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    """Yield the URL of a store that nobody has used."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/slots.db"
        return
    with RedisServer() as server:
        yield server.url


def test_a_crowd_among_others_is_served_within_capacity(store, tmp_path):
    """P-7, P-22, P-28, P-34: nobody is left waiting, no account is over, every slot comes back."""
    log = Log(tmp_path / "log")
    options = [{}, {"account": "b"}, {}, {"exclude": ["a"]}, {}, {"exclude": ["c"]}, {"max_jobs": 1}]
    usual = {"store": store, "accounts": ACCOUNTS, "log": str(log.path), "options": options}
    plans = [{**usual, "callers": CROWD, "turns": 1}]
    plans += [{**usual, "callers": CALLERS, "turns": TURNS}] * NEIGHBOURS
    fleet = [
        subprocess.Popen(
            [sys.executable, WORKER, json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for plan in plans
    ]
    try:
        for process in fleet:
            assert process.stdout.readline() == "ready\n"
        for process in fleet:
            process.stdin.write("go\n")
        names = [process.communicate(timeout=100)[0].strip() for process in fleet]
    finally:
        for process in fleet:
            process.kill()
            process.wait()
    peaks, served = log.peaks()
    assert all(peaks[id] <= most for id, most in ACCOUNTS.items())
    assert served == dict(zip(names, [CROWD] + [CALLERS * TURNS] * NEIGHBOURS, strict=True))
    with AccountPool("custom", source=ACCOUNTS, store=store) as pool:
        assert (pool.stats().in_flight, pool.stats().free) == (0, 6)
