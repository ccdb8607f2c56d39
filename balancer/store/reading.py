"""What a process knows of a shared store: its accounts, and what it holds as far as was seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from balancer.effect import Flow
from balancer.errors import BalancerError
from balancer.ledger import Changes, Ledger
from balancer.matching import Plan
from balancer.model import Account, Listing, Table
from balancer.store.asking import PATIENCE, SEEN_FOR
from balancer.store.base import Outlook, next_end
from balancer.store.fleet_tasks import FleetTasks
from balancer.store.keeping import Keeping
from balancer.store.operations import Dump, ReadSome, State
from balancer.store.snapshot import fill
from balancer.tally import Tally, Ticket

T = TypeVar("T")


class Reading(Keeping):
    """The configuration, and looks at the whole store."""

    def __init__(self, *made_with: Any) -> None:
        super().__init__(*made_with)
        self.tallies: dict[str, Tally] = {}
        self.fleet = self._fleet_tasks()

    # -- accounts -----------------------------------------------------------------------------

    def configure(self, changes: Changes, table: Table) -> None:
        """Show the accounts of this process as the table has them; callers look around."""
        with self.lock:
            self.table, self.quiet_until = table, -math.inf
            self.look_afresh()
            for account in changes.put:
                self._tally(account.id).account = account
            for waiter in [w for w in self.lines.waiters if w.ticket.accounts is not None]:
                self.lines.step_aside(waiter)
            self.wake_all()
        self.flush()

    def _tally(self, id: str) -> Tally:
        tally = self.tallies.get(id)
        if tally is None:
            known = self.table.accounts.get(id) if self.table else None
            tally = self.tallies[id] = Tally(known or Account(id))
        return tally

    # -- what is asked of the source --------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], Table | BalancerError], max_age: float
    ) -> tuple[Table | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return self.fleet.fetch(ask, max_age)

    def survey(
        self,
        ask: Callable[[], Listing | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put into effect, unless it is no longer ``wanted`` by then."""
        self.look_afresh()
        return self.fleet.survey(ask, wanted, interval, max_age)

    def _fleet_tasks(self) -> FleetTasks:
        return FleetTasks(
            call=self.do,
            ledger=self.as_ledger,
            now=self.now,
            keep_alive=self._keep_alive,
            on_reconciled=self._reconciled,
        )

    def _keep_alive(self) -> None:
        self.courier.ensure()

    def _reconciled(self, plan: Plan, ended: frozenset[str]) -> None:
        with self.lock:
            self.totals.reclaimed += len(ended)
            self.learn(((self.text(row.key), job_id) for row, job_id in plan.bind), ended)
        for row in plan.reclaim:
            if self.text(row.key) in ended:
                self.note("warning", "lease_reclaimed", **self.facts(row))
        self.flush()

    # -- reading ------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> Flow[T]:
        """Return what ``look`` reads from a copy of what the store holds."""
        return look((yield from self._look(PATIENCE if patient else 0.0))[1])

    def outlook(self, ticket: Ticket, most: int) -> Flow[Outlook]:
        """Return what a caller is told who is turned away: of at most ``most`` accounts that it could use."""
        known = self.table.accounts if self.table else {}
        ids = tuple(islice(known if ticket.accounts is None else ticket.accounts, most))
        state: State = yield from self.ask(ReadSome(ids))
        ledger, now = self.as_ledger(state), self.now()
        every = ticket.accounts is not None and len(ticket.accounts) <= most
        soon = math.inf if state.next_end is None else now + state.next_end
        return Outlook(
            ledger=ledger,
            tallies=[ledger.tallies[id] for id in ids if id in ledger.tallies],
            detached=state.detached,
            detached_since=self._loose,
            next_end=next_end(ledger.tallies.values(), ticket.scope) if every else soon,
            closed_until=-math.inf if state.closed is None else now + state.closed,
        )

    def _look(self, patience: float = 0.0) -> Flow[tuple[float, Ledger]]:
        state: State = yield from self.ask(Dump(), patience)
        if state.table is None and self.table is not None:
            # It had lost its memory, and another process has filled it since: nobody is judged by that.
            state = yield from self.ask(Dump(), patience)
        seen = self._seen = time.monotonic() + SEEN_FOR, self.as_ledger(state)
        return seen

    def as_ledger(self, state: State) -> Ledger:
        """Return what the store holds, as a ledger by this process's clock."""
        return fill(self._new_ledger(), state, self.now())

    @property
    def loose_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so, as the last reply told."""
        return self._loose
