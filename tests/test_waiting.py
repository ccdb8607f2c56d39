"""Who waits, in what order, what wakes them, and how waiting ends."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from crew import Played, crew, error, in_line, queued, result, start
from stepping import until

from balancer import AccountPool, AcquireTimeout, NoAccounts, PoolClosed, TooManyWaiting
from balancer.waiting import ThreadWaiter

pytest_plugins = ["balancer.testing.plugin"]

FULL = (429, {"Retry-After": "30"}, '{"error": "at capacity"}')
EMPTY = (412, {}, '{"error": "Not enough credits"}')
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock(manual_clock):
    """Return the clock that a test moves."""
    return manual_clock


@pytest.fixture
def pool_of(clock):
    """Return what makes a pool of accounts that a test may change, closed at the end."""
    pools = []

    def make(table, **options):
        pool = AccountPool(source=table, clock=clock, **options)
        pools.append(pool)
        pool.refresh()
        return pool

    yield make
    for pool in pools:
        pool.close()


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
        lease = next(lease for c in callers if c.done() and (lease := c.result())._row.state == "held")
    assert len(woken) <= 10
    assert pool.stats().waiting == 195
    pool.close()
    until(lambda: all(caller.done() for caller in callers))
    assert lease.release()


# -- what wakes ------------------------------------------------------------------------------------


def test_a_release_from_any_thread_and_by_any_name_wakes(pool_of):
    """P-33: by the lease, by its id, by its job."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    by_name = [
        lambda lease: lease.release(),
        lambda lease: pool.release(lease.id),
        lambda lease: (lease.bind("job"), pool.release(job_id="job")),
        lambda lease: lease.__exit__(None, None, None),
        lambda lease: lease.__exit__(KeyError, KeyError(), None),
    ]
    for release in by_name:
        (waiter,) = in_line(pool, 1)
        result(start(release, lease))
        lease = result(waiter)


def test_an_abandoned_lease_wakes_at_the_next_operation(pool_of, clock):
    """P-33, P-3: a slot whose handle nobody has any more goes to who waits."""
    pool = pool_of({"a": 1})
    leases = [pool.acquire()]
    (waiter,) = in_line(pool, 1)
    leases.clear()
    pool.holders()
    assert result(waiter).account.id == "a"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": 1, "b": {"maxJobs": 1, "error": "broken"}}, {"a": 1, "b": {"maxJobs": 1}}),
        ({"a": 1, "b": {"maxJobs": 1, "health": "Expired"}}, {"a": 1, "b": {"maxJobs": 1, "health": "OK"}}),
    ],
    ids=["capacity raised", "account added", "error cleared", "health restored"],
)
def test_a_change_of_the_configuration_wakes(pool_of, before, after):
    """P-33: whatever makes room in the new table serves those in line."""
    pool = pool_of(table := dict(before))
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    table.clear()
    table.update(after)
    pool.refresh()
    assert result(waiter)
    assert lease.release()


def test_the_end_of_a_cooldown_wakes(pool_of, clock):
    """P-33: nobody calls, the clock alone brings the account back."""
    pool = pool_of({"a": 1})
    pool.cool("a", 20)
    (waiter,) = in_line(pool, 1)
    clock.advance(19.9)
    assert not waiter.done()
    clock.advance(0.1)
    assert result(waiter).account.id == "a"


def test_the_end_of_probing_wakes(pool_of, clock):
    """P-33, P-54: after a cooldown one lease at a time, until one ends well; then all the room is there."""
    pool = pool_of({"a": 3})
    pool.cool("a", 20)
    clock.advance(20)
    probe = pool.acquire(timeout=0)
    waiters = in_line(pool, 2)
    assert not any(waiter.done() for waiter in waiters)
    probe.report((200, {}, '{"jobid": "1"}'))
    assert {result(waiter).account.id for waiter in waiters} == {"a"}


def test_the_end_of_a_bound_lease_wakes(pool_of, clock):
    """P-33: a job that nobody reports as over gives its slot back when its time is up."""
    pool = pool_of({"a": 1})
    pool.acquire().bind("job", ttl=100)
    (waiter,) = in_line(pool, 1)
    clock.advance(99)
    assert not waiter.done()
    clock.advance(1)
    assert result(waiter).account.id == "a"


def test_the_end_of_an_ambiguous_lease_wakes(pool_of, clock):
    """P-33: as does a slot kept for a job that may run."""
    pool = pool_of({"a": 1}, ambiguous_ttl=100)
    lease = pool.acquire()
    lease.report((500, {}, ""))
    (waiter,) = in_line(pool, 1)
    clock.advance(99)
    assert not waiter.done()
    clock.advance(1)
    assert result(waiter).account.id == "a"


def test_a_reset_wakes(pool_of):
    """P-33, P-62: the operator says that the account is well."""
    pool = pool_of({"a": 1})
    pool.cool("a", 3600)
    (waiter,) = in_line(pool, 1)
    pool.reset("a")
    assert result(waiter).account.id == "a"


def test_a_change_of_who_is_external_wakes(clock):
    """P-33: a job of somebody else that ends makes room."""
    source = Played(a=1)
    source.running = [{"id": "theirs", "account": "a"}]
    source.jobs = lambda: source.running
    pool = AccountPool(source=source, clock=clock)
    (waiter,) = in_line(pool, 1)
    source.running = []
    pool.reconcile()
    assert result(waiter).account.id == "a"


def test_real_time_wakes_without_a_clock_that_can_be_moved():
    """P-33: with the system's own clock the first in line sleeps until something is due."""
    with AccountPool(source={"a": 1}) as pool:
        pool.refresh()
        pool.cool("a", 0.05)
        assert pool.acquire(timeout=20).account.id == "a"


def test_the_keeper_of_the_time_may_leave(pool_of, clock):
    """The one who wakes for what is due hands that on: the others are not stranded."""
    pool = pool_of({"a": 1})
    pool.cool("a", 20)
    (hasty,) = in_line(pool, 1, timeout=5)
    (patient,) = in_line(pool, 1)
    clock.advance(5)
    assert isinstance(error(hasty), AcquireTimeout)
    clock.advance(15)
    assert result(patient).account.id == "a"


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
    until(lambda: len(pool._core.upkeep.watching) == 5)
    source.let_go()
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


# -- when waiting cannot help ------------------------------------------------------------------------


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
    until(lambda: pool._core.upkeep.watching)
    clock.advance(3)
    assert isinstance(error(caller), NoAccounts)
    source.let_go()


def test_a_hundred_who_are_turned_away_cause_one_confirmation(clock):
    """The confirming fetch is single-flight as any other."""
    source = Played()
    pool = AccountPool(source=source, clock=clock, ttl=3600)
    pool.refresh()
    clock.advance(10)
    source.hold()
    callers = crew(100, pool.acquire)
    until(lambda: len(pool._core.upkeep.watching) == 100)
    source.let_go()
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


# -- constraints -------------------------------------------------------------------------------------


def test_a_pinned_account_is_named_by_id_or_by_itself(pool_of):
    """Follow-up work runs where the asset lives."""
    pool = pool_of({"a": 5, "b": 5})
    for _ in range(5):
        lease = pool.acquire(account="b")
        assert lease.account.id == "b"
        assert pool.acquire(account=lease.account).account.id == "b"
        lease.release()


def test_excluded_accounts_are_never_chosen(pool_of):
    """By id or Account, in any collection."""
    pool = pool_of({"a": 100, "b": 100, "c": 100})
    other = pool.acquire(account="a").account
    for exclude in (["a", "b"], {"a", "b"}, (other, "b"), frozenset("ab"), {"a": 1, "b": 2}):
        assert pool.acquire(exclude=exclude).account.id == "c"
    with pytest.raises(NoAccounts) as caught:
        pool.acquire(exclude=["abc", *list("abc")])
    assert caught.value.reasons == dict.fromkeys("abc", "excluded")


def test_where_is_asked_in_the_callers_thread_and_outside_the_lock(pool_of):
    """The user's function may use the pool itself, and sees the account's harmless fields."""
    pool = pool_of({"a": {"maxJobs": 3, "supportVideo": False}, "b": {"maxJobs": 3, "supportVideo": True}})
    asked = []

    def supports_video(account):
        asked.append((threading.get_ident(), account.id))
        pool.stats()
        pool.holders()
        return account.fields["supportVideo"]

    assert pool.acquire(where=supports_video, timeout=0).account.id == "b"
    assert {id for _, id in asked} == {"a", "b"}
    assert {thread for thread, _ in asked} == {threading.get_ident()}
    lease = pool.acquire(account="a")
    caller = start(pool.acquire, where=supports_video)
    result(caller)
    assert len({thread for thread, _ in asked}) == 2
    assert lease.release()


def test_an_exception_of_where_reaches_its_caller_only(pool_of):
    """Nobody else in line is disturbed, no slot is taken, and the pool goes on."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)

    def bad(account):
        raise LookupError(account.id)

    with pytest.raises(LookupError, match="a"):
        pool.acquire(where=bad)
    assert not waiter.done()
    assert pool.stats().waiting == 1
    lease.release()
    assert result(waiter).release()
    assert pool.stats().free == 1


def test_an_exception_of_where_on_a_new_table_reaches_the_caller_in_line(pool_of):
    """It is asked again of each new table, in the thread of the one who waits."""
    pool = pool_of(table := {"a": 1})
    lease = pool.acquire()
    choosy = start(pool.acquire, where=lambda account: {"a": True}[account.id])
    queued(pool, 1)
    (waiter,) = in_line(pool, 1)
    table["b"] = 1
    pool.refresh()
    assert isinstance(error(choosy), KeyError)
    assert result(waiter).account.id == "b"
    assert lease.release()


def test_max_jobs_replaces_the_capacity_for_one_decision(clock):
    """It may be lower or higher where requests can carry it, and travels in the request's parameters."""
    pool = AccountPool("riffusion", source={"a": 2}, clock=clock)
    leases = [pool.acquire(), pool.acquire()]
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    third = pool.acquire(max_jobs=3, timeout=0)
    assert third.params["maxJobs"] == 3
    assert "maxJobs" not in leases[0].params
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=3, timeout=0)
    third.release()
    leases[0].release()
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=1, timeout=0)
    assert pool.acquire(timeout=0)
    assert leases[1].release()


def test_max_jobs_may_only_be_lower_where_requests_lack_the_field(clock):
    """A figure that the server would never hear of cannot raise the account's own."""
    from balancer import SERVICES

    row = next(row for row in SERVICES.values() if row.max_jobs is None and row.alive)
    pool = AccountPool(row, source={"a": 2}, clock=clock)
    with pytest.raises(ValueError, match="max_jobs"):
        pool.acquire(max_jobs=3)
    lease = pool.acquire(max_jobs=1)
    assert row.max_jobs not in lease.params
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=1, timeout=0)
    assert pool.acquire(timeout=0)
    assert lease.release()


def test_a_scoped_cooldown_hits_its_scope_and_those_without_one(clock):
    """What one model's limit says is no matter of another model."""
    from balancer import Rule, Service

    row = Service(key="own", path="/own", rules=(Rule(status=429, verdict="BUSY", scoped=True),))
    pool = AccountPool(row, source={"a": 5}, clock=clock)
    with pool.acquire(scope="veo") as lease:
        lease.report((429, {"Retry-After": "60"}, ""))
    assert pool.acquire(scope="imagen", timeout=0)
    for want in ({"scope": "veo"}, {}):
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0, **want)
    clock.advance(60)
    assert pool.acquire(scope="veo", timeout=0)


def test_our_own_full_count_is_never_held_against_an_account(pool_of):
    """P-48: callers turned away by a full account leave no cooldown behind."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    for _ in range(50):
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0, account="a")
    assert pool.stats().accounts["a"].state == "full"
    lease.release()
    assert pool.stats().accounts["a"].state == "ready"
    assert pool.acquire(timeout=0)


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
