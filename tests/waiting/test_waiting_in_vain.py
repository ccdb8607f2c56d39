"""When waiting cannot help: who is turned away, after what confirmation, and who is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from crew import Played, crew, error, in_line, queued, result, start

from balancer import AccountPool, NoAccounts
from balancer.testing import at_rest

FULL = (429, {"Retry-After": "30"}, '{"error": "at capacity"}')
EMPTY = (412, {}, '{"error": "Not enough credits"}')
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def test_no_account_at_all_is_no_reason_to_wait(pool_of):
    """An empty configuration is told as such, however patient the caller."""
    pool = pool_of({})
    with pytest.raises(NoAccounts, match="no account is configured"):
        pool.acquire()


def test_an_exhausted_or_broken_account_is_not_worth_a_wait(pool_of, clock):
    """The reason of each account is given, and the earliest time at which one may be back."""
    pool = pool_of({"a": 1, "b": 1, "c": {"maxJobs": 1, "error": "logged out"}})
    for id in "ab":
        with pool.acquire(account=id) as lease:
            lease.report((412, {"Retry-After": "60" if id == "a" else "1800"}, ""))
    with pytest.raises(NoAccounts) as caught:
        pool.acquire()
    assert caught.value.reasons == {
        "a": "cooldown: HTTP 412",
        "b": "cooldown: HTTP 412",
        "c": "broken: logged out",
    }
    assert caught.value.retry_at == EPOCH + timedelta(seconds=60)


def test_one_account_worth_waiting_for_is_enough(pool_of, clock):
    """P-53: a full or briefly cooling account beside broken ones keeps the caller in line."""
    pool = pool_of({"a": 1, "b": {"maxJobs": 1, "error": "logged out"}, "c": 1})
    with pool.acquire(account="c") as lease:
        lease.report(FULL)
    held = pool.acquire()
    assert held.account.id == "a"
    (waiter,) = in_line(pool, 1)
    clock.advance(30)
    assert result(waiter).account.id == "c"


def test_mixed_states_leave_the_healthy_one(pool_of):
    """P-53: the one account that can be used is used, whatever the state of the others."""
    pool = pool_of({"broken": {"maxJobs": 1, "error": "x"}, "cooling": 1, "full": 1, "well": 1, "empty": 1})
    pool.cool("cooling", 100)
    held = pool.acquire(account="full")
    with pool.acquire(account="empty") as lease:
        lease.report(EMPTY)
    for _ in range(20):
        with pool.acquire(timeout=0) as lease:
            assert lease.account.id == "well"
    assert held.release()


def test_a_table_is_confirmed_before_anybody_is_turned_away_by_it(clock):
    """A table older than 5 s is asked for once more: the account may have come back meanwhile."""
    source = Played(a={"maxJobs": 1, "error": "logged out"})
    pool = AccountPool(source=source, clock=clock, ttl=3600)
    pool.refresh()
    clock.advance(5)
    with pytest.raises(NoAccounts):
        pool.acquire()
    assert source.calls == 1
    clock.advance(0.1)
    source.table = {"a": 1}
    assert pool.acquire(timeout=30).account.id == "a"
    assert source.calls == 2


def test_the_confirmation_takes_no_longer_than_the_callers_timeout(clock):
    """A source that hangs does not turn NoAccounts into a long wait."""
    source = Played()
    pool = AccountPool(source=source, clock=clock, ttl=3600)
    pool.refresh()
    clock.advance(10)
    source.hold()
    caller = start(pool.acquire, timeout=3)
    at_rest(pool, callers=1, landed=False)
    clock.advance(3)
    assert isinstance(error(caller), NoAccounts)
    source.detached()


def test_a_hundred_who_are_turned_away_cause_one_confirmation(clock):
    """The confirming fetch is single-flight as any other."""
    source = Played()
    pool = AccountPool(source=source, clock=clock, ttl=3600)
    pool.refresh()
    clock.advance(10)
    source.hold()
    callers = crew(100, pool.acquire)
    at_rest(pool, callers=100, landed=False)
    source.detached()
    assert {type(error(caller)) for caller in callers} == {NoAccounts}
    assert source.calls == 2


@pytest.mark.parametrize(
    "doom",
    [
        lambda pool, table, lease: (table.clear(), pool.refresh()),
        lambda pool, table, lease: (table.update(a={"maxJobs": 1, "error": "gone"}), pool.refresh()),
        lambda pool, table, lease: lease.report(EMPTY),
        lambda pool, table, lease: lease.report((596, {}, "")),
    ],
    ids=["removed", "broken", "exhausted", "596"],
)
def test_a_change_that_dooms_those_in_line_reaches_them(pool_of, doom):
    """Nobody waits on for an account that has gone or is exhausted."""
    pool = pool_of(table := {"a": 1})
    lease = pool.acquire()
    waiters = [*in_line(pool, 2), *in_line(pool, 1, account="a")]
    doom(pool, table, lease)
    for waiter in waiters:
        assert isinstance(error(waiter), NoAccounts)
    assert pool.stats().waiting == 0
    assert lease.release()


def test_only_those_are_doomed_whose_accounts_are(pool_of):
    """A caller pinned to the removed account is told; the others wait on."""
    pool = pool_of(table := {"a": 1, "b": 1})
    leases = [pool.acquire(), pool.acquire()]
    (pinned,) = in_line(pool, 1, account="a")
    (anybody,) = in_line(pool, 1)
    del table["a"]
    pool.refresh()
    failure = error(pinned)
    assert isinstance(failure, NoAccounts)
    assert "not in the configuration" in failure.reasons["a"] or "draining" in failure.reasons["a"]
    queued(pool, 1)
    next(lease for lease in leases if lease.account.id == "b").release()
    assert result(anybody).account.id == "b"
