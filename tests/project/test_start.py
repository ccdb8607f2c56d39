"""What a program loads that imports the library: what it uses, and the rest when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import balancer

USE = """
from balancer import AccountPool
pool = AccountPool(source={"account-a": 2})
with pool.acquire() as lease:
    lease.report((200, {}, ""))
pool.refresh()
pool.stats()
pool.close()
"""

FORK = """
import logging, os, signal, sys, threading, time
from balancer import events

entered, seen = threading.Event(), []

class Slow(logging.StreamHandler):
    def emit(self, record):
        if not seen:
            seen.append(record)
            with LOCK:
                entered.set()
                time.sleep(0.2)
                super().emit(record)
        else:
            with LOCK:
                super().emit(record)

LOCK = threading.Lock()
logging.getLogger("balancer").addHandler(Slow())
threading.Thread(target=events.emit, args=("warning", "from_the_parent")).start()
entered.wait()
child = os.fork()
signal.alarm(30)
events.emit("warning", "from_both")
if child:
    os.waitpid(child, 0)
"""

CROWD = """
import logging, os, signal, threading
from balancer import events

LOCK, over = threading.Lock(), threading.Event()

class Locked(logging.Handler):
    def emit(self, record):
        with LOCK:
            os.write(1, record.getMessage().encode() + b"\\n")

def chat():
    while not over.is_set():
        events.emit("warning", "chat")
        over.wait(0.0005)

logging.getLogger("balancer").addHandler(Locked())
crowd = [threading.Thread(target=chat) for _ in range(4)]
for one in crowd:
    one.start()
for _ in range(100):
    if not (child := os.fork()):
        signal.alarm(10)
        events.emit("warning", "child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
"""

SLOW = """
import io, os, sys, threading, time
import structlog
from balancer import events

entered = threading.Event()

class Slow(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        entered.set()
        time.sleep(0.2)
        return os.write(1, data)

sys.stdout = io.TextIOWrapper(io.BufferedWriter(Slow()))
structlog.configure(processors=[structlog.processors.JSONRenderer()])
threading.Thread(target=events.emit, args=("info", "said to the end"), daemon=True).start()
entered.wait()
"""

FORKING = """
import os
import structlog
from balancer import events

def fork(_, __, event):
    if not (child := os.fork()):
        raise structlog.DropEvent
    assert os.waitpid(child, 0)[1] == 0
    return event["event"]

structlog.configure(processors=[fork])
events.emit("info", "first")
events.emit("info", "second")
"""

STANDARD = """
import logging, os, sys, threading, time
from balancer import events

entered = threading.Event()

class Slow(logging.Handler):
    def emit(self, record):
        entered.set()
        time.sleep(0.2)
        os.write(1, record.getMessage().encode())

logging.getLogger().addHandler(Slow())
threading.Thread(target=events.emit, args=("warning", "said to the end"), daemon=True).start()
entered.wait()
"""

HANGING = """
import os, threading
import structlog
from balancer import events

entered = threading.Event()

def hang(_, __, event):
    if event["event"] == "first":
        entered.set()
        threading.Event().wait()
    return event["event"]

structlog.configure(processors=[hang])
events._PATIENCE = 0.05
threading.Thread(target=events.emit, args=("info", "first"), daemon=True).start()
entered.wait()
events.emit("info", "second")
child = os.fork()
if child:
    os.waitpid(child, 0)
events.emit("info", "third")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )


def loaded(code: str) -> set[str]:
    """Return the modules that are loaded once ``code`` has run."""
    done = run(f"{code}\nimport sys\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_pool_that_has_nothing_to_warn_of_loads_neither_structlog_nor_asyncio():
    """The heaviest of what the library can use is left to programs that use it."""
    modules = loaded(USE)
    assert "balancer.pool" in modules
    assert not modules & {"structlog", "asyncio", "sqlite3", "redis", "prometheus_client", "typer"}


def test_without_any_logging_of_the_application_warnings_are_seen_on_stderr():
    """By logging's own last resort, as of every library; structlog is not loaded for it."""
    done = run(
        "from balancer import events\nevents.emit('info', 'unseen')\n"
        "events.emit('warning', 'seen', why='late')\n"
        "import sys\nassert 'structlog' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "seen why='late'\n")


def test_application_that_configures_structlog_after_the_import_sees_all_events():
    """Applications import their libraries first and set up their logging afterwards."""
    setup = (
        "import balancer, structlog\nstructlog.configure(processors=[structlog.processors.JSONRenderer()])"
    )
    done = run(f"{setup}\n{USE}")
    assert done.returncode == 0, done.stderr
    assert '"event": "configuration_fetched"' in done.stdout


def test_fork_in_the_middle_of_a_warning_leaves_the_child_able_to_warn():
    """A lock that another thread held at the fork, in a handler say, is held for ever in the child."""
    done = run(FORK)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("from_the_parent") == 1
    assert done.stderr.count("from_both") == 2


def test_forks_beside_threads_that_warn_all_the_time_leave_every_child_able_to_warn():
    """However the two fall together, no fork comes into the middle of a warning."""
    done = run(CROWD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("child") == 100


@pytest.mark.parametrize("code", [SLOW, STANDARD], ids=["structlog", "logging"])
def test_process_may_end_while_another_thread_is_logging(code):
    """An interpreter aborts if it ends while a daemon thread holds the lock of a stream."""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "said to the end" in done.stdout


def test_processor_may_fork():
    """A program that is started by a processor, to send mail say, begins with a fork."""
    done = run(FORKING)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["second", "first", "second"]  # the child of the first goes on too


def test_processor_that_hangs_stops_neither_other_events_nor_forks_nor_the_end():
    """Whoever waits for it waits for a moment only."""
    done = run(HANGING)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["second", "third", "third"]


def test_every_public_name_is_listed_and_can_be_imported_at_once():
    """Those that are loaded with their first use look like all others."""
    assert set(balancer.__all__) <= set(dir(balancer))
    done = run("from balancer import *\nprint(*sorted(name for name in dir() if name[:2] != '__'))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(set(balancer.__all__) - {"__version__"})


def test_name_that_is_none_of_the_package_is_an_attribute_error():
    """``hasattr`` and typing mistakes get what they get from every module."""
    assert not hasattr(balancer, "AcountPool")
    with pytest.raises(AttributeError, match=r"'balancer' has no attribute 'AcountPool'"):
        balancer.AcountPool  # noqa: B018  # looking is the test
