"""Who waits, in what order, and how waiting ends."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from crew import Played, crew, error, in_line, queued, result
from stepping import until

from balancer import AccountPool, AcquireTimeout, PoolClosed, TooManyWaiting
from balancer.testing import at_rest
from balancer.waiting.threads import ThreadWaiter

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def arrivals(futures, releases):
    """Do the releases one by one, and return which caller each of them served."""
    served = []
    for release in releases:
        before = {number for number, future in enumerate(futures) if future.done()}
        release()
        until(lambda: len([f for f in futures if f.done()]) > len(before))  # noqa: B023
        served += [n for n, future in enumerate(futures) if future.done() and n not in before]
    return served


# -- order -----------------------------------------------------------------------------------------


def test_callers_are_served_in_the_order_of_their_arrival(pool_of):
    """First come, first served, each by the release before it."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    callers = in_line(pool, 5)
    order = []
    for number, caller in enumerate(callers):
        lease.release()
        lease = result(caller)
        order.append(number)
        assert not any(later.done() for later in callers[number + 1 :])
    assert order == [0, 1, 2, 3, 4]


def test_who_cannot_be_served_does_not_hold_up_those_behind(pool_of):
    """P-34: a pinned caller at the head waits on; whoever could use the slot gets it."""
    pool = pool_of({"a": 1, "b": 1})
    leases = {lease.account.id: lease for lease in (pool.acquire(), pool.acquire())}
    (pinned,) = in_line(pool, 1, account="a")
    (anybody,) = in_line(pool, 1)
    leases["b"].release()
    assert result(anybody).account.id == "b"
    assert not pinned.done()
    leases["a"].release()
    assert result(pinned).account.id == "a"


def test_pinned_and_unpinned_callers_do_not_starve_each_other(pool_of):
    """P-34: among those whom a slot could serve, the oldest gets it, whatever its constraints."""
    pool = pool_of({"a": 1, "b": 1})
    leases = {lease.account.id: lease for lease in (pool.acquire(), pool.acquire())}
    wants = [
        {},
        {"account": "a"},
        {"exclude": ["a"]},
        {},
        {"account": "b"},
        {"where": lambda account: account.id == "a"},
    ]
    callers = [in_line(pool, 1, **want)[0] for want in wants]
    served = []
    for id in "aabbab":
        leases[id].release()
        until(lambda: len([caller for caller in callers if caller.done()]) > len(served))
        newest = next(n for n, caller in enumerate(callers) if caller.done() and n not in served)
        served.append(newest)
        leases[id] = result(callers[newest])
        assert leases[id].account.id == id
    assert served == [0, 1, 2, 3, 5, 4]


def test_a_newcomer_does_not_barge_past_those_in_line(pool_of):
    """P-14, P-34: a released slot is handed over in the same step, so timeout=0 finds nothing."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    lease.release()
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert result(waiter).release()
    assert pool.acquire(timeout=0)


def test_one_release_wakes_one_of_two_hundred(pool_of, monkeypatch):
    """P-30: a release wakes the caller it serves, at most one more who keeps the time, and nobody else."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    callers = crew(200, pool.acquire)
    queued(pool, 200)
    woken, wake = [], ThreadWaiter.wake

    def count(waiter):
        woken.append(waiter)
        wake(waiter)

    monkeypatch.setattr(ThreadWaiter, "wake", count)
    for served in range(1, 6):
        lease.release()
        until(lambda: len([c for c in callers if c.done()]) == served)  # noqa: B023
        lease = next(lease for c in callers if c.done() and (lease := c.result())._record.state == "held")
    assert len(woken) <= 10
    assert pool.stats().waiting == 195
    pool.close()
    until(lambda: all(caller.done() for caller in callers))
    assert lease.release()


# -- how waiting ends ------------------------------------------------------------------------------


def test_zero_does_not_wait(pool_of):
    """P-32: a full pool and timeout=0 are an error at once."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=0)
    assert caught.value.timeout == 0
    assert lease.release()


def test_a_timeout_ends_the_wait_when_it_is_over(pool_of, clock):
    """P-32: not before, and with no slot taken after."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1, timeout=7.5)
    clock.advance(7.4)
    assert not waiter.done()
    clock.advance(0.1)
    assert isinstance(error(waiter), TimeoutError)
    assert pool.stats().waiting == 0
    assert pool.stats().timeouts == 1
    assert lease.release()
    assert pool.stats().free == 1


def test_none_waits_for_ever(pool_of, clock):
    """P-32: a year is not too long."""
    pool = pool_of({"a": 1}, ttl=1e9)
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1, timeout=None)
    clock.advance(365 * 86400)
    assert not waiter.done()
    lease.release()
    assert result(waiter)


def test_a_timeout_tells_the_states_the_number_and_the_slots_kept_by_jobs(pool_of, clock):
    """P-32, P-59: pool, number, each account's state, what jobs hold and since when, and when to return."""
    pool = pool_of({"a": 1, "b": 1, "c": 1, "d": {"maxJobs": 1, "error": "logged out"}})
    leases = {(lease := pool.acquire(account=id)).account.id: lease for id in "abc"}
    clock.advance(10)
    leases["a"].bind("job", ttl=100)
    leases["b"].report((500, {}, ""))
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=0)
    failure = caught.value
    assert set(failure.accounts) == set("abcd")
    assert failure.accounts["a"].startswith("full")
    assert failure.accounts["b"].startswith("cooldown")
    assert failure.accounts["d"] == "broken: logged out"
    assert EPOCH + timedelta(seconds=20) <= failure.retry_at <= EPOCH + timedelta(seconds=40)
    text = str(failure)
    assert "custom" in text
    assert "within 0 s" in text
    assert "2 held by bound or ambiguous jobs, the oldest since 2026-01-01 00:00:10 UTC" in text


def test_a_timeout_names_at_most_twenty_accounts(pool_of):
    """A thousand full accounts do not fill the log."""
    pool = pool_of({f"account-{n}": 1 for n in range(100)})
    leases = [pool.acquire() for _ in range(100)]
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=0)
    assert len(caught.value.accounts) == 20
    assert str(caught.value).count("account-") == 20
    assert all(lease.release() for lease in leases)


def test_max_waiting_bounds_the_queue(pool_of):
    """P-31: over the bound the caller is told at once, and nobody in line is disturbed."""
    pool = pool_of({"a": 1}, max_waiting=3)
    lease = pool.acquire()
    waiters = in_line(pool, 3)
    with pytest.raises(TooManyWaiting, match="max_waiting is 3"):
        pool.acquire()
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    lease.release()
    result(waiters[0]).release()
    result(waiters[1])
    assert pool.stats().waiting <= 1


def test_a_queue_of_none_still_hands_out_free_slots(pool_of):
    """P-31: max_waiting=0 means that nobody waits, not that nobody is served."""
    pool = pool_of({"a": 1}, max_waiting=0)
    lease = pool.acquire()
    with pytest.raises(TooManyWaiting):
        pool.acquire(timeout=5)
    lease.release()
    assert pool.acquire(timeout=5)


def test_waiting_for_the_first_table_is_not_waiting_in_line(clock):
    """P-31: the bound is on those who wait for a slot."""
    source = Played(a=9)
    source.hold()
    pool = AccountPool(source=source, clock=clock, max_waiting=1)
    callers = crew(5, pool.acquire)
    at_rest(pool, callers=5, landed=False)
    source.detached()
    assert len([result(caller) for caller in callers]) == 5


def test_a_long_wait_is_logged_once(pool_of, clock):
    """One warning after 60 s, for each caller, and no more of it."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    with structlog.testing.capture_logs() as events:
        waiters = in_line(pool, 2, label="slow")
        clock.advance(59)
        assert not [event for event in events if event["event"] == "waiting_long"]
        clock.advance(1)
        until(lambda: len([event for event in events if event["event"] == "waiting_long"]) == 2)
        clock.advance(600)
        lease.release()
        result(waiters[0]).release()
        result(waiters[1]).release()
    long = [event for event in events if event["event"] == "waiting_long"]
    assert len(long) == 2
    assert {(event["log_level"], event["label"], event["waited_s"]) for event in long} == {
        ("warning", "slow", 60.0)
    }


def test_close_sends_away_everybody_in_line(pool_of):
    """Whatever they wait for, they learn that the pool is closed; the leases out stay valid."""
    pool = pool_of({"a": 1, "b": 1})
    leases = [pool.acquire(), pool.acquire()]
    waiters = [in_line(pool, 1, **want)[0] for want in ({}, {"account": "a"}, {"timeout": 60})]
    pool.close()
    pool.close()
    for waiter in waiters:
        assert isinstance(error(waiter), PoolClosed)
    for want in ({}, {"timeout": 0}, {"account": "a"}):
        with pytest.raises(PoolClosed):
            pool.acquire(**want)
    leases[0].bind("job")
    assert pool.release(job_id="job")
    assert leases[1].release()


# -- races -----------------------------------------------------------------------------------------


def test_timeouts_race_releases_a_hundred_thousand_times(monkeypatch):
    """P-7: a caller who gives up never takes a slot with it, and at the end every slot is free.

    Half of the callers give up at the very moment when the slot is handed to them: their sleep is
    made to end at once.
    """
    pool = AccountPool(source={"a": 1, "b": 2}, ttl=1e9)
    pool.refresh()
    monkeypatch.setattr(ThreadWaiter, "park", lambda waiter, seconds: waiter._gate.acquire(timeout=0))
    rounds, workers, outcomes = 12_500, 8, []

    def work():
        served = 0
        for _ in range(rounds):
            try:
                lease = pool.acquire(timeout=1e-5)
            except AcquireTimeout:
                continue
            served += 1
            lease.release()
        outcomes.append(served)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for caller in crew(workers, work):
            caller.result(100)
    finally:
        sys.setswitchinterval(interval)
    stats = pool.stats()
    assert stats.acquired == stats.released
    assert sum(outcomes) + stats.timeouts == rounds * workers
    assert stats.timeouts > 0
    assert (stats.free, stats.in_flight, stats.waiting) == (3, 0, 0)
    assert pool.holders() == ()
    assert len([pool.acquire(timeout=0) for _ in range(3)]) == 3
