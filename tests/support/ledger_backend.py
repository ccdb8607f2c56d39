"""A backend in this process, over the rules of several processes: what the queue before it is tested on.

Several owners in one process share a :class:`Shelf` as processes share a database. Faults can be
injected: the store away, replies lost, messages lost.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque

from balancer.errors import StoreUnavailable
from balancer.rules.fleet_ledger import FleetLedger


class Shelf:
    """What owners share."""

    def __init__(self):
        self.leap = 0.0
        """Seconds that have gone by without anybody noticing."""
        self.cut = set()
        """Names of the owners who cannot reach it."""
        self.before = None
        """Called with each owner's name and operation before that is carried out."""
        self.lock = threading.Lock()
        self.forget()
        self.away = False
        self.refused = 0
        self.lose_replies = 0
        self.lose_messages = False
        self.calls = deque(maxlen=100_000)
        self.backends = {}

    def now(self):
        return time.monotonic() + self.leap

    def forget(self):
        self.fleet = None

    @property
    def line(self):
        """Names of the owners that wait, in order, and what they want."""
        waiting = [] if self.fleet is None else self.fleet.waiting
        return {process.name: process.wants for process in waiting}

    def forget_who_waits(self):
        """Take all owners out of the line, and what they were offered back."""
        for process in list(self.fleet.waiting):
            self.fleet.leave(process)

    def backend(self, settings, owner):
        return LedgerBackend(self, settings, owner)

    def open(self, settings, owner, now):
        """Serve as the ``store`` of a pool."""
        return self.backend(settings, owner)


class LedgerBackend:
    """One owner's way to the shelf."""

    beats = True
    roll_calls = 0

    def __init__(self, shelf, settings, owner):
        self.shelf, self.settings, self.owner = shelf, settings, owner
        self.inbox, self.bell = deque(), threading.Event()
        self.met = False
        self.closed = False
        shelf.backends[owner.name] = self

    def call(self, operation, _=None):
        shelf = self.shelf
        if shelf.before is not None:
            shelf.before(self.owner.name, operation)
        with shelf.lock:
            if shelf.away or self.owner.name in shelf.cut:
                shelf.refused += 1
                raise StoreUnavailable("the shelf is away")
            shelf.calls.append((self.owner.name, operation))
            if shelf.fleet is None:
                shelf.fleet = FleetLedger(self.settings)
            fleet = shelf.fleet
            reply = fleet.carry_out(self.owner, operation, shelf.now(), random.random, met=self.met)
            self.met = True
            fleet.changed.clear()
            fleet.ledger.touched.clear()
            self._send(fleet)
            if shelf.lose_replies:
                shelf.lose_replies -= 1
                raise StoreUnavailable("the reply was lost")
            return reply

    def _send(self, fleet):
        messages, fleet.messages = fleet.messages, []
        for name, account in messages:
            if not self.shelf.lose_messages:
                self.shelf.backends[name].inbox.append(account)
                self.shelf.backends[name].bell.set()

    async def acall(self, operation, _=None):
        await asyncio.sleep(0)
        reply = self.call(operation)
        await asyncio.sleep(0)
        return reply

    def listen(self, seconds):
        if self.shelf.away or self.owner.name in self.shelf.cut:
            raise StoreUnavailable("the shelf is away")
        self.bell.wait(seconds)
        self.bell.clear()
        found = []
        while self.inbox:
            found.append(self.inbox.popleft())
        return tuple(found)

    def poke(self):
        self.bell.set()

    def leave_loops(self):
        pass

    def after_fork(self, owner):
        self.owner = owner
        self.shelf.backends[owner.name] = self

    def close(self):
        self.closed = True
