"""What the stand-in enforces, and what its audit says about a client."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import pytest
from api import Api

pytest_plugins = ["balancer.testing.plugin"]

TWO = {"a@example.com": 2, "b@example.com": 1}
LONG = (600, 600)


def test_concurrent_creates_never_exceed_the_maximum(fake_useapi):
    """24 threads at once: exactly as many creates are accepted as there are slots."""
    accounts = {f"{number}@example.com": number for number in range(1, 8)}
    fake = fake_useapi({"flowmusic": accounts}, job_seconds=LONG)

    def hammer(number):
        with Api(fake) as api:
            named = {"email": f"{number % 7 + 1}@example.com"} if number % 2 else {}
            return Counter(api.create(**named).status_code for _ in range(20))

    with ThreadPoolExecutor(24) as threads:
        answers = sum(threads.map(hammer, range(24)), Counter())
    audit = fake.audit()
    assert answers == {201: 28, 429: 452}
    assert (audit.accepted, audit.refused, audit.clean) == (28, 452, True)
    assert {id: lane.peak for id, lane in audit.accounts["flowmusic"].items()} == accounts


def test_without_enforcement_an_overrun_is_accepted_and_audited(fake_useapi):
    """So a client that sends more than there is room for is caught."""
    fake = fake_useapi({"flowmusic": TWO}, job_seconds=LONG, enforce=False)
    with Api(fake) as api:
        assert [api.create(email="b@example.com").status_code for _ in range(3)] == [201, 201, 201]
    audit = fake.audit()
    assert not audit.clean
    assert [(one.running, one.limit, one.cause) for one in audit.over] == [(2, 1, "create"), (3, 1, "create")]
    assert audit.accounts["flowmusic"]["b@example.com"].peak == 3


def test_the_audit_counts_requests_and_refusals_and_cannot_be_changed(fake_useapi):
    """Ids in paths are not told apart, and a refusal for want of room is not one for another reason."""
    fake = fake_useapi({"flowmusic": TWO}, job_seconds=LONG)
    with Api(fake) as api:
        for path in ("accounts", "accounts/a%40example.com", "accounts/b%40example.com"):
            api.get(path)
        for letter in "cbb":
            api.create(email=f"{letter}@example.com")
    audit = fake.audit()
    assert audit.requests == {
        "GET /v1/flowmusic/accounts": 1,
        "GET /v1/flowmusic/accounts/*": 2,
        "POST /v1/flowmusic/music": 3,
    }
    assert (audit.accepted, audit.refused, audit.refused_other) == (1, 1, 1)
    assert audit.accounts["flowmusic"]["b@example.com"].refused == 1
    with pytest.raises(FrozenInstanceError):
        audit.accepted = 0


def test_a_stranger_beyond_the_maximum_is_noted_but_is_not_the_clients_doing(fake_useapi):
    """The cause tells who took the account over its maximum."""
    fake = fake_useapi({"flowmusic": TWO}, job_seconds=LONG)
    for _ in range(2):
        fake.start_stranger("flowmusic", "b@example.com")
    audit = fake.audit()
    assert [(one.running, one.limit, one.cause) for one in audit.over] == [(2, 1, "stranger")]
    assert audit.clean
