"""For how long an answer puts its account aside."""

from __future__ import annotations

import math

import pytest
from ruling import DAY, HOUR, NOW, QUARTER, SHORT, ruled

STATED = [
    ("7", 7.0),
    (" 7 ", 7.0),
    (7, 7.0),
    (1.5, 1.5),
    ("120", 120.0),
    ("5 minutes", 300.0),
    ("2h", 7200.0),
    ("90s", 90.0),
    ("1 day", DAY),
    ("Wed, 14 Oct 2026 17:48:10 GMT", 90.0),
    ("Wednesday, 14-Oct-26 17:48:10 GMT", 90.0),
    ("Wed Oct 14 17:48:10 2026", 90.0),
    ("2026-10-14T17:48:10.000Z", 90.0),
    ("2026-10-14 17:48:10 UTC", 90.0),
    (NOW + 90, 90.0),
    (f"{NOW + 90:.0f}", 90.0),
    (int(NOW + 90) * 1000, 90.0),
    ("315360000", 31 * DAY),
    ("Sat, 14 Oct 2036 17:46:40 GMT", 31 * DAY),
    ("2036-10-14T17:46:40Z", 31 * DAY),
    ("9999-12-31T23:59:59Z", 31 * DAY),
]
NONSENSE = [
    None,
    "",
    "0",
    0,
    "-5",
    -5,
    "NaN",
    math.nan,
    "inf",
    math.inf,
    -math.inf,
    True,
    "soon",
    "1e3",
    "12 parsecs",
    "Wed, 14 Oct 2026 17:46:39 GMT",
    "2020-01-01T00:00:00Z",
    1_600_000_000,
    "31 Nov 2026",
    "0001-01-01T00:00:00+23:59",
    "9" * 5000,
    [],
    {"seconds": 7},
]


@pytest.mark.parametrize(("value", "seconds"), STATED)
@pytest.mark.parametrize("status", [429, 412, 596])
def test_a_stated_pause_is_kept(status, value, seconds):
    """P-51: seconds, units, every form of a date, instants; ten years are 31 days."""
    assert ruled((status, {"Retry-After": value}, "")).seconds == pytest.approx(seconds)
    assert ruled((status, None, {"retryAfter": value})).seconds == pytest.approx(seconds)
    assert ruled((status, None, {"retryAt": value})).seconds == pytest.approx(seconds)
    assert ruled((status, None, {"error": {"retryAfter": value}})).seconds == pytest.approx(seconds)


@pytest.mark.parametrize("value", NONSENSE)
def test_a_pause_that_makes_no_sense_is_as_good_as_none(value):
    """P-51: past, zero, negative, not finite, no number and no date fall back to the usual pause."""
    for headers, body in (({"Retry-After": value}, ""), ({}, {"retryAfter": value, "retryAt": value})):
        assert ruled((429, headers, body)).seconds == SHORT
        assert ruled((412, headers, body)).seconds == HOUR
        assert ruled((596, headers, body)).seconds == QUARTER


def test_the_first_sensible_statement_counts():
    """The header, then retryAfter, then retryAt; one that makes no sense hides no other."""
    body = {"retryAfter": "50", "retryAt": "2026-10-14T17:48:10Z"}
    assert ruled((429, {"Retry-After": "40"}, body)).seconds == 40
    assert ruled((429, {"Retry-After": "-1"}, body)).seconds == 50
    assert ruled((429, {}, {**body, "retryAfter": "soon"})).seconds == pytest.approx(90)


@pytest.mark.parametrize("name", ["retry-after", "RETRY-AFTER", b"Retry-After"])
def test_a_header_counts_in_any_case(name):
    """Clients differ in how they keep names."""
    assert ruled((429, [(name, b"7")], "")).seconds == 7


def test_a_pause_is_only_put_on_an_account_that_the_answer_is_held_against():
    """A refused prompt with a Retry-After says nothing about the account."""
    for status in (200, 301, 400, 401, 422):
        assert ruled((status, {"Retry-After": "7"}, "")).seconds is None


def test_an_overloaded_service_is_believed_for_ten_minutes_at_most():
    """And its account never rests for less than usual: the job that may run holds the slot anyway."""
    for body in ("", '{"error": "overloaded"}', {"error": "overloaded"}):
        assert ruled((503, {"Retry-After": "120"}, body)).seconds == 120
        assert ruled((503, {"Retry-After": "700"}, body)).seconds == 600
        assert ruled((503, {"Retry-After": "1"}, body)).seconds == SHORT
