"""What all tests share: a clean environment, no way out of this machine, patience for threads."""

from __future__ import annotations

import faulthandler
import ipaddress
import logging
import os
import signal
import socket
import sys

import pytest
import structlog
from hypothesis import settings
from turns import FLEETS, Turns

from balancer.testing import ManualClock

# No example is judged by its time. CI tries the same examples each time: a red run is never luck.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

_STDERR = pytest.StashKey[int]()

SETTINGS = ("USEAPI_TOKEN", "USEAPI_BASE_URL", "BALANCER_STORE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Hide the developer's own settings, proxies and logging from each test, and what others did to them."""
    logger = logging.getLogger("balancer")
    before = logger.level, logger.propagate, logger.disabled, [*logger.handlers]
    for name in (*SETTINGS, *PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    yield
    structlog.reset_defaults()
    level, logger.propagate, logger.disabled, logger.handlers[:] = before
    logger.setLevel(level)


def _on_this_machine(address) -> bool:
    if isinstance(address, str | bytes):  # a socket file
        return True
    host = address[0]
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def _guarded(connect):
    def connect_if_local(self, address):
        if not _on_this_machine(address):
            raise AssertionError(f"a test tried to connect to {address!r}, which is not this machine")
        return connect(self, address)

    return connect_if_local


@pytest.fixture(autouse=True, scope="session")
def no_way_out():
    """Fail a test that would send anything beyond this machine, as one does that forgets its base_url."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def pytest_configure(config):
    """Keep the way to the real standard error, which tests capture; and hear Ctrl-C.

    What a shell starts in the background does not, nor would any program that a test starts and interrupts.
    """
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno())
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config):
    """Close it."""
    os.close(config.stash[_STDERR])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """End a worker whose test neither ends nor lets itself be ended, so that the others are still judged.

    pytest-timeout raises in a test once; what waits after that, in a fixture or a ``finally``, waits on.
    """
    mark = item.get_closest_marker("timeout")
    limit = mark.args[0] if mark else float(item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit + 60, file=item.config.stash[_STDERR], exit=True)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Failures:
    """Shows each failure when it is there: a run that is cut off says nothing at its end."""

    def __init__(self, reporter):
        self._reporter = reporter

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._reporter.write_line(f"\n{report.nodeid} failed in its {report.when}", red=True)
            self._reporter.write_line(report.longreprtext)


def pytest_sessionstart(session):
    """Watch the reports where those of all workers arrive."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Failures(reporter))


def pytest_collection_modifyitems(items):
    """Begin with the fleets: they take longest, and mostly wait while other workers compute."""
    items.sort(key=lambda item: item.path.stem not in FLEETS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the fleets apart, which would be in each other's way."""
    return Turns(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture
def clock():
    """Return the clock that a test moves."""
    return ManualClock()


@pytest.fixture
def tell(record_property):
    """Return what puts a measured figure under the results, wherever the test itself ran."""
    return lambda text: record_property("told", text)


def pytest_terminal_summary(terminalreporter):
    """Show what tests have told."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    figures = [
        text
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "told" and report.when == "call"
    ]
    if figures:
        terminalreporter.section("measured")
        for text in figures:
            terminalreporter.line(text)
