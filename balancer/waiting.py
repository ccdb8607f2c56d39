"""How a caller sleeps until it is woken: a thread on a lock, a task on a future.

Both kinds stand in the same lines, and anybody may wake either from any thread. A wake-up that
comes before the sleep is not lost: the sleep then ends at once.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from balancer.lines import Waiter
from balancer.tally import Row

if TYPE_CHECKING:
    import asyncio


class ThreadWaiter(Waiter):
    """A waiting thread. A lock of its own costs less than a Condition or an Event to hand over."""

    __slots__ = ("_gate",)

    def __init__(self, row: Row) -> None:
        super().__init__(row)
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


class TaskWaiter(Waiter):
    """A waiting asyncio task. It has no loop until it sleeps: who is served at once needs none."""

    __slots__ = ("_future", "_loop", "_thread", "_woken")

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._future: asyncio.Future[None] | None = None
        self._woken = False

    def wake(self) -> None:
        """End the sleep, from any thread.

        Raises:
            RuntimeError: the event loop is closed, and with it whoever waited.
        """
        self._woken = True  # before the look at the loop: park does both the other way round
        loop = self._loop
        if loop is None:
            return
        if threading.get_ident() == self._thread and not loop.is_closed():
            self._rise()
        else:
            loop.call_soon_threadsafe(self._rise)

    def nudge(self) -> None:
        """Do as :meth:`wake`, from a finalizer, which may run in the middle of the loop's own work."""
        self._woken = True
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed
                loop.call_soon_threadsafe(self._rise)

    async def park(self, seconds: float | None) -> None:
        """Sleep until woken, at most ``seconds``. A cancellation surfaces from here."""
        from asyncio import get_running_loop  # long here, as there is a task; others start faster without

        loop = get_running_loop()
        self._thread, self._loop = threading.get_ident(), loop
        if not self._woken:
            self._future = loop.create_future()
            timer = None if seconds is None else loop.call_later(seconds, self._rise)
            try:
                await self._future
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        self._woken = False

    def _rise(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


def _runs_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it no loop can run
    try:
        if asyncio is None:
            return False
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
