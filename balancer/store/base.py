"""What a store promises.

Methods that may need I/O are flows (see :mod:`balancer.effect`), so that threads and tasks use the
same ones; the others never do I/O, or are called only in threads made for it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from balancer.effect import Flow, instant
from balancer.errors import BalancerError
from balancer.ledger import Changes, Ledger
from balancer.lines import Waiter
from balancer.matching import Plan
from balancer.model import Listing, Table
from balancer.store.desk import Desk
from balancer.tally import HELD, Key, Row, Tally, Ticket
from balancer.verdict import Ruling

T = TypeVar("T")


class Outlook(NamedTuple):
    """What a caller is told who is turned away. Instants are the pool's clock's; infinity: never."""

    ledger: Ledger
    """It may know of no other accounts than are shown."""
    tallies: list[Tally]
    """Those that are shown."""
    detached: int
    """Bound and ambiguous leases."""
    detached_since: float
    """Since when the oldest of them has been so."""
    next_end: float
    """When a slot may come free by itself."""
    closed_until: float = -math.inf
    """Until when nothing is granted, as the store waits for all processes to say what they hold."""


def next_end(tallies: Iterable[Tally], scope: str | None) -> float:
    """Return when the first of some accounts may have room by itself; infinity: nobody knows."""
    ends = []
    for tally in tallies:
        if tally.usable:
            cooling = [pause.until for pause in tally.pauses_for(scope) if pause.cooling]
            rows = [row.end for row in tally.held.values() if row.end is not None]
            ends.append(max(cooling) if cooling else min(rows, default=math.inf))
    return min(ends, default=math.inf)


class Store(Desk):
    """Who holds what, and who waits for it."""

    # -- waiting ------------------------------------------------------------------------------

    @abstractmethod
    def attempt(self, waiter: Waiter, patience: float) -> Flow[bool]:
        """Try to serve ``waiter``, not before those ahead of it. True: it has got its lease.

        ``patience``: seconds that it will wait if not. Raises StoreUnavailable.
        """

    @instant
    def take_directly(self, row: Row, draw: float) -> bool:  # noqa: ARG002
        """Grant ``row`` on any account with room. False: that takes more than this, and another row."""
        return False

    @abstractmethod
    def hopeless(self, waiter: Waiter) -> Flow[bool]:
        """Whether waiting cannot help ``waiter``, as far as is known."""

    # -- leases -------------------------------------------------------------------------------

    @abstractmethod
    def new_key(self) -> Key:
        """Return a key for a lease, never given twice."""

    @abstractmethod
    def release(self, key: Key) -> Flow[bool]:
        """End the lease ``key``, whatever its state. True once."""

    @abstractmethod
    def release_job(self, job_id: str) -> Flow[bool]:
        """End the lease bound to a job; remember the job if there is none yet."""

    @abstractmethod
    def bind(self, key: Key, job_id: str, ttl: float) -> Flow[bool]:
        """Tie a lease to its job for ``ttl`` seconds. False: the job was over already, the slot is free.

        Raises:
            LeaseLost: the lease has ended. ValueError: the job is another lease's.
        """

    @abstractmethod
    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> Flow[bool]:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""

    @abstractmethod
    def judge(self, row: Row, ruling: Ruling) -> Flow[None]:
        """Put what an answer said about the account and the lease into effect."""

    @abstractmethod
    def doubt(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run, without a verdict on its account.

        No flow: the caller may be on its way out and unable to wait. A shared store is told soon.
        """

    # -- accounts -----------------------------------------------------------------------------

    @abstractmethod
    def cool(self, account_id: str, seconds: float, reason: str) -> Flow[bool]:
        """Put an account in a cooldown by hand. False: there is no such account."""

    @abstractmethod
    def reset(self, account_id: str) -> Flow[bool]:
        """Clear what verdicts made of an account. False: there is no such account."""

    @abstractmethod
    def configure(self, changes: Changes, table: Table) -> None:
        """Bring the accounts of this process in line with the table now in force."""

    # -- what is asked of the source, in a thread made for it ---------------------------------------

    @abstractmethod
    def fetch(
        self, ask: Callable[[], Table | BalancerError], max_age: float
    ) -> tuple[Table | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds.

        One that another process fetched less than ``max_age`` seconds ago will do.
        """

    @abstractmethod
    def survey(
        self,
        ask: Callable[[], Listing | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then.

        One that another process read less than ``max_age`` seconds ago will do.
        """

    # -- reading ------------------------------------------------------------------------------

    @abstractmethod
    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> Flow[T]:
        """Return what ``look`` reads from the ledger, at one moment.

        ``patient``: a store that is away is asked again for a while. Raises StoreUnavailable.
        """

    def outlook(self, ticket: Ticket, most: int) -> Flow[Outlook]:
        """Return what a caller is told who is turned away: of at most ``most`` accounts that it could use."""

        def look(ledger: Ledger) -> Outlook:
            detached = [row.state_since for row in ledger.rows.values() if row.state != HELD]
            tallies = ledger.candidates(ticket)
            return Outlook(
                ledger=ledger,
                tallies=tallies[:most],
                detached=len(detached),
                detached_since=min(detached, default=math.inf),
                next_end=next_end(tallies, ticket.scope),
            )

        return (yield from self.inspect(look, patient=False))

    @property
    @abstractmethod
    def loose_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so; infinity: none is (under the lock)."""

    @abstractmethod
    def describe(self) -> str:
        """Return what a repr says of the store, without I/O."""

    @abstractmethod
    def step(self) -> None:
        """Settle what is due, for a clock that was moved or a caller that keeps the time for others."""
