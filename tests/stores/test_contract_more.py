"""What every store promises, by both faces of a pool: blocks, runs, doubts and what people are told."""

from __future__ import annotations

import gc
import random
import tracemalloc
from pathlib import Path

import pytest
from listing_server import Server
from stepping import until
from store_world import waiting
from structlog.testing import capture_logs

from balancer import AcquireTimeout, AmbiguousOutcome, AttemptsFailed, Job, JobRefused, NoAccounts

CREATED = (201, {}, '{"jobid": "job-1"}')
EXHAUSTED, BUSY, BAD_GATEWAY = (412, {}, ""), (429, {"Retry-After": "60"}, ""), (502, {}, "")


def states(pool):
    """Return the live leases and their states."""
    return {holder.id: holder.state for holder in pool.holders()}


# -- what a lease is and how its block ends ---------------------------------------------------------------


def test_a_lease_tells_what_it_is(world):
    """Its account as it is configured, what to send, and when it was granted."""
    world.accounts = {"c": {"maxJobs": 4, "supportVideo": True, "jwt": "secret"}}
    one, two = world.pool(), world.pool()
    lease, other = one.acquire(label="mine"), two.acquire()
    assert (lease.account.id, lease.account.capacity) == ("c", 4)
    assert dict(lease.account.fields) == {"maxJobs": 4, "supportVideo": True}
    assert (lease.label, lease.job_id, other.label) == ("mine", None, None)
    assert lease.acquired_at.timestamp() == pytest.approx(world.clock.time())
    assert "c" in lease.params.values()
    assert lease.id != other.id
    lease.bind("job")
    assert lease.job_id == "job"


def test_a_transport_error_in_the_block_keeps_the_slot(world):
    """P-57: the request may have been sent; any other error proves that nothing runs."""
    pool = world.pool()
    with pytest.raises(TimeoutError), pool.acquire(account="a"):
        raise TimeoutError
    with pytest.raises(ZeroDivisionError), pool.acquire(account="b"):
        raise ZeroDivisionError
    assert list(states(pool).values()) == ["ambiguous"]
    assert [holder.account for holder in pool.holders()] == ["a"]


def test_an_abandoned_lease_comes_back_with_a_warning(world):
    """P-3, P-18: at the next operation, unless a job has it or may have it."""
    pool = world.pool()
    bound = pool.acquire(account="a")
    bound.bind("job")
    lease = pool.acquire(account="b")
    id = lease.id
    with capture_logs() as logs:
        del lease, bound
        gc.collect()
        pool.stats()
        until(lambda: list(states(pool).values()) == ["bound"])
    assert [log["lease"] for log in logs if log["event"] == "lease_abandoned"] == [id]


def test_an_abandoned_lease_says_where_it_was_acquired_if_that_is_known(world):
    """Python keeps track of it if it is asked to: then the line of the program is named, and none of ours."""
    pool = world.pool()
    tracemalloc.start(20)
    try:
        lease = pool.acquire(timeout=5)
        with capture_logs() as logs:
            del lease
            pool.stats()
            until(lambda: any(log["event"] == "lease_abandoned" for log in logs))
    finally:
        tracemalloc.stop()
    [place] = [log["acquired_by"] for log in logs if log["event"] == "lease_abandoned"]
    assert Path(place.rpartition(":")[0]).is_relative_to(Path(__file__).parents[1])


def test_an_accepted_job_that_nobody_bound_is_warned_of_once(world):
    """The slot is free while the job still runs."""
    pool = world.pool()
    with capture_logs() as logs:
        for _ in range(2):
            with pool.acquire() as lease:
                lease.report(CREATED)
    assert [log["job_id"] for log in logs if log["event"] == "slot_ended_before_job"] == ["job-1"]
    assert pool.stats().in_flight == 0


def test_totals_tell_what_was_done(world):
    """Granted, given back, run out, left without."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    leases[0].bind("job", ttl=10)
    leases[1].release()
    world.clock.advance(11)
    stats = pool.stats()
    assert (stats.acquired, stats.released, stats.expired, stats.timeouts) == (3, 1, 1, 1)
    assert (stats.in_flight, stats.free, stats.refreshes >= 1) == (1, 2, True)


# -- constraints --------------------------------------------------------------------------------------------


def test_an_error_of_the_callers_own_reaches_it_alone(world):
    """``where`` is the caller's code; whatever it raises, nobody else notices."""
    pool = world.pool()
    with pytest.raises(ZeroDivisionError):
        pool.acquire(where=lambda account: 1 / 0)
    assert (pool.stats().waiting, pool.stats().in_flight) == (0, 0)
    assert pool.acquire(timeout=0)


def test_callers_with_wishes_of_their_own_are_served_in_the_end(world):
    """P-33: a lower capacity, a scope, some accounts only: each gets its slot when there is one."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with (
        waiting(pool, account="a", max_jobs=1) as modest,
        waiting(pool, scope="model") as scoped,
        waiting(pool, exclude=["a"]) as picky,
    ):
        for lease in leases:
            lease.release()
        for found in (scoped, picky, modest):
            until(lambda found=found: found)
            assert found[0][1].release()
    assert picky[0][1].account.id == "b"


def test_callers_are_sent_away_when_waiting_cannot_help_any_more(world):
    """P-53: whoever stands in line already is told, with the reasons."""
    world.accounts = {"a": 1}
    pool = world.pool()
    lease = pool.acquire()
    with waiting(pool, 2) as got:
        lease.report(EXHAUSTED)
    assert [type(error) for _, error in got] == [NoAccounts, NoAccounts]
    assert list(got[0][1].reasons) == ["a"]


def test_a_timeout_tells_what_is_held_by_jobs(world):
    """P-32, P-59: bound and doubtful slots are told from those that code holds."""
    pool = world.pool()
    first, second, _ = [pool.acquire() for _ in range(3)]
    first.bind("job")
    second.report(TimeoutError())
    with pytest.raises(AcquireTimeout, match="2 held by bound or ambiguous jobs") as caught:
        pool.acquire(timeout=0)
    assert caught.value.retry_at is not None


def test_free_tells_whether_an_acquire_would_succeed(world):
    """After whatever happened: ``free`` is above 0 exactly if a slot can be had now."""
    chance = random.Random(7)
    world.accounts = {"a": 2, "b": 1, "c": {"maxJobs": 1, "error": "gone"}}
    pool = world.pool()
    leases = []
    for _ in range(25):
        act = chance.randrange(5)
        if act == 0:
            pool.cool(chance.choice("ab"), chance.choice([1, 30]))
        elif act == 1 and leases:
            leases.pop(chance.randrange(len(leases))).release()
        elif act == 2:
            world.clock.advance(chance.choice([1, 40]))
        elif act == 3 and leases:
            chance.choice(leases).report(BUSY)
        free = pool.stats().free
        try:
            leases.append(pool.acquire(timeout=0))
        except AcquireTimeout:
            assert free == 0
        else:
            assert free > 0
            if act != 4:
                leases.pop().release()


# -- run --------------------------------------------------------------------------------------------------


def test_run_moves_on_where_that_is_safe(world):
    """P-57: the slot of an accepted job is the job's, and that of a refused one is free."""
    one, two = world.pool(), world.pool()
    asked = []

    def call(lease):
        asked.append(lease.account.id)
        return EXHAUSTED if len(asked) == 1 else CREATED

    assert one.run(world.work(call), bind="jobid") == CREATED
    assert sorted(asked) == ["a", "b"]
    assert list(states(two).values()) == ["bound"]
    assert two.release(job_id="job-1")
    with pytest.raises(JobRefused):
        one.run(world.work(lambda _: (400, {}, "")))
    two.cool("a", 1e6)
    two.cool("b", 1e6)
    with pytest.raises((AttemptsFailed, AcquireTimeout)):
        one.run(world.work(lambda _: CREATED), timeout=0)
    assert states(two) == {}


def test_run_never_repeats_what_may_have_been_accepted(world):
    """P-57: the slot is kept, and the error names its lease."""
    one, two = world.pool(), world.pool()
    asked = []

    def call(lease):
        asked.append(lease.id)
        return BAD_GATEWAY

    with pytest.raises(AmbiguousOutcome) as caught:
        one.run(world.work(call))
    assert asked == [caught.value.lease_id]
    assert states(two) == {asked[0]: "ambiguous"}


# -- the server's list ---------------------------------------------------------------------------------------


def test_who_holds_what_is_told_oldest_first(world):
    """Whatever order a store keeps leases in, and whichever process has them."""
    world.accounts = {"a": 20}
    pools, leases = (world.pool(), world.pool()), []
    for number in range(12):
        leases.append(pools[number % 2].acquire())
        world.clock.advance(0.01)
    for pool in pools:
        assert [holder.id for holder in pool.holders()] == [lease.id for lease in leases]


def test_a_doubt_is_settled_by_the_servers_list(world):
    """A job that is listed under the lease's own id is its job; where none is left, none runs."""
    server = Server()
    pool = world.pool(source=server)
    found, lost = pool.acquire(account="a"), pool.acquire(account="b")
    for lease in (found, lost):
        lease.report(TimeoutError())
    server.running = [Job("job", "a", ref=found.id)]
    world.clock.advance(31)
    pool.reconcile()
    assert states(pool) == {found.id: "bound"}
    assert pool.release(job_id="job")
    assert not pool.release(lost.id)
