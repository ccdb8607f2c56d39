"""Refreshes that fail or die: how long the old table serves, and that the next fetch comes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from crew import Played, crew, error, in_line, result, start
from fetching import fetches
from stepping import until

from balancer import InvalidConfiguration, PoolClosed, SourceUnavailable, SubscriptionRequired, Unauthorized
from balancer.testing import at_rest

pytest_plugins = ["balancer.testing.plugin"]

REFUSED = [Unauthorized("401"), SubscriptionRequired("402")]


# -- failures ------------------------------------------------------------------------------------------


def test_an_old_table_serves_while_refreshes_fail_and_not_for_ever(play, clock):
    """P-56: stale_if_error seconds beyond the ttl; after that the failure is raised."""
    source, pool = play(Played(a=9), ttl=60, stale_if_error=600)
    pool.refresh()
    source.trouble = SourceUnavailable("away")
    clock.advance(659)
    assert pool.acquire().account.id == "a"
    stats = pool.stats()
    assert (stats.stale, stats.age, stats.last_error) == (True, 659, "SourceUnavailable: away")
    assert stats.refresh_failures == 1
    clock.advance(1)
    with pytest.raises(SourceUnavailable, match="away"):
        pool.acquire()
    source.trouble = None
    clock.advance(30)
    assert pool.acquire().account.id == "a"
    stats = pool.stats()
    assert (stats.stale, stats.age, stats.last_error) == (False, 0, None)


def test_those_in_line_are_told_when_the_old_table_may_serve_no_longer(play, clock):
    """A queue is not left standing on a table that has become too old."""
    source, pool = play(ttl=60, stale_if_error=600)
    lease = pool.acquire()
    waiters = in_line(pool, 2)
    source.trouble = SourceUnavailable("away")
    clock.advance(60)
    until(lambda: pool.stats().refresh_failures == 1)
    assert not any(waiter.done() for waiter in waiters)
    clock.advance(600)
    for waiter in waiters:
        assert isinstance(error(waiter), SourceUnavailable)
    assert lease.release()


def test_failing_refreshes_pause_for_longer_each_time(play, clock):
    """P-56: 1 s doubling to 30 s between two failures, however many callers there are."""
    source, pool = play(Played(a=9), ttl=60)
    pool.refresh()
    source.trouble = SourceUnavailable("away")
    clock.advance(60)
    asked = []
    for _ in range(130):
        pool.acquire().release()
        pool.acquire(account="a").release()
        asked.append(source.calls)
        clock.advance(1)
    steps = [second for second in range(1, 130) if asked[second] > asked[second - 1]]
    assert steps == [1, 3, 7, 15, 31, 61, 91, 121]


def test_a_long_retry_after_becomes_the_time_of_the_next_refresh(over_http, clock):
    """A server that names its time is not asked before it."""
    fake, pool = over_http({"a": 9}, ttl=60)
    pool.refresh()
    fake.fault("*/accounts", status=503, headers={"Retry-After": "900"})
    clock.advance(60)
    for _ in range(90):
        pool.acquire().release()
        clock.advance(9.99)
    assert fetches(fake) == 2
    clock.advance(1)
    pool.acquire().release()
    assert fetches(fake) == 3
    assert not pool.stats().stale


@pytest.mark.parametrize("trouble", REFUSED)
def test_a_refused_token_is_told_to_acquirers_and_to_those_in_line(play, clock, trouble):
    """401 and 402 are no outages: nobody goes on with the old table, and leases out stay valid."""
    source, pool = play(Played(a=1, b=1))
    lease, other = pool.acquire(), pool.acquire()
    waiters = in_line(pool, 3)
    source.trouble = trouble
    clock.advance(60)
    for waiter in waiters:
        assert isinstance(error(waiter), type(trouble))
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert lease.release()
    other.bind("job")
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert pool.release(job_id="job")
    source.trouble = None
    clock.advance(30)
    at_rest(pool)  # those who waited have left the time to be kept, and that may have asked already
    assert pool.acquire(timeout=0)


@pytest.mark.parametrize("trouble", REFUSED)
def test_a_refused_token_is_backed_off_like_any_failure(play, clock, trouble):
    """A wrong token is not tried once for each caller."""
    source, pool = play()
    source.trouble = trouble
    for _ in range(5):
        with pytest.raises(type(trouble)):
            pool.acquire(timeout=0)
    assert source.calls == 1
    clock.advance(1)
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert source.calls == 2


def test_a_refresh_by_hand_raises_what_it_failed_with(play):
    """The operator sees the error, and the old table stays in force."""
    source, pool = play()
    pool.refresh()
    for trouble in (SourceUnavailable("away"), InvalidConfiguration("odd"), *REFUSED):
        source.trouble = trouble
        with pytest.raises(type(trouble)):
            pool.refresh()
        assert pool.stats().capacity == 1


def test_a_source_may_raise_what_it_likes(play, clock):
    """An error of the user's own source is an outage; its text is in the chain, its frames are not."""
    source, pool = play()
    source.trouble = KeyError("somewhere")
    with pytest.raises(SourceUnavailable, match="KeyError") as caught:
        pool.acquire()
    assert "somewhere" in str(caught.value.__cause__)
    assert caught.value.__cause__.__traceback__ is None
    source.trouble, source.table = None, [1, 2]
    clock.advance(1)
    with pytest.raises(InvalidConfiguration, match="mapping"):
        pool.acquire()


# -- attempts that die -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_source_that_exits_or_is_cancelled_is_an_outage_at_once(play, kind):
    """P-55: nobody waits a minute for a fetch that is known to have ended."""
    source, pool = play()
    source.trouble = kind()
    with pytest.raises(SourceUnavailable, match=kind.__name__):
        pool.acquire()
    with pytest.raises(SourceUnavailable, match=kind.__name__):
        pool.refresh()


def test_a_fetcher_that_died_does_not_block_the_next_fetch(play, clock, monkeypatch):
    """P-55: a thread that never reports back is given up after a minute."""
    source, pool = play()
    died = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(pool._core.refresher, "_land_fetch", lambda *_: died.set())
        caller = start(pool.acquire)
        assert died.wait(30)
    until(lambda: source.calls == 1)
    at_rest(pool, callers=1, landed=False)
    clock.advance(60)
    assert isinstance(error(caller), SourceUnavailable)
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "a"


@pytest.mark.parametrize("late", [SourceUnavailable("late"), Unauthorized("late"), None])
def test_what_an_attempt_given_up_brings_at_last_changes_nothing(play, clock, late):
    """P-55: an answer of yesterday, good or bad, does not replace the newer one."""
    source, pool = play(Played(old=1), ttl=60)
    source.trouble = late
    source.hold()
    caller = start(pool.acquire)
    until(lambda: source.calls == 1)
    at_rest(pool, callers=1, landed=False)
    hung = next(thread for thread in threading.enumerate() if thread.name == "balancer-fetch")
    clock.advance(60)
    error(caller)
    opener, source._open = source._open, threading.Event()
    source._open.set()
    source.trouble, source.table = None, {"new": 1}
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "new"
    opener.set()
    hung.join(30)
    stats = pool.stats()
    assert set(stats.accounts) == {"new"}
    assert (stats.refreshes, stats.last_error) == (1, None)


def test_interrupting_the_leader_does_not_harm_the_others(play, clock):
    """P-55: who started the fetch may go away: the fetch lives on, and its result reaches the others."""
    source, pool = play(Played(a=9))
    source.hold()

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    def strike():
        at_rest(pool, callers=1, landed=False)
        followers = crew(5, pool.acquire)
        at_rest(pool, callers=6, landed=False)
        os.kill(os.getpid(), signal.SIGUSR1)
        return followers

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        striker = start(strike)
        with pytest.raises(Interrupted):
            pool.acquire()
    finally:
        signal.signal(signal.SIGUSR1, before)
    source.detached()
    assert {result(caller).account.id for caller in result(striker)} == {"a"}
    assert source.calls == 1
    assert pool.stats().in_flight == 5


def test_closing_the_pool_sends_those_away_who_wait_for_the_table(play):
    """Close reaches every caller, whatever it waits for."""
    source, pool = play()
    source.hold()
    callers = [start(pool.acquire), start(pool.acquire, timeout=0), start(pool.acquire, account="a")]
    at_rest(pool, callers=3, landed=False)
    pool.close()
    for caller in callers:
        assert isinstance(error(caller), PoolClosed)
    source.detached()
