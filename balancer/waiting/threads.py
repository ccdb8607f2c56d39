"""How a thread sleeps until it is woken. A task does in :mod:`balancer.waiting.tasks`.

Both kinds stand in the same queue, and anybody may wake either from any thread. A wake-up that comes
before the sleep is not lost: the sleep then ends at once.
"""

from __future__ import annotations

import sys
import threading

from balancer.rules.records import LeaseRecord
from balancer.waiting.queue import Waiter


class ThreadWaiter(Waiter):
    """A waiting thread. A lock of its own costs less than a Condition or an Event to hand over."""

    __slots__ = ("_gate", "_parked")

    def __init__(self, record: LeaseRecord, begun: float = 0.0, timeout: float | None = None) -> None:
        super().__init__(record, begun, timeout)
        self._gate = threading.Lock()
        self._gate.acquire()
        self._parked = False

    @property
    def asleep(self) -> bool:
        """Whether it sleeps, and nobody has woken it."""
        return self._parked and self._gate.locked()

    @property
    def can_sleep(self) -> bool:
        """False: this thread runs an event loop, which a sleep would stop."""
        asyncio = sys.modules.get("asyncio")  # where nobody has imported it no loop can run
        running = getattr(asyncio, "_get_running_loop", None)  # missing while another thread imports it
        return running is None or running() is None

    def wake(self) -> None:
        """End the sleep, from any thread."""
        try:
            self._gate.release()
        except RuntimeError:  # somebody woke it already, and it has not slept since
            pass

    def park(self, seconds: float | None) -> None:
        """Sleep until woken, at most ``seconds``.

        Raises:
            RuntimeError: this thread runs an event loop, which the sleep would stop.
        """
        if not self.can_sleep:
            raise RuntimeError(
                "this acquire would have to wait, and would stop the event loop that runs in this thread: "
                "use AsyncAccountPool(pool=this_pool), which shares its accounts and slots"
            )
        self._parked = True
        try:
            self._gate.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._parked = False
