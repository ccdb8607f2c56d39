"""Each service's own rules, and a sample of every verdict that each service can give."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bodies import BODIES
from ruling import ruled

from balancer import AccountPool, AmbiguousOutcome, JobRefused
from balancer.services import SERVICES
from balancer.testing import ManualClock
from balancer.useapi.verdicts import Verdict, judge

SUBSCRIPTION = "_common/402_token_subscription"

# service, status, body -> verdict, seconds of cooldown (None: not checked), "scoped" or "pool-wide"
VERDICTS = [
    ("google-flow", 429, "google-flow/create_429_no_eligible_account_inferred", ("BUSY", None, "pool-wide")),
    (
        "google-flow",
        429,
        {"reason": "PUBLIC_ERROR_PER_MODEL_DAILY_QUOTA_REACHED"},
        ("EXHAUSTED", 82800, "scoped"),
    ),
    ("google-flow", 429, {"reason": "PUBLIC_ERROR_USER_QUOTA_REACHED"}, ("EXHAUSTED", 1800, "")),
    ("google-flow", 429, {"reason": "PUBLIC_ERROR_USER_REQUESTS_THROTTLED"}, ("BUSY", 1800, "")),
    ("google-flow", 429, {"reason": "PUBLIC_ERROR_UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC"}, ("BUSY", 60, "")),
    ("google-flow", 400, "google-flow/create_400_moderated", ("REFUSED", None, "")),
    ("google-flow", 402, {"error": "Google account has no credits"}, ("EXHAUSTED", 3600, "")),
    ("google-flow", 402, {"error": "Payment required"}, ("EXHAUSTED", 3600, "")),
    ("google-flow", 402, SUBSCRIPTION, ("TOKEN", None, "")),
    ("google-flow", 403, {"error": "captcha_quality: low"}, ("BUSY", None, "")),
    ("google-flow", 403, {"error": "MODEL_ACCESS_DENIED"}, ("EXHAUSTED", 3600, "scoped")),
    ("google-flow", 403, {"error": "not yours"}, ("REFUSED", None, "")),
    ("google-flow", 503, "_common/503_upstream", ("BUSY", None, "")),
    ("google-flow", 503, "<html>", ("AMBIGUOUS", None, "")),
    ("google-flow", 596, "google-flow/create_596", ("BROKEN", 900, "")),
    ("kling", 500, {"error": "x"}, ("REFUSED", None, "")),
    ("kling", 502, {"error": "x"}, ("AMBIGUOUS", None, "")),
    ("dreamina", 402, "dreamina/create_402", ("TOKEN", None, "")),
    ("dreamina", 402, {"error": "subscription expired or insufficient credits"}, ("EXHAUSTED", 3600, "")),
    ("flowmusic", 402, {"error": "Not enough"}, ("EXHAUSTED", 3600, "")),
    ("flowmusic", 402, SUBSCRIPTION, ("TOKEN", None, "")),
    ("flowmusic", 422, {"error": "declined"}, ("REFUSED", None, "")),
    ("flowmusic", 596, "flowmusic/create_596", ("BROKEN", 900, "")),
    ("mureka", 402, SUBSCRIPTION, ("TOKEN", None, "")),
    ("mureka", 402, {"error": "Buy more"}, ("EXHAUSTED", 3600, "")),
    ("google-vids", 429, {"error": "This month's allowance is used"}, ("EXHAUSTED", 3600, "")),
    ("google-vids", 429, {"error": "busy"}, ("BUSY", 60, "")),
    ("google-vids", 429, {"error": "0 videos left this month"}, ("EXHAUSTED", 3600, "")),
    ("google-vids", 429, {"error": "used up, resets at the 1st"}, ("EXHAUSTED", 3600, "")),
    ("gemini-notebook", 429, {"error": "The account is out of usage"}, ("EXHAUSTED", 3600, "")),
    ("gemini-notebook", 429, {"error": "busy", "retryAt": "1970-01-01T02:00:00Z"}, ("EXHAUSTED", 3600, "")),
    ("gemini-notebook", 429, {"error": "busy", "retryAt": "1970-01-01T01:09:00Z"}, ("BUSY", 540, "")),
    ("muse", 412, {"quota": {"resetsAt": "1970-01-01T11:00:00Z"}}, ("EXHAUSTED", 36000, "")),
    ("muse", 412, {"resetsAt": "1970-01-01T11:00:00Z"}, ("EXHAUSTED", 36000, "")),
    ("google-vids", 403, {"error": "No allowance for avatars in this plan"}, ("EXHAUSTED", 3600, "scoped")),
    ("google-vids", 403, {"error": "not yours"}, ("REFUSED", None, "")),
    ("google-vids", 596, {"error": "Signed out. Re-add it."}, ("BROKEN", 900, "")),
    ("google-vids", 596, {"error": "being checked"}, ("BROKEN", 60, "")),
    ("google-vids", 502, {}, ("AMBIGUOUS", None, "")),
    ("google-vids", 504, {}, ("AMBIGUOUS", None, "")),
    ("minimax", 502, {}, ("AMBIGUOUS", None, "")),
    ("minimax", 504, {}, ("AMBIGUOUS", None, "")),
    ("minimax", 596, {"error": "Account is on hold"}, ("BROKEN", 10800, "")),
    ("minimax", 596, {"error": "refresh failed"}, ("BROKEN", 900, "")),
    ("midjourney", 504, {}, ("AMBIGUOUS", None, "")),
    ("muse", 412, {"error": "weekly allowance"}, ("EXHAUSTED", 3600, "")),
    ("pixverse", 412, "_common/412_credits", ("EXHAUSTED", 3600, "")),
    ("pixverse", 404, {"error": "Video not found"}, ("REFUSED", None, "")),
    ("runwayml", 401, "runwayml/post_account_401", ("BROKEN", 900, "")),
    ("runwayml", 401, "_common/401", ("TOKEN", None, "")),
    ("riffusion", 429, "riffusion/create_429_inferred", ("BUSY", None, "")),
    ("riffusion", 200, "riffusion/create_moderated", ("REFUSED", None, "")),
]


ONE_O_CLOCK = 3600.0


def judged(key, status, body, headers=None, *, wall=ONE_O_CLOCK, row=None):
    """Judge an answer with the row of ``key``; ``body`` may be the name of an example."""
    body = BODIES.get(body, body) if isinstance(body, str) else body
    return judge((status, headers, body), row or SERVICES[key], draw=lambda: 0.5, wall=wall)


@pytest.mark.parametrize(("key", "status", "body", "effect"), VERDICTS)
def test_a_service_means_what_its_pages_say(key, status, body, effect):
    """The answers that the pages explain, judged with the service's row."""
    ruling = judged(key, status, body)
    verdict, seconds, reach = effect
    assert ruling.verdict.name == verdict
    assert (ruling.scoped, ruling.pool_wide) == (reach == "scoped", reach == "pool-wide")
    assert seconds is None or ruling.seconds == seconds


RULES = [(row, rule) for row in SERVICES.values() for rule in row.rules]


@pytest.mark.parametrize(
    ("row", "rule"), RULES, ids=[f"{row.key}-{rule.verdict}-{rule.match}" for row, rule in RULES]
)
def test_every_rule_of_a_row_makes_a_difference(row, rule):
    """Some sample of the service is judged otherwise without it: none is dead, none is untested."""
    without = replace(row, rules=tuple(other for other in row.rules if other is not rule))
    samples = [(status, body) for key, status, body, _ in VERDICTS if key == row.key.partition("/")[0]]
    assert any(judged(row.key, *one) != judged(row.key, *one, row=without) for one in samples)


# verdict, answer or error, for all services alike
EVERYWHERE = [
    ("NOT_SENT", ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    ("BUSY", (429, {}, BODIES["riffusion/create_429_inferred"])),
    ("BUSY", (404, {}, {"error": "Account a@example.com not found", "code": 404})),
    ("EXHAUSTED", (412, {}, BODIES["_common/412_credits"])),
    ("BROKEN", (596, {}, BODIES["flowmusic/create_596"])),
    ("TOKEN", (401, {}, BODIES["_common/401"])),
    ("TOKEN", (402, {}, BODIES[SUBSCRIPTION])),
    ("REFUSED", (400, {}, BODIES["riffusion/create_400"])),
    ("REFUSED", (422, {}, BODIES["riffusion/create_moderated"])),
    ("AMBIGUOUS", (502, {}, "<html><body>502 Bad Gateway</body></html>")),
    ("AMBIGUOUS", (504, {}, "")),
    ("AMBIGUOUS", ConnectionResetError()),
]


@pytest.mark.parametrize("row", SERVICES.values(), ids=lambda row: row.key)
def test_every_service_can_give_every_verdict(row):
    """The codes that mean the same everywhere are judged so by each row, and an accepted job is found."""
    found = [(verdict, ruled(answer, row).verdict.name) for verdict, answer in EVERYWHERE]
    assert [name for _, name in found] == [verdict for verdict, _ in found]
    for path in row.job_id:
        body = "j-1"
        for name in reversed(path.split(".")):
            body = {name: body}
        ruling = ruled((201, {}, body), row)
        assert (ruling.verdict, ruling.job_id) == (Verdict.ACCEPTED, "j-1")
    assert {verdict for verdict, _ in EVERYWHERE} | {"ACCEPTED"} == {verdict.name for verdict in Verdict}


TEN_O_CLOCK = datetime(2026, 10, 14, 10, tzinfo=UTC).timestamp()
QUARANTINES = [
    ("user_requests_throttled", "BUSY", 1800, False),
    ("user_quota_reached", "EXHAUSTED", 1800, False),
    ("per_model_daily_quota_reached", "EXHAUSTED", 14 * 3600, True),
    ("unusual_activity_too_much_traffic", "BUSY", 60, False),
]


@pytest.mark.parametrize(("reason", "verdict", "seconds", "scoped"), QUARANTINES)
def test_google_flow_names_the_end_of_a_quarantine(reason, verdict, seconds, scoped):
    """The example of each reason names an instant, which agrees with the documented length."""
    body = BODIES[f"google-flow/create_429_{reason}_inferred"]
    silent = {name: value for name, value in body.items() if name != "retryAfter"}
    for one in (body, silent):
        ruling = judged("google-flow", 429, one, wall=TEN_O_CLOCK)
        assert (ruling.verdict.name, ruling.seconds, ruling.scoped) == (verdict, seconds, scoped)
    headers = BODIES["google-flow/create_429_headers_inferred"]
    assert judged("google-flow", 429, body, headers, wall=TEN_O_CLOCK).seconds == 1800
    assert judged("google-flow", 429, body).reason == f"HTTP 429 PUBLIC_ERROR_{reason.upper()}"


def test_a_model_whose_quota_is_used_up_is_closed_there_and_open_elsewhere():
    """P-53: the cooldown is the model's on that account, not the account's, nor that of other accounts."""
    answer = (429, {}, BODIES["google-flow/create_429_per_model_daily_quota_reached_inferred"])
    with pool_of("google-flow") as pool:
        pool.acquire(account="a", scope="veo").report(answer)
        assert pool.explain(scope="imagen") == {"a": "eligible", "b": "eligible"}
        explained = pool.explain(scope="veo")
        assert explained["a"] != "eligible"
        assert explained["b"] == "eligible"


def test_a_pool_that_is_full_on_the_servers_side_blames_no_account():
    """P-53: ``no_eligible_account`` speaks of all of them, so none of them cools down for it."""
    answer = (429, {}, BODIES["google-flow/create_429_no_eligible_account_inferred"])
    assert ruled(answer, SERVICES["google-flow"]).seconds is None
    with pool_of("google-flow") as pool:
        with pool.acquire(account="a") as lease:
            assert lease.report(answer) is Verdict.BUSY
        assert {one.state for one in pool.stats().accounts.values()} == {"ready"}


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("kling", (500, {}, {"error": "x"})),
        ("google-flow", (400, {}, BODIES["google-flow/create_400_moderated"])),
        ("minimax", (502, {}, "")),
        ("google-vids", (504, {}, "")),
        ("midjourney", (504, {}, "")),
    ],
)
def test_what_another_account_would_decline_or_bill_as_well_is_sent_once(key, answer):
    """P-57: moderation travels to no other account, and a job that may run is started no second time."""
    calls = []
    with pool_of(key) as pool, pytest.raises((JobRefused, AmbiguousOutcome)):
        pool.run(lambda lease: calls.append(lease) or answer, attempts=3, timeout=0)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("google-flow", (503, {}, BODIES["_common/503_upstream"])),
        ("google-flow", (403, {}, {"error": "captcha_quality: low"})),
        ("flowmusic", (402, {}, {"error": "Not enough"})),
        ("runwayml", (401, {}, BODIES["runwayml/post_account_401"])),
        ("muse", (412, {}, {"error": "weekly allowance"})),
    ],
)
def test_what_concerns_one_account_is_tried_on_the_other(key, answer):
    """The answer proves that no job was taken there."""
    with pool_of(key) as pool:
        tried = []

        def call(lease):
            tried.append(lease.account.id)
            return answer if len(tried) == 1 else (200, {}, {"jobid": "1"})

        assert pool.run(call, timeout=0)[0] == 200
        assert set(tried) == {"a", "b"}


def pool_of(key):
    """Return a pool of two accounts."""
    return AccountPool(key, source={"a": 1, "b": 1}, clock=ManualClock(), reconcile_every=None)
