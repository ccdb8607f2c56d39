"""What a process knows of a shared store: its accounts, and what it holds as far as was seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from balancer.errors import BalancerError
from balancer.models import Account, AccountTable, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import Inspect, ReadAll, State
from balancer.rules.reconciliation import Plan
from balancer.rules.records import AccountState
from balancer.stores.asking import PATIENCE, SEEN_FOR
from balancer.stores.fleet import Fleet
from balancer.stores.keeping import Keeping
from balancer.stores.snapshot import fill
from balancer.waiting.drivers import Flow

T = TypeVar("T")


class Reading(Keeping):
    """The configuration, and looks at the whole store."""

    def __init__(self, *made_with: Any, **state: Any) -> None:
        super().__init__(*made_with, **state)
        self.account_states: dict[str, AccountState] = {}
        self.replica: bool = getattr(self.backend, "replica", False)
        """Whether the backend has all of it at hand, so that nothing need be copied to be looked at."""
        self.fleet = Fleet(self)

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

    # -- reading ------------------------------------------------------------------------------

    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> Flow[T]:
        """Return what ``look`` reads of what the store holds: from the backend's replica, or from a copy."""
        patience = PATIENCE if patient else 0.0
        if self.replica:
            found: T = yield from self.ask(Inspect(look), patience)
            return found
        return look((yield from self._look(patience))[1])

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
