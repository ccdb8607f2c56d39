"""Events for people and programs: ``event_name key=value …`` through structlog.

An application that has configured structlog gets every event its own way. One that has not sees
warnings and errors on stderr and nothing else: a library that prints to stdout by default breaks
the pipes of its users. Which of the two holds is asked at each event, as applications configure
their logging after their imports. Events are rare: none is made while a free slot is handed out.

structlog is half of what the library would have to load, so it is loaded with the first event that is
to be seen: a program that does not use it itself, and has nothing to be warned of, does without.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

_UNSEEN = ("debug", "info")
"""Levels that only an application with structlog of its own gets to see."""
_loading = threading.RLock()
"""A child that is forked in the middle of an import would wait for its end for ever: so forks wait."""
os.register_at_fork(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


class _Stderr:
    """Writes whole lines to stderr as it is at the time, without a lock that a fork could leave held."""

    def warning(self, line: str) -> None:
        """Write one line, if there is a stderr at all."""
        if sys.stderr is not None:
            sys.stderr.write(line + "\n")

    error = warning


def _logger() -> Any:
    with _loading:
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
        getattr(_logger(), level)(event, **keys)
    except Exception:  # noqa: BLE001, S110  # there is no better place to tell it than this one
        pass
