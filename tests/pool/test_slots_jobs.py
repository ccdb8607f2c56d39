"""The slot of a job: it follows the job instead of the block."""

from __future__ import annotations

import pytest
import structlog
from two_slots import free

from balancer import LeaseLost

ACCEPTED = (200, {}, '{"jobid": "job-1"}')


def test_a_bound_slot_follows_its_job_and_not_its_block(pool, clock):
    """The block ends, the job runs on; the release by job id ends it."""
    with pool.acquire() as lease:
        lease.bind("job-1")
    (holder,) = pool.holders()
    assert (holder.state, holder.job_id, holder.expires_in) == ("bound", "job-1", 3600)
    assert lease.job_id == "job-1"
    assert pool.release(job_id="job-1")
    assert not pool.release(job_id="job-1")
    assert free(pool) == 2


@pytest.mark.parametrize(("ttl", "end"), [(None, 3600), (50, 50)])
def test_a_bound_slot_ends_with_its_ttl(pool, clock, ttl, end):
    """A job that nobody ever reports as over gives its slot back, with one warning."""
    with pool.acquire() as lease:
        lease.bind("job-1", ttl)
    clock.advance(end - 1)
    assert free(pool) == 1
    with structlog.testing.capture_logs() as events:
        clock.advance(1)
        assert free(pool) == 2
    assert [event["event"] for event in events] == ["lease_expired"]
    assert events[0]["job_id"] == "job-1"
    assert not lease.release()


def test_the_end_of_a_bound_slot_can_be_moved(pool, clock):
    """Renewing by lease, by its id or by its job prolongs it; a lease that has ended cannot be renewed."""
    lease = pool.acquire()
    lease.bind("job-1", ttl=50)
    for renew in (
        lambda: lease.renew(100),
        lambda: pool.renew(lease.id, ttl=100),
        lambda: pool.renew(job_id="job-1", ttl=100),
        lambda: pool.renew(job_id="job-1", ttl=100),
    ):
        clock.advance(40)
        renew()
        assert pool.holders()[0].expires_in == 100
    pool.renew(lease.id)
    assert pool.holders()[0].expires_in == 3600
    assert pool.release(lease.id)
    for renew in (lease.renew, lambda: pool.renew(lease.id), lambda: pool.renew(job_id="job-1")):
        with pytest.raises(LeaseLost):
            renew()


def test_a_release_before_the_bind_frees_at_the_bind(pool, clock):
    """P-58: a callback may be quicker than the answer: the job is remembered, and the bind ends the slot."""
    lease = pool.acquire()
    assert not pool.release(job_id="job-1")
    assert free(pool) == 1
    lease.bind("job-1")
    assert free(pool) == 2
    assert not lease.release()
    lease.bind("job-1")


def test_an_early_release_is_remembered_for_ten_minutes(pool, clock):
    """P-58: after that the job is forgotten, and a bind keeps its slot."""
    first, second = pool.acquire(), pool.acquire()
    pool.release(job_id="job-1")
    pool.release(job_id="job-2")
    clock.advance(599)
    first.bind("job-1")
    assert free(pool) == 1
    clock.advance(2)
    second.bind("job-2")
    assert free(pool) == 1


def test_at_most_ten_thousand_early_releases_are_remembered(pool):
    """P-58: a flood of foreign callbacks cannot fill the memory: the oldest are dropped."""
    for number in range(10_001):
        pool.release(job_id=number)
    first, second = pool.acquire(), pool.acquire()
    first.bind(0)
    assert free(pool) == 0
    second.bind(10_000)
    assert free(pool) == 1


def test_job_ids_are_text_and_the_same_job_twice_is_one(pool):
    """A number and its digits name the same job; another job for the same lease is an error."""
    lease, other = pool.acquire(), pool.acquire()
    lease.bind(17)
    lease.bind("17")
    assert lease.job_id == "17"
    with pytest.raises(ValueError, match="job_id"):
        lease.bind("18")
    with pytest.raises(ValueError, match="another lease"):
        other.bind(17)
    assert pool.release(job_id="17")
    assert free(pool) == 1
    assert other.release()


@pytest.mark.parametrize(
    ("job_id", "kind"), [("", ValueError), (None, TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_what_is_no_job_id_is_refused(pool, job_id, kind):
    """A missing key of an answer must not become the job "None"."""
    lease = pool.acquire()
    with pytest.raises(kind, match="job_id"):
        lease.bind(job_id)
    assert lease.release()


def test_an_accepted_job_whose_slot_ends_unbound_is_warned_about_once(pool):
    """The slot is freed, and the first time somebody is told that the job may still run."""
    with structlog.testing.capture_logs() as events:
        for _ in range(3):
            with pool.acquire() as lease:
                lease.report(ACCEPTED)
        with pool.acquire() as lease:
            lease.report(ACCEPTED)
            lease.bind("job-1")
    assert free(pool) == 1
    assert [event["event"] for event in events] == ["slot_ended_before_job"]
    assert events[0]["job_id"] == "job-1"
