"""The accounts of one pool: what the configuration says, who cools down or probes, who has room.

The base of the ledger, which adds the leases. An account is found by chance among those that fit at
the same cost however many there are; every way of changing one ends in :meth:`Accounts.refile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from balancer.models import Account, AccountTable
from balancer.rules.records import NO_COOLDOWNS, AccountState, Cooldown, LeaseRecord, SlotRequest
from balancer.rules.selection import STRATEGIES, Selector
from balancer.rules.timer_queue import TimerQueue


class Changes(NamedTuple):
    """How one table differs from another."""

    put: tuple[Account, ...] = ()
    gone: tuple[str, ...] = ()

    @staticmethod
    def between(old: AccountTable | None, new: AccountTable) -> Changes:
        """Compare two tables. It may take long, and needs no lock as tables never change."""
        before: Mapping[str, Account] = old.accounts if old else {}
        put = tuple(account for id, account in new.accounts.items() if before.get(id) != account)
        return Changes(put, tuple(id for id in before if id not in new.accounts))


class Accounts:
    """Accounts, their cooldowns, and the choice among them."""

    def __init__(self, strategy: str, *, lower_only: bool) -> None:
        self.account_states: dict[str, AccountState] = {}
        self.selector: Selector = STRATEGIES[strategy]()
        self.timers: TimerQueue[LeaseRecord | Cooldown] = TimerQueue()
        """What ends by itself: bound and ambiguous rows, and pauses that are cooling."""
        self.external: Mapping[str, int] = {}
        """Jobs of others on each account, as last listed; accounts that are not here have none."""
        self.lower_only = lower_only
        """A ticket's ``max_jobs`` can lower an account's capacity but not raise it."""

    # -- the choice ---------------------------------------------------------------------------

    def fits(self, slot_request: SlotRequest, account_state: AccountState) -> bool:
        """Whether ``ticket`` may be served by ``tally`` now."""
        return account_state.fits(self.capacity_for(slot_request, account_state), slot_request.scope)

    def capacity_for(self, slot_request: SlotRequest, account_state: AccountState) -> int | None:
        """Return the capacity that replaces the account's own for this decision, or None."""
        if slot_request.max_jobs is None or not self.lower_only:
            return slot_request.max_jobs
        return min(slot_request.max_jobs, account_state.account.capacity)

    def candidates(self, slot_request: SlotRequest) -> list[AccountState]:
        """Return the accounts that the ticket's constraints leave."""
        if slot_request.accounts is None:
            return list(self.account_states.values())
        return [self.account_states[id] for id in slot_request.accounts if id in self.account_states]

    def choose(self, slot_request: SlotRequest) -> AccountState | None:
        """Return the account that the ticket's draw falls on among those that fit, or None."""
        if slot_request.alike == (None, None, None):
            return self.selector.pick(slot_request.draw)
        fitting = [
            account_state
            for account_state in self.candidates(slot_request)
            if self.fits(slot_request, account_state)
        ]
        if not fitting:
            return None
        best = sorted(self.selector.prefer(fitting), key=_id)
        return best[int(slot_request.draw * len(best))]

    def hopeless(self, slot_request: SlotRequest) -> bool:
        """Whether waiting cannot help: every candidate needs mending, or there is none."""
        account_states: Iterable[AccountState] = (
            self.account_states.values() if slot_request.accounts is None else self.candidates(slot_request)
        )
        return not any(account_state.worth_waiting(slot_request.scope) for account_state in account_states)

    # -- cooldowns and probing ----------------------------------------------------------------

    def cool(
        self, account_state: AccountState, scope: str | None, until: float, reason: str, worth_waiting: bool
    ) -> None:
        """Put the account, or one scope of it, in a cooldown. A longer one wins over a shorter."""
        old = account_state.cooldowns.get(scope)
        if old is not None:
            if old.cooling and old.until >= until:
                return
            self.timers.drop(old)
        pause = Cooldown(account_state, scope, until, reason, worth_waiting)
        account_state.put_cooldown(pause)
        self.timers.set(pause, until)
        self.update_selector(account_state)

    def reset(self, account_state: AccountState) -> None:
        """Clear what verdicts made of the account; never what the configuration says."""
        for pause in account_state.cooldowns.values():
            self.timers.drop(pause)
        account_state.cooldowns = NO_COOLDOWNS
        self.update_selector(account_state)

    def conclude(self, record: LeaseRecord, *, well: bool) -> None:
        """End the turn of a lease that probes. Did it go ``well``, the probing is over."""
        account_state = record.account_state
        for scope, pause in list(account_state.cooldowns.items()):
            if pause.probe == record.key:
                pause.probe = None
                if well and not pause.cooling:
                    account_state.drop_cooldown(scope)
        self.update_selector(account_state)

    # -- the configuration and the server's list ----------------------------------------------

    def configure(self, changes: Changes) -> list[AccountState]:
        """Bring the accounts in line with the configuration; leases stay. Return what changed.

        Doing it again changes nothing, so that it can be repeated if it was cut short.
        """
        gone = [self.account_states[id] for id in changes.gone if id in self.account_states]
        for account_state in gone:
            account_state.draining = True
            self.recompute(account_state)
        return gone + [self._put(account) for account in changes.put]

    def set_external(self, external: Mapping[str, int]) -> list[AccountState]:
        """Take over how many jobs of others run on each account. Return what changed."""
        ids = self.external.keys() | external.keys()
        self.external = external
        changed = [self.account_states[id] for id in ids if id in self.account_states]
        for account_state in changed:
            self.recompute(account_state)
        return changed

    def _put(self, account: Account) -> AccountState:
        account_state = self.account_states.get(account.id)
        if account_state is None:
            account_state = self.account_states[account.id] = AccountState(account)
        healed = account_state.account.broken is not None and account.broken is None
        account_state.account, account_state.draining = account, False
        if healed:
            for pause in account_state.cooldowns.values():
                pause.cooling = False
                self.timers.drop(pause)
        self.recompute(account_state)
        return account_state

    def recompute(self, account_state: AccountState) -> None:
        """Work out anew how much room the account has."""
        account_state.external = self.external.get(account_state.id, 0)
        account_state.compute_left()
        self.update_selector(account_state)

    def update_selector(self, account_state: AccountState) -> None:
        """Have the account stand among those with room exactly if it has room."""
        self.selector.file(account_state, account_state.fits())
        if (
            account_state.draining
            and not account_state.held
            and not any(p.cooling for p in account_state.cooldowns.values())
        ):
            self._drop(account_state)

    def _drop(self, account_state: AccountState) -> None:
        self.account_states.pop(account_state.id, None)
        self.selector.forget(account_state)

    def recount_cooldowns(self, account_state: AccountState) -> None:
        """Enter the account's cooldowns in the agenda again."""
        for pause in account_state.cooldowns.values():
            if pause.cooling:
                self.timers.set(pause, pause.until)
            if pause.probe not in account_state.held:
                pause.probe = None


def _id(account_state: AccountState) -> str:
    return account_state.id
