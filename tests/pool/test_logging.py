"""What is logged, where it goes, and that it never gets in the way."""

from __future__ import annotations

import gc
import io
import json
import logging
import re
import sys
import threading
from pathlib import Path

import pytest
import structlog
from crew import Played, in_line, result
from stepping import until
from structlog.testing import capture_logs

from balancer import SERVICES, AccountPool, AcquireTimeout, HttpSource, SourceUnavailable, events
from balancer.engine import pool_core


def fetched():
    """Wait until those who fetched have told of it."""
    until(lambda: not any(thread.name == "balancer-fetch" for thread in threading.enumerate()))


@pytest.fixture
def noisy(clock):
    """Return what makes a pool do one thing of each kind that is logged."""

    def make():
        source = Played(a=2, b={"maxJobs": 1, "error": "logged out"})
        pool = AccountPool(source=source, clock=clock)
        pool.refresh()
        fetched()
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
        fetched()
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


@pytest.fixture
def bare(monkeypatch):
    """Return what has logging be as where nobody has set it up: without the handlers that pytest adds."""
    return lambda: monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_without_a_configuration_only_warnings_are_seen_and_only_on_stderr(noisy, bare, capfd):
    """A library that prints to stdout, or chats at info, breaks the pipes of its users."""
    bare()
    noisy()
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == [
        name for name in NAMES if name not in ("account_cooling", "configuration_fetched")
    ]
    assert "account_broken service='custom' account='b' reason='logged out'" in err.splitlines()


def test_an_application_of_the_standard_library_gets_every_event_as_a_record(noisy, caplog):
    """Levels are as of the table of events; the keys are attributes, for handlers that write JSON."""
    caplog.set_level(logging.DEBUG, logger="balancer")
    noisy()
    ours = [record for record in caplog.records if record.name == "balancer"]
    assert list(dict.fromkeys(record.event for record in ours)) == NAMES
    cooling = next(record for record in ours if record.event == "account_cooling")
    assert (cooling.levelname, cooling.service, cooling.seconds) == ("INFO", "custom", 5.0)
    assert cooling.getMessage().startswith(
        "account_cooling service='custom' account='a' scope=None seconds=5.0"
    )


def test_records_of_one_event_have_one_text(noisy, caplog):
    """Tools that group records by their text keep an event of two accounts together."""
    pool = AccountPool(source={id: {"maxJobs": 1, "error": f"{id} is out"} for id in "ab"})
    pool.refresh()
    fetched()
    texts = [record.msg for record in caplog.records if record.event == "account_broken"]
    assert len(texts) == 2
    assert len(set(texts)) == 1


def test_levels_and_handlers_of_the_standard_library_are_heeded(noisy, bare, capfd):
    """Whoever sets the logger to errors hears no warnings; a handler of its own is all that is written to."""
    bare()
    logger, lines = logging.getLogger("balancer"), io.StringIO()
    handler = logging.StreamHandler(lines)
    logger.setLevel(logging.ERROR)
    try:
        noisy()
        assert capfd.readouterr().err == ""
        logger.setLevel(logging.NOTSET)
        logger.addHandler(handler)
        noisy()
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
    assert "account_broken" in lines.getvalue()
    assert capfd.readouterr().err == ""


def test_no_key_of_an_event_is_a_name_that_records_have_already():
    """The standard library refuses such a record, and the event would be lost."""
    taken = {*vars(logging.makeLogRecord({})), "message", "asctime", "event"}
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")
    rows = re.findall(r"^\| `\w+` \|[^|]*\|([^|]*)\|", text, re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert "hint" in keys
    assert keys & taken == set()


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


class Calling(logging.Handler):
    """Calls a function with the name of each event."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def emit(self, record):
        self.call(record.event)


@pytest.fixture(params=["structlog", "logging"])
def on_event(request):
    """Return what has a function called with the name of each event, where it is written."""
    logger, handlers = logging.getLogger("balancer"), []

    def listen(call):
        def process(_, __, event):
            call(event["event"])
            raise structlog.DropEvent

        if request.param == "structlog":
            structlog.configure(processors=[process])
        else:
            handlers.append(Calling(call))
            logger.addHandler(handlers[-1])

    yield listen
    for handler in handlers:
        logger.removeHandler(handler)


def test_events_are_emitted_outside_the_lock(clock, on_event):
    """A processor or a handler may use the pool: it is called when no lock is held."""
    pool = AccountPool(source={"a": 1}, clock=clock)
    seen = []
    on_event(lambda event: seen.append((event, pool.stats().in_flight, threading.get_ident())))
    pool.refresh()
    pool.acquire()
    pool.holders()
    assert ("lease_abandoned", 0, threading.get_ident()) in seen


def test_a_handler_may_do_with_the_pool_what_it_likes(clock, on_event):
    """It may acquire, release, look, close, and cause the next event."""
    pool = AccountPool(source={"a": 1}, clock=clock)
    seen = []

    def use(event):
        seen.append(event)
        if event == "lease_abandoned" and len(seen) < 10:
            with pool.acquire(timeout=0) as lease:
                lease.report((429, {"Retry-After": "5"}, ""))
            pool.reset("a")
            pool.acquire(timeout=0)  # dropped as well
            pool.holders()

    pool.refresh()
    on_event(use)
    pool.acquire()
    pool.holders()
    pool.close()
    assert seen.count("lease_abandoned") > 1
    assert pool.stats().in_flight == 0


def test_a_processor_may_wait_for_another_thread_that_uses_the_pool(clock):
    """Nobody waits to write an event: the other thread's own event does not wait for this one."""
    pool = AccountPool(source={"a": 1}, clock=clock)
    pool.refresh()
    outcomes = []

    def other():
        pool.acquire(timeout=0)
        return len(pool.holders())

    def use(event):
        if event == "lease_abandoned" and not outcomes:
            outcomes.append(None)
            thread = threading.Thread(target=lambda: outcomes.append(other()))
            thread.start()
            thread.join(events._PATIENCE / 2)
            outcomes.append(thread.is_alive())

    def process(_, __, event):
        use(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[process])  # a handler of the standard library would hold its own lock
    pool.acquire()
    pool.holders()
    assert outcomes == [None, 0, False]


def test_a_broken_account_is_told_of_once_and_once_more_when_it_is_well(clock):
    """Whatever else changes in its entry meanwhile, its reason included, is no news."""
    source = {"a": 1, "b": {"maxJobs": 1, "error": "logged out", "credits": 9}}
    pool = AccountPool(source=source, clock=clock)
    with capture_logs() as events:
        for number in range(5):
            source["b"] = {"maxJobs": 1, "error": f"logged out, try {number}", "credits": number}
            pool.refresh()
            fetched()
        source["b"] = {"maxJobs": 1, "credits": 1}
        pool.refresh()
        source["b"] = {"maxJobs": 2, "credits": 2}
        pool.refresh()
        source["b"] = {"maxJobs": 2, "error": "logged out again"}
        pool.refresh()
        del source["b"]
        pool.refresh()
        source["b"] = {"maxJobs": 2, "error": "new, and broken"}
        pool.refresh()
        fetched()
    assert [(event["event"], event.get("reason")) for event in events if event["log_level"] == "warning"] == [
        ("account_broken", "logged out, try 0"),
        ("account_recovered", None),
        ("account_broken", "logged out again"),
        ("account_broken", "new, and broken"),
    ]


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
    monkeypatch.setattr(pool_core, "_announced", set())
    row = next(row for row in SERVICES.values() if row.retired)
    with capture_logs() as events:
        pools = [AccountPool(row.key, source={"a": 1}) for _ in range(3)]
    assert [(event["event"], event["service"], event["why"]) for event in events] == [
        ("service_retired", row.key, row.retired)
    ]
    assert len(pools) == 3
