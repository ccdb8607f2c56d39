"""How leases end: released, bound and over, doubtful and over, in every order."""

from __future__ import annotations

import pytest
from ledgers import Desk

from balancer.rules.ledger import EARLY_RELEASE_TTL, EARLY_RELEASES
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, HELD


def test_an_unbound_lease_does_not_end_by_itself():
    """Its process keeps it, however long it lasts: no clock frees what is in use (P-21)."""
    desk = Desk(a=1)
    desk.take()
    assert desk.at(10**9) == []
    assert desk.take() is None


def test_a_bound_lease_ends_at_its_time_and_not_before():
    """The slot is the job's for the whole ttl, and free at its end."""
    desk = Desk(a=1)
    row = desk.take()
    assert desk.bind(row, "job", ttl=100)
    assert desk.at(99.9) == []
    assert desk.take() is None
    assert desk.at(100) == [row]
    assert row.state == ENDED
    assert desk.take() is not None


def test_renewal_moves_an_end_either_way_and_a_list_only_onwards():
    """A user may shorten a lease; a job that is still listed never does."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=100)
    desk.ledger.prolong(row, 50.0)
    assert row.end == 100
    desk.ledger.prolong(row, 150.0)
    assert row.end == 150
    desk.ledger.set_end(row, 20.0)
    assert desk.at(20) == [row]


def test_release_before_bind_frees_the_slot_at_the_bind():
    """The webhook may overtake the answer to the create (P-58)."""
    desk = Desk(a=1)
    row = desk.take()
    assert desk.release_job("job") is False
    assert desk.bind(row, "job") is False
    assert row.state == ENDED
    assert desk.take() is not None


def test_an_early_release_serves_one_bind_only():
    """The memory of it is used up by the bind that it was for."""
    desk = Desk(a=2)
    desk.release_job("job")
    desk.bind(desk.take(), "job")
    assert desk.bind(desk.take(), "job") is True


def test_early_releases_are_forgotten_after_ten_minutes():
    """A bind that comes later than that binds."""
    desk = Desk(a=1)
    desk.release_job("job")
    desk.at(EARLY_RELEASE_TTL)
    assert EARLY_RELEASE_TTL == 600
    assert desk.bind(desk.take(), "job") is True


def test_of_too_many_early_releases_the_oldest_is_dropped():
    """At most 10,000 are kept; the last of them still count."""
    desk = Desk(a=3)
    for number in range(EARLY_RELEASES + 1):
        desk.release_job(f"job-{number}")
    assert len(desk.ledger.early) == EARLY_RELEASES == 10_000
    assert desk.bind(desk.take(), "job-0") is True
    assert desk.bind(desk.take(), "job-1") is False
    assert desk.bind(desk.take(), f"job-{EARLY_RELEASES}") is False


def test_two_leases_cannot_have_one_job():
    """The second bind is refused and leaves both leases as they were."""
    desk = Desk(a=2)
    first, second = desk.take(), desk.take()
    desk.bind(first, "job")
    with pytest.raises(ValueError, match="bound to another lease"):
        desk.bind(second, "job")
    assert (first.state, second.state, second.job_id) == (BOUND, HELD, None)
    desk.release(second)
    assert desk.release_job("job") is True


def test_one_lease_cannot_have_two_jobs():
    """Another job's id is refused; the same again only moves the end."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=10)
    with pytest.raises(ValueError, match="bound to 'job' already"):
        desk.bind(row, "other")
    assert desk.release_job("other") is False
    assert desk.bind(row, "job", ttl=20) is True
    assert (row.end, desk.in_flight("a")) == (20, 1)


def test_an_early_release_of_another_job_does_not_end_a_bound_lease():
    """Only a lease that may still be bound to that job can be freed by it."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job")
    desk.release_job("other")
    with pytest.raises(ValueError, match="bound to 'job' already"):
        desk.bind(row, "other")
    assert row.state == BOUND


def test_a_doubtful_lease_keeps_its_slot_for_its_time():
    """Nobody knows whether its job runs, so the slot is taken until the end that was set."""
    desk = Desk(a=1)
    row = desk.take()
    desk.ledger.doubt(row, 600.0, desk.now)
    assert row.state == AMBIGUOUS
    desk.at(599)
    assert desk.take() is None
    assert desk.at(600) == [row]


def test_a_bound_lease_is_not_made_doubtful():
    """Its job is known to run: it keeps its longer end."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=3600)
    desk.ledger.doubt(row, 600.0, desk.now)
    assert (row.state, row.end) == (BOUND, 3600)


def test_a_doubtful_lease_can_be_bound():
    """Its job was found, so it is the job's from then on."""
    desk = Desk(a=1)
    row = desk.take()
    desk.ledger.doubt(row, 600.0, desk.now)
    desk.bind(row, "job", ttl=3600)
    assert desk.at(600) == []
    assert desk.release_job("job") is True
