"""The thread that speaks with a shared store on behalf of a process.

It sends what could not be sent at once, says that the process lives, and listens for offers, which it
has handed to the callers who wait. It starts with the first need and ends by itself when there has been
none for a while.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections.abc import Callable

from balancer.errors import BalancerError
from balancer.rules.operations import Backend, Operation
from balancer.rules.records import LeaseRecord
from balancer.stores.backend_client import is_busy
from balancer.stores.heartbeat import Heart
from balancer.stores.held_leases import HeldLeases
from balancer.stores.offers import Offers
from balancer.stores.outbox import Outbox
from balancer.waiting.queue import WaitQueue

_LINGER = 5.0
"""Seconds without need after which the thread ends: starting it for each lease would cost more."""
_REST = 0.5
"""Seconds between two tries while the store is away: with the time that it takes to connect, less than a
store that calls the roll waits for who lives."""
_EARLY = 0.002
"""Seconds by which the end of a sleep may be missed."""
_LAST_WORDS = 2.0
"""Seconds that a process that ends gives all its workers to send what is still to be sent."""


class Worker:
    """One thread, while it is needed. Mutable: the thread, and until when it sleeps.

    Args:
        backend: Where it listens for offers, and who closes connections.
        outbox: What it is asked for.
        heart: Says that the process lives.
        offers: Hands what is offered to those who wait.
        held: What it has to keep alive.
        wait_queue: For whom it has to listen.
        send: Carries out an operation from the outbox; its lease may have to be brought back for it. Each
            answer may take so many seconds.
        limit: Seconds that an answer may take.
        collect: Puts what ends abandoned leases into the outbox.
        tell_wanted: Tells the store what this process waits for.
    """

    def __init__(
        self,
        backend: Backend,
        outbox: Outbox,
        heart: Heart,
        offers: Offers,
        *,
        held: HeldLeases,
        wait_queue: WaitQueue,
        send: Callable[[Operation, LeaseRecord | None, float], None],
        limit: float,
        collect: Callable[[], None],
        tell_wanted: Callable[[], None],
    ) -> None:
        self._backend, self._outbox, self._heart, self._offers = backend, outbox, heart, offers
        self._held, self._wait_queue = held, wait_queue
        self._send, self._limit, self._collect, self._tell_wanted = send, limit, collect, tell_wanted
        self.thread: threading.Thread | None = None
        self.sending = threading.Lock()
        self._starting = threading.RLock()
        self._is_starting: Callable[[], bool] = self._starting._is_owned  # type: ignore[attr-defined]  # noqa: SLF001
        """Whether this thread is in the middle of starting the worker, or of ending it."""
        self._closed = False
        self._needed_at = -math.inf
        self._sleeps_until = math.inf
        outbox.wake, outbox.ensure_running, outbox.call_off = self._wake, self.ensure_running, self.call_off
        _workers.add(self)

    # -- called from any thread ---------------------------------------------------------------------

    def _wake(self) -> None:
        if self.thread is not None:
            self._backend.poke()
        elif self._outbox.queue or self._wait_queue.waiters:
            self._start()

    def ensure_running(self) -> None:
        """See to it that the thread is up in time: somebody waits, or a lease is to be kept alive."""
        if self.thread is None and self._outbox.queue:
            self._start()  # an interruption may have left it lying
        if self.thread is None and not (self._backend.beats or self._wait_queue.waiters):
            return  # nobody needs one, and who will has it started
        self._needed_at = now = time.monotonic()
        waits = self.thread is None or self._wait_queue.waiters
        if not waits and self._heart.due_at >= self._sleeps_until - _EARLY:
            return  # it runs, and is up in time
        self._offers.look_before(now)
        if self.thread is None and (self._backend.beats or self._wait_queue.waiters):
            self._start()
        self.call_off()

    def call_off(self) -> None:
        """Call the thread off its listening if something comes up before it means to stop."""
        if self.thread is not None and self._wake_at(time.monotonic()) < self._sleeps_until - _EARLY:
            self._backend.poke()

    # -- life -----------------------------------------------------------------------------------------

    def close(self, *, wait: bool) -> None:
        """Send what is to be sent. The thread goes on while leases are out.

        ``wait``: for at most 2 s, until it is sent.
        """
        self._closed = True
        self._backend.leave_loops()
        if self.thread is None and (self._outbox.queue or self._held.held):
            self._start()
        if self._is_starting():
            wait = False  # we are in the middle of that, so nobody can wait for its end here
        with self._starting:
            thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            self._backend.poke()
            if wait and not self._held.held and not self._wait_queue.waiters:
                thread.join(_LAST_WORDS)
        self.close_when_idle()

    def close_when_idle(self) -> None:
        """Close the connections of a pool that is closed, once no lease depends on them any more."""
        if self._closed and not self._held.held:
            if self.thread is None:
                self._backend.close()
            else:
                self._backend.poke()

    def disinherit(self) -> None:
        """Forget everything, in a forked child: it is the parent's."""
        self._outbox.queue.clear()
        _workers.discard(self)

    def send_last_words(self, end: float) -> None:
        """Send what is to be sent before the process ends, until ``end``."""
        try:
            self._send_queued(end)
        except BalancerError:
            pass  # the store will find out by itself that we are dead

    def _start(self) -> None:
        if self._is_starting():
            return  # whoever is inside sees to it
        with self._starting:
            if self.thread is not None:
                return
            self._needed_at = time.monotonic()
            self._outbox.poll = True  # what was offered before anybody listened is lost
            thread = threading.Thread(target=self._run, name="balancer-worker", daemon=True)
            try:
                self.thread = thread
                thread.start()
            except BaseException as error:
                self.thread = None
                if not isinstance(error, RuntimeError):  # no thread to be had, or the process is ending
                    raise

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        # One whose start was interrupted is not the worker, though it may run.
        while self.thread is threading.current_thread():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001  # leases depend on this thread: it must go on
                self._outbox.poll = self._outbox.wanted_changed = True
                if not is_busy(error):  # else it has waited already, and goes on
                    self._heart.lost(error)
                    time.sleep(_REST)
            if self._ends():
                return

    def _round(self) -> None:
        self._collect()
        self._send_queued()
        self._heart.beat()
        if self._outbox.wanted_changed:
            self._outbox.wanted_changed = False
            self._tell_wanted()
        trouble: Exception | None = None
        offers: tuple[str, ...] = ()
        self._sleeps_until = math.inf  # first: what comes up from here on calls us off
        begun, pause = time.monotonic(), self._pause()
        self._sleeps_until = begun + pause
        try:
            offers = self._backend.listen(pause)
        except Exception as error:  # noqa: BLE001  # whoever waits is served even so, if more slowly
            trouble = error
        self._sleeps_until = -math.inf  # nobody need call us off before the next sleep is worked out
        if not offers and time.monotonic() - begun < pause - _EARLY:
            self._outbox.poll = True  # something may have been missed
        self._offers.serve(offers)
        if trouble is not None:
            raise trouble
        self._heart.found()

    def _pause(self) -> float:
        """Return how long there is nothing to do but to listen."""
        if self._outbox.queue or self._outbox.poll or self._outbox.wanted_changed or not self._needed():
            return 0.0
        now = time.monotonic()
        return max(0.0, self._wake_at(now) - now)

    def _wake_at(self, now: float) -> float:
        # While leases are kept: they may have been dropped, and their finalizers call nobody.
        wake_at = (now if self._watches() else self._needed_at) + _LINGER
        if self._wait_queue.waiters:
            wake_at = self._offers.next_look(now)
        return min(self._heart.due_at, wake_at)

    def _needed(self) -> bool:
        now = time.monotonic()
        if self._outbox.queue or self._wait_queue.waiters or self._watches():
            self._needed_at = now
            return True
        return not self._closed and now < self._needed_at + _LINGER

    def _watches(self) -> bool:
        """Whether leases have to be kept alive, or one may be dropped that no operation comes to end."""
        return self._heart.needed or (self._closed and bool(self._held.held))

    def _ends(self) -> bool:
        if self._needed():
            return False
        with self._starting:
            self.thread = None  # from here on whoever needs one starts another,
            if self._needed():  # and who found this one still there is seen here
                self.thread = threading.current_thread()
                return False
        self._wake()  # if a finalizer has noted something in the middle of that
        self.close_when_idle()
        return True

    def _send_queued(self, end: float = math.inf) -> None:
        if not self.sending.acquire(timeout=max(0.0, min(_LAST_WORDS, end - time.monotonic()))):
            return
        try:
            while self._outbox.queue and (left := end - time.monotonic()) > 0:
                self._send(*self._outbox.queue[0], min(self._limit, left))
                self._outbox.queue.popleft()
        finally:
            self.sending.release()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _send_last_words() -> None:
    end = time.monotonic() + _LAST_WORDS
    for worker in list(_workers):
        worker.send_last_words(end)
