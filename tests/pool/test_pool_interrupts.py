"""KeyboardInterrupt at every instruction of the library, between the call of acquire and its return."""

from __future__ import annotations

import _thread
import dis
import functools
import itertools
import os
import signal
import sys
import threading
import time

import pytest
import structlog
from crew import in_line, queued, result, start
from own_code import is_own

from balancer import AccountPool, AcquireTimeout, events
from balancer.testing import ManualClock


class Trigger:
    """Trips SIGINT by ``-trigger``: an instruction that, unlike a call, lets no signal in by itself.

    So the interrupt arrives where the interpreter next looks for signals in the traced code, as one
    from the keyboard would, and not in the tracing function.
    """

    __neg__ = staticmethod(functools.partial(_thread.interrupt_main))


# Struck in a finalizer, the interruption is lost, as everywhere in Python.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EACH = "opcode" if sys.version_info < (3, 13) else "line"
"""What is traced: from 3.13 on, instructions are told of only from a frame's second call on."""
LOOKS = {dis.opmap[name] for name in dis.opmap if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))}
code_of = functools.cache(lambda code: code.co_code)


def looks_for_signals(frame):
    """Return whether the interpreter looks for signals at the instruction that comes next."""
    return EACH == "line" or code_of(frame.f_code)[frame.f_lasti] in LOOKS


@pytest.fixture(autouse=True)
def quiet():
    """Keep the warnings about abandoned leases, which are due here, to ourselves."""
    with structlog.testing.capture_logs():
        yield


class Strike:
    """Has KeyboardInterrupt come at the n-th place inside the package where this thread could get it."""

    def __init__(self, instruction):
        self.left, self.struck, self.trigger = instruction, False, Trigger()

    def __enter__(self):
        sys._getframe().f_trace_opcodes = EACH == "opcode"  # Python 3.12 wants one to ask before it traces
        sys.settrace(self._enter)
        return self

    def __exit__(self, *error):
        sys.settrace(None)

    def _enter(self, frame, event, arg):
        if not is_own(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = EACH == "opcode"
        return self._step

    def _step(self, frame, event, arg):
        if event == EACH and not self.struck and looks_for_signals(frame):
            self.left -= 1
            if self.left == 0:
                self.struck = True
                sys.settrace(None)  # the next call of this would be where the signal is seen
                self.pulled = -self.trigger
        return self._step


def strikes(act):
    """Call ``act`` once for each place where it can be struck, until it runs through unharmed."""
    for instruction in itertools.count(1):
        strike = Strike(instruction)
        act(strike)
        if not strike.struck:
            return instruction
    return None


def pool_with(capacity, **options):
    """Return a pool whose table is loaded and fresh for ever."""
    options = {"ttl": 1e9, "clock": ManualClock(), "reconcile_every": None} | options
    pool = AccountPool(source={"a": capacity}, **options)
    pool.refresh()
    return pool


def assert_whole(pool, capacity):
    """Assert that nothing is in flight, nobody waits, and every slot can be had exactly once."""
    stats = pool.stats()
    assert (stats.in_flight, stats.waiting, stats.free) == (0, 0, capacity)
    leases = [pool.acquire(timeout=0) for _ in range(capacity)]
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert all(lease.release() for lease in leases)


@pytest.mark.parametrize(
    "want",
    [{}, {"timeout": 0}, {"account": "a"}, {"where": bool, "label": "x"}, {"max_jobs": 1}],
    ids=["plain", "zero", "pinned", "where", "max_jobs"],
)
@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
def test_an_interrupted_acquire_leaves_no_slot_taken(want, strategy):
    """P-1: wherever it is struck between call and return, in flight ends at 0."""
    pool = pool_with(2, strategy=strategy)

    def act(strike):
        lease = None
        try:
            with strike:
                lease = pool.acquire(**want)
        except KeyboardInterrupt:
            pass
        if lease is not None:
            lease.release()
        assert_whole(pool, 2)

    assert strikes(act) > 5


def test_an_interrupted_block_leaves_no_slot_taken():
    """P-1, P-4: the same for the way into the block and the way out of it."""
    pool = pool_with(2)

    def act(strike):
        try:
            with strike, pool.acquire():
                pass
        except KeyboardInterrupt:
            pass
        assert_whole(pool, 2)

    assert strikes(act) > 5


def test_an_interrupted_acquire_of_a_full_pool_leaves_nobody_in_line():
    """P-1, P-7: a caller struck on its way into or out of the line is not handed a slot later."""
    pool = pool_with(1)

    def act(strike):
        lease = pool.acquire(timeout=0)
        try:
            with strike, pytest.raises(AcquireTimeout):
                pool.acquire(timeout=0)
        except KeyboardInterrupt:
            pass
        assert pool.stats().waiting == 0
        assert lease.release()
        assert_whole(pool, 1)

    assert strikes(act) > 30


def test_an_interrupted_release_frees_its_slot_or_leaves_the_lease_alive():
    """P-2: whatever line of a release is struck, releasing again ends it, and once only counts."""
    pool = pool_with(2)

    def act(strike):
        lease = pool.acquire()
        try:
            with strike:
                lease.release()
        except KeyboardInterrupt:
            lease.release()
        assert_whole(pool, 2)

    assert strikes(act) >= 2


def test_an_interrupted_release_does_not_strand_those_in_line():
    """P-2, P-33: the caller behind gets the slot, by that release or by the next operation."""
    pool = pool_with(1)

    def act(strike):
        lease = pool.acquire()
        (waiter,) = in_line(pool, 1)
        try:
            with strike:
                lease.release()
        except KeyboardInterrupt:
            lease.release()
            pool.holders()
        assert result(waiter).release()
        assert_whole(pool, 1)

    assert strikes(act) > 20


@pytest.mark.parametrize(
    "end",
    [
        lambda pool, lease: lease.bind("job"),
        lambda pool, lease: lease.report((200, {}, '{"jobid": "job"}')),
        lambda pool, lease: lease.report((429, {"Retry-After": "5"}, "")),
        lambda pool, lease: lease.report((500, {}, "")),
        lambda pool, lease: pool.release(lease.id),
        lambda pool, lease: pool.cool("a", 5),
    ],
    ids=["bind", "accepted", "busy", "ambiguous", "by id", "cool"],
)
def test_other_operations_may_be_interrupted_too(end):
    """P-1: bind, report, cool: the ledger is whole afterwards, and the slot can be freed."""
    clock = ManualClock()
    pool = pool_with(2, clock=clock)

    def act(strike):
        lease = pool.acquire()
        try:
            with strike:
                end(pool, lease)
        except KeyboardInterrupt:
            pass
        lease.release()
        pool.release(job_id="job")
        pool.reset("a")
        clock.advance(601)  # what was remembered of the job is forgotten
        assert_whole(pool, 2)

    assert strikes(act) > 10


def test_a_refresh_may_be_interrupted_while_leases_are_out():
    """P-1, P-52: whoever is struck while a table is put in force, counts stay right."""
    table = {"a": 1}
    pool = AccountPool(source=table, clock=ManualClock(), ttl=1e9)
    lease = pool.acquire()

    def act(strike):
        table.update(a=2 if table["a"] == 1 else 1)
        core = pool._core
        try:
            with strike:
                core.refresher._put_in_force(core.refresher._read_table())
        except KeyboardInterrupt:
            pass
        pool.refresh()
        stats = pool.stats()
        assert (stats.in_flight, stats.free) == (1, table["a"] - 1)
        assert stats.capacity == table["a"]

    assert strikes(act) > 30
    assert lease.release()


def test_a_thread_that_is_struck_does_not_keep_the_lock():
    """P-1: afterwards other threads can use the pool."""
    pool = pool_with(2)

    def act(strike):
        try:
            with strike:
                pool.acquire(account="a").release()
        except KeyboardInterrupt:
            pass
        assert result(start(pool.acquire, timeout=0)).release()

    assert strikes(act) > 20


def test_an_interrupted_wait_leaves_the_line():
    """P-1, P-7: who gives up by Ctrl-C is not handed the slot; whoever stands behind gets it."""
    pool = pool_with(1)
    lease = pool.acquire()

    def strike():
        queued(pool, 1)
        behind = in_line(pool, 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return behind

    striker = start(strike)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    (behind,) = result(striker)
    assert pool.stats().waiting == 1
    lease.release()
    assert result(behind).release()
    assert_whole(pool, 1)


def test_an_interruption_that_races_the_hand_over_loses_no_slot():
    """P-1, P-7: a slot released at the very moment of Ctrl-C is the caller's, or goes back."""
    pool, outcomes = pool_with(1), set()

    def strike(lease, pause):
        queued(pool, 1)
        lease.release()
        for _ in range(pause):
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    for number in range(100):
        lease, mine = pool.acquire(timeout=0), None
        striker = start(strike, lease, number * 20)
        try:
            mine = pool.acquire()
            outcomes.add("served")
            striker.result(20)
        except KeyboardInterrupt:
            outcomes.add("interrupted")
        if mine is not None:
            mine.release()
        del mine
        striker.result(20)
        assert_whole(pool, 1)
    assert "interrupted" in outcomes


def test_an_interrupted_event_holds_up_nobody():
    """P-1: what one thread was struck in saying delays neither others nor a fork."""

    def free():
        events.emit("info", "anything")
        child = os.fork()
        if not child:
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    def act(strike):
        try:
            with strike:
                events.emit("info", "anything")
        except KeyboardInterrupt:
            pass
        began = time.monotonic()
        assert result(start(free))
        assert time.monotonic() - began < events._PATIENCE

    assert strikes(act) > 3
