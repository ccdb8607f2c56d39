"""The accounts of one pool: what the configuration says, who cools down or probes, who has room.

The base of the ledger, which adds the leases. An account is found by chance among those that fit at
the same cost however many there are; every way of changing one ends in :meth:`Accounts.refile`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from balancer.models import Account, AccountTable
from balancer.rules.records import NO_COOLDOWNS, AccountState, Cooldown, Hope, LeaseRecord, SlotRequest
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
        """What ends by itself: bound and ambiguous rows, and cooldowns that are cooling."""
        self.external: Mapping[str, int] = {}
        """Jobs of others on each account, as last listed; accounts that are not here have none."""
        self.cooling: set[AccountState] = set()
        """Accounts that cool down or probe."""
        self._hopes = 0
        self._hopes_lost: Counter[str | None] = Counter()
        """Scope -> accounts among the hopeful of which that scope is not worth waiting for; None: any is."""
        self.lower_only = lower_only
        """A request's ``max_jobs`` can lower an account's capacity but not raise it."""

    # -- the choice ---------------------------------------------------------------------------

    def fits(self, request: SlotRequest, account_state: AccountState) -> bool:
        """Whether ``request`` may be served by ``account_state`` now, its constraints apart."""
        return account_state.fits(self.capacity_for(request, account_state), request.scope, request.record)

    def capacity_for(self, request: SlotRequest, account_state: AccountState) -> int | None:
        """Return the capacity that replaces the account's own for this decision, or None."""
        if request.max_jobs is None or not self.lower_only:
            return request.max_jobs
        return min(request.max_jobs, account_state.account.capacity)

    def candidates(self, request: SlotRequest) -> Iterable[AccountState]:
        """Yield the accounts that the request's constraints leave."""
        if request.accounts is not None:
            ids: Iterable[str] = request.accounts
        elif not request.exclude:
            return self.account_states.values()
        else:
            ids = self.account_states
        return (
            self.account_states[id] for id in ids if id in self.account_states and id not in request.exclude
        )

    def choose(self, request: SlotRequest) -> AccountState | None:
        """Return the account that the request's draw falls on among those that fit, or None."""
        if request.unconstrained:
            return self.selector.pick(request.draw)
        if request.accounts is None and request.max_jobs is None and not (request.scope and self.cooling):
            states = self.account_states
            return self.selector.pick_except(
                request.draw, [states[id] for id in request.exclude if id in states]
            )
        fitting = [each for each in self._with_room(request) if self.fits(request, each)]
        if not fitting:
            return None
        best = sorted(self.selector.among(fitting), key=_id)
        return best[int(request.draw * len(best))]

    def _with_room(self, request: SlotRequest) -> Iterable[AccountState]:
        """Yield the candidates, without those that are known to have no room if that spares a long search."""
        if request.accounts is not None and len(request.accounts) == 1:
            return self.candidates(request)
        if request.scope is not None or not (request.max_jobs is None or self.lower_only):
            return self.candidates(request)  # a request like that may find room where others do not
        return [each for each in self.selector.with_room() if request.admits(each.id)]

    # -- hope ---------------------------------------------------------------------------------

    def hopeless(self, request: SlotRequest) -> bool:
        """Whether waiting cannot help: every candidate needs mending, or there is none."""
        if request.accounts is not None:
            return not any(each.worth_waiting(request.scope) for each in self.candidates(request))
        excluded = [self.account_states[id] for id in request.exclude if id in self.account_states]
        return self._hopeful(request.scope) <= sum(each.worth_waiting(request.scope) for each in excluded)

    def _hopeful(self, scope: str | None) -> int:
        """Return how many accounts a job of ``scope`` may hope for; a job without one meets every scope."""
        return self._hopes - self._hopes_lost[scope]

    def _count_hope(self, account_state: AccountState, hope: Hope | None) -> None:
        """Count what can be expected of an account, and no longer what was; None: it is gone."""
        for sign, each in ((-1, account_state.hope), (1, hope)):
            if each is not None and each.account:
                self._hopes += sign
                for scope in (*each.scopes, *((None,) if each.scopes else ())):
                    self._hopes_lost[scope] += sign
        account_state.hope = hope

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
        cooldown = Cooldown(account_state, scope, until, reason, worth_waiting)
        account_state.put_cooldown(cooldown)
        self.timers.set(cooldown, until)
        self.update_cooldowns(account_state)

    def reset(self, account_state: AccountState) -> None:
        """Clear what verdicts made of the account; never what the configuration says."""
        for cooldown in account_state.cooldowns.values():
            self.timers.drop(cooldown)
        account_state.cooldowns = NO_COOLDOWNS
        self.update_cooldowns(account_state)

    def conclude(self, record: LeaseRecord, *, well: bool) -> None:
        """End the turn of a lease that probes. Did it go ``well``, the probing is over."""
        account_state = record.account_state
        for scope, cooldown in list(account_state.cooldowns.items()):
            if cooldown.probe == record.key:
                cooldown.probe = None
                if well and not cooldown.cooling:
                    account_state.drop_cooldown(scope)
        self.update_cooldowns(account_state)

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
            for cooldown in account_state.cooldowns.values():
                cooldown.cooling = False
                self.timers.drop(cooldown)
        self.recompute(account_state)
        return account_state

    def recompute(self, account_state: AccountState) -> None:
        """Work out anew how much room the account has, and what can be expected of it."""
        account_state.external = self.external.get(account_state.id, 0)
        account_state.compute_left()
        self.update_cooldowns(account_state)

    def update_cooldowns(self, account_state: AccountState) -> None:
        """Follow a change of the account's cooldowns, or of whether it can be used."""
        (self.cooling.add if account_state.cooldowns else self.cooling.discard)(account_state)
        self._count_hope(account_state, account_state.compute_hope())
        self.update_selector(account_state)

    def update_selector(self, account_state: AccountState) -> None:
        """Have the account stand among those with room exactly if it has room."""
        self.selector.update(account_state, account_state.fits())
        if account_state.draining and not account_state.held:
            self._forget_drained(account_state)

    def _forget_drained(self, account_state: AccountState) -> None:
        if not any(each.cooling for each in account_state.cooldowns.values()):
            self.account_states.pop(account_state.id, None)
            self.selector.forget(account_state)
            self.cooling.discard(account_state)
            self._count_hope(account_state, None)

    def recount_cooldowns(self, account_state: AccountState) -> None:
        """Enter the account's cooldowns in the timers again."""
        for cooldown in account_state.cooldowns.values():
            if cooldown.cooling:
                self.timers.set(cooldown, cooldown.until)
            if cooldown.probe not in account_state.held:
                cooldown.probe = None

    def forget_hopes(self) -> None:
        """Count anew what can be expected of the accounts, from nothing."""
        self._hopes = 0
        self._hopes_lost.clear()
        self.cooling.clear()
        for account_state in self.account_states.values():
            account_state.hope = None


def _id(account_state: AccountState) -> str:
    return account_state.id
