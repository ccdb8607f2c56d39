"""When the server is asked what is running: every so often, and only for a reason."""

from __future__ import annotations

import math

import pytest

from balancer.errors import SourceUnavailable
from balancer.rules.freshness import RECONCILE_DEADLINE, ReconcileSchedule

EVERY = 30.0
NEVER = math.inf


@pytest.fixture
def survey():
    """Return a survey that was carried out once, at 0."""
    survey = ReconcileSchedule(EVERY)
    survey.land(survey.start(0.0), "plan")
    return survey


def due(survey, now, *, first=False, waiting=False, oldest_detached_since=NEVER):
    """Ask with no reason but the ones given."""
    return survey.due(now, first, waiting, oldest_detached_since)


def test_without_a_reason_nobody_asks(survey):
    """An idle pool makes no requests, however long it is idle."""
    assert due(survey, 1e6) is False
    assert survey.next_due(1e6, False, NEVER) == math.inf


def test_the_first_table_is_a_reason_once():
    """A process that was started again finds its old jobs before it grants anything."""
    survey = ReconcileSchedule(EVERY)
    assert due(survey, 0.0, first=True) is True
    survey.land(survey.start(0.0), "plan")
    assert due(survey, 1e6, first=True) is False


def test_a_waiting_caller_is_a_reason_every_interval(survey):
    """External jobs may be what it waits for."""
    assert due(survey, EVERY - 0.1, waiting=True) is False
    assert due(survey, EVERY, waiting=True) is True
    assert survey.next_due(5.0, True, NEVER) == EVERY


def test_a_bound_or_ambiguous_lease_is_a_reason_once_it_is_an_interval_old(survey):
    """A younger one could not be judged by the list anyway."""
    assert due(survey, 129.9, oldest_detached_since=100.0) is False
    assert due(survey, 130.0, oldest_detached_since=100.0) is True
    assert survey.next_due(100.0, False, 100.0) == 130.0


def test_two_surveys_are_an_interval_apart(survey):
    """Whatever the reasons, and counted from the start."""
    survey.land(survey.start(100.0), "plan")
    assert due(survey, 129.0, waiting=True, oldest_detached_since=0.0) is False
    assert due(survey, 130.0, waiting=True, oldest_detached_since=0.0) is True


def test_one_survey_is_under_way_at_a_time(survey):
    """Many callers with a reason make one request (P-55)."""
    assert due(survey, 50.0, waiting=True) is True
    survey.start(50.0)
    assert due(survey, 50.0, waiting=True) is False
    assert survey.next_due(50.0, True, NEVER) == 50.0 + RECONCILE_DEADLINE


def test_with_every_none_it_is_never_due():
    """Not even with the first table."""
    survey = ReconcileSchedule(None)
    assert due(survey, 0.0, first=True, waiting=True, oldest_detached_since=-1e6) is False
    assert survey.next_due(0.0, True, -1e6) == math.inf


def test_a_survey_that_hangs_is_given_up_and_what_it_brings_is_void(survey):
    """It neither blocks the next one nor overwrites it (P-55)."""
    hanging = survey.start(100.0)
    assert due(survey, 100.0 + RECONCILE_DEADLINE, waiting=True) is True
    assert isinstance(survey.trouble, SourceUnavailable)
    assert survey.land(hanging, "plan") is False
    assert isinstance(survey.trouble, SourceUnavailable)


def test_a_failure_is_remembered_until_a_success_and_delays_nothing_else(survey):
    """The next one comes at its usual time."""
    trouble = SourceUnavailable("away")
    assert survey.land(survey.start(100.0), trouble) is True
    assert survey.trouble is trouble
    assert due(survey, 129.0, waiting=True) is False
    assert due(survey, 130.0, waiting=True) is True
    survey.land(survey.start(130.0), "plan")
    assert survey.trouble is None


def test_a_survey_left_behind_by_a_fork_does_not_block_the_child(survey):
    """The child starts with nothing and asks before its first grant (P-45)."""
    left_behind = survey.start(100.0)
    survey.abandon()
    assert due(survey, 100.0, first=True) is True
    assert survey.land(left_behind, "plan") is False
