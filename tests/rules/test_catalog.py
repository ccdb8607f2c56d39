"""When the configuration is fetched, and what callers do meanwhile. No threads, no requests."""

from __future__ import annotations

import pytest
from catalogs import AWAY, NEW, OLD, STALE, TTL, Clocked

from balancer.errors import InvalidConfiguration, SourceUnavailable
from balancer.rules.freshness import Freshness

USE, START, WAIT, RAISE = Freshness.USE, Freshness.START, Freshness.WAIT, Freshness.RAISE


@pytest.fixture
def catalog():
    """Return a catalog that nobody has asked anything yet."""
    return Clocked()


# -- fresh and stale ------------------------------------------------------------------------------


def test_the_first_caller_starts_one_fetch_and_the_others_wait_for_it(catalog):
    """500 callers make one request, the first load included (P-55)."""
    advice = []
    for _ in range(500):
        advice.append(catalog.at(0))
        if advice[-1] is START:
            number = catalog.single_flight.start(0)
    assert advice == [START] + [WAIT] * 499
    assert catalog.land(number, OLD, 0.0)
    assert (catalog.at(0), catalog.table) == (USE, OLD)


def test_a_table_is_used_without_a_fetch_until_its_ttl_is_over(catalog):
    """Fresh is younger than ttl: one moment later somebody has to ask."""
    catalog.fetch(OLD)
    assert catalog.at(TTL - 0.001) is USE
    assert catalog.next_due() == TTL
    assert catalog.at(TTL) is START


def test_at_expiry_one_caller_asks_and_the_others_go_on_with_the_old_table(catalog):
    """No herd on the source, and nobody but the one waits (P-55)."""
    catalog.fetch(OLD)
    assert catalog.at(TTL) is START
    catalog.single_flight.start(TTL)
    assert [catalog.at(TTL) for _ in range(500)] == [USE] * 500
    assert catalog.table is OLD


def test_a_table_that_is_expired_by_hand_is_asked_for_again(catalog):
    """An answer said that it is out of date; the old one serves until the new one is here."""
    catalog.fetch(OLD)
    catalog.expire()
    assert (catalog.at(1), catalog.table) == (START, OLD)
    catalog.fetch(NEW)
    assert (catalog.at(1), catalog.table) == (USE, NEW)


def test_the_old_table_serves_for_stale_if_error_and_no_longer(catalog):
    """Beyond ttl + stale_if_error nobody goes on without an answer: the trouble is raised (P-56)."""
    catalog.fetch(OLD)
    now = TTL
    while now < TTL + STALE:
        if catalog.at(now) is START:
            catalog.fetch(AWAY)
        assert (catalog.advise(now), catalog.table) == (USE, OLD)
        now += 10
    catalog.fetch(AWAY, TTL + STALE)
    assert (catalog.advise(TTL + STALE), catalog.table, catalog.trouble) == (RAISE, None, AWAY)
    catalog.fetch(NEW, TTL + STALE + 30)
    assert (catalog.advise(catalog.now), catalog.table, catalog.trouble) == (USE, NEW, None)


def test_with_no_table_left_callers_wait_for_the_fetch_that_runs(catalog):
    """Once the old one is too old there is nothing to go on with."""
    catalog.fetch(OLD)
    assert catalog.at(TTL + STALE) is START
    catalog.single_flight.start(catalog.now)
    assert catalog.advise(catalog.now) is WAIT


def test_a_failure_does_not_drop_the_table(catalog):
    """One error, or ten, is no reason to forget which accounts there are (P-56)."""
    catalog.fetch(OLD)
    for number in range(10):
        catalog.fetch(AWAY, TTL + 31 * number)
        assert (catalog.table, catalog.age(catalog.now)) == (OLD, TTL + 31 * number)
    assert (catalog.refreshes, catalog.refresh_failures) == (1, 10)


def test_a_table_that_another_process_fetched_is_as_old_as_it_is(catalog):
    """Its ttl and its stale window count from when it was read, not from when it was taken over."""
    catalog.now = 100.0
    catalog.land(catalog.single_flight.start(100.0), OLD, 100.0, age=50.0)
    assert (catalog.age(100.0), catalog.next_due()) == (50.0, 50.0 + TTL)
    assert catalog.at(50 + TTL) is START
    catalog.fetch(AWAY, 50 + TTL + STALE - 0.5)
    assert catalog.at(50 + TTL + STALE - 0.1) is USE
    assert catalog.at(50 + TTL + STALE) is RAISE


def test_a_table_too_old_to_be_used_is_not_taken_over(catalog):
    """What came too late serves nobody."""
    catalog.now = 10_000.0
    catalog.adopt(OLD, 10_000.0 - TTL - STALE)
    assert (catalog.table, catalog.advise(10_000.0)) == (None, START)


# -- backing off ------------------------------------------------------------------------------------


def test_failures_are_backed_off_from_one_second_doubling_to_thirty(catalog):
    """A source in trouble is not hammered (P-56)."""
    cooldowns = []
    for _ in range(8):
        catalog.fetch(AWAY)
        cooldowns.append(catalog.retry_at - catalog.now)
        catalog.now = catalog.retry_at
    assert cooldowns == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_failed_first_load_is_told_to_all_and_not_repeated_by_each(catalog):
    """No request per caller while there is no table: they get the trouble until the pause is over."""
    catalog.fetch(AWAY)
    assert [catalog.at(0.999) for _ in range(100)] == [RAISE] * 100
    assert catalog.at(1.0) is START


def test_a_success_ends_the_backing_off(catalog):
    """The next failure starts at one second again."""
    for now in (0, 10, 20):
        catalog.fetch(AWAY, now)
    catalog.fetch(OLD, 30)
    assert (catalog.failures, catalog.trouble) == (0, None)
    catalog.fetch(AWAY, 100)
    assert catalog.retry_at == 101


def test_while_backing_off_the_old_table_serves_without_a_request(catalog):
    """Callers in the pause use what there is, and the first one after it asks again."""
    catalog.fetch(OLD)
    catalog.fetch(AWAY, TTL)
    assert catalog.next_due() == TTL + 1
    assert catalog.at(TTL + 0.9) is USE
    assert catalog.at(TTL + 1) is START


@pytest.mark.parametrize(("asked", "pause"), [(300.0, 300.0), (61.0, 61.0), (0.2, 1.0), (None, 1.0)])
def test_a_longer_retry_after_is_the_time_of_the_next_refresh(catalog, asked, pause):
    """The source knows best when to come again, if that is later than we would."""
    catalog.fetch(OLD)
    catalog.fetch(SourceUnavailable("503", retry_after=asked), TTL)
    assert catalog.at(TTL + pause - 0.1) is USE
    assert catalog.at(TTL + pause) is START


@pytest.mark.parametrize("trouble", [AWAY, InvalidConfiguration("HTML")])
def test_whatever_spoils_a_refresh_leaves_the_table(catalog, trouble):
    """An answer that is no configuration is an outage like any other (P-52)."""
    catalog.fetch(OLD)
    catalog.fetch(trouble, TTL)
    assert (catalog.advise(TTL), catalog.trouble) == (USE, trouble)
