"""Code that runs in the middle of an operation on a SQLite file, in the thread that carries it out.

A finalizer, a signal handler or a tracer may come at any moment of it: under the lock of the process's
threads, in a transaction, in the thread that queues. What can be done later is, and nothing waits for itself.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time

import pytest
from sqlite_files import take
from sqlite_workers import connect, until
from test_reentrance import program, ran

from balancer.rules import operations as ops
from balancer.stores.base import ReentrantCall
from balancer.stores.sqlite import database

DATABASE = database.__file__
REFUSED = {
    "acquire": ops.Acquire(key="one-2"),
    "release": ops.Release(key="one-1"),
    "bind": ops.Bind("one-1", ("job",), 60.0),
    "renew": ops.Renew("one-1", None, 60.0),
    "report": ops.Report(key="one-1", account="a", accepted=True),
    "cool": ops.Cool(account="a", seconds=1.0, reason="by hand"),
    "reset": ops.Reset("a"),
    "read": ops.ReadAll(),
}


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def file(tmp_path):
    """Return the URL of a file for a program of its own."""
    return f"sqlite://{tmp_path / 'slots.db'}"


def within(backend, strike):
    """Carry an operation out, in the middle of which ``strike()`` is called once; return what it returned."""
    said, now = [], backend._now

    def interrupt():
        backend._now = now
        said.append(strike())
        return now()

    backend._now = interrupt
    backend.call(ops.Acquire(key="one-1", draw=0.5))
    return said[0]


def taken_by_another_thread(backend, key):
    """Return the account that another thread takes a lease on; nothing if it fails or hangs."""
    got = []
    thread = threading.Thread(target=lambda: got.append(take(backend, key)))
    thread.start()
    thread.join(30)
    return got


def refused(backend, operation):
    """Return the error that an operation is refused with."""
    with pytest.raises(RuntimeError) as caught:
        backend.call(operation, 5.0)
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_operation_in_the_middle_of_another_is_refused_at_once(backend, name):
    """It cannot wait for the one that its own thread is in the middle of; that one goes on."""
    begun = time.monotonic()
    error = within(backend, lambda: refused(backend, REFUSED[name]))
    assert time.monotonic() - begun < 1.0
    assert isinstance(error, ReentrantCall)
    assert "in the middle" in str(error)
    assert set(backend.call(ops.ReadAll()).result.rows) != set()
    assert backend.call(ops.Release(key="one-1")).result is not None


def test_look_in_the_middle_of_an_operation_sees_what_the_file_holds(backend):
    """A look needs nothing that the operation has: it is at the moment before that."""
    assert take(backend, "one-0") == "a"

    def look():
        return backend.call(ops.Inspect(lambda ledger: sorted(ledger.records))).result

    assert within(backend, look) == ["one-0"]
    assert look() == ["one-0", "one-1"]


def test_look_in_the_middle_of_the_first_operation_sees_an_empty_file(tmp_path):
    """Where nothing was written yet there is nothing to be seen, and no error."""
    backend = connect(tmp_path / "new.db", "one")
    seen = within(backend, lambda: backend.call(ops.Inspect(lambda ledger: len(ledger.records))).result)
    assert seen == 0
    backend.close()


def test_close_in_the_middle_of_an_operation_leaves_it_its_transaction(backend, path):
    """The operation is carried out as a whole, and the connection is closed once it is over."""
    begun = time.monotonic()
    assert within(backend, backend.close) is None
    assert time.monotonic() - begun < 1.0
    until(lambda: backend._database._session is None)
    assert [lease.key for lease in backend.call(ops.ReadAll()).result.rows] == ["one-1"]


def test_the_file_of_another_pool_is_not_waited_for_either(backend, path):
    """Two pools of one process may share a file, and one thread be in the middle of the one's operation."""
    other = connect(path, "two")
    assert take(other, "two-1") == "a"
    begun = time.monotonic()
    within(backend, lambda: refused(other, ops.Release(key="two-1")))
    assert within(backend, lambda: other.call(ops.Inspect(lambda ledger: len(ledger.records))).result) == 2
    within(backend, other.close)
    assert time.monotonic() - begun < 1.5
    until(lambda: other._database._session is None)
    other.close()


def test_another_thread_waits_for_the_one_that_was_struck(backend):
    """Who is not in the middle of anything is served as ever, once the others are done."""
    got = []
    thread = threading.Thread(target=lambda: got.append(take(backend, "one-2")))

    def strike():
        thread.start()
        thread.join(0.05)
        return list(got)

    assert within(backend, strike) == []
    thread.join(30)
    assert got == ["a"]


def test_an_interrupted_operation_leaves_the_file_to_the_others(backend):
    """An exception from a handler undoes the operation, and no lock stays behind."""

    def strike():
        raise Interrupted

    now = backend._now
    with pytest.raises(Interrupted):
        within(backend, strike)
    backend._now = now
    assert taken_by_another_thread(backend, "one-2") == ["a"]
    assert take(backend, "one-3") == "a"


@pytest.mark.parametrize(
    ("struck", "actions"),
    [
        ("acquire, in a file", ["release", "leave a block", "drop", "collect a task"]),
        ("acquire, in a file", ["stats", "close", "bind", "report"]),
        ("acquire, in a file", ["acquire", "cool", "renew", "looks"]),
        ("acquire, by the queue's thread", ["release", "stats", "close", "bind", "cool"]),
        ("release, in a file", ["release", "stats", "close"]),
        ("close, in a file", ["release", "drop", "stats", "close", "acquire"]),
        ("first acquire", ["release by id", "stats", "close"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_whatever_is_done_in_the_middle_of_an_operation_neither_waits_nor_is_lost(file, struck, actions):
    """At each moment of an operation, each thing that people do is done, noted or refused, at once."""
    ran("reentrance_worker.py", file, struck, *actions)


def test_a_signal_handler_may_use_the_pools_that_its_process_is_busy_with(file):
    """Hundreds of signals amid operations, on two pools of one file: none waits for its own thread."""
    program(
        f"""
import signal, time
from balancer import AccountPool, LeaseLost
def pool(name):
    made = AccountPool(name, source={{"a": 4, "b": 4}}, ttl=1e9, reconcile_every=None, store={file!r})
    made.refresh()
    return made
pools, leases, struck, longest = [pool("one"), pool("two")], [], 0, 0.0
def handle(*_):
    global struck, longest
    struck, begun = struck + 1, time.monotonic()
    for pool in pools:
        pool.stats()
        for act in (lambda: pool.cool("a", 0.001), lambda: pool.acquire(account="a", timeout=0).release()):
            try:
                act()
            except RuntimeError as error:
                assert "in the middle" in str(error)
            except Exception as error:
                assert "account-" not in str(error)
    if leases:
        leases.pop().release()
    longest = max(longest, time.monotonic() - begun)
    signal.setitimer(signal.ITIMER_REAL, 0.003)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.003)
end = time.monotonic() + 10
while struck < 300 and time.monotonic() < end:
    for each in pools:
        if not leases:
            leases.append(each.acquire(account="b", timeout=5))
        with each.acquire(account="b", timeout=5):
            pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert struck > 50
assert longest < 1.5, longest
while leases:
    leases.pop().release()
end = time.monotonic() + 5
while any(each.stats().in_flight for each in pools):
    assert time.monotonic() < end, [each.holders() for each in pools]
    time.sleep(0.01)
for each in pools:
    each.close()
"""
    )


def interrupt_at(moment, act):
    """Interrupt ``act()`` where a signal may be seen for the ``moment``-th time. False: it is over before."""
    left = moment

    def strike(frame, event, _):
        nonlocal left
        if event in {"call", "c_return"} and frame.f_code.co_filename == DATABASE:
            left -= 1
            if not left:
                raise Interrupted

    sys.setprofile(strike)
    try:
        act()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    return left <= 0


def test_an_interruption_at_any_moment_leaves_the_file_to_this_thread_and_the_others(backend):
    """Neither the lock of the threads nor the mark of this one stays behind, however late it comes."""
    for moment in itertools.count(1):
        number = 3 * moment
        struck = interrupt_at(moment, lambda number=number: take(backend, f"one-{number}"))
        assert taken_by_another_thread(backend, f"one-{number + 1}") == ["a"], f"moment {moment}"
        for key in (f"one-{number}", f"one-{number + 1}"):
            backend.call(ops.Release(key=key))
        if not struck:
            break
    assert moment > 5
