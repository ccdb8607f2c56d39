"""Fork: no SQLite connection may be carried over one, not even to be closed on the other side.

SQLite keeps its file locks by process, and a child would believe that it has those of its parent. So
connections are closed before a fork, in the parent, at a moment when none is in use; both sides open
new ones when they need them.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

gate = threading.RLock()
"""Held while a connection is in use, and during a fork. Re-entrant, as a signal handler may fork."""


class Forked(Protocol):
    """What has connections."""

    def before_fork(self) -> None:
        """Close them (under the gate)."""

    def in_child(self) -> None:
        """Let go of what belongs to the parent."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()


def register(thing: Forked) -> None:
    """Have ``thing`` told of forks for as long as it lives."""
    with gate:
        _all.add(thing)


def _before() -> None:
    gate.acquire()
    for thing in list(_all):
        thing.before_fork()


def _in_child() -> None:
    for thing in list(_all):
        thing.in_child()
    gate.release()


os.register_at_fork(before=_before, after_in_parent=gate.release, after_in_child=_in_child)
