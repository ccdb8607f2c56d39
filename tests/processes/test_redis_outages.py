"""The store away for longer than leases live, a server's clock that is set: who lives keeps what it holds."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest
from crew import side_by_side
from redis_server import Proxy, RedisServer
from server_clock import SteppedServer, needs_compiler

from balancer import AccountPool, AcquireTimeout, StoreUnavailable

TTL = 4.0
"""Seconds that leases live in these tests: long against what a beat takes on a busy machine."""
GRACE = 3.0
ACCOUNTS = {"a": 2, "b": 2}


@pytest.fixture
def store():
    """Each process is told where the store is."""


@contextlib.contextmanager
def a_fleet():
    """Give a function that opens pools of this process, each as a process of its own would have it."""
    with contextlib.ExitStack() as stack:

        def open_pool(store, accounts=ACCOUNTS):
            pool = AccountPool("custom", source=accounts, store=store, lease_ttl=TTL, reconcile_every=None)
            return stack.enter_context(pool)

        yield open_pool


def tries(pool, seconds):
    """Try to get a slot again and again, as one who never waits; return what was had."""
    had, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            had.append(pool.acquire(timeout=0))
        except (AcquireTimeout, StoreUnavailable):
            time.sleep(0.05)
    return had


def settled(pools):
    """Have every pool's table read and its connections made."""
    for pool in pools:
        pool.stats()


def test_no_living_process_is_declared_dead_after_the_store_was_away():
    """P-36: the store is away for a part of a lease's life, or longer, while all is taken: nobody is over."""

    def outage(kind, share):
        with RedisServer() as server, Proxy(server.port) as proxy, a_fleet() as fleet:
            server.empty()
            holders = [fleet(proxy.url) for _ in range(4)]
            newcomer = fleet(proxy.url)
            leases = [pool.acquire(timeout=10) for pool in holders]
            settled([newcomer])
            time.sleep(TTL / 3)  # nobody's last sign of life is quite new
            if kind == "hung":
                server.pause()
            else:
                proxy.away = True
                proxy.cut()
            time.sleep(TTL * share)
            server.go_on()
            proxy.away = False
            assert tries(newcomer, TTL + GRACE) == []
            assert sorted(holder.id for holder in newcomer.holders()) == sorted(lease.id for lease in leases)
            assert all(lease.release() for lease in leases)
            newcomer.acquire(timeout=10).release()

    side_by_side(outage, *itertools.product(["hung", "cut"], [0.5, 0.8, 1.1, 1.5]))


def test_leases_of_who_died_while_the_store_was_away_come_back(worker):
    """P-5: the roll is called, and who does not answer is dead after all."""
    with RedisServer() as server, a_fleet() as fleet:
        server.empty()
        holder, waiting = fleet(server.url), fleet(server.url)
        kept = holder.acquire(timeout=10)
        dead = worker("hold", accounts=ACCOUNTS, store=server.url, lease_ttl=TTL, count=3)
        dead.hear()
        settled([waiting])
        server.pause()
        dead.kill()
        time.sleep(TTL * 1.2)
        server.go_on()
        begun = time.monotonic()
        for _ in range(3):
            waiting.acquire(timeout=TTL + GRACE + 5)
        assert time.monotonic() - begun < TTL + GRACE + 2
        assert kept.id in {holder.id for holder in waiting.holders()}


@needs_compiler
def test_a_step_of_the_servers_clock_ends_nothing_early_and_holds_up_nobody():
    """P-39: held, bound and cooling things end at their time, and who asks for a free slot gets it."""

    def steps(step):
        with SteppedServer() as server, a_fleet() as fleet:
            server.empty()
            holders = [fleet(server.url, {"a": 3, "b": 2}) for _ in range(2)]
            newcomer = fleet(server.url, {"a": 3, "b": 2})
            held = [pool.acquire(timeout=10, account="a") for pool in holders]
            bound = holders[0].acquire(timeout=10, account="a")
            bound.bind("job", ttl=1800)
            holders[0].cool("b", 30, "busy")
            settled([newcomer])
            time.sleep(TTL / 3)
            for change in (step, 0):
                server.step = change
                assert tries(newcomer, TTL + GRACE) == []
                assert {one.id for one in newcomer.holders()} == {lease.id for lease in [*held, bound]}
                (expires_in,) = [one.expires_in for one in newcomer.holders() if one.job_id == "job"]
                assert 1700 < expires_in <= 1801
            assert held[0].release()
            newcomer.acquire(timeout=5, account="a").release()
            newcomer.reset("b")
            newcomer.acquire(timeout=5, account="b").release()

    side_by_side(steps, (61,), (-61,), (3600,), (-3600,))


@needs_compiler
def test_a_pause_of_all_grants_ends_though_the_clock_is_set_back():
    """P-39: the clock steps within the three seconds after a loss of memory; grants begin all the same."""

    def step_back(step):
        with SteppedServer() as server, a_fleet() as fleet:
            server.empty()
            pool = fleet(server.url)
            pool.acquire(timeout=10).release()
            server.client().flushall()
            with pytest.raises(AcquireTimeout):
                pool.acquire(timeout=0)
            server.step = -step
            begun = time.monotonic()
            pool.acquire(timeout=20).release()
            assert time.monotonic() - begun < GRACE + 3

    side_by_side(step_back, (61,), (3600,))
