"""Calls that block, made for event loops in threads of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class NotBegun(Exception):
    """The time for a call was over before a thread was free for it: it was not made, and will not be."""


class InThreads:
    """Threads of our own: the loop's may be full of callers who wait for us.

    Mutable, without a lock: should two loops make the threads at once, those of one end when it is served.

    Args:
        most: How many calls at once.
        name: Begins the names of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], T], end: float | None = None) -> T:
        """Return what ``call`` returns. It goes on when the caller is cancelled, unless it has not begun.

        Args:
            call: Gives up by itself at ``end``, once it has begun.
            end: Until when (of ``time.monotonic``) it may begin; None: whenever.

        Raises:
            NotBegun: others had the threads until then.
        """
        threads = self._threads
        if threads is None:
            threads = self._threads = ThreadPoolExecutor(self._most, self._name)
        work = threads.submit(call)
        answer = asyncio.wrap_future(work)
        try:
            if end is not None:
                await asyncio.wait([answer], timeout=max(0.0, end - time.monotonic()))
                if not answer.done() and work.cancel():
                    raise NotBegun
            return await answer
        except asyncio.CancelledError:
            work.cancel()  # now: the loop would tell the thread a moment later, when it may have begun
            answer.cancel()
            raise

    def close(self) -> None:
        """Have the threads end when they are done; a later call starts them anew.

        They end when nobody knows them any more. To shut them down would take a lock of theirs, which this
        very thread may have if it is a signal handler that closes.
        """
        self._threads = None
