"""How a thread sleeps until it is woken. A task does in :mod:`balancer.waiting.tasks`.

Both kinds stand in the same lines, and anybody may wake either from any thread. A wake-up that
comes before the sleep is not lost: the sleep then ends at once.
"""

from __future__ import annotations

import sys
import threading

from balancer.rules.records import LeaseRecord
from balancer.waiting.queue import Waiter


class ThreadWaiter(Waiter):
    """A waiting thread. A lock of its own costs less than a Condition or an Event to hand over."""

    __slots__ = ("_gate",)

    def __init__(self, record: LeaseRecord) -> None:
        super().__init__(record)
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> None:
        """End the sleep, from any thread."""
        try:
            self._gate.release()
        except RuntimeError:  # somebody woke it already, and it has not slept since
            pass

    nudge = wake

    def park(self, seconds: float | None) -> None:
        """Sleep until woken, at most ``seconds``.

        Raises:
            RuntimeError: this thread runs an event loop, which the sleep would stop.
        """
        if _runs_a_loop():
            raise RuntimeError(
                "this acquire would have to wait, and would stop the event loop that runs in this thread: "
                "use AsyncAccountPool (AsyncAccountPool(pool=this_pool) shares its slots), or timeout=0"
            )
        self._gate.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


def _runs_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it no loop can run
    running = getattr(asyncio, "_get_running_loop", None)  # missing while another thread imports it
    return running is not None and running() is not None
