"""Verdicts on the answers that real clients return or raise."""

from __future__ import annotations

import pytest
from clients import HEADERS_ONLY, READERS, Target, outcome
from ruling import ACCEPTED, AMBIGUOUS, BROKEN, BUSY, EXHAUSTED, REFUSED, TOKEN, ruled

from balancer import SERVICES
from balancer.testing import FakeUseapi

FLOW = SERVICES["flowmusic"]
A, B = "a@example.com", "b@example.com"


@pytest.fixture(scope="module")
def fake():
    """Two accounts with all the room that these tests may need."""
    with FakeUseapi({"flowmusic": {A: 100_000, B: 100_000}}, job_seconds=(600, 600)) as fake:
        yield fake


@pytest.fixture
def target(fake):
    """The create of the stand-in."""
    return Target(fake.url, fake.token)


WIRE = [
    (None, None, None, ACCEPTED, None),
    (202, {"jobid": "1"}, None, ACCEPTED, None),
    (429, None, None, BUSY, 10),
    (429, None, "7", BUSY, 7),
    (429, None, "Wed, 14 Oct 2026 17:48:10 GMT", BUSY, 90),
    (429, None, "-1", BUSY, 10),
    (412, None, None, EXHAUSTED, 3600),
    (596, None, None, BROKEN, 900),
    (401, None, None, TOKEN, None),
    (400, None, None, REFUSED, None),
    (403, None, None, REFUSED, None),
    (408, None, None, REFUSED, None),
    (410, None, None, REFUSED, None),
    (422, None, None, REFUSED, None),
    (302, "", None, REFUSED, None),
    (500, None, None, AMBIGUOUS, 10),
    (502, None, None, AMBIGUOUS, 10),
    (503, None, "60", AMBIGUOUS, 60),
    (504, "", None, AMBIGUOUS, 10),
]
"""Status (None: the real answer), body (None: the usual one), Retry-After, verdict, seconds."""
IN_BODY = [
    (402, {"error": "Account has no subscription or subscription expired"}, TOKEN, None),
    (402, {"error": "Not enough credits"}, EXHAUSTED, 3600),
    (404, {"error": f"Account {A} not found", "code": 404}, BUSY, 10),
    (404, {"error": "Job not found", "code": 404}, REFUSED, None),
    (429, {"error": "Daily quota reached"}, EXHAUSTED, 3600),
    (429, {"error": "busy", "retryAfter": "2026-10-14T17:48:10.000Z"}, BUSY, 90),
    (429, {"error": "busy", "retryAt": "2026-10-14T17:48:10.000Z"}, BUSY, 90),
    (200, {"is_flagged": True, "reason": "moderation"}, REFUSED, None),
]
"""Status, a body that makes the difference, verdict, seconds."""


@pytest.mark.parametrize("client", [*READERS, *HEADERS_ONLY], ids=lambda client: client.__name__)
@pytest.mark.parametrize("case", WIRE)
def test_every_client_gives_the_same_verdict(fake, target, client, case):
    """Whether it returns the answer or raises it, and however it keeps status and headers."""
    status, body, retry_after, verdict, seconds = case
    if status is not None:
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        fake.fault("*/music", status=status, body=body, headers=headers)
    ruling = ruled(outcome(client, target), FLOW, 0.0)
    assert (ruling.verdict, ruling.seconds) == (verdict, pytest.approx(seconds) if seconds else None)
    assert ruling.status == (status or 201)
    if status is None:
        assert ruling.job_id in fake.running("flowmusic")


@pytest.mark.parametrize("client", READERS, ids=lambda client: client.__name__)
@pytest.mark.parametrize("case", IN_BODY)
def test_every_client_lets_the_body_be_read(fake, target, client, case):
    """Where the text tells what the status does not, it is found in what the client holds."""
    status, body, verdict, seconds = case
    fake.fault("*/music", status=status, body=body)
    ruling = ruled(outcome(client, target), FLOW, 0.0)
    assert (ruling.verdict, ruling.seconds) == (verdict, pytest.approx(seconds) if seconds else None)
