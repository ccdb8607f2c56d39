"""What is logged, where it goes, and that it never gets in the way."""

from __future__ import annotations

import gc
import io
import json
import logging
import sys
import threading

import pytest
import structlog
from crew import Played, in_line, result
from stepping import until
from structlog.testing import capture_logs

from balancer import SERVICES, AccountPool, AcquireTimeout, HttpSource, SourceUnavailable
from balancer.engine import pool_core as core


@pytest.fixture
def noisy(clock):
    """Return what makes a pool do one thing of each kind that is logged."""

    def make():
        source = Played(a=2, b={"maxJobs": 1, "error": "logged out"})
        pool = AccountPool(source=source, clock=clock)
        pool.refresh()
        pool.acquire(label="lost")
        pool.stats()
        with pool.acquire() as lease:
            lease.report((200, {}, '{"jobid": "job-1"}'))
        with pool.acquire() as lease:
            lease.bind("job-2", ttl=5)
        clock.advance(5)
        pool.stats()
        with pool.acquire() as lease:
            lease.report((429, {"Retry-After": "5"}, ""))
        source.trouble = SourceUnavailable("away")
        with pytest.raises(SourceUnavailable):
            pool.refresh()
        until(lambda: not any(thread.name == "balancer-fetch" for thread in threading.enumerate()))
        return pool

    return make


NAMES = [
    "configuration_fetched",
    "account_broken",
    "lease_abandoned",
    "slot_ended_before_job",
    "lease_expired",
    "account_cooling",
    "configuration_failed",
]


def test_events_have_stable_names_levels_and_keys(noisy):
    """Dashboards and alerts are built on these."""
    with capture_logs() as events:
        noisy()
    facts = {"lease", "account", "job_id", "label", "state", "held_s"}
    assert {
        (event["event"], event["log_level"]): set(event) - {"event", "log_level"} for event in events
    } == {
        ("configuration_fetched", "debug"): {"service", "accounts"},
        ("account_broken", "warning"): {"service", "account", "reason"},
        ("lease_abandoned", "warning"): {"service", *facts},
        ("slot_ended_before_job", "warning"): {"service", "lease", "job_id", "hint"},
        ("lease_expired", "warning"): {"service", *facts},
        ("account_cooling", "info"): {"service", "account", "scope", "seconds", "reason"},
        ("configuration_failed", "warning"): {"service", "error", "kind"},
    }
    assert list(dict.fromkeys(event["event"] for event in events)) == NAMES
    assert {event["service"] for event in events} == {"custom"}


def test_without_a_configuration_only_warnings_are_seen_and_only_on_stderr(noisy, capfd):
    """A library that prints to stdout, or chats at info, breaks the pipes of its users."""
    noisy()
    out, err = capfd.readouterr()
    assert out == ""
    seen = [line for line in err.splitlines() if line]
    assert len(seen) == 5
    assert all("level='warning'" in line and "timestamp=" in line for line in seen)
    assert not any(name in err for name in ("account_cooling", "configuration_fetched"))


def test_an_application_that_has_configured_structlog_gets_every_event_its_own_way(noisy, capfd):
    """Levels, form and place are the application's, also when it configures after making the pool."""
    pool = AccountPool(source={"a": 1})
    lines = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(lines),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    pool.refresh()
    noisy()
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert list(dict.fromkeys(event["event"] for event in events)) == NAMES[1:]
    assert "info" in {event["level"] for event in events}
    assert capfd.readouterr().err == ""


def test_nothing_is_logged_while_free_slots_are_handed_out():
    """The road without waiting makes no event at all."""
    pool = AccountPool(source={"a": 2})
    pool.refresh()
    with capture_logs() as events:
        for _ in range(100):
            with pool.acquire(), pool.acquire(account="a"):
                pass
            with pool.acquire(), pool.acquire(), pytest.raises(AcquireTimeout):
                pool.acquire(timeout=0)
    assert events == []


def fail(logger, name, event):
    """Do as a processor with a bug does."""
    raise RuntimeError("a bug in the application's logging")


def test_a_processor_that_fails_costs_no_slot(noisy, clock):
    """An event that cannot be written is lost, and nothing else is."""
    structlog.configure(processors=[fail])
    pool = noisy()
    assert pool.stats().in_flight == 0
    clock.advance(5)
    with pool.acquire(timeout=0):
        assert pool.stats().in_flight == 1


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_a_process_without_stderr_works(noisy, monkeypatch, stderr):
    """Windowed programs have none, daemons close it."""
    if stderr == "closed":
        stderr = io.StringIO()
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert noisy().stats().in_flight == 0


def test_events_are_emitted_outside_the_lock(clock):
    """A processor may use the pool: it is called when no lock is held."""
    pool = AccountPool(source={"a": 1}, clock=clock)
    seen = []

    def look(logger, name, event):
        seen.append((event["event"], pool.stats().in_flight, threading.get_ident()))
        raise structlog.DropEvent

    structlog.configure(processors=[look])
    pool.refresh()
    pool.acquire()
    pool.holders()
    assert ("lease_abandoned", 0, threading.get_ident()) in seen


def test_a_waiter_that_is_served_by_an_abandoned_lease_is_told_of_in_one_event(clock):
    """One warning for one lost handle, whatever follows from it."""
    pool = AccountPool(source={"a": 1}, clock=clock)
    leases = [pool.acquire()]
    (waiter,) = in_line(pool, 1)
    with capture_logs() as events:
        leases.clear()
        pool.stats()
        lease = result(waiter)
        pool.stats()
    assert [event["event"] for event in events] == ["lease_abandoned"]
    assert lease.release()


def made(make):
    """Return the events that making a pool causes."""
    with capture_logs() as events:
        pool = make()
    return pool, [event["event"] for event in events]


def test_two_open_memory_pools_over_the_same_accounts_are_warned_about():
    """Each would have the whole capacity: the second is told, unless the first is closed."""

    def make(service="flowmusic", token="user:77-x", **options):
        return made(lambda: AccountPool(service, token=token, base_url="http://127.0.0.1:9", **options))

    first, events = make()
    assert events == []
    assert make()[1] == ["duplicate_memory_pool"]
    assert make(token="user:77-rotated")[1] == ["duplicate_memory_pool"]
    assert make(token="user:78-x")[1] == []
    assert make(service="mureka")[1] == []
    first.close()


def test_a_pool_over_a_source_made_by_hand_is_the_same_customers():
    """Whoever brings a session of their own still counts the same accounts."""
    options = {"token": "user:79-x", "base_url": "http://127.0.0.1:9"}
    source, events = made(lambda: AccountPool(source=HttpSource("flowmusic", **options)))
    assert events == []
    assert made(lambda: AccountPool("flowmusic", **options))[1] == ["duplicate_memory_pool"]
    source.close()


def test_closed_and_forgotten_pools_are_no_rivals():
    """Only pools that can grant count."""

    def make():
        return made(lambda: AccountPool("flowmusic", token="user:80-x", base_url="http://127.0.0.1:9"))

    pool, _ = make()
    pool.close()
    again, events = make()
    assert events == []
    del pool, again
    gc.collect()
    assert make()[1] == []


def test_pools_over_sources_of_the_users_own_are_no_rivals():
    """Nobody knows whose accounts a mapping lists."""
    pools = [AccountPool(source={"a": 1})]
    pool, events = made(lambda: AccountPool(source={"a": 1}))
    assert events == []
    assert len([*pools, pool]) == 2


def test_a_retired_service_is_announced_once_a_process(monkeypatch):
    """Its row says since when and why; further pools do not repeat it."""
    monkeypatch.setattr(core, "_announced", set())
    row = next(row for row in SERVICES.values() if row.retired)
    with capture_logs() as events:
        pools = [AccountPool(row.key, source={"a": 1}) for _ in range(3)]
    assert [(event["event"], event["service"], event["why"]) for event in events] == [
        ("service_retired", row.key, row.retired)
    ]
    assert len(pools) == 3
