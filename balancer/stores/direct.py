"""The direct way to a slot of a shared store and back: one operation, while nothing else is going on.

Most calls ask for any account and find one with room. They need no place in line, no look at the
configuration and nobody to wait for them: what is looked at first says that none of that is due.

A thread may block, and goes the same way without a flow: in a store on the same machine, flows take as
long as half of what the operation does.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from balancer.errors import StoreUnavailable
from balancer.rules.operations import Acquire, Granted, Release, Reply, Wanted
from balancer.rules.records import HELD, LeaseRecord
from balancer.stores.asking import AT_LEAST
from balancer.stores.reading import Reading
from balancer.waiting.drivers import BackendCall, Flow, drive


class Direct(Reading):
    """Grants and ends without a detour."""

    # -- there ----------------------------------------------------------------------------------

    def take_directly(self, record: LeaseRecord, draw: float) -> Flow[bool]:
        """Grant ``row`` on any account with room. False: that takes more than this, and another row."""
        if self._busy():
            return False
        try:
            take = Acquire(str(record.key), draw, label=record.label)
            reply: Reply = yield BackendCall(self.backend, take, AT_LEAST)
            if self.heed(reply):
                yield from self._catch_up()
            if self._granted(record, reply):
                return True
        except BaseException as error:
            self._give_up(record)
            if not isinstance(error, StoreUnavailable):
                raise
        self.barred = True
        return False

    def take_blocking(self, core: Any, lease: Any, label: str | None) -> bool:
        """Grant ``lease`` on any account with room, in a thread that may block. False: as above."""
        if self._busy():
            return False
        key = self.new_key()
        record = LeaseRecord(key, label)
        lease._core, lease._record = core, record  # noqa: SLF001  # before the grant: a finalizer gives it back
        take = Acquire(key, self.draw(), label=record.label)
        try:
            reply = self.backend.call(take, AT_LEAST)
            if self.heed(reply):
                drive(self._catch_up())
            if self._granted(record, reply):
                return True
        except BaseException as error:
            self._give_up(record)
            if not isinstance(error, StoreUnavailable):
                raise
        self.barred = True
        return False

    def _busy(self) -> object:
        """Whether anything but the operation itself is to be done."""
        return (
            self.barred
            or self.abandoned_leases
            or self.wait_queue.waiters
            or self.table is None
            or self.now() >= self.next_housekeeping_at
        )

    def _granted(self, record: LeaseRecord, reply: Reply) -> bool:
        if self.wait_queue.waiters:
            self.check_wants(None)
        granted: Granted | None = reply.result
        if granted is not None:
            self._put_down(record, granted)
        return granted is not None

    def _put_down(self, record: LeaseRecord, granted: Granted) -> None:
        with self.lock:
            self.mine[record.key] = record
            record.account_state, record.held_since, record.state = (
                self._tally(granted.account),
                self.now(),
                HELD,
            )
            self.totals.acquired += 1
        self.courier.ensure()
        self.flush()

    def _give_up(self, record: LeaseRecord) -> None:
        self.later(Release(str(record.key)))  # nobody knows whether it was granted
        with self.lock:
            self._forget(record.key)
        self.courier.retell()

    @abstractmethod
    def check_wants(self, said: Wanted | None) -> None:
        """Have the store told if it now holds what was ``said`` for what we want."""

    # -- and back -------------------------------------------------------------------------------

    def give_back_blocking(self, record: LeaseRecord) -> bool:
        """End a held lease, in a thread that may block. False: it had ended, or that takes more than this."""
        if record.state is not HELD or record.accepted_job is not None or self.abandoned_leases:
            return False
        end = Release(str(record.key))
        try:
            with self.lock:  # first: what is being ended is neither kept alive nor registered again
                self._forget(record.key)
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
