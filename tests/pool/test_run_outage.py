"""An outage of the upstream, and cooldowns: every state has an exit that nobody has to open."""

import asyncio

import pytest
from desk import BUSY, pool_of, states
from faces import ThreadFace
from stepping import SteppedLoop, at_once

from balancer import (
    AccountPool,
    AcquireTimeout,
    AmbiguousOutcome,
    AsyncAccountPool,
)
from balancer.testing import ManualClock

THREADS = ThreadFace()
CAPACITY = {"a": 10, "b": 10, "c": 10}
BAD_GATEWAY = (502, {}, "<html><body>502 Bad Gateway</body></html>")


def free(pool):
    """Return how many slots can be had at once, and give them back."""
    leases = []
    try:
        while True:
            leases.append(pool.acquire(timeout=0))
    except AcquireTimeout:
        return len(leases)
    finally:
        for lease in leases:
            lease.release()


def test_a_pool_recovers_by_itself_from_an_outage_within_ambiguous_ttl():
    """P-5, P-57, P-62: thirty 502s fill the pool; none is sent again; all slots come back."""
    with SteppedLoop() as loop:
        clock = ManualClock()
        sync = AccountPool(source=CAPACITY, clock=clock, ttl=1e6, ambiguous_ttl=600, reconcile_every=None)
        sync.refresh()
        pool, outage = AsyncAccountPool(pool=sync), loop.create_future()
        sent = []

        async def call(lease):
            sent.append(lease.id)
            await outage
            return BAD_GATEWAY

        tasks = [loop.create_task(pool.run(call)) for _ in range(30)]
        loop.tick(3)
        outage.set_result(None)
        loop.tick(3)
        assert all(isinstance(task.exception(), AmbiguousOutcome) for task in tasks)
        assert sorted(sent) == sorted({holder.id for holder in sync.holders()})
        assert (len(sent), states(sync)) == (30, ["ambiguous"] * 30)

        with pytest.raises(AcquireTimeout, match="30 held by bound or ambiguous jobs"):
            sync.acquire(timeout=0)
        clock.advance(599)
        assert sync.stats().free == 0
        waiter = asyncio.ensure_future(pool.acquire(), loop=loop)
        loop.tick(2)
        clock.advance(1)
        loop.tick(3)
        at_once(waiter.result().release())  # its good end ends the probing of its account
        probes = [sync.acquire(timeout=0, account=id) for id in CAPACITY if sync.explain()[id] == "eligible"]
        for probe in probes:
            probe.release()
        assert free(sync) == 30
        assert sync.stats().expired == 30


def test_after_a_cooldown_one_lease_at_a_time_until_one_goes_well():
    """P-54: no herd on an account that was full a moment ago."""
    pool, clock, _ = pool_of(THREADS, a=5)
    pool.cool("a", 10)
    clock.advance(10)
    probe = pool.acquire(timeout=0)
    with pytest.raises(AcquireTimeout, match="probing"):
        pool.acquire(timeout=0)
    probe.report(BUSY)  # it went badly: the account rests again, and is tried by one again
    probe.release()
    clock.advance(7)
    second = pool.acquire(timeout=0)
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    second.report((201, {}, "{}"))
    assert free(pool) == 4
    second.release()
    assert free(pool) == 5


@pytest.mark.parametrize(("first", "second"), [("100", "5"), ("5", "100")])
def test_the_longer_of_two_cooldowns_wins(first, second):
    """P-49: in whichever order they came."""
    pool, clock, _ = pool_of(THREADS, a=3)
    leases = [pool.acquire() for _ in range(3)]
    for lease, seconds in zip(leases, (first, second), strict=False):
        lease.report((429, {"Retry-After": seconds}, "at capacity"))
    for lease in leases:
        lease.release()
    clock.advance(99)
    assert pool.stats().accounts["a"].state == "cooldown"
    clock.advance(1)
    assert pool.acquire(timeout=0).release()


SPOILT = {
    "busy": lambda pool, lease: lease.report(BUSY),
    "exhausted": lambda pool, lease: lease.report((412, {}, "")),
    "broken": lambda pool, lease: lease.report((596, {}, "")),
    "ambiguous": lambda pool, lease: lease.report((502, {}, "")),
    "by hand": lambda pool, lease: pool.cool("a", 3600),
    "probing": lambda pool, lease: pool.cool("a", 1),
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("way_out", ["time", "reset"])
def test_every_state_that_a_verdict_makes_has_an_exit(how, way_out):
    """P-62: time ends it, and ``reset`` ends it at once; afterwards the whole capacity is there."""
    pool, clock, _ = pool_of(THREADS, a=2)
    lease = pool.acquire()
    SPOILT[how](pool, lease)
    lease.release()
    if how == "probing":
        clock.advance(1)
    assert pool.stats().free < 2
    if way_out == "reset":
        pool.reset("a")
    else:
        clock.advance(3600)
        assert pool.acquire(timeout=0).release()  # the probe, which ends well
    assert free(pool) == 2
