"""Whoever waits is woken in time, whatever becomes of the event loop of another who waits."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import contextmanager

import pytest
from crew import start

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.testing import at_rest

SOON = 0.5
"""Seconds until something happens that those who wait are woken for."""
LATE = 2.5
"""Seconds after that by which a thread has its slot, on a machine that is busy with other things."""
TIMEOUT = 9.0
"""Seconds for which the thread waits: it must not be its own timeout that serves it."""


class Source:
    """Accounts that a test may change."""

    def __init__(self, **accounts):
        self.table = accounts

    def accounts(self):
        return self.table


def cooldown(pool, source, leases):
    """Have the account's cooldown end."""
    pool.cool("a", SOON)
    leases.pop().release()
    leases.pop().release()


def expired_job(pool, source, leases):
    """Have the time of bound jobs be over."""
    for number in range(2):
        leases.pop().bind(f"job-{number}", ttl=SOON)


def raised_capacity(pool, source, leases):
    """Have the next fetch find more room; it is due a second after the last."""
    pool.refresh()
    source.table = {"a": 4, "z": 1}


@contextmanager
def task_in_line(pool, fate, **wish):
    """Have a task wait in line first, on a loop that then is ``fate``."""
    loop, tasks = asyncio.new_event_loop(), AsyncAccountPool(pool=pool)
    loop.set_exception_handler(lambda *_: None)  # it says that a task was destroyed
    detached = threading.Event()
    task = loop.create_task(_acquired(tasks, wish))
    loop.run_until_complete(asyncio.sleep(0.01))
    thread = None
    if fate == "busy":
        loop.call_soon(detached.wait, 30)
        thread = threading.Thread(target=loop.run_until_complete, args=(task,))
        thread.start()
    elif fate == "closed":
        loop.close()
    try:
        yield
    finally:
        detached.set()
        if thread is not None:
            thread.join()
        if fate != "closed":
            loop.run_until_complete(asyncio.wait_for(task, 20))
            loop.close()


async def _acquired(tasks, wish):
    await (await tasks.acquire(**wish)).release()


@pytest.mark.parametrize("happens", [cooldown, expired_job, raised_capacity])
@pytest.mark.parametrize("fate", ["busy", "stopped", "closed"])
@pytest.mark.parametrize("wish", [{}, {"account": "a"}], ids=["any", "pinned"])
def test_a_thread_is_served_in_time_whatever_the_loop_of_another_caller_does(happens, fate, wish):
    """The task came first and has the time kept for all, until its loop does nothing for it any more."""
    source = Source(a=2, z=1)
    pool = AccountPool(source=source, ttl=1.0, reconcile_every=None)
    leases = [pool.acquire(timeout=10, account="a") for _ in range(2)]
    kept = [pool.acquire(timeout=10, account="z"), *leases]
    # After a cooldown one lease tries the account out: a task that stands still must not be that one.
    with task_in_line(pool, fate, **({"account": "z"} if happens is cooldown else {})):
        begun = time.monotonic()
        waiter = start(pool.acquire, timeout=TIMEOUT, **wish)
        happens(pool, source, leases)
        due = 1.0 if happens is raised_capacity else SOON
        try:
            lease = waiter.result(20)
        except TimeoutError:
            lease = None
        took = time.monotonic() - begun
        assert lease is not None, f"not served within its {TIMEOUT} s"
        assert took < due + LATE, f"served {took - due:.1f} s after it could have been"
        lease.release()
        kept.pop(0).release()
    for each in kept:
        each.release()
    pool.close()


def test_the_time_is_kept_when_the_thread_that_kept_it_has_gone():
    """A duty that passes on to a task on a loop that has stopped is not lost with it."""
    pool = AccountPool(source={"a": 2}, ttl=1e9, reconcile_every=None)
    leases = [pool.acquire(timeout=10), pool.acquire(timeout=10)]
    first = start(pool.acquire, timeout=0.3)
    at_rest(pool, callers=1)
    with task_in_line(pool, "stopped"):
        assert isinstance(first.exception(20), TimeoutError)
        begun = time.monotonic()
        waiter = start(pool.acquire, timeout=TIMEOUT)
        for number, lease in enumerate(leases):
            lease.bind(f"job-{number}", ttl=SOON)
        lease = waiter.result(20)
        assert time.monotonic() - begun < SOON + LATE
        lease.release()
    pool.close()


def test_a_thread_without_a_timeout_is_served_beside_a_loop_that_has_stopped():
    """Who would wait for ever does not."""
    pool = AccountPool(source={"a": 2, "z": 1}, ttl=1e9, reconcile_every=None)
    kept = pool.acquire(account="z")
    pool.cool("a", SOON)
    with task_in_line(pool, "stopped", account="z"):
        waiter = start(pool.acquire)
        try:
            assert waiter.result(SOON + LATE).release()
        finally:
            pool.stats()  # whoever comes by has everybody look around, so the thread ends
            kept.release()
    pool.close()


@pytest.mark.parametrize("store", ["memory://", "sqlite"])
def test_a_pool_in_which_callers_only_wait_does_nothing(store, tmp_path):
    """Nobody looks around while nothing is due: what is found out in one look asks for no other."""
    reads = itertools.count()

    def clock():
        next(reads)
        return time.monotonic()

    where = f"sqlite://{tmp_path}/slots.db" if store == "sqlite" else store
    pool = AccountPool("idle", source={"a": 1}, ttl=1e9, store=where, clock=clock)
    lease = pool.acquire(timeout=10)

    def wait():
        with pool.acquire(timeout=20):
            pass

    waiters = [start(wait) for _ in range(3)]
    at_rest(pool, callers=3)
    before = next(reads)
    time.sleep(0.5)
    assert next(reads) - before < 100
    lease.release()
    for waiter in waiters:
        waiter.result(20)
    pool.close()


def test_a_closed_pool_leaves_no_thread_behind():
    """Who keeps the time goes with the pool, whenever it meant to look around next."""
    before = {*threading.enumerate()}
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    with pool.acquire(), pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0.05)
    [keeper] = [one for one in {*threading.enumerate()} - before if one.name == "balancer-timekeeper"]
    pool.close()
    keeper.join(LATE)
    assert not keeper.is_alive()
