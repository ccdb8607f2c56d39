"""Whatever a call returns or raises, it is judged: no answer, foreign objects, nonsense."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruling import ACCEPTED, AMBIGUOUS, BROKEN, BUSY, DAY, PLAIN, REFUSED, SHORT, ruled

from balancer.services import SERVICES
from balancer.testing import CANARY
from balancer.useapi.verdicts import transport


@pytest.mark.parametrize(
    "thing", [None, "ok", {"jobid": "1"}, b"", 3.0, True, 7, 1000, (1, 2, 3), (200, {}), object(), [429]]
)
def test_what_has_no_status_is_no_answer_and_counts_as_accepted(thing):
    """``run`` may return whatever its call made of the answer."""
    ruling = ruled(thing)
    assert (ruling.verdict, ruling.status, ruling.seconds) == (ACCEPTED, None, None)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("prompt"), KeyboardInterrupt(), StopIteration()])
def test_an_error_of_the_program_says_nothing_about_the_account(error):
    """It proves that no answer came, and is nobody's fault but the caller's."""
    ruling = ruled(error)
    assert (ruling.verdict, ruling.status, ruling.seconds) == (REFUSED, None, None)
    assert transport(error) is None


def test_an_error_that_carries_an_answer_is_judged_by_it():
    """``raise_for_status`` hides no 429."""

    class HTTPError(Exception):
        response = SimpleNamespace(status_code=429, headers={"Retry-After": "7"}, content=b"{}")

    assert (ruled(HTTPError()).verdict, ruled(HTTPError()).seconds) == (BUSY, 7)


class Hostile:
    """Raises whatever is asked of it."""

    status_code = 429

    def __getattr__(self, name):
        raise RuntimeError(CANARY)

    @property
    def headers(self):
        raise RuntimeError(CANARY)

    def __eq__(self, other):
        raise RuntimeError(CANARY)

    __hash__ = None


def test_an_answer_that_cannot_be_read_is_judged_by_its_status():
    """A foreign object may do anything; judging it never raises."""
    ruling = ruled(Hostile())
    assert (ruling.verdict, ruling.seconds) == (BUSY, SHORT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(CANARY),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "retryAfter", "retryAt", "jobid", "status", "is_flagged"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
HEADERS = st.none() | st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after", "Content-Type"]) | st.text(max_size=4),
    JSON | st.binary(max_size=6),
    max_size=3,
)


@given(
    status=st.integers(90, 1010),
    headers=HEADERS,
    body=JSON | st.binary(max_size=20),
    service=st.sampled_from([PLAIN, *SERVICES.values()]),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_answer_is_too_odd_to_be_judged(status, headers, body, service, draw):
    """Any status, headers and body give one verdict, a pause of at most 31 days, and no text of the body."""
    ruling = ruled((status, headers, body), service, draw)
    assert ruling.seconds is None or 0 < ruling.seconds <= 31 * DAY
    assert (ruling.seconds is not None) == (ruling.verdict.adverse and not ruling.pool_wide)
    assert CANARY not in ruling.reason
    if ruling.status is not None and 500 <= ruling.status < 600 and not service.rules:
        assert ruling.verdict is (BROKEN if ruling.status == 596 else AMBIGUOUS)
