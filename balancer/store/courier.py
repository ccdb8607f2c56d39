"""The thread that speaks with a shared store on behalf of a process.

It takes what the store offers to the process and hands it to the first caller who can use it, says
that the process lives, and sends what could not be sent at once. It starts with the first need and
ends by itself when there has been none for a while.
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
from balancer.lines import Line, Waiter
from balancer.store.operations import OFFER_SECONDS, Beat, Beaten, Operation, Register, Take, Wait

if TYPE_CHECKING:
    from balancer.store.shared import SharedStore

_LINGER = 5.0
"""Seconds without need after which the thread ends: starting it for each lease would cost more."""
_LOOK_AGAIN, _LOOK_OFTEN = 5.0, 1.0
"""Seconds after which a process that waits asks even if nobody tells it to: a message may be lost.
Often, if it waits for what the store does not offer: other capacities, or scopes."""
_SHORTEST = 0.005
"""Seconds between two looks at what is due: clocks differ, and nobody polls at speed."""
_REST = 1.0
"""Seconds between two tries while the store is away."""
_LAST_WORDS = 2.0
"""Seconds that a process that ends gives its couriers to send what is still to be sent."""


class Courier:
    """Mutable, under the store's lock: the thread and what is to be sent. The rest is the thread's own."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._queue: deque[Operation] = deque()
        self._sending, self._starting = threading.Lock(), threading.Lock()
        self._closed = False
        self._looking = True
        """Somebody asked the thread to look around."""
        self._stale_wants = False
        self._needed_at = -math.inf
        self._beat_at = -math.inf
        self._look_at = math.inf
        self._deaf_until = -math.inf
        self._away = False
        _couriers.add(self)

    # -- called from any thread ---------------------------------------------------------------------

    def send(self, operation: Operation) -> None:
        """Have an operation carried out as soon as possible."""
        self._queue.append(operation)
        self._start()
        self._store.backend.poke()

    def ensure(self) -> None:
        """See to it that the thread runs: somebody waits, or a lease is to be kept alive."""
        self._needed_at = now = time.monotonic()
        self._look_at = min(self._look_at, now + _LOOK_AGAIN)
        if self._thread is None and (self._store.backend.beats or self._store.lines.waiters):
            self._start()

    def look(self) -> None:
        """Have the thread look around, if it runs."""
        if self._thread is not None:
            self._looking = True
            self._store.backend.poke()

    def check_wants(self) -> None:
        """Have the store told if nobody waits any more."""
        if self._thread is not None and not self._store.lines.waiters:
            self._stale_wants = True
            self._store.backend.poke()

    def close(self) -> None:
        """Send what is to be sent. The thread goes on while leases have to be kept alive."""
        self._closed = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._store.backend.poke()
            if not self._store.mine:
                thread.join(_LAST_WORDS)
        if self._thread is None and not self._store.mine:
            self._store.backend.close()

    def last_words(self) -> None:
        """Send what is to be sent before the process ends."""
        try:
            self._send_queued()
        except BalancerError:
            pass  # the store will find out by itself that we are dead

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="balancer-courier", daemon=True)
        with self._starting:
            if self._thread is not None:
                return
            self._needed_at = time.monotonic()
            self._looking = True  # what was offered before anybody listened is lost
            self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no thread to be had, or the interpreter is shutting down
            self._thread = None

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            offers: tuple[str, ...] = ()
            try:
                self._store.drain()
                self._send_queued()
                self._beat()
                self._tell_wants()
                offers = self._store.backend.listen(self._pause())
                self._serve(offers)
                self._back()
            except Exception as error:  # noqa: BLE001  # leases depend on this thread: it must go on
                self._gone(error)
                time.sleep(_REST)
            if self._ends():
                return

    def _pause(self) -> float:
        """Return how long there is nothing to do but to listen."""
        if self._queue or self._looking or self._stale_wants:
            return 0.0
        now, store = time.monotonic(), self._store
        wake_at = self._needed_at + _LINGER
        if store.lines.waiters:
            if self._look_at == math.inf:
                self._look_at = now + _LOOK_AGAIN
            due_at = now + max(_SHORTEST, store.due_at - store.now())
            wake_at = min(self._look_at, due_at)
        elif self._beats:
            # Now and then, as leases may have been dropped, and their finalizers call nobody.
            wake_at = now + _LINGER
        if self._beats:
            wake_at = min(self._beat_at, wake_at)
        return max(0.0, wake_at - now)

    @property
    def _beats(self) -> bool:
        return self._store.backend.beats and bool(self._store.mine)

    @property
    def _busy(self) -> bool:
        return bool(self._queue or self._store.lines.waiters)

    def _ends(self) -> bool:
        now = time.monotonic()
        if self._busy or self._beats:
            self._needed_at = now
            return False
        with self._starting:
            if self._queue or (not self._closed and now < self._needed_at + _LINGER):
                return False
            self._thread = None
        if self._closed and not self._store.mine:
            self._store.backend.close()
        return True

    def _send_queued(self) -> None:
        with self._sending:
            while self._queue:
                self._store.do(self._queue[0])
                self._queue.popleft()

    def _tell_wants(self) -> None:
        if self._stale_wants:
            self._stale_wants = False
            with self._store.lock:
                wants = self._store.wants()
            self._store.do(Wait(wants))

    # -- keeping leases alive ---------------------------------------------------------------------------

    def _beat(self) -> None:
        store = self._store
        if not self._beats or time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + store.lease_ttl / 3
        beaten: Beaten = store.do(Beat())
        store.lose(beaten.ended)
        if not beaten.known:
            with store.lock:
                rows = tuple(store.row_state(row) for row in store.mine.values())
            store.lose(store.do(Register(rows)))
            store.note("warning", "leases_registered_again", leases=len(rows))
            store.flush()

    def _gone(self, error: Exception) -> None:
        self._beat_at = -math.inf
        if not self._away:
            self._away = True
            self._store.note("warning", "store_away", error=str(error), leases=len(self._store.mine))
            self._store.flush()

    def _back(self) -> None:
        if self._away:
            self._away = False
            self._store.note("warning", "store_back")
            self._store.flush()

    # -- serving those who wait -------------------------------------------------------------------------

    def _serve(self, offers: tuple[str, ...]) -> None:
        now = time.monotonic()
        store = self._store
        due = store.now() >= store.due_at or now >= self._look_at or self._looking
        if not (offers or due) or (offers and not due and now < self._deaf_until):
            return
        self._looking = False
        with store.lock:
            lines = list(store.lines.served_by(offers) if offers and not due else store.lines.all())
            ready = [line for line in lines if line.first.hopes]
        if not ready:
            self._look_at = math.inf
            self._stale_wants = True
            return
        special = any(line.alike[1] is not None or line.alike[2] is not None for line in ready)
        self._look_at = now + (_LOOK_OFTEN if special else _LOOK_AGAIN)
        taken = [self._serve_line(line) for line in sorted(ready, key=_arrival)]
        if offers and not any(taken):
            # What we are offered is not what we can use: let it go to the others for a while.
            self._deaf_until = time.monotonic() + OFFER_SECONDS

    def _serve_line(self, line: Line) -> bool:
        store = self._store
        with store.lock:
            waiter: Waiter | None = line.first if line else None
            if waiter is None or not waiter.hopes:
                return False
            take: Take = store.take_for(waiter, offered=True)
        granted = store.do(take)
        if granted is None:
            return False
        store.hand_over(waiter, granted)
        store.flush()
        return True


def _arrival(line: Line) -> float:
    return line.arrival


_couriers: weakref.WeakSet[Courier] = weakref.WeakSet()


@atexit.register
def _say_last_words() -> None:
    for courier in list(_couriers):
        courier.last_words()
