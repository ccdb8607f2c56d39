"""What an answer means by the common rules: the verdict, the pause, and what the pool makes of it."""

from __future__ import annotations

import errno

import pytest
from bodies import BODIES
from ruling import (
    ACCEPTED,
    AMBIGUOUS,
    BROKEN,
    BUSY,
    EXHAUSTED,
    HOUR,
    NOT_SENT,
    PLAIN,
    QUARTER,
    REFUSED,
    SHORT,
    TOKEN,
    ruled,
)

from balancer import (
    AccountPool,
    AmbiguousOutcome,
    AttemptsFailed,
    JobRefused,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.services import SERVICES
from balancer.testing import ManualClock

# status, body, verdict, seconds of the cooldown
TABLE = [
    (200, {"jobid": "1"}, ACCEPTED, None),
    (201, {"jobid": "1"}, ACCEPTED, None),
    (202, "", ACCEPTED, None),
    (204, "", ACCEPTED, None),
    (429, BODIES["riffusion/create_429_inferred"], BUSY, SHORT),
    (429, BODIES["midjourney-v2/v1_create_429"], BUSY, SHORT),
    (429, {"error": {"message": "Resource has been exhausted (e.g. check quota)."}}, BUSY, SHORT),
    (429, "", BUSY, SHORT),
    (412, BODIES["_common/412_credits"], EXHAUSTED, HOUR),
    (412, "", EXHAUSTED, HOUR),
    (402, {"error": "Insufficient credits"}, EXHAUSTED, HOUR),
    (402, {"error": "This account's plan does not include it"}, EXHAUSTED, HOUR),
    (429, {"error": "Daily quota reached"}, EXHAUSTED, HOUR),
    (429, {"error": "The weekly limit was reached"}, EXHAUSTED, HOUR),
    (429, {"error": "Monthly allowance used"}, EXHAUSTED, HOUR),
    (596, BODIES["riffusion/create_596"], BROKEN, QUARTER),
    (596, "", BROKEN, QUARTER),
    (401, BODIES["_common/401"], TOKEN, None),
    (401, BODIES["_common/401_no_code"], TOKEN, None),
    (402, BODIES["_common/402_token_subscription"], TOKEN, None),
    (402, {"error": "Subscription required"}, TOKEN, None),
    (402, "", TOKEN, None),
    (400, BODIES["riffusion/create_400"], REFUSED, None),
    (403, {"error": "not yours"}, REFUSED, None),
    (404, {"error": "Video not found"}, REFUSED, None),
    (408, "", REFUSED, None),
    (409, "", REFUSED, None),
    (410, BODIES["google-flow/job_410"], REFUSED, None),
    (422, BODIES["riffusion/create_moderated"], REFUSED, None),
    (200, BODIES["riffusion/create_moderated"], REFUSED, None),
    (404, {"error": "Account a@example.com not found", "code": 404}, BUSY, SHORT),
    (404, BODIES["google-flow/create_404"], BUSY, SHORT),
    (404, "Configuration not found. To create configuration use POST accounts.", BUSY, SHORT),
    *((status, "", REFUSED, None) for status in (300, 301, 302, 303, 304, 307, 308)),
    *((status, "", REFUSED, None) for status in (405, 406, 411, 413, 415, 418, 425, 451, 499, 600, 999)),
    *((status, "", AMBIGUOUS, SHORT) for status in (500, 501, 502, 503, 504, 520, 599)),
    (502, "<html><body>502 Bad Gateway</body></html>", AMBIGUOUS, SHORT),
    (503, BODIES["_common/503_upstream"], AMBIGUOUS, SHORT),
]


@pytest.mark.parametrize(("status", "body", "verdict", "seconds"), TABLE)
def test_an_answer_means_what_its_status_and_body_say(status, body, verdict, seconds):
    """Every row of the table of verdicts, and the pause that each puts on the account."""
    ruling = ruled((status, {}, body))
    assert (ruling.verdict, ruling.seconds, ruling.status) == (verdict, seconds, status)
    assert (ruling.scoped, ruling.pool_wide) == (False, False)


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 10.0), (0.25, 15.0), (0.999, 29.98)])
@pytest.mark.parametrize("status", [429, 500])
def test_a_pause_that_nobody_names_is_ten_to_thirty_seconds(draw, seconds, status):
    """P-51: at random, so that all who were turned away do not come back at once."""
    assert ruled(status, draw=draw).seconds == pytest.approx(seconds)


def test_a_moderated_prompt_that_became_a_job_is_accepted():
    """The flag in the echo of a request is not the server's verdict."""
    answer = (200, {}, {"jobid": "1", "is_flagged": True})
    assert (ruled(answer).verdict, ruled(answer).job_id) == (ACCEPTED, "1")


def test_a_token_error_tells_which():
    """The token itself is wrong, or the subscription behind it has ended; both make a refresh due."""
    found = [(ruled(status).token_error, ruled(status).refresh) for status in (401, 402, 403)]
    assert found == [("unauthorized", True), ("subscription", True), (None, False)]


def test_an_unknown_account_makes_a_refresh_due_and_is_safe_elsewhere():
    """Nothing was accepted there, and the configuration has changed under us."""
    ruling = ruled((404, {}, BODIES["google-flow/create_404"]))
    assert (ruling.refresh, ruling.verdict.elsewhere) == (True, True)
    assert not ruled((404, {}, {"error": "Video not found"})).refresh


def test_an_accepted_job_is_named_and_known_to_be_over():
    """A synchronous create answers with the finished job, which needs no slot any more."""
    mureka = SERVICES["mureka"]
    for name, over in (("mureka/create_201_async", False), ("mureka/job_completed", True)):
        ruling = ruled((200, {}, BODIES[name]), mureka)
        assert (ruling.job_id, ruling.final) == ("j1016m-u777-a123456789-bot:mureka", over)


# -- what the pool makes of it ---------------------------------------------------------------------

OUTCOMES = {
    ACCEPTED: (None, 1, "ready"),
    NOT_SENT: (AttemptsFailed, 2, "ready"),
    BUSY: (AttemptsFailed, 2, "cooldown"),
    EXHAUSTED: (AttemptsFailed, 2, "cooldown"),
    BROKEN: (AttemptsFailed, 2, "cooldown"),
    TOKEN: (Unauthorized, 1, "ready"),
    REFUSED: (JobRefused, 1, "ready"),
    AMBIGUOUS: (AmbiguousOutcome, 1, "cooldown"),
}
"""Verdict -> error of a ``run`` of two attempts, calls made, state of the accounts that were called."""


CASES = [
    *((verdict, (status, {}, body)) for status, body, verdict, _ in TABLE),
    (NOT_SENT, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    (AMBIGUOUS, ConnectionResetError()),
]


@pytest.mark.parametrize(("verdict", "answer"), CASES)
def test_the_pool_moves_on_stops_or_keeps_the_slot(verdict, answer):
    """A job goes to another account only on proof that it was not taken. P-57."""
    pool = AccountPool(PLAIN, source={"a": 5, "b": 5}, clock=ManualClock(), reconcile_every=None)
    called = []

    def call(lease):
        called.append(lease.account.id)
        if isinstance(answer, Exception):
            raise answer
        return answer

    error, calls, state = OUTCOMES[verdict]
    if error is Unauthorized and answer[0] == 402:
        error = SubscriptionRequired
    with pool:
        if error is None:
            assert pool.run(call, attempts=2, timeout=0) is answer
        else:
            with pytest.raises(error):
                pool.run(call, attempts=2, timeout=0)
        stats = pool.stats()
        assert len(called) == calls
        assert {stats.accounts[id].state for id in called} == {state}
        assert stats.in_flight == (verdict is AMBIGUOUS)
        if calls == 2 and verdict is not NOT_SENT:
            assert set(called) == {"a", "b"}
