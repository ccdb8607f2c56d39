"""What every store promises, by both faces of a pool: waiting, new tables, and the server's list."""

from __future__ import annotations

import pytest
from listing_server import Server
from stepping import until
from store_world import waiting

from balancer import AcquireTimeout, Job, NoAccounts, PoolClosed, TooManyWaiting


def in_flight(pool):
    """Return the live leases of each account."""
    return {id: account.in_flight for id, account in pool.stats().accounts.items()}


# -- waiting ----------------------------------------------------------------------------------------


def test_callers_wait_in_order(world):
    """First come, first served."""
    world.accounts = {"a": 1}
    pool = world.pool()
    lease = pool.acquire()
    with waiting(pool, 4) as got:
        lease.release()
        for number in range(4):
            until(lambda number=number: len(got) > number)
            assert got[number][0] == number
            got[number][1].release()
    assert pool.stats().in_flight == 0


def test_a_caller_who_cannot_be_served_holds_nobody_up(world):
    """P-34: the one behind it gets the slot that it could not use, and it gets its own in turn."""
    pool = world.pool()
    on = {}
    for _ in range(3):
        lease = pool.acquire()
        on.setdefault(lease.account.id, []).append(lease)
    with waiting(pool, account="b") as pinned, waiting(pool) as free:
        on["a"][0].release()
        until(lambda: free)
        assert not pinned
        on["b"][0].release()
    assert free[0][1].account.id == "a"
    assert pinned[0][1].account.id == "b"


@pytest.mark.parametrize("cause", ["release", "raised", "new", "healed", "cooldown", "reset"])
def test_whatever_makes_room_wakes_who_waits(world, cause):
    """P-33: one caller for each cause."""
    world.accounts = {"a": 1, "b": {"maxJobs": 1, "error": "gone"}}
    pool = world.pool()
    lease = pool.acquire()
    if cause in ("cooldown", "reset"):
        lease.release()
        pool.cool("a", 30)
    with waiting(pool) as got:
        if cause == "release":
            lease.release()
        elif cause == "cooldown":
            world.clock.advance(31)
        elif cause == "reset":
            pool.reset("a")
        else:
            changed = {"raised": {"a": 2}, "new": {"a": 1, "c": 1}, "healed": {"a": 1, "b": 1}}
            world.accounts.clear()
            world.accounts.update(changed[cause])
            pool.refresh()
    assert got[0][1].account.id == {"new": "c", "healed": "b"}.get(cause, "a")


def test_a_caller_leaves_at_its_deadline(world):
    """P-7, P-32: with its own number in the error, and without a slot."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool, timeout=30) as got:
        world.clock.advance(31)
    error = got[0][1]
    assert isinstance(error, AcquireTimeout)
    assert isinstance(error, TimeoutError)
    assert error.timeout == 30
    for lease in leases:
        lease.release()
    stats = pool.stats()
    assert (stats.in_flight, stats.waiting, stats.timeouts, stats.free) == (0, 0, 1, 3)


def test_the_queue_can_be_bounded(world):
    """P-31: over the bound, at once."""
    pool = world.pool(max_waiting=1)
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool) as got:
        with pytest.raises(TooManyWaiting):
            pool.acquire()
        leases[0].release()
    assert got[0][1].account


def test_closing_sends_away_who_waits_and_leaves_leases_alone(world):
    """Leases can still be released."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool, 2) as got:
        pool.close()
    assert [type(error) for _, error in got] == [PoolClosed, PoolClosed]
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert [lease.release() for lease in leases] == [True] * 3
    pool.close()


# -- the configuration ----------------------------------------------------------------------------------


def test_counts_survive_every_change_of_the_configuration(world):
    """P-52: lowered, gone, back again, broken, healed: leases go on, grants obey."""
    pool = world.pool()

    def becomes(accounts):
        world.accounts.clear()
        world.accounts.update(accounts)
        pool.refresh()

    leases = [pool.acquire(account="a") for _ in range(2)]
    becomes({"a": 1, "b": 1})
    assert in_flight(pool) == {"a": 2, "b": 0}
    leases.pop().release()
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="a", timeout=0)
    becomes({"b": 1})
    assert pool.stats().accounts["a"].state == "draining"
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", timeout=0)
    becomes({"a": 2, "b": 1})
    assert in_flight(pool) == {"a": 1, "b": 0}
    leases.append(pool.acquire(account="a", timeout=0))
    becomes({"a": {"maxJobs": 8, "error": "expired"}})
    assert pool.stats().accounts["a"].state == "broken"
    for lease in leases:
        lease.release()
    becomes({"a": 2})
    assert pool.stats().free == 2


def test_a_change_seen_by_one_is_obeyed_by_all(world):
    """At their next acquire."""
    one, two = world.pool(), world.pool()
    two.stats()
    world.accounts.clear()
    world.accounts.update({"c": 1})
    one.refresh()
    assert two.acquire(timeout=0).account.id == "c"
    assert {id for id, each in two.stats().accounts.items() if each.state != "draining"} == {"c"}


# -- the server's list --------------------------------------------------------------------------------


def test_jobs_of_others_take_room_from_the_first_grant_on(world):
    """A process that was started again finds its old jobs still running."""
    server = Server()
    server.running = [Job("old-1", "a"), Job("old-2", "b")]
    pool = world.pool(source=server)
    lease = pool.acquire(timeout=0)
    assert lease.account.id == "a"
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert pool.stats().external == 2
    lease.release()
    server.running.clear()
    world.clock.advance(31)
    assert pool.reconcile().adopted == {}
    assert pool.stats().free == 3


def test_a_lost_callback_is_made_up_for_by_two_lists(world):
    """A bound job that two lists in a row do not name is over; one that is named goes on."""
    server = Server()
    pool = world.pool(source=server, job_ttl=100)
    lost, running = pool.acquire(account="a"), pool.acquire(account="b")
    lost.bind("lost")
    running.bind("running")
    server.running = [Job("running", "b")]
    world.clock.advance(60)
    assert pool.reconcile().reclaimed == ()
    world.clock.advance(30)
    assert pool.reconcile().reclaimed == (lost.id,)
    world.clock.advance(60)
    assert in_flight(pool) == {"a": 0, "b": 1}
    assert pool.stats().reclaimed == 1
