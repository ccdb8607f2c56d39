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

    Who is inside says so itself. To look for it in the stacks of other threads is no way: they change while
    one follows them, and such a look has stood still for minutes with the interpreter in its hands.
    """

    def __init__(self) -> None:
        self.forking: set[int] = set()
        """Threads that are about to fork."""
        self.ended = False
        self.kept: deque[tuple[str, str, dict[str, Any]]] = deque()
        """Events that are written once the fork is over."""
        self.writers: dict[object, int] = {}
        """The thread of each event that is being written."""

    def before_fork(self) -> None:
        self.forking.add(threading.get_ident())
        self._await_writers()

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
        self.writers.clear()

    def end(self) -> None:
        self.ended = True
        self._await_writers()

    def _await_writers(self) -> None:
        """Wait until nobody is inside who went in before the sign was up; who came later only reads it."""
        own, until = threading.get_ident(), time.monotonic() + _PATIENCE
        inside = [event for event, thread in self.writers.copy().items() if thread != own]
        while any(event in self.writers for event in inside):
            if time.monotonic() >= until:
                for event in inside:  # it hangs, or was torn out: nobody waits for it again
                    self.writers.pop(event, None)
                return
            time.sleep(0.001)


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
    this = object()
    try:
        _turnstile.writers[this] = threading.get_ident()  # before the look at the sign
        if _turnstile.ended:
            return
        if not _turnstile.forking:
            _log(level, event, keys)
            return
    finally:
        _turnstile.writers.pop(this, None)
    _turnstile.kept.append((level, event, keys))
    if not _turnstile.forking:  # it was over before it could see this one
        _turnstile.after_in_parent()


def _log(level: str, event: str, keys: dict[str, Any]) -> None:
    try:
        # Loaded by whoever configured it. Half loaded, by another thread, it is not configured yet.
        configured = getattr(sys.modules.get("structlog"), "is_configured", None)
        if configured is not None and configured():
            getattr(sys.modules["structlog"].get_logger("balancer"), level)(event, **keys)
        elif _standard.isEnabledFor(_LEVELS[level]):
            # One text for each event, its values apart, so that tools which group records can.
            text = " ".join((event, *(f"{name}=%r" for name in keys)))
            _standard.log(_LEVELS[level], text, *keys.values(), extra={"event": event, **keys}, stacklevel=4)
    except Exception:  # noqa: BLE001, S110  # there is no better place to tell it than this one
        pass
