"""Which listed jobs are somebody else's, case by case. No HTTP, no threads."""

from __future__ import annotations

import pytest
from ledgers import INTERVAL, Matching, ours

from balancer.models import Job
from balancer.rules.records import ListedJob

# -- external jobs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "held", "unsure", "strangers", "external"),
    [
        (0, 0, 0, 0, 0),
        (0, 0, 0, 2, 2),  # nobody of ours: all are others'
        (2, 0, 0, 1, 1),  # known by id, so they explain themselves
        (0, 1, 0, 1, 0),  # may be the unbound lease's
        (0, 1, 0, 3, 2),
        (0, 0, 2, 1, 0),  # may be one of the ambiguous leases'
        (1, 1, 1, 4, 2),
        (0, 3, 0, 1, 0),  # never negative
    ],
)
def test_external_is_what_no_lease_of_ours_could_explain(bound, held, unsure, strangers, external):
    """max(0, unmatched listed jobs - unbound and ambiguous leases), account by account."""
    desk = Matching(a=20, b=20)
    jobs = [ours(f"job-{number}") for number in range(bound)]
    for job in jobs:
        desk.bound(job.id)
    for _ in range(held):
        desk.take("a")
    for _ in range(unsure):
        desk.unsure()
    others = [ours(f"stranger-{number}") for number in range(strangers)]
    plan = desk.compare(*jobs, *others, Job("elsewhere", "b"))
    assert plan.external == ({"a": external} if external else {}) | {"b": 1}


def test_a_lease_granted_after_the_request_explains_no_job_of_the_list():
    """Its job cannot have been on a list that was asked for before the grant."""
    desk = Matching(a=5)
    before = desk.snapshot()
    desk.take("a")
    assert desk.compare(ours("stranger"), before=before).external == {"a": 1}


def test_a_lease_that_ended_during_the_request_still_explains_its_job():
    """It was live when the list was asked for, so the job may be its own."""
    desk = Matching(a=5)
    row = desk.take("a")
    before = desk.snapshot()
    desk.ledger.end(row, desk.now)
    assert desk.compare(ours("job"), before=before).external == {}


def test_a_lease_that_ended_during_the_request_explains_no_job_that_names_it():
    """Its process died: the job runs on, and its slot is free to be granted again."""
    desk = Matching(a=5)
    row = desk.take("a")
    before = desk.snapshot()
    desk.ledger.end(row, desk.now)
    found = desk.compare(Job("job", "a", ref=str(row.key)), before=before)
    assert found.external == {"a": 1}


def test_a_lease_bound_during_the_request_explains_only_its_own_job():
    """By then its job is known by id, so the other job on the list is somebody else's."""
    desk = Matching(a=5)
    row = desk.take("a")
    before = desk.snapshot()
    desk.bind(row, "job")
    assert desk.compare(ours("job"), ours("stranger"), before=before).external == {"a": 1}


def test_a_job_that_ended_a_moment_ago_is_not_somebody_elses():
    """The list lags behind our release: for one interval it is passed over, then it counts."""
    desk = Matching(a=2)
    desk.bound("job")
    desk.at(100)
    desk.release_job("job")
    desk.at(100 + INTERVAL)
    assert desk.compare(ours("job")).external == {}
    desk.at(100 + INTERVAL + 1)
    assert desk.compare(ours("job")).external == {"a": 1}


def test_a_job_of_unknown_account_counts_for_nobody_but_keeps_doubt_alive():
    """It fills no account we could name, yet it may be the ambiguous lease's."""
    desk = Matching(a=2)
    row = desk.unsure()
    desk.at(100)
    plan = desk.compare(Job("job", None))
    assert (plan.external, plan.resolve, plan.keep) == ({}, [], [row])
    assert desk.compare().resolve == [row]


def test_a_job_that_is_listed_twice_is_one_job():
    """A source of somebody's own need not be tidy."""
    desk = Matching(a=5)
    assert desk.compare(ours("job"), ours("job"), Job(None, "a"), Job(None, "a")).external == {"a": 3}


def test_it_is_told_which_jobs_are_no_leases_and_which_of_them_name_one():
    """So that a store knows what runs on when the process of an unbound lease is dead."""
    desk = Matching(a=9, b=1)
    desk.bound("known")
    held = desk.take("a")
    plan = desk.compare(
        ours("known"),
        ours("stranger", "b"),
        Job("found", None, ref=str(held.key)),
        Job("later", "a", ref=str(held.key)),
        Job(None, "a"),
        Job("nowhere", None),
    )
    assert plan.listed == {
        "stranger": ListedJob("b"),
        "found": ListedJob("a", held.key),
        "later": ListedJob("a", held.key),
        "#4": ListedJob("a"),
    }


def test_bare_numbers_count_against_all_our_leases_on_the_account():
    """Where only the number is known, all that ran at the request is subtracted, bound ones too."""
    desk = Matching(a=9, b=9)
    desk.bound("job")
    desk.take("a")
    desk.unsure()
    assert desk.compare(counts={"a": 5, "b": 2}).external == {"a": 2, "b": 2}


def test_a_restarted_process_finds_the_jobs_that_run_already():
    """With no lease at all, all that is listed takes room: nothing is granted over it."""
    desk = Matching(a=2, b=1)
    desk.apply(desk.compare(ours("one"), ours("two"), Job("three", "b")))
    assert desk.take() is None
    desk.apply(desk.compare(ours("one"), Job("three", "b")))
    assert desk.take().account_state.id == "a"
    assert desk.take() is None
