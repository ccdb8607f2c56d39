"""A clock that only moves when it is told to, so that no test has to sleep."""

from __future__ import annotations

import inspect
import itertools
import math
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime

Wake = Callable[[], object]
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A pair of clocks, monotonic and wall, that stand still between two moves.

    Give it to a pool as ``clock=``. Calling it returns monotonic seconds. Safe to use from any
    thread; subscribers run in the thread that moves the clock, outside its lock.
    """

    def __init__(self, start: float = 0.0, *, wall: float | datetime = _EPOCH) -> None:
        """Start at ``start`` monotonic seconds and at ``wall``, epoch seconds or an aware datetime.

        Raises:
            ValueError: one of them is not finite, or ``wall`` has no time zone.
        """
        if isinstance(wall, datetime):
            if wall.tzinfo is None:
                raise ValueError("wall must be an aware datetime")
            wall = wall.timestamp()
        self._lock = threading.Lock()
        self._now = _finite("start", start)
        self._offset = _finite("wall", wall) - self._now
        self._keys = itertools.count()
        self._subscribers: dict[int, Callable[[], Wake | None]] = {}

    def __call__(self) -> float:
        """Return the monotonic reading in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s>"

    def time(self) -> float:
        """Return the wall reading in seconds since the epoch."""
        with self._lock:
            return self._now + self._offset

    def advance(self, seconds: float) -> None:
        """Move both clocks on by ``seconds``, then call every subscriber.

        Raises:
            ValueError: ``seconds`` is negative or not finite: monotonic time never runs back.
        """
        if _finite("seconds", seconds) < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds:g} s")
        with self._lock:
            self._now += seconds
        self._wake()

    def jump_wall(self, seconds: float) -> None:
        """Move only the wall clock, either way, as a correction of the system's time does.

        Raises:
            ValueError: ``seconds`` is not finite.
        """
        with self._lock:
            self._offset += _finite("seconds", seconds)
        self._wake()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Have ``wake()`` called after each move; return what ends that.

        The object behind a bound method is held weakly: a subscription keeps nothing alive, and
        ends with its object. Functions are held as they are.
        """
        ref = weakref.WeakMethod(wake) if inspect.ismethod(wake) else lambda: wake
        with self._lock:
            key = next(self._keys)
            self._subscribers[key] = ref

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(key, None)

        return unsubscribe

    def _wake(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.items())
        for key, ref in subscribers:
            wake = ref()
            if wake is None:
                with self._lock:
                    self._subscribers.pop(key, None)
            else:
                wake()


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return float(value)
