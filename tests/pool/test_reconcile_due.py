"""When the server is asked what it runs, and what a failure of that changes: nothing."""

import pytest
from crew import result, start
from reconciling import INTERVAL, World
from stepping import until

from balancer import AccountPool, AcquireTimeout, SourceError
from balancer.testing import at_rest

LIST = "GET */jobs"


def test_the_first_table_comes_with_the_first_list():
    """Before the first grant the jobs of others are known; afterwards nobody asks without a reason."""
    with World({"a": 2}) as world:
        world.fake.start_stranger("flowmusic", "a")
        first = world.pool.acquire(timeout=0)
        assert world.lists() == 1
        with pytest.raises(AcquireTimeout, match="1 external"):
            world.pool.acquire(timeout=0)
        first.release()
        world.pass_interval(5)
        assert world.lists() == 1


def test_a_waiting_caller_is_a_reason_every_interval_and_gets_what_a_stranger_leaves():
    """P-33, P-58: who waits keeps the time, asks, and is served by the list."""
    with World({"a": 1}) as world:
        stranger = world.fake.start_stranger("flowmusic", "a")
        waiting = start(world.pool.acquire, timeout=1_000)
        until(lambda: world.pool.stats().waiting)
        for count in (2, 3):
            world.clock.advance(INTERVAL)
            until(lambda count=count: world.lists() == count)
            world.landed()
        assert not waiting.done()
        world.fake.finish(stranger)
        until(lambda: world.pool.stats().waiting)
        world.clock.advance(INTERVAL)
        assert result(waiting).release()


@pytest.mark.parametrize("constraint", [{}, {"account": "a"}], ids=["any", "pinned"])
def test_in_real_time_the_only_caller_asks_once_its_wait_makes_that_due(constraint):
    """P-33: it sleeps neither to its own end nor for long, though nobody else comes and nothing is moved."""
    strangers = [{"id": "theirs", "account": "a"}]

    class Source:
        def accounts(self):
            return {"a": 1}

        def jobs(self):
            return list(strangers)

    pool = AccountPool(source=Source(), ttl=1e9, reconcile_every=0.05)
    assert pool.stats().free == 0
    waiting = start(pool.acquire, **constraint)
    at_rest(pool, callers=1, landed=False)  # stats() would have everybody look around
    strangers.clear()
    assert result(waiting).release()


@pytest.mark.parametrize("state", ["bound", "ambiguous"])
def test_a_lease_that_no_block_will_end_is_a_reason_once_it_is_an_interval_old(state):
    """A bound or ambiguous lease may have lost its job."""
    with World({"a": 2}) as world:
        if state == "bound":
            world.submit()
        else:
            world.pool.acquire(account="a", timeout=0).report((502, {}, ""))
        world.clock.advance(INTERVAL - 1)
        world.look()
        assert world.lists() == 1
        world.clock.advance(1)
        world.look()
        assert world.lists() == 2


def test_without_an_interval_nobody_asks():
    """``reconcile_every=None`` is never."""
    with World({"a": 2}, every=None) as world:
        world.submit()
        world.pass_interval(3)
        assert world.lists() == 0


def test_a_list_that_takes_long_holds_up_no_grant_and_is_the_only_one():
    """P-55: single flight; whoever comes by meanwhile is served and asks for nothing."""
    with World({"a": 5}) as world:
        world.submit()
        world.clock.advance(INTERVAL)
        slow = world.fake.fault(LIST, delay=30.0)
        leases = [world.pool.acquire(timeout=0) for _ in range(4)]
        assert slow.hit.wait(10)
        assert world.pool._core.refresher.in_flight
        assert all(lease.release() for lease in leases)
        slow.lift()
        world.landed()
        assert world.lists() == 2


FAILURES = {
    "error": {"status": 500},
    "html": {"status": 200, "body": "<html>maintenance</html>"},
    "truncated": {"cut": "midbody"},
    "another shape": {"status": 200, "body": {"error": "x"}},
    "no answer": {"cut": "before"},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_list_that_fails_changes_nothing_and_is_seen_in_the_stats(failure):
    """P-56: leases stay, external jobs stay; the trouble is told, and gone with the next success."""
    with World({"a": 3}) as world:
        world.fake.start_stranger("flowmusic", "a")
        lease = world.submit()
        world.fake.finish(lease.job_id)  # without a list nobody knows
        fault = world.fake.fault(LIST, times=None, **FAILURES[failure])
        world.pass_interval(4)
        assert world.lists() == 5
        stats = world.pool.stats()
        assert stats.last_error is not None
        assert (stats.in_flight, stats.external, stats.free, stats.stale) == (1, 1, 1, False)
        with pytest.raises(SourceError):
            world.pool.reconcile()
        fault.lift()
        world.pass_interval(2)
        stats = world.pool.stats()
        assert (stats.in_flight, stats.external, stats.last_error) == (0, 1, None)


@pytest.mark.parametrize("failure", ["error", "html", "no answer"])
def test_a_first_list_that_fails_does_not_keep_the_pool_closed(failure):
    """Grants begin without it: its absence is no outage of the accounts."""
    with World({"a": 1}) as world:
        world.fake.fault(LIST, times=1, **FAILURES[failure])
        assert world.pool.acquire(timeout=0).release()
        assert world.pool.stats().last_error is not None


def test_a_list_that_hangs_is_given_up_and_what_it_brings_is_void():
    """P-55: the deadline of a list opens the pool; a later list is asked for as if nothing were."""
    with World({"a": 1}) as world:
        hanging = world.fake.fault(LIST, hang=True)
        waiting = start(world.pool.acquire, timeout=1_000)
        assert hanging.hit.wait(10)
        at_rest(world.pool, callers=1, landed=False)
        world.clock.advance(30)
        lease = result(waiting)
        world.fake.start_stranger("flowmusic", "a")
        lease.release()
        world.pool.reconcile()
        assert world.pool.stats().external == 1
        hanging.lift()
        assert world.pool.stats().external == 1


def test_a_server_that_lies_now_and_then_frees_no_running_job():
    """P-37: an empty list is believed only when the next one says the same."""
    with World({"a": 2}) as world:
        jobs = {world.submit().job_id for _ in range(2)}
        for _ in range(4):
            world.fake.lie("*/jobs", times=1)
            world.pass_interval()
            assert world.held() == jobs
            world.pass_interval()
        assert world.held() == jobs
        assert world.lists() == 9


def test_a_reconciliation_by_hand_tells_what_it_did():
    """Adopted by account; reclaimed, resolved and kept by the id of the lease."""
    with World({"a": 4, "b": 4}) as world:
        running, finished = world.submit(account="a"), world.submit(account="a")
        doubtful = world.pool.acquire(account="b", timeout=0)
        doubtful.report((502, {}, ""))
        world.fake.start_stranger("flowmusic", "a")
        world.fake.finish(finished.job_id)
        world.clock.advance(INTERVAL)
        first = world.pool.reconcile()
        assert first.adopted == {"a": 1}
        assert first.resolved == (doubtful.id,)
        assert (first.reclaimed, set(first.kept)) == ((), {running.id, finished.id})
        second = world.pool.reconcile()
        assert (second.reclaimed, second.kept) == ((finished.id,), (running.id,))
        assert world.pool.stats().reclaimed == 2
        assert world.held() == {running.job_id}


def test_a_job_that_is_still_listed_moves_its_end_on():
    """A slot is not freed by ``job_ttl`` while the server says that its job runs."""
    with World({"a": 1}, pool={"job_ttl": 100.0}) as world:
        lease = world.submit()
        world.pass_interval(10)
        assert world.held() == {lease.job_id}
        with pytest.raises(AcquireTimeout):
            world.pool.acquire(timeout=0)


def test_a_source_without_a_list_says_so():
    """Nothing is reconciled in silence."""
    with AccountPool(source={"a": 1}) as pool, pytest.raises(ValueError, match="cannot list"):
        pool.reconcile()
