"""Events for people and programs: ``event_name key=value …``, through the application's own logging.

An application that has configured structlog gets every event there. Any other gets it from the logger
``balancer`` of the standard library, as from every library: with its levels, handlers and files. One that
has set up neither sees warnings on stderr, and nothing on stdout: a library that prints there breaks the
pipes of its users. Which holds is asked at each event, as applications set up their logging after their
imports. Events are rare: none is made while a free slot is handed out.

Nobody waits to write an event, and no lock is held meanwhile: a handler may use the pool, fork, or hang.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import Any

_PATIENCE = 1.0
"""Seconds that a fork and the end of the process wait for events of other threads. One may hang in a
handler of the user's, and that must stop neither."""
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_standard = logging.getLogger("balancer")


class _Turnstile:
    """Keeps forks, and the end of the process, out of the middle of an event.

    A lock that another thread held, of a stream or of a logger, would be held in the child for ever; and an
    interpreter that ends while a daemon thread is printing aborts. So whoever forks or ends says so first,
    then waits until no other thread is inside :func:`_write`. Who wants to write after that leaves its event
    with those who fork, which needs no lock: an event that does not see the sign is seen by who put it up.
    """

    def __init__(self) -> None:
        self.forking: set[int] = set()
        """Threads that are about to fork."""
        self.ended = False
        self.kept: deque[tuple[str, str, dict[str, Any]]] = deque()
        """Events that are written once the fork is over."""

    def before_fork(self) -> None:
        self.forking.add(threading.get_ident())
        _await_writers()

    def after_in_parent(self) -> None:
        self.forking.discard(threading.get_ident())
        while self.kept and not self.forking:
            try:
                kept = self.kept.popleft()
            except IndexError:  # another thread was quicker
                break
            _write(*kept)

    def after_in_child(self) -> None:
        self.forking.clear()
        self.kept.clear()  # they are the parent's

    def end(self) -> None:
        self.ended = True
        _await_writers()


_turnstile = _Turnstile()
os.register_at_fork(
    before=_turnstile.before_fork,
    after_in_parent=_turnstile.after_in_parent,
    after_in_child=_turnstile.after_in_child,
)
atexit.register(_turnstile.end)


def emit(level: str, event: str, **keys: Any) -> None:
    """Log ``event`` with ``keys`` at ``level`` (``debug``, ``info``, ``warning`` or ``error``).

    Never raises: a slot must not be lost because a disk is full or a handler has a bug.
    """
    _write(level, event, keys)


def _write(level: str, event: str, keys: dict[str, Any]) -> None:
    if _turnstile.ended:
        return
    if _turnstile.forking:
        _turnstile.kept.append((level, event, keys))
        if not _turnstile.forking:  # it was over before it could see this one
            _turnstile.after_in_parent()
        return
    try:
        # Loaded by whoever configured it. Half loaded, by another thread, it is not configured yet.
        configured = getattr(sys.modules.get("structlog"), "is_configured", None)
        if configured is not None and configured():
            getattr(sys.modules["structlog"].get_logger("balancer"), level)(event, **keys)
        elif _standard.isEnabledFor(_LEVELS[level]):
            # One text for each event, its values apart, so that tools which group records can.
            text = " ".join((event, *(f"{name}=%r" for name in keys)))
            _standard.log(_LEVELS[level], text, *keys.values(), extra={"event": event, **keys}, stacklevel=3)
    except Exception:  # noqa: BLE001, S110  # there is no better place to tell it than this one
        pass


def _await_writers() -> None:
    """Wait until nobody is inside who went in before the sign was up; who came later only reads it."""
    inside, until = _writers(), time.monotonic() + _PATIENCE
    while inside and time.monotonic() < until:
        time.sleep(0.001)
        inside &= _writers()


def _writers() -> set[FrameType]:
    """Return where other threads write an event: seen from outside, so that no interruption falsifies it."""
    own = threading.get_ident()
    stacks = sys._current_frames()  # noqa: SLF001  # documented, for such looks from outside
    found = set()
    for ident, top in stacks.items():
        frame: FrameType | None = top
        while ident != own and frame is not None:
            if frame.f_code is _write.__code__:
                found.add(frame)
            frame = frame.f_back
    return found
