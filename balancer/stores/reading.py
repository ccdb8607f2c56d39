"""What a process knows of a shared store: its accounts, and what it holds as far as was seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from balancer.errors import BalancerError
from balancer.models import Account, AccountTable, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import Inspect, ReadAll, ReadSome, State
from balancer.rules.reconciliation import Plan
from balancer.rules.records import AccountState, SlotRequest
from balancer.stores.asking import PATIENCE, SEEN_FOR
from balancer.stores.base import Outlook, next_end
from balancer.stores.fleet_tasks import FleetTasks
from balancer.stores.keeping import Keeping
from balancer.stores.snapshot import fill
from balancer.waiting.drivers import Flow, result_of

T = TypeVar("T")


class Reading(Keeping):
    """The configuration, and looks at the whole store."""

    def __init__(self, *made_with: Any, **state: Any) -> None:
        super().__init__(*made_with, **state)
        self.account_states: dict[str, AccountState] = {}
        self.replica: bool = getattr(self.backend, "replica", False)
        """Whether the backend has all of it at hand, so that nothing need be copied to be looked at."""
        self.fleet = self._fleet_tasks()

    # -- accounts -----------------------------------------------------------------------------

    def configure(self, changes: Changes, table: AccountTable) -> None:
        """Show the accounts of this process as the table has them; callers look around."""
        with self.lock:
            self.table, self.next_housekeeping_at = table, -math.inf
            self.version += 1
            self.look_afresh()
            for account in changes.put:
                if (account_state := self.account_states.get(account.id)) is not None:
                    account_state.account = account  # the others are made when needed
            for waiter in list(self.wait_queue.waiters):
                self.wait_queue.step_aside(waiter)
            self.wake_all()
        self.flush()

    def _tally(self, id: str) -> AccountState:
        account_state = self.account_states.get(id)
        if account_state is None:
            known = self.table.accounts.get(id) if self.table else None
            account_state = self.account_states[id] = AccountState(known or Account(id))
        return account_state

    # -- what is asked of the source --------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], max_age: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return self.fleet.fetch(ask, max_age)

    def reconcile(
        self,
        ask: Callable[[], JobList | BalancerError],
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
            self.learn(((self.lease_id(record.key), job_id) for record, job_id in plan.bind), ended)
        for record in plan.reclaim:
            if self.lease_id(record.key) in ended:
                self.note("warning", "lease_reclaimed", **self.facts(record))
        self.flush()

    # -- reading ------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> Flow[T]:
        """Return what ``look`` reads of what the store holds: from the backend's replica, or from a copy."""
        patience = PATIENCE if patient else 0.0
        if self.replica:
            found: T = yield from self.ask(Inspect(look), patience)
            return found
        return look((yield from self._look(patience))[1])

    def outlook(self, slot_request: SlotRequest, most: int) -> Flow[Outlook]:
        """Return what a caller is told who is turned away: of at most ``most`` accounts that it could use."""
        if self.replica:
            seen: Outlook = yield from result_of(super().outlook(slot_request, most))
            return seen
        known = self.table.accounts if self.table else {}
        ids = tuple(islice(known if slot_request.accounts is None else slot_request.accounts, most))
        state: State = yield from self.ask(ReadSome(ids))
        ledger, now = self.as_ledger(state), self.now()
        every = slot_request.accounts is not None and len(slot_request.accounts) <= most
        soon = math.inf if state.next_end is None else now + state.next_end
        shown = [ledger.account_states[id] for id in ids if id in ledger.account_states]
        return Outlook(
            states={each.id: ledger.state_for(slot_request, each) for each in shown},
            detached=state.detached,
            detached_since=self._loose,
            next_end=next_end(ledger, slot_request, most) if every else soon,
            closed_until=-math.inf if state.closed is None else now + state.closed,
        )

    def _look(self, patience: float = 0.0) -> Flow[tuple[float, Ledger]]:
        state: State = yield from self.ask(ReadAll(), patience)
        if state.table is None and self.table is not None:
            # It had lost its memory, and another process has filled it since: nobody is judged by that.
            state = yield from self.ask(ReadAll(), patience)
        seen = self._seen = time.monotonic() + SEEN_FOR, self.as_ledger(state)
        return seen

    def as_ledger(self, state: State) -> Ledger:
        """Return what the store holds, as a ledger by this process's clock."""
        return fill(self._new_ledger(), state, self.now())

    @property
    def oldest_detached_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so, as the last reply told."""
        return self._loose
