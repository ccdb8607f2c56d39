"""When the server's list ends a lease, and when it keeps one. No HTTP, no threads."""

from __future__ import annotations

import pytest
from ledgers import INTERVAL, TTL, Matching, ours

from balancer.models import Job
from balancer.rules.records import AMBIGUOUS, BOUND

# -- reclaiming bound leases ------------------------------------------------------------------------


def test_a_lease_is_reclaimed_after_two_lists_in_a_row_without_its_job():
    """One list may be wrong; two say that the job is over."""
    desk = Matching(a=1)
    row = desk.bound("job")
    desk.at(INTERVAL)
    first = desk.compare()
    assert (first.reclaim, first.keep) == ([], [row])
    desk.at(2 * INTERVAL)
    assert desk.compare().reclaim == [row]


def test_a_list_with_the_job_starts_the_count_again():
    """Missing, listed, missing is not two in a row."""
    desk = Matching(a=1)
    row = desk.bound("job")
    desk.at(INTERVAL)
    desk.compare()
    assert desk.compare(ours("job")).prolong == [row]
    assert desk.compare().reclaim == []
    assert desk.compare().reclaim == [row]


def test_lists_requested_within_an_interval_of_the_bind_prove_nothing():
    """A new job has one interval to appear on the list."""
    desk = Matching(a=1)
    desk.at(100)
    row = desk.bound("job")
    desk.at(100 + INTERVAL - 1)
    assert [desk.compare().reclaim for _ in range(5)] == [[]] * 5
    desk.at(100 + INTERVAL)
    desk.compare()
    assert desk.compare().reclaim == [row]


def test_what_counts_is_when_the_list_was_requested_and_not_when_it_came():
    """A slow answer describes the past."""
    desk = Matching(a=1)
    row = desk.bound("job")
    before = desk.snapshot()
    desk.at(1000)
    for _ in range(3):
        assert desk.compare(before=before).keep == [row]
    assert row.missed == 0


@pytest.mark.parametrize(
    "uncovering", [{"complete": False}, {"counts": {"a": 1}}], ids=["partial", "numbers"]
)
def test_a_list_that_does_not_cover_the_job_proves_nothing(uncovering):
    """Neither a list that leaves jobs out, nor a bare number above 0 for its account, frees a slot."""
    desk = Matching(a=1)
    row = desk.bound("job")
    desk.at(INTERVAL)
    desk.compare()
    for _ in range(5):
        plan = desk.compare(**uncovering)
        assert (plan.reclaim, plan.keep) == ([], [row])
    assert desk.compare().reclaim == [row]


def test_while_a_job_is_listed_its_end_moves_on():
    """A job that runs for longer than its ttl keeps its slot as long as the server lists it."""
    desk = Matching(a=1)
    row = desk.bound("job")
    for now in range(0, 4 * 3600, 1800):
        assert desk.at(now) == []
        desk.apply(desk.compare(ours("job")))
    assert row.state == BOUND
    assert row.end == desk.now + TTL


def test_a_listed_job_never_shortens_the_end_that_its_user_gave():
    """bind(ttl=a day) stays a day."""
    desk = Matching(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=86_400)
    desk.apply(desk.compare(ours("job")))
    assert row.end == 86_400


def test_a_bound_lease_whose_reference_is_listed_is_running():
    """The list may name the job differently from the answer to the create."""
    desk = Matching(a=1)
    row = desk.bound("job")
    desk.at(INTERVAL)
    for _ in range(3):
        plan = desk.compare(Job("job-by-another-name", "a", ref=str(row.key)))
        assert (plan.prolong, plan.reclaim, plan.external) == ([row], [], {})


# -- ambiguous leases ---------------------------------------------------------------------------------


def test_an_ambiguous_lease_whose_reference_is_listed_becomes_bound():
    """Its job runs and now has a name; the slot follows it from here on."""
    desk = Matching(a=1)
    row = desk.unsure()
    plan = desk.compare(Job("job", "a", ref=str(row.key)))
    assert (plan.bind, plan.resolve, plan.external) == ([(row, "job")], [], {})
    desk.apply(plan)
    assert (row.state, row.job_id) == (BOUND, "job")
    assert desk.release_job("job") is True


def test_a_job_found_by_reference_that_was_released_already_frees_the_slot():
    """The webhook came before anybody knew whose job it was."""
    desk = Matching(a=1)
    row = desk.unsure()
    desk.release_job("job")
    desk.apply(desk.compare(Job("job", "a", ref=str(row.key))))
    assert desk.in_flight("a") == 0


def test_two_jobs_under_one_reference_bind_the_lease_once():
    """A lease has one slot and one job; a second job of its makes no trouble for the others."""
    desk = Matching(a=2)
    row, other = desk.unsure(), desk.unsure()
    jobs = [Job("one", "a", ref=str(row.key)), Job("two", "a", ref=str(row.key))]
    plan = desk.compare(*jobs, Job("three", "a", ref=str(other.key)))
    assert plan.bind == [(row, "one"), (other, "three")]


def test_a_reference_without_a_job_id_keeps_the_lease_as_it_is():
    """Its job runs, so it is neither ended nor counted as somebody else's."""
    desk = Matching(a=1)
    row = desk.unsure()
    desk.at(100)
    plan = desk.compare(Job(None, "a", ref=str(row.key)))
    assert (plan.bind, plan.resolve, plan.keep, plan.external) == ([], [], [row], {})


def test_an_unbound_lease_whose_reference_is_listed_is_left_to_its_user():
    """The user is about to bind it; until then its job is known to be ours."""
    desk = Matching(a=2)
    row = desk.take()
    plan = desk.compare(Job("job", "a", ref=str(row.key)), ours("stranger"))
    assert (plan.bind, plan.external) == ([], {"a": 1})


def test_an_ambiguous_lease_ends_after_one_interval_if_no_job_is_left_for_it():
    """Nothing unexplained runs on its account, so its job was never accepted, or is over."""
    desk = Matching(a=1)
    row = desk.unsure()
    desk.at(INTERVAL - 1)
    assert (desk.compare().resolve, desk.compare().keep) == ([], [row])
    desk.at(INTERVAL)
    assert desk.compare().resolve == [row]


def test_as_many_ambiguous_leases_stay_as_there_are_jobs_that_could_be_theirs():
    """Two of three end when one unexplained job runs; jobs on another account do not help."""
    desk = Matching(a=5, b=5)
    rows = []
    for now in (0, 1, 2):
        desk.at(now)
        rows.append(desk.unsure())
    desk.at(100)
    plan = desk.compare(ours("job"), Job("other", "b"))
    assert (plan.resolve, plan.keep) == (rows[:2], rows[2:])
    assert plan.external == {"b": 1}


def test_a_young_ambiguous_lease_takes_no_job_from_an_old_one():
    """The young one's job may not be listed yet, so the job that is left may well be the old one's."""
    desk = Matching(a=5)
    old = desk.unsure()
    desk.at(100)
    young = desk.unsure()
    assert desk.compare(ours("job")).resolve == []
    assert desk.compare().resolve == [old]
    desk.at(100 + INTERVAL)
    plan = desk.compare(ours("job"))
    assert (plan.resolve, plan.keep) == ([old], [young])


@pytest.mark.parametrize(
    "uncovering", [{"complete": False}, {"counts": {"a": 1}}], ids=["partial", "numbers"]
)
def test_an_ambiguous_lease_stays_while_the_list_cannot_rule_its_job_out(uncovering):
    """A list that leaves jobs out, or a number that may include it, resolves nothing."""
    desk = Matching(a=1)
    row = desk.unsure()
    desk.at(100)
    assert (desk.compare(**uncovering).resolve, row.state) == ([], AMBIGUOUS)


def test_a_job_bound_by_id_is_not_left_over_for_an_ambiguous_lease():
    """Matched jobs explain themselves only."""
    desk = Matching(a=5)
    desk.bound("job")
    row = desk.unsure()
    desk.at(100)
    assert desk.compare(ours("job")).resolve == [row]


def test_an_unbound_lease_is_never_ended_by_a_list():
    """Its process is still at it: no list says anything about what it will submit."""
    desk = Matching(a=1)
    row = desk.take()
    desk.at(10_000)
    for _ in range(3):
        plan = desk.compare()
        assert row not in (*plan.reclaim, *plan.resolve)
