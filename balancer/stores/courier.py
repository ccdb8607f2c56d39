"""The thread that speaks with a shared store on behalf of a process.

It sends what could not be sent at once, says that the process lives
(:class:`balancer.stores.pulse.Pulse`), and listens for offers, which it hands to the callers who wait
(:class:`balancer.stores.serving.Serving`). It starts with the first
need and ends by itself when there has been none for a while.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from balancer.errors import BalancerError
from balancer.rules.operations import Operation
from balancer.stores.pulse import Pulse
from balancer.stores.serving import Serving
from balancer.waiting.drivers import drive

if TYPE_CHECKING:
    from balancer.rules.records import LeaseRecord
    from balancer.stores.shared import SharedStore

_LINGER = 5.0
"""Seconds without need after which the thread ends: starting it for each lease would cost more."""
_REST = 0.5
"""Seconds between two tries while the store is away: with the time that it takes to connect, less than a
store that calls the roll waits for who lives."""
_EARLY = 0.002
"""Seconds by which the end of a sleep may be missed."""
_LAST_WORDS = 2.0
"""Seconds that a process that ends gives its couriers to send what is still to be sent."""


class Courier:
    """Mutable, and touched by any thread: the thread, what is to be sent, and what it was asked for."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._serving, self._pulse = Serving(store), Pulse(store)
        self._thread: threading.Thread | None = None
        self._queue: deque[tuple[Operation, LeaseRecord | None]] = deque()
        self._sending, self._starting = threading.Lock(), threading.Lock()
        self._closed = False
        self._stale_wants = False
        self._needed_at = -math.inf
        self._sleeps_until = math.inf
        _couriers.add(self)

    # -- called from any thread ---------------------------------------------------------------------

    def put(self, operation: Operation, record: LeaseRecord | None = None) -> None:
        """Note what is to be sent; :meth:`go` has it sent. ``row``: the lease to bring back for it."""
        self._queue.append((operation, record))

    def put_once(self, operation: Operation) -> bool:
        """Note what is to be sent, unless it was already. True: it is new."""
        new = (operation, None) not in list(self._queue)
        if new:
            self.put(operation)
        return new

    def go(self) -> None:
        """Have what was noted sent."""
        self._start()
        self._store.backend.poke()

    def send(self, operation: Operation, record: LeaseRecord | None = None) -> None:
        """Have an operation carried out as soon as possible."""
        self.put(operation, record)
        self.go()

    def mend(self) -> None:
        """Start the thread if there is something to send that an interruption left lying."""
        if self._queue and self._thread is None:
            self._start()

    def ensure(self) -> None:
        """See to it that the thread runs: somebody waits, or a lease is to be kept alive."""
        if self._thread is None and not (self._store.backend.beats or self._store.wait_queue.waiters):
            return  # nobody needs one, and who will has it started
        self._needed_at = now = time.monotonic()
        waits = self._thread is None or self._store.wait_queue.waiters
        if not waits and self._pulse.due_at >= self._sleeps_until - _EARLY:
            return  # it runs, and is up in time
        self._serving.look_before(now)
        if self._thread is None and (self._store.backend.beats or self._store.wait_queue.waiters):
            self._start()
        self.hasten()

    def hasten(self) -> None:
        """Call the thread off its listening if something comes up before it means to stop."""
        if self._thread is not None and self._wake_at(time.monotonic()) < self._sleeps_until - _EARLY:
            self._store.backend.poke()

    def look(self) -> None:
        """Have the thread look around for whoever waits."""
        self._serving.looking = True
        self._wake()

    def retell(self) -> None:
        """Have the store told again what this process waits for."""
        self._stale_wants = True
        self._wake()

    def _wake(self) -> None:
        if self._thread is not None:
            self._store.backend.poke()
        elif self._store.wait_queue.waiters:
            self._start()

    def hurry(self) -> None:
        """Have the store told at once that the process lives."""
        self._pulse.beat_at = -math.inf
        self.hasten()

    @property
    def deaf(self) -> bool:
        """Whether what is offered is of no use just now."""
        return self._serving.deaf

    # -- life -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what is to be sent. The thread goes on while leases have to be kept alive."""
        self._closed = True
        self._store.backend.leave_loops()
        self.mend()
        with self._starting:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._store.backend.poke()
            if not self._store.mine and not self._store.wait_queue.waiters:
                thread.join(_LAST_WORDS)
        self.retire()

    def retire(self) -> None:
        """Close the connections once nothing depends on them any more."""
        if self._closed and not self._store.mine:
            if self._thread is None:
                self._store.backend.close()
            else:
                self._store.backend.poke()

    def abandon(self) -> None:
        """Forget everything, in a child: it is the parent's."""
        self._queue.clear()
        _couriers.discard(self)

    def last_words(self) -> None:
        """Send what is to be sent before the process ends."""
        try:
            self._send_queued()
        except BalancerError:
            pass  # the store will find out by itself that we are dead

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            self._needed_at = time.monotonic()
            self._serving.looking = True  # what was offered before anybody listened is lost
            thread = threading.Thread(target=self._run, name="balancer-courier", daemon=True)
            try:
                self._thread = thread
                thread.start()
            except BaseException as error:
                self._thread = None
                if not isinstance(error, RuntimeError):  # no thread to be had, or the process is ending
                    raise

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        # One whose start was interrupted is not the courier, though it may run.
        while self._thread is threading.current_thread():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001  # leases depend on this thread: it must go on
                self._pulse.lost(error)
                self._serving.looking = self._stale_wants = True
                time.sleep(_REST)
            if self._ends():
                return

    def _round(self) -> None:
        self._store.drain()
        self._send_queued()
        self._pulse.beat()
        self._tell_wants()
        trouble: Exception | None = None
        offers: tuple[str, ...] = ()
        self._sleeps_until = math.inf  # first: what comes up from here on calls us off
        begun, pause = time.monotonic(), self._pause()
        self._sleeps_until = begun + pause
        try:
            offers = self._store.backend.listen(pause)
        except Exception as error:  # noqa: BLE001  # whoever waits is served even so, if more slowly
            trouble = error
        if not offers and time.monotonic() - begun < pause - _EARLY:
            self._serving.looking = True  # something may have been missed
        self._serving.serve(offers)
        if trouble is not None:
            raise trouble
        self._pulse.found()

    def _pause(self) -> float:
        """Return how long there is nothing to do but to listen."""
        if self._queue or self._serving.looking or self._stale_wants or not self._needed():
            return 0.0
        now = time.monotonic()
        return max(0.0, self._wake_at(now) - now)

    def _wake_at(self, now: float) -> float:
        # While leases are kept: they may have been dropped, and their finalizers call nobody.
        wake_at = (now if self._pulse.needed else self._needed_at) + _LINGER
        if self._store.wait_queue.waiters:
            wake_at = self._serving.next_look(now)
        return min(self._pulse.due_at, wake_at)

    def _needed(self) -> bool:
        now = time.monotonic()
        if self._queue or self._store.wait_queue.waiters or self._pulse.needed:
            self._needed_at = now
            return True
        return not self._closed and now < self._needed_at + _LINGER

    def _ends(self) -> bool:
        if self._needed():
            return False
        with self._starting:
            self._thread = None  # from here on whoever needs one starts another,
            if self._needed():  # and who found this one still there is seen here
                self._thread = threading.current_thread()
                return False
        self.retire()
        return True

    def _send_queued(self) -> None:
        if not self._sending.acquire(timeout=_LAST_WORDS):
            return
        try:
            while self._queue:
                operation, record = self._queue[0]
                drive(self._store.ask_for_sure(operation, record, limit=self._store.worker_limit))
                self._queue.popleft()
        finally:
            self._sending.release()

    def _tell_wants(self) -> None:
        if self._stale_wants:
            self._stale_wants = False
            with self._store.lock:
                wants = self._store.wants()
            self._store.tell_wants(wants)
            self._store.check_wants(wants)


_couriers: weakref.WeakSet[Courier] = weakref.WeakSet()


@atexit.register
def _say_last_words() -> None:
    for courier in list(_couriers):
        courier.last_words()
