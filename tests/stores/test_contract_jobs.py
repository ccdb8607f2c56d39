"""What every store promises of jobs: several on one lease, and those that ran before anybody asked."""

from __future__ import annotations

import pytest
from store_world import waiting

from balancer import AcquireTimeout, LeaseLost

# -- a lease that follows several jobs -------------------------------------------------------------


def test_a_slot_that_follows_several_jobs_is_free_when_the_last_has_ended(world):
    """One call may start several jobs: none of them may lose its slot to the end of another."""
    one, two = world.pool(), world.pool()
    lease = one.acquire(account="b")
    lease.bind(["x", 7, "x"])
    assert (lease.job_ids, lease.job_id) == (("x", "7"), "x")
    assert not two.release(job_id="x")
    assert not two.release(job_id="x")  # a callback may come twice
    with pytest.raises(AcquireTimeout):
        two.acquire(account="b", timeout=0)
    assert two.release(job_id=7)
    two.acquire(account="b", timeout=0).release()
    assert not one.release(job_id=7)


def test_jobs_that_were_released_early_count_when_their_lease_is_bound(world):
    """P-11: a callback may be quicker than the answer, for one of several jobs too."""
    pool = world.pool()
    assert not pool.release(job_id="x")
    lease = pool.acquire(account="b")
    lease.bind(("x", "y"))
    assert pool.stats().in_flight == 1
    assert pool.release(job_id="y")
    assert pool.stats().in_flight == 0
    other = pool.acquire(account="b")
    assert not pool.release(job_id="p")
    assert not pool.release(job_id="q")
    other.bind(("p", "q"))
    assert pool.stats().in_flight == 0
    assert not other.release()


def test_a_release_by_lease_ends_all_its_jobs(world):
    """An operator's word, or the lease's own, frees the slot whatever runs."""
    one, two = world.pool(), world.pool()
    lease = one.acquire(account="b")
    lease.bind(["x", "y"])
    assert two.release(lease.id)
    assert not two.release(job_id="x")
    assert not two.release(job_id="y")
    assert one.stats().in_flight == 0


def test_what_is_bound_again_is_no_other_job(world):
    """The same jobs change nothing; another is refused, and so is one of another lease."""
    pool = world.pool()
    lease, other = pool.acquire(), pool.acquire()
    lease.bind(["x", "y"])
    lease.bind("y")
    lease.bind(["y", "x"])
    with pytest.raises(ValueError, match="'z'"):
        lease.bind(["x", "z"])
    with pytest.raises(ValueError, match="another lease"):
        other.bind(["w", "y"])
    with pytest.raises(ValueError, match="1 to 1000 jobs"):
        other.bind([])
    assert other.job_ids == ()
    assert other.release()


# -- jobs that ran before --------------------------------------------------------------------------


def test_an_adopted_job_has_a_slot_even_over_the_capacity(world):
    """An earlier process started it: nothing is granted there until its account has drained."""
    one, two = world.pool(), world.pool()
    held = one.acquire(account="b")
    lease = two.adopt("old", account="b")
    assert (lease.job_id, lease.account.id) == ("old", "b")
    assert two.stats().accounts["b"].in_flight == 2
    held.release()
    with pytest.raises(AcquireTimeout):
        one.acquire(account="b", timeout=0)
    assert one.release(job_id="old")
    one.acquire(account="b", timeout=0).release()
    with pytest.raises(LeaseLost):
        lease.renew()


def test_adopting_a_job_twice_gives_the_same_lease(world):
    """Whoever asks, from whatever process: a job has one slot."""
    one, two = world.pool(), world.pool()
    bound = one.acquire(account="a", label="first")
    bound.bind(["x", "y"])
    found = two.adopt("y", account="a")
    assert (found.id, found.job_ids, found.label) == (bound.id, ("x", "y"), "first")
    assert two.adopt("x", account="b").account.id == "a"
    assert one.stats().in_flight == 1
    assert found.release()
    assert not bound.release()


def test_a_job_that_was_released_early_is_adopted_as_ended(world):
    """P-11: its last callback came first."""
    pool = world.pool()
    assert not pool.release(job_id="quick")
    lease = pool.adopt("quick", account="a")
    assert pool.stats().in_flight == 0
    assert not lease.release()


def test_a_job_on_an_account_that_is_not_configured_is_refused(world):
    """Its slot would count nowhere."""
    pool = world.pool()
    with pytest.raises(ValueError, match="'nobody' is not in the configuration"):
        pool.adopt("x", account="nobody")


def test_an_adopted_job_ends_by_itself_at_its_time(world):
    """After its ttl, as any bound job."""
    pool = world.pool()
    pool.adopt("x", account="b", ttl=50)
    with waiting(pool, account="b", timeout=100) as got:
        world.clock.advance(51)
    assert [lease.account.id for _, lease in got] == ["b"]
    got[0][1].release()


def test_an_adopted_job_is_no_longer_one_of_others(world):
    """The list that counted it as somebody else's must not count it twice."""

    class Source:
        def accounts(self):
            return {"a": 2, "b": 1}

        def jobs(self):
            return [{"id": "ours", "account": "a"}, {"id": "theirs", "account": "a"}]

    pool = world.pool(source=Source(), reconcile_every=30)
    pool.reconcile()
    assert pool.stats().accounts["a"].external == 2
    pool.adopt("ours", account="a")
    account = pool.stats().accounts["a"]
    assert (account.in_flight, account.external) == (1, 1)
    pool.reconcile()
    account = pool.stats().accounts["a"]
    assert (account.in_flight, account.external) == (1, 1)
    assert pool.release(job_id="ours")
