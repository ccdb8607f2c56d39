"""Where leases come from: one pool in one process."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from balancer.rules.records import Key, LeaseRecord

if TYPE_CHECKING:
    from balancer.engine.pool_core import PoolCore


LineUp = Callable[[Any, float | None], float | None]
"""Waiter, timeout in seconds -> the clock's reading until which it may sleep, or None."""


class Origin:
    """What the leases of one pool in one process have in common: the pool, and how their ids begin.

    A forked child gets a new one; so ids stay unique, and a lease that is not of the present origin
    is known to belong to the parent.
    """

    __slots__ = (
        "core",
        "give_back",
        "give_back_blocking",
        "grab",
        "grab_blocking",
        "host_pid",
        "line_up",
        "prefix",
    )

    def __init__(self, core: PoolCore) -> None:
        self.core = core
        self.prefix = secrets.token_hex(6)
        self.host_pid = f"{os.uname().nodename}:{os.getpid()}"
        self.grab: Callable[[Any, Mapping[str, Any]], bool] = not_at_once
        """Ties a handle to a new lease, labelled as asked, and grants it, without any detour. False: that
        takes more than this."""
        self.grab_blocking = self.grab
        """The same, and it may wait for a store that others share."""
        self.line_up: LineUp | None = None
        """Has a caller stand in line for any account, if ``grab`` did not serve it. None where the store
        cannot; if it returns None, that takes more than this."""
        self.give_back: Callable[[LeaseRecord], bool] = not_at_once
        """Ends a held lease without any detour. False: that takes more than this."""
        self.give_back_blocking = self.give_back
        """The same, and it may wait for a store that others share."""

    def detour(self) -> Origin:
        """Return the same without a short way to give back, for a lease whose end needs a closer look."""
        same = object.__new__(Origin)
        same.core, same.prefix, same.host_pid = self.core, self.prefix, self.host_pid
        same.grab, same.grab_blocking, same.line_up = self.grab, self.grab_blocking, self.line_up
        same.give_back = same.give_back_blocking = not_at_once
        return same

    def text(self, key: Key) -> str:
        """Return the id of the lease that a store of this origin knows as ``key``."""
        return key if isinstance(key, str) else f"{self.prefix}-{key:x}"

    def number(self, text: str) -> int | None:
        """Return the number in a lease id, or None if it is not of this origin."""
        try:
            number = int(text.removeprefix(self.prefix + "-"), 16)
        except ValueError:
            return None
        return number if text == self.text(number) else None  # int() takes much for a number


def not_at_once(*_: Any) -> bool:
    """Stand where a store has no short way, or must not take it."""
    return False
