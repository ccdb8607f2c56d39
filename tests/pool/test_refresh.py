"""When the configuration is fetched, by whom, and who waits for it."""

from __future__ import annotations

import threading

import pytest
from crew import Played, crew, error, in_line, result, start
from fetching import fetches
from stepping import until

from balancer import AccountPool, AcquireTimeout, SourceUnavailable
from balancer.testing import at_rest

pytest_plugins = ["balancer.testing.plugin"]


# -- fresh and not ---------------------------------------------------------------------------------


def test_a_fresh_table_is_not_fetched_again(over_http, clock):
    """Until ttl is over nothing is asked, whatever is acquired and looked at."""
    fake, pool = over_http({"a": 2}, ttl=60)
    for _ in range(20):
        with pool.acquire(account="a"):
            pool.stats()
            pool.explain()
    clock.advance(59.9)
    pool.acquire().release()
    assert fetches(fake) == 1


@pytest.mark.parametrize("ttl", [0, 0.001])
def test_no_ttl_is_so_short_that_callers_ask_for_ever(play, clock, ttl):
    """Who awaited a table goes on with it, and those in line do not have it fetched at speed."""
    source, pool = play(ttl=ttl)
    for want in ({}, {"timeout": 0}, {"account": "a"}):
        pool.acquire(**want).release()
    assert source.calls == 1
    clock.advance(1)
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    assert source.calls == 2
    lease.release()
    assert result(waiter)


def test_an_old_table_is_fetched_once_and_awaited_by_who_found_out(over_http, clock):
    """The caller who finds the table old starts the fetch, and is served by what it brings."""
    fake, pool = over_http({"a": 1}, ttl=60)
    pool.acquire().release()
    fake.set_account("flowmusic", "b", 1)
    fake.remove_account("flowmusic", "a")
    clock.advance(60)
    assert pool.acquire().account.id == "b"
    assert fetches(fake) == 2


@pytest.mark.parametrize("age", [None, 60], ids=["first load", "at expiry"])
def test_five_hundred_callers_cause_one_request(over_http, clock, age):
    """P-55: however many need the table at once, one fetch serves all of them."""
    fake, pool = over_http({"a": 500}, ttl=60)
    if age is not None:
        pool.refresh()
        clock.advance(age)
    before = fetches(fake)
    fault = fake.fault("*/accounts", delay=10.0)
    callers = crew(500, pool.acquire)
    assert fault.hit.wait(30)
    if age is None:
        at_rest(pool, callers=500, landed=False)
    fault.lift()
    assert {result(caller).account.id for caller in callers} == {"a"}
    assert fetches(fake) - before == 1
    assert pool.stats().in_flight == 500


def test_the_others_do_not_wait_for_a_refresh(play, clock):
    """While one caller awaits the fetch, the next ones go on with the old table."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire)
    until(lambda: source.calls == 2)
    others = [pool.acquire(timeout=0), pool.acquire(account="a", timeout=0)]
    assert len(others) == 2
    assert not leader.done()
    source.detached()
    assert result(leader).account.id == "a"
    assert source.calls == 2


def test_who_awaits_a_refresh_goes_on_after_five_seconds(play, clock):
    """A source that hangs costs one caller 5 s, and then the old table serves."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire)
    at_rest(pool, callers=1, landed=False)
    clock.advance(4.9)
    assert not leader.done()
    clock.advance(0.1)
    assert result(leader).account.id == "a"
    source.detached()


def test_who_awaits_a_refresh_waits_no_longer_than_its_timeout(play, clock):
    """A caller in a hurry is served from the old table when its time is over."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire, timeout=2)
    at_rest(pool, callers=1, landed=False)
    clock.advance(2)
    assert result(leader).account.id == "a"
    source.detached()


def test_those_who_wait_for_a_slot_start_the_refresh_that_is_due(play, clock):
    """P-33: nobody else need come along for a raised capacity to be found out."""
    source, pool = play()
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    source.table = {"a": 2}
    clock.advance(60)
    assert result(waiter).account.id == "a"
    assert source.calls == 2
    assert lease.release()


def test_a_refresh_by_hand_asks_whatever_the_age(over_http):
    """An operator who has just added an account need not wait for the ttl."""
    fake, pool = over_http({"a": 1}, ttl=3600)
    pool.refresh()
    fake.set_account("flowmusic", "b", 3)
    assert set(pool.stats().accounts) == {"a"}
    pool.refresh()
    assert set(pool.stats().accounts) == {"a", "b"}
    assert fetches(fake) == 2


def test_a_mapping_is_read_again_at_each_refresh(clock):
    """The user's own mapping may change while the pool runs."""
    accounts = {"a": 1}
    pool = AccountPool(source=accounts, clock=clock)
    lease = pool.acquire()
    accounts["b"] = 2
    clock.advance(60)
    assert pool.acquire().account.id == "b"
    assert pool.stats().capacity == 3
    assert lease.release()


# -- the first load ----------------------------------------------------------------------------------


def test_the_first_load_is_awaited_by_all_within_their_timeouts(play, clock):
    """Without a table there is nothing to go by: each waits as long as it said."""
    source, pool = play(Played(a=9))
    source.hold()
    patient, hasty = start(pool.acquire), start(pool.acquire, timeout=2)
    at_rest(pool, callers=2, landed=False)
    clock.advance(2)
    assert isinstance(error(hasty), AcquireTimeout)
    assert hasty.exception().timeout == 2
    assert not patient.done()
    source.detached()
    assert result(patient).account.id == "a"


def test_a_timeout_of_zero_awaits_the_first_load(play, clock):
    """Zero means no wait for a slot; the first table is awaited up to the deadline of a fetch."""
    source, pool = play()
    source.hold()
    caller = start(pool.acquire, timeout=0)
    at_rest(pool, callers=1, landed=False)
    clock.advance(59)
    assert not caller.done()
    source.detached()
    assert result(caller).account.id == "a"


def test_a_first_load_that_never_ends_is_given_up(play, clock):
    """After the deadline of a fetch the caller learns that there is no configuration."""
    source, pool = play()
    source.hold()
    caller = start(pool.acquire, timeout=0)
    at_rest(pool, callers=1, landed=False)
    clock.advance(60)
    assert isinstance(error(caller), SourceUnavailable)
    source.detached()


def test_a_failed_first_load_is_not_repeated_for_each_caller(over_http, clock):
    """P-56: the failure is told to all who come within the pause, without asking again."""
    fake, pool = over_http({"a": 1})
    fake.fault("*/accounts", times=None, status=503)
    errors = [error(caller) for caller in crew(50, pool.acquire)]
    assert {type(failure) for failure in errors} == {SourceUnavailable}
    assert len({id(failure) for failure in errors}) == 50, "each caller needs an error of its own"
    assert fetches(fake) == 1
    clock.advance(1)
    with pytest.raises(SourceUnavailable):
        pool.acquire()
    assert fetches(fake) == 2


def test_a_thread_that_cannot_be_had_is_an_outage(play, clock, monkeypatch):
    """A process at its limit of threads is told so, and tries again later."""
    _, pool = play()
    spawned = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(SourceUnavailable, match="thread"):
        pool.acquire(timeout=1)
    monkeypatch.setattr(threading.Thread, "start", spawned)
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "a"
