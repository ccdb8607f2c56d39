"""Refused tokens, fetches that hang or come late, and confirming a table. No threads, no requests."""

from __future__ import annotations

import math

import pytest
from catalogs import AWAY, NEW, OLD, TTL, Clocked

from balancer.errors import SourceUnavailable, SubscriptionRequired, Unauthorized
from balancer.rules.freshness import FETCH_DEADLINE, Freshness, SingleFlight

USE, START, WAIT, RAISE = Freshness.USE, Freshness.START, Freshness.WAIT, Freshness.RAISE


@pytest.fixture
def catalog():
    """Return a catalog that nobody has asked anything yet."""
    return Clocked()


# -- denied -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Unauthorized("401"), SubscriptionRequired("402")])
def test_a_refused_token_is_raised_although_there_is_a_table(catalog, trouble):
    """401 and 402 are no outages: the old table would only lead to refused jobs."""
    catalog.fetch(OLD)
    catalog.fetch(trouble, TTL)
    assert catalog.denied
    assert (catalog.advise(TTL), catalog.trouble) == (RAISE, trouble)
    assert catalog.next_due() == -math.inf


def test_a_refused_token_is_tried_again_at_intervals_by_one_caller(catalog):
    """Backed off like an outage; while the one asks, the others are told what is known."""
    catalog.fetch(Unauthorized("401"))
    assert catalog.at(0.5) is RAISE
    assert catalog.at(1.0) is START
    number = catalog.single_flight.start(1.0)
    assert [catalog.at(1.0) for _ in range(10)] == [RAISE] * 10
    catalog.land(number, OLD, 1.0)
    assert (catalog.at(1.0), catalog.denied) == (USE, False)


def test_an_outage_after_a_refused_token_is_an_outage(catalog):
    """What counts is the last answer: then the old table serves again."""
    catalog.fetch(OLD)
    catalog.fetch(Unauthorized("401"), TTL)
    catalog.fetch(AWAY, TTL + 1)
    assert catalog.advise(TTL + 1) is USE


# -- flights ------------------------------------------------------------------------------------------


def test_a_fetch_that_hangs_is_given_up_at_its_deadline(catalog):
    """A dead fetcher does not block the next fetch, and counts as a failure."""
    assert catalog.at(0) is START
    catalog.single_flight.start(0)
    assert catalog.at(FETCH_DEADLINE - 0.1) is WAIT
    assert catalog.at(FETCH_DEADLINE) is RAISE
    assert isinstance(catalog.trouble, SourceUnavailable)
    assert catalog.at(FETCH_DEADLINE + 1) is START
    assert catalog.refresh_failures == 1


@pytest.mark.parametrize("late", [OLD, AWAY])
def test_what_a_fetch_brings_after_it_was_given_up_is_void(catalog, late):
    """Late news of an old attempt never overwrites that of a newer one (P-55)."""
    first = catalog.single_flight.start(0)
    catalog.at(FETCH_DEADLINE)
    assert catalog.land(first, late, FETCH_DEADLINE) is False
    second = catalog.single_flight.start(100.0)
    assert catalog.land(first, late, 100.0) is False
    assert catalog.single_flight.running
    assert catalog.land(second, NEW, 100.0) is True
    assert catalog.land(first, late, 101.0) is False
    assert (catalog.table, catalog.trouble) == (NEW, None)
    assert (catalog.refreshes, catalog.refresh_failures) == (1, 1)


def test_a_fetch_lands_once(catalog):
    """The same outcome twice is counted once."""
    number = catalog.single_flight.start(0)
    assert catalog.land(number, OLD, 0.0) is True
    assert catalog.land(number, OLD, 0.0) is False
    assert catalog.refreshes == 1


def test_a_fetch_left_behind_by_a_fork_does_not_block_the_child(catalog):
    """Its thread exists in the parent only; the child asks for itself (P-45)."""
    left_behind = catalog.single_flight.start(0)
    catalog.abandon()
    assert catalog.at(0) is START
    own = catalog.single_flight.start(0)
    assert catalog.land(left_behind, OLD, 0.0) is False
    assert catalog.land(own, NEW, 0.0) is True
    assert catalog.refresh_failures == 0


def test_a_flight_is_overdue_once():
    """Whoever notices gives it up; the next one finds nothing under way."""
    single_flight = SingleFlight(10.0)
    single_flight.start(0.0)
    assert [single_flight.overdue(9.9), single_flight.overdue(10.0), single_flight.overdue(10.0)] == [
        False,
        True,
        False,
    ]
    assert single_flight.deadline == math.inf


# -- confirming -----------------------------------------------------------------------------------------


def test_a_table_older_than_five_seconds_is_confirmed_before_somebody_is_turned_away(catalog):
    """Unless there is none, or the source is in trouble and must not be asked now."""
    assert catalog.may_confirm(0) is False
    catalog.fetch(OLD)
    assert catalog.may_confirm(5.0) is False
    assert catalog.may_confirm(5.1) is True
    catalog.fetch(AWAY, 10)
    assert catalog.may_confirm(10.5) is False
    assert catalog.may_confirm(11.0) is True
