"""What the thread to a shared store is asked to do, by whoever asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from balancer.rules.operations import Operation
from balancer.rules.records import LeaseRecord


class Outbox:
    """Operations that could not be carried out at once, and what else the worker is asked for.

    Mutable: any thread adds to the queue and sets a flag, only the worker takes away and clears it.
    """

    def __init__(self) -> None:
        self.queue: deque[tuple[Operation, LeaseRecord | None]] = deque()
        self.poll = True
        """Look around for those who wait. (At first: what was offered before anybody listened is lost.)"""
        self.wanted_changed = False
        """Tell the store anew what this process waits for."""
        self.hope_in_doubt = False
        """See for whom there is nothing left to wait for."""
        self.heartbeat = False
        """Say at once that the process lives."""
        self.wake: Callable[[], None] = _nobody
        """Has the worker look at what is in here, and starts it if somebody depends on that."""
        self.ensure_running: Callable[[], None] = _nobody
        """Has the worker up in time for somebody who waits, or for a lease to be kept alive."""
        self.call_off: Callable[[], None] = _nobody
        """Has the worker up in time for what is due earlier than it knew, if it runs."""

    def put(self, operation: Operation, record: LeaseRecord | None = None) -> None:
        """Note what is to be sent, before anything else: an interruption must not lose it.

        ``record``: the lease to bring back for it, should the store have forgotten it.
        """
        self.queue.append((operation, record))

    def put_once(self, operation: Operation) -> bool:
        """Note what is to be sent, unless it was already. True: it is new."""
        new = (operation, None) not in list(self.queue)
        if new:
            self.put(operation)
        return new

    def send(self, operation: Operation, record: LeaseRecord | None = None) -> None:
        """Have an operation carried out as soon as possible, and again until the store has answered."""
        self.put(operation, record)
        self.wake()

    def request_poll(self) -> None:
        """Have somebody look around for those who wait."""
        self.poll = True
        self.wake()

    def request_wanted(self) -> None:
        """Have the store told anew what this process waits for."""
        self.wanted_changed = True
        self.wake()

    def doubt_hope(self) -> None:
        """Have those woken for whom there is nothing left to wait for."""
        self.hope_in_doubt = True
        self.wake()

    def request_heartbeat(self) -> None:
        """Have the store told at once that the process lives."""
        self.heartbeat = True
        self.wake()


def _nobody() -> None:
    """Do nothing: there is no worker yet."""
