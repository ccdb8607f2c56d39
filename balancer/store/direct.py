"""The direct way to a slot of a shared store: one operation, while nothing else is going on.

Most calls ask for any account and find one with room. They need no place in line, no look at the
configuration and nobody to wait for them: what is looked at first says that none of that is due.
"""

from __future__ import annotations

from abc import abstractmethod

from balancer.effect import Flow, Io
from balancer.errors import StoreUnavailable
from balancer.store.operations import End, Granted, Reply, Take, Wants
from balancer.store.reading import Reading
from balancer.tally import HELD, Row


class Direct(Reading):
    """Grants without a detour."""

    def take_directly(self, row: Row, draw: float) -> Flow[bool]:
        """Grant ``row`` on any account with room. False: that takes more than this, and another row."""
        busy = self.barred or self.dropped or self.lines.waiters
        if busy or self.table is None or self.now() >= self.quiet_until:
            return False
        key = str(row.key)
        try:
            reply: Reply = yield Io(self.backend, Take(key, draw, label=row.label))
            if self.heed(reply):
                yield from self._catch_up()
            if self.lines.waiters:
                self.check_wants(None)
            granted: Granted | None = reply.result
            if granted is not None:
                self._put_down(row, granted)
                return True
        except BaseException as error:
            self._give_up(key)
            if not isinstance(error, StoreUnavailable):
                raise
        self.barred = True
        return False

    def _put_down(self, row: Row, granted: Granted) -> None:
        with self.lock:
            self.mine[row.key] = row
            row.tally, row.held_since, row.state = self._tally(granted.account), self.now(), HELD
            self.totals.acquired += 1
        self.courier.ensure()
        self.flush()

    def _give_up(self, key: str) -> None:
        self.later(End(key))  # nobody knows whether it was granted
        with self.lock:
            self._forget(key)
        self.courier.retell()

    @abstractmethod
    def check_wants(self, said: Wants | None) -> None:
        """Have the store told if it now holds what was ``said`` for what we want."""
