"""Events for people and programs: ``event_name key=value …`` through structlog.

An application that has configured structlog gets every event its own way. One that has not sees
warnings and errors on stderr and nothing else: a library that prints to stdout by default breaks
the pipes of its users. Which of the two holds is asked at each event, as applications configure
their logging after their imports. Events are rare: none is made while a free slot is handed out.

structlog is half of what the library would have to load, so it is loaded with the first event that is
to be seen: a program that does not use it itself, and has nothing to be warned of, does without.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_UNSEEN = ("debug", "info")
"""Levels that only an application with structlog of its own gets to see."""
_PATIENCE = 1.0
"""Seconds that one thread waits for another to have said its word. It may hang in a processor of the
user's, and that must stop neither logging nor forks nor exits."""


class _Floor:
    """Who speaks has it, and neither a fork nor the end of the process falls into the middle of a word.

    A lock that another thread held, of an import or of a stream, would be held in the child for ever; and an
    interpreter that ends while a daemon thread is printing aborts.
    """

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._forking = threading.local()
        self.closed = False

    def speak(self, say: Callable[[], object]) -> None:
        """Say it when it is our turn; or without, if somebody else has it for too long."""
        for _ in self._turns():
            try:
                return self._say(say)
            finally:
                self._turn.release()
        return self._say(say)

    def _say(self, say: Callable[[], object]) -> None:
        if not self.closed:
            say()

    def _turns(self) -> Iterator[bool]:
        # To be taken by ``for``: no interruption can come between the taking and a ``try`` behind it.
        return iter(partial(self._turn.acquire, timeout=_PATIENCE), False)

    def before_fork(self) -> None:
        self._forking.has_it = False
        for _ in self._turns():
            self._forking.has_it = True
            break

    def after_in_parent(self) -> None:
        if self._forking.has_it:
            self._turn.release()

    def after_in_child(self) -> None:
        if self._forking.has_it:
            self._turn.release()
        else:
            self._turn = threading.RLock()  # whoever has it stayed behind

    def close(self) -> None:
        """Let nobody speak any more: the process ends."""
        self.closed = True
        self._turn.acquire(timeout=_PATIENCE)


_floor = _Floor()
os.register_at_fork(
    before=_floor.before_fork,
    after_in_parent=_floor.after_in_parent,
    after_in_child=_floor.after_in_child,
)
atexit.register(_floor.close)


class _Stderr:
    """Writes whole lines to stderr as it is at the time, without a lock that a fork could leave held."""

    def warning(self, line: str) -> None:
        """Write one line, if there is a stderr at all."""
        if sys.stderr is not None:
            sys.stderr.write(line + "\n")

    error = warning


def _logger() -> Any:
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("balancer")
    return structlog.wrap_logger(
        _Stderr(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def emit(level: str, event: str, **keys: Any) -> None:
    """Log ``event`` with ``keys`` at ``level`` (``debug``, ``info``, ``warning`` or ``error``).

    Never raises: a slot must not be lost because a disk is full or a processor has a bug.
    """
    if level in _UNSEEN and "structlog" not in sys.modules:
        return
    try:
        _floor.speak(lambda: getattr(_logger(), level)(event, **keys))
    except Exception:  # noqa: BLE001, S110  # there is no better place to tell it than this one
        pass
