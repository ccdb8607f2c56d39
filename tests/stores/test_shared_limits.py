"""Limits, spacing and priority between pools that share a store, as users of several processes meet them."""

from __future__ import annotations

import threading

import pytest
from stepping import until
from structlog.testing import capture_logs

from balancer import AcquireTimeout

BUSY, BUSY_FOR, TAKEN = (429, {}, ""), (429, {"Retry-After": "40"}, ""), (201, {}, '{"jobid": "j"}')


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    """Return the URL of an empty store of each kind that processes share."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/slots.db"
    return request.getfixturevalue("empty_redis")


@pytest.fixture
def two(world):
    """Return two pools, each as a process of its own would have it."""
    world.accounts = {"a": 6}
    return [world.pool(reconcile_every=None, ttl=1e6) for _ in range(2)]


def learned(pool):
    """Have two jobs run beside which a third was refused; return their leases."""
    leases = [pool.acquire(timeout=5) for _ in range(2)]
    for lease in leases:
        lease.report(TAKEN)
    with pool.acquire(timeout=5) as refused:
        refused.report(BUSY)
    return leases


def limits(*pools):
    """Return what each pool says of the account's limit, state and free slots."""
    return [
        (found.limit, found.state, found.free) for found in (pool.stats().accounts["a"] for pool in pools)
    ]


def full(pool, **options):
    """Return the error of an acquire that finds nothing."""
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=0, **options)
    return caught.value


def waits(pool, told, name, **options):
    """Have a thread wait for a slot, say its name once it has got one, and give it back."""

    def wait():
        lease = pool.acquire(timeout=1000, **options)
        told.append(name)
        lease.release()

    before = pool.stats().waiting
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: pool.stats().waiting > before)
    return thread


def test_a_429_in_one_process_bounds_the_account_in_all(two):
    """The other sees the limit and is not refused by the server, but by the pool that knows why."""
    one, other = two
    leases = learned(one)
    assert limits(one, other) == [(2, "full", 0)] * 2
    why = "full: 2 in flight, limited to 2 of 6 by a 429"
    assert full(other).accounts == {"a": why}
    assert other.explain() == {"a": why}
    leases[0].release()
    assert limits(other) == [(2, "ready", 1)]
    assert other.acquire(timeout=5).release()


def test_a_limit_outlives_the_pool_that_learned_it(world, two):
    """A process that is started again is bounded by what another has been taught."""
    for lease in learned(two[0]):
        lease.bind(f"job-{lease.id}")
    for pool in two:
        pool.close()
    fresh = world.pool(reconcile_every=None, ttl=1e6)
    assert limits(fresh) == [(2, "full", 0)]
    full(fresh)
    fresh.reset("a")
    assert limits(fresh) == [(None, "ready", 4)]
    assert fresh.acquire(timeout=5).release()


def test_a_thread_of_another_process_gets_the_trial_and_each_is_told_what_it_has_taught(world, two):
    """It is woken when the trial is due; the pool that reports says what was learned, and says it once."""
    one, other = two
    told = []
    with capture_logs() as logs:
        kept = learned(one)
        thread = waits(other, told, "trial")
        world.clock.advance(59)
        assert told == []
        world.clock.advance(1)
        thread.join(20)
        assert told == ["trial"]
        world.clock.advance(60)
        kept.append(other.acquire(timeout=5))
        kept[-1].report(TAKEN)
    events = [
        (entry["event"], entry["account"], entry["limit"], entry["capacity"])
        for entry in logs
        if entry["event"].startswith("limit_")
    ]
    assert events == [("limit_learned", "a", 2, 6), ("limit_raised", "a", 3, 6)]
    assert limits(one, other) == [(3, "full", 0)] * 2


def test_a_time_that_the_answer_names_is_waited_for_in_all_processes(world, two):
    """The account is limited and cools."""
    one, other = two
    kept = one.acquire(timeout=5)
    with one.acquire(timeout=5) as lease:
        lease.report(BUSY_FOR)
    assert limits(other) == [(1, "cooldown", 0)]
    kept.release()
    full(other)
    world.clock.advance(40)
    assert other.acquire(timeout=5).release()


def test_grants_of_two_processes_are_spaced_and_who_waits_is_woken(world):
    """A grant in one leaves the account alone for the other, which says until when."""
    world.accounts = {"a": 3}
    one, other = (world.pool(reconcile_every=None, ttl=1e6, spacing=5) for _ in range(2))
    one.acquire(timeout=5).release()
    assert limits(one, other) == [(None, "full", 0)] * 2
    error = full(other)
    assert error.accounts == {"a": "full: left alone for a moment after its last grant"}
    assert (error.retry_at - other.stats().fetched_at).total_seconds() == pytest.approx(5, abs=0.01)
    told = []
    threads = [waits(pool, told, number) for number, pool in enumerate((other, one))]
    assert told == []
    for number in (1, 2):
        world.clock.advance(5)
        until(lambda number=number: len(told) == number)
    for thread in threads:
        thread.join(20)
    assert sorted(told) == [0, 1]


def test_between_processes_the_highest_priority_is_served_first(two):
    """Then the oldest that waits; what is urgent in one goes before what waited longer in another."""
    one, other = two
    leases = [one.acquire(timeout=5) for _ in range(6)]
    told = []
    threads = [
        waits(one, told, "one, first"),
        waits(other, told, "other, second"),
        waits(other, told, "other, urgent", priority=5),
        waits(one, told, "one, most urgent", priority=9),
    ]
    leases.pop().release()
    for thread in threads:
        thread.join(20)
    assert told[:2] == ["one, most urgent", "other, urgent"]
    assert sorted(told[2:]) == ["one, first", "other, second"]
