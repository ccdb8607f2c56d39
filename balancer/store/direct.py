"""The direct way to a slot of a shared store and back: one operation, while nothing else is going on.

Most calls ask for any account and find one with room. They need no place in line, no look at the
configuration and nobody to wait for them: what is looked at first says that none of that is due.

A thread may block, and goes the same way without a flow: in a store on the same machine, flows take as
long as half of what the operation does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from balancer.effect import Flow, Io, drive
from balancer.errors import StoreUnavailable
from balancer.origin import Origin
from balancer.store.asking import AT_LEAST
from balancer.store.operations import End, Granted, Reply, Take, Wants
from balancer.store.reading import Reading
from balancer.tally import HELD, Row


class Direct(Reading):
    """Grants and ends without a detour."""

    def open_way(self, origin: Origin) -> None:
        """Have ``origin`` take and give back in one operation where a thread may block."""
        origin.grab_blocking, origin.give_back_blocking = self.grab, self.give_back

    # -- there ----------------------------------------------------------------------------------

    def take_directly(self, row: Row, draw: float) -> Flow[bool]:
        """Grant ``row`` on any account with room. False: that takes more than this, and another row."""
        if self._busy():
            return False
        try:
            take = Take(str(row.key), draw, label=row.label)
            reply: Reply = yield Io(self.backend, take, AT_LEAST)
            if self.heed(reply):
                yield from self._catch_up()
            if self._granted(row, reply):
                return True
        except BaseException as error:
            self._give_up(row)
            if not isinstance(error, StoreUnavailable):
                raise
        self.barred = True
        return False

    def grab(self, lease: Any, asked: Mapping[str, Any]) -> bool:
        """Grant ``lease`` on any account with room, in a thread that may block. False: as above."""
        if self._busy():
            return False
        origin, key = self._origin, self.new_key()
        row = Row(key, asked.get("label"))
        lease.tie(origin, row, None)
        take = Take(key, origin.core.draw(), label=row.label)
        try:
            reply = self.backend.call(take, AT_LEAST)
            if self.heed(reply):
                drive(self._catch_up())
            if self._granted(row, reply):
                return True
        except BaseException as error:
            self._give_up(row)
            if not isinstance(error, StoreUnavailable):
                raise
        self.barred = True
        return False

    def _busy(self) -> object:
        """Whether anything but the operation itself is to be done."""
        return (
            self.barred
            or self.dropped
            or self.lines.waiters
            or self.table is None
            or self.now() >= self.quiet_until
        )

    def _granted(self, row: Row, reply: Reply) -> bool:
        if self.lines.waiters:
            self.check_wants(None)
        granted: Granted | None = reply.result
        if granted is not None:
            self._put_down(row, granted)
        return granted is not None

    def _put_down(self, row: Row, granted: Granted) -> None:
        with self.lock:
            self.mine[row.key] = row
            row.tally, row.held_since, row.state = self._tally(granted.account), self.now(), HELD
            self.totals.acquired += 1
        self.courier.ensure()
        self.flush()

    def _give_up(self, row: Row) -> None:
        self.later(End(str(row.key)))  # nobody knows whether it was granted
        with self.lock:
            self._forget(row.key)
        self.courier.retell()

    @abstractmethod
    def check_wants(self, said: Wants | None) -> None:
        """Have the store told if it now holds what was ``said`` for what we want."""

    # -- and back -------------------------------------------------------------------------------

    def give_back(self, row: Row) -> bool:
        """End a held lease, in a thread that may block. False: it had ended, or that takes more than this."""
        if row.state is not HELD or self.dropped:
            return False
        end = End(str(row.key))
        try:
            with self.lock:  # first: what is being ended is neither kept alive nor registered again
                self._forget(row.key)
            self.courier.mend()
            reply = self.backend.call(end, AT_LEAST)
            if self.heed(reply):
                drive(self._catch_up())
            self.flush()
        except StoreUnavailable:
            return self._end_later(end)
        except BaseException:
            self._end_later(end)
            raise
        return self.ended(end, reply.result)
