"""Time, as the library sees it: one monotonic reading, one wall reading, one way to wait.

A clock is any callable that returns monotonic seconds. It may also offer ``time()`` (seconds since
the epoch) and ``subscribe(wake)`` (call ``wake()`` whenever the clock was moved by hand). A clock
that can be moved is never slept on: who waits is woken by the move.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Now = Callable[[], float]


class Clock:
    """A caller's clock with its optional parts filled in."""

    __slots__ = ("_subscribe", "given", "now", "time")

    def __init__(self, source: Now | None) -> None:
        if source is not None and not callable(source):
            raise TypeError("clock must be a callable that returns monotonic seconds")
        self.given = source is not None
        """It is the caller's own: then it is what every store goes by."""
        self.now: Now = source or time.monotonic
        self.time: Now = getattr(source, "time", None) or time.time
        self._subscribe: Any = getattr(source, "subscribe", None)

    def watch(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when the clock is moved by hand, if it can be."""
        if self._subscribe is not None:
            self._subscribe(wake)

    def sleep_for(self, until: float) -> float | None:
        """Return how many real seconds to sleep until that reading; None: until woken."""
        if until == math.inf:
            return None
        left = until - self.now()
        return max(0.0, left) if self._subscribe is None or left <= 0 else None

    def instant(self, reading: float) -> datetime | None:
        """Return the UTC instant of a monotonic reading, or None for one that never comes."""
        if not math.isfinite(reading):
            return None
        try:
            return datetime.fromtimestamp(self.time() + reading - self.now(), UTC)
        except (OverflowError, OSError, ValueError):
            return None
