"""What every store promises of accounts that take less than they say: learned limits, spacing, priority."""

from __future__ import annotations

import pytest
from stepping import until
from store_world import waiting
from structlog.testing import capture_logs

from balancer import AcquireTimeout

BUSY, TAKEN = (429, {}, ""), (201, {}, '{"jobid": "j"}')
ONE = {"a": 6}


def taken(pool, number):
    """Return the leases of so many jobs that were taken."""
    leases = [pool.acquire(timeout=0) for _ in range(number)]
    for lease in leases:
        lease.report(TAKEN)
    return leases


def refused(pool):
    """Have one more job refused."""
    lease = pool.acquire(timeout=0)
    lease.report(BUSY)
    lease.release()


def test_a_refusal_beside_two_bounds_the_account_for_every_process(world):
    """Nobody sends a third job, and the account is full and not cooling."""
    world.accounts = ONE
    one, two = world.pool(), world.pool()
    running = taken(one, 2)
    with capture_logs() as logs:
        refused(two)
    assert [(log["account"], log["limit"]) for log in logs if log["event"] == "limit_learned"] == [("a", 2)]
    for pool in (one, two):
        stats = pool.stats()
        account = stats.accounts["a"]
        assert (account.limit, account.state, account.free, stats.capacity) == (2, "full", 0, 6)
        with pytest.raises(AcquireTimeout, match="limited to 2 of 6 by a 429"):
            pool.acquire(timeout=0)
    assert running[0].release()
    two.acquire(timeout=0).release()


def test_one_more_is_tried_after_a_minute_and_raises_the_limit(world):
    """Who waits is woken for it; of two who wait one is the trial."""
    world.accounts = ONE
    one, two = world.pool(), world.pool()
    running = taken(one, 2)
    refused(two)
    with waiting(two, timeout=100) as got:
        assert got == []
        world.clock.advance(61)
    assert len(got) == 1
    with pytest.raises(AcquireTimeout):
        one.acquire(timeout=0)
    with capture_logs() as logs:
        got[0][1].report(TAKEN)
        one.stats()
    assert [log["limit"] for log in logs if log["event"] == "limit_raised"] == [3]
    assert (one.stats().accounts["a"].limit, len(running)) == (3, 2)


def test_a_refused_trial_waits_twice_as_long(world):
    """The limit stays, and the next trial comes after two minutes."""
    world.accounts = ONE
    one = world.pool()
    running = taken(one, 2)
    refused(one)
    world.clock.advance(61)
    refused(one)
    assert one.stats().accounts["a"].limit == 2
    world.clock.advance(100)
    with pytest.raises(AcquireTimeout):
        one.acquire(timeout=0)
    world.clock.advance(21)
    one.acquire(timeout=0).release()
    assert all(lease.release() for lease in running)


def test_a_limit_goes_with_reset_and_with_another_capacity(world):
    """What the customer writes down anew counts anew."""
    world.accounts = dict(ONE)
    pool = world.pool()
    running = taken(pool, 2)
    refused(pool)
    pool.reset("a")
    assert pool.stats().accounts["a"].limit is None
    refused(pool)
    assert pool.stats().accounts["a"].limit == 2
    world.accounts["a"] = 5
    pool.refresh()
    assert pool.stats().accounts["a"].limit is None
    assert all(lease.release() for lease in running)


def test_refusals_teach_nothing_where_that_is_not_wanted(world):
    """learn_limits=False: the account cools down, as it was."""
    world.accounts = ONE
    pool = world.pool(learn_limits=False)
    running = taken(pool, 2)
    refused(pool)
    account = pool.stats().accounts["a"]
    assert (account.limit, account.state, len(running)) == (None, "cooldown", 2)


# -- spacing ------------------------------------------------------------------------------------------


def test_grants_on_one_account_are_spaced_over_all_processes(world):
    """At least so long between two; who waits wakes when it is over."""
    world.accounts = ONE
    one, two = world.pool(spacing=20), world.pool(spacing=20)
    one.acquire(timeout=0)
    account = two.stats().accounts["a"]
    assert (account.state, account.free, account.until is not None) == ("full", 0, True)
    with pytest.raises(AcquireTimeout):
        two.acquire(timeout=0)
    with waiting(two, timeout=100) as got:
        world.clock.advance(19)
        assert got == []
        world.clock.advance(2)
    assert len(got) == 1
    with pytest.raises(AcquireTimeout):
        one.acquire(timeout=0)


# -- priority ------------------------------------------------------------------------------------------


def test_who_waits_with_a_higher_priority_is_served_first(world):
    """Then by arrival, among equals."""
    world.accounts = {"a": 1}
    pool = world.pool()
    lease, served = pool.acquire(), []
    with waiting(pool, timeout=100, priority=0) as low, waiting(pool, timeout=100, priority=5) as high:
        lease.release()
        until(lambda: high or low)
        served.append("high")
        assert low == []
        high[0][1].release()
    served.append("low")
    low[0][1].release()
    assert served == ["high", "low"]


def test_the_process_in_which_the_highest_priority_waits_is_offered_a_slot_first(world):
    """Between processes as within one."""
    world.accounts = {"a": 1}
    one, two, three = world.pool(), world.pool(), world.pool()
    lease = one.acquire()
    with waiting(two, timeout=100) as low, waiting(three, timeout=100, priority=5) as high:
        lease.release()
        until(lambda: high or low)
        assert low == []
        high[0][1].release()
    low[0][1].release()
