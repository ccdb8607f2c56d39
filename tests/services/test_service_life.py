"""Services come and go: a retired one is named once, and one of tomorrow is a row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog

from balancer import SERVICES, AccountPool
from balancer.testing import FakeUseapi


@pytest.mark.parametrize("key", [key for key, row in SERVICES.items() if not row.alive])
def test_a_retired_service_is_named_once_and_works(key, monkeypatch):
    """Old data still names it, so it is a warning, the first time in a process, and no error."""
    monkeypatch.setattr("balancer.engine.pool_core._announced", set())
    with structlog.testing.capture_logs() as events:
        for _ in range(2):
            with AccountPool(key, source={"a": 1}) as pool, pool.acquire():
                pass
    [event] = [event for event in events if event["event"] == "service_retired"]
    assert (event["log_level"], event["why"]) == ("warning", SERVICES[key].retired)


def test_a_service_that_is_alive_is_not_announced():
    """There is nothing to be told."""
    with structlog.testing.capture_logs() as events:
        for key, row in SERVICES.items():
            if row.alive:
                AccountPool(key, source={"a": 1}).close()
    assert events == []


def test_a_row_replaces_that_of_the_table():
    """Who knows better than the table brings a row with the same key."""
    mine = replace(SERVICES["flowmusic"], path="/v9/flowmusic")
    with (
        FakeUseapi({"flowmusic": {"a@example.com": 4}}, services=[mine]) as fake,
        AccountPool(mine, token=fake.token, base_url=fake.url) as pool,
    ):
        assert pool.stats().capacity == 4
