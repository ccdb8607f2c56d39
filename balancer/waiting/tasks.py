"""How a task sleeps until it is woken. A thread does in :mod:`balancer.waiting.threads`.

It is a file of its own, as who has no tasks starts faster without asyncio.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, _get_running_loop, get_running_loop

from balancer.rules.records import LeaseRecord
from balancer.waiting.queue import Waiter


class TaskWaiter(Waiter):
    """A waiting asyncio task. It has no loop until it sleeps: who is served at once needs none."""

    __slots__ = ("_future", "_loop", "_woken")

    def __init__(self, record: LeaseRecord, begun: float = 0.0, timeout: float | None = None) -> None:
        super().__init__(record, begun, timeout)
        self._loop: AbstractEventLoop | None = None
        self._future: Future[None] | None = None
        self._woken = False

    @property
    def asleep(self) -> bool:
        """Whether it sleeps, and nobody has woken it."""
        future = self._future
        return future is not None and not future.done() and not self._woken

    def wake(self) -> None:
        """End the sleep, from any thread.

        Raises:
            RuntimeError: the event loop is closed, and with it whoever waited.
        """
        self._woken = True  # before the look at the loop: park does both the other way round
        loop = self._loop
        if loop is None:
            return
        if _get_running_loop() is not loop:
            loop.call_soon_threadsafe(self._rise)
        elif (future := self._future) is not None and not future.done():
            future.set_result(None)

    async def park(self, seconds: float | None) -> None:
        """Sleep until woken, at most ``seconds``. A cancellation surfaces from here."""
        loop = get_running_loop()
        self._loop = loop
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
