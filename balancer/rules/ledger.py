"""Who holds what, who cools down, who probes: the rules of the library, without locks, clocks or I/O.

``now`` and the random number are arguments, so that every decision can be repeated. Whoever owns a ledger
sees to it that one thread at a time is in it and that ``due(now)`` was called before it decides anything at
``now``.

The lease records are what is true. Everything else that changes in here is derived from them and can be
worked out again: see :meth:`Ledger.recount`. An account is found by chance among those that fit at the same
cost however many there are; every way of changing one ends in :meth:`Ledger.update_selector`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from cachetools import TTLCache

from balancer.models import Account, AccountTable
from balancer.rules import limits
from balancer.rules.limits import Limit
from balancer.rules.operations import LimitChange, Report
from balancer.rules.records import (
    AMBIGUOUS,
    BOUND,
    ENDED,
    HELD,
    NEW,
    NO_COOLDOWNS,
    OUT,
    AccountState,
    Cooldown,
    Hope,
    Key,
    LeaseRecord,
    ListedJob,
    SlotRequest,
)
from balancer.rules.selection import STRATEGIES, Selector
from balancer.rules.timer_queue import TimerQueue

NOTHING: Mapping[str, ListedJob] = MappingProxyType({})
EARLY_RELEASES = 10_000
EARLY_RELEASE_TTL = 600.0


class Changes(NamedTuple):
    """How one table differs from another."""

    put: tuple[Account, ...] = ()
    gone: tuple[str, ...] = ()

    @staticmethod
    def between(old: AccountTable | None, new: AccountTable) -> Changes:
        """Compare two tables. It may take long, and needs no lock as tables never change."""
        before: Mapping[str, Account] = old.accounts if old else {}
        if not before:
            return Changes(tuple(new.accounts.values()))
        put = tuple(account for id, account in new.accounts.items() if before.get(id) != account)
        return Changes(put, tuple(id for id in before if id not in new.accounts))


class Ledger:
    """Leases and accounts of one pool."""

    def __init__(self, strategy: str, timer: Callable[[], float], *, lower_only: bool = False) -> None:
        self.records: dict[Key, LeaseRecord] = {}
        self.account_states: dict[str, AccountState] = {}
        self.selector: Selector = STRATEGIES[strategy]()
        self.lower_only = lower_only
        """A request's ``max_jobs`` can lower an account's capacity but not raise it."""
        self.timers: TimerQueue[LeaseRecord | Cooldown | AccountState] = TimerQueue()
        """What changes by itself: bound and ambiguous leases and cooldowns end, an account is to be tried."""
        self.detached_since: TimerQueue[LeaseRecord] = TimerQueue()
        """Bound and ambiguous leases by since when: no block of code will end them."""
        self.jobs: dict[str, LeaseRecord] = {}
        """The leases that are bound, by job id."""
        self.early: TTLCache[str, bool] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released before anybody bound them."""
        self.done: TTLCache[str, float] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released, and when: the server's list may lag behind."""
        self.external: Mapping[str, int] = {}
        """Jobs of others on each account, as last listed; accounts that are not here have none."""
        self.listed = NOTHING
        """Jobs of that list, by id, that were nobody's then, and that nobody has bound or released since."""
        self.listed_at = -math.inf
        """When that list was asked for."""
        self.limit_changes: list[LimitChange] = []
        """What was learned, to be told."""
        self.scoped: set[AccountState] = set()
        """Accounts that do not cool down as a whole: some scopes find no room there, others may."""
        self._hopes = 0
        self._hopes_lost: Counter[str | None] = Counter()
        """Scope -> accounts among the hopeful of which that scope is not worth waiting for; None: any is."""

    # -- the choice ---------------------------------------------------------------------------

    def fits(self, request: SlotRequest, account_state: AccountState) -> bool:
        """Whether ``request`` may be served by ``account_state`` now, its constraints apart."""
        if request.max_jobs is None and account_state.plain:
            return account_state.left > 0
        return account_state.fits(self.capacity_for(request, account_state), request.scope, request.record)

    def capacity_for(self, request: SlotRequest, account_state: AccountState) -> int | None:
        """Return the capacity that replaces the account's own for this decision, or None."""
        if request.max_jobs is None or not self.lower_only:
            return request.max_jobs
        return min(request.max_jobs, account_state.account.capacity)

    def eligibility(self, request: SlotRequest, account_state: AccountState) -> str:
        """Say that an account is eligible for the request, or why not."""
        if self.fits(request, account_state):
            return "eligible"
        return account_state.why_not(self.capacity_for(request, account_state), request.scope)

    def state_for(self, request: SlotRequest, account_state: AccountState) -> str:
        """Say in which state an account is, or why the request cannot be served there."""
        said = self.eligibility(request, account_state)
        return account_state.state if said == "eligible" else said

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
        states = self.account_states
        if (
            request.accounts is None
            and request.max_jobs is None
            and not (request.scope is not None and self.scoped)
        ):
            if not request.exclude:
                return self.selector.pick(request.draw)
            return self.selector.pick_except(
                request.draw, [states[id] for id in request.exclude if id in states]
            )
        if request.accounts is not None and len(request.accounts) == 1:
            (id,) = request.accounts
            found = None if id in request.exclude else states.get(id)
            return found if found is not None and self.fits(request, found) else None
        fitting = [each for each in self._with_room(request) if self.fits(request, each)]
        if not fitting:
            return None
        best = sorted(self.selector.among(fitting), key=_id)
        return best[int(request.draw * len(best))]

    def _with_room(self, request: SlotRequest) -> Iterable[AccountState]:
        """Yield the candidates, without those that are known to have no room if that spares a long search."""
        if not (request.max_jobs is None or self.lower_only):
            return self.candidates(request)  # more than its capacity may be asked of any account
        found = {*self.selector.with_room(), *(self.scoped if request.scope is not None else ())}
        return [each for each in found if request.admits(each.id)]

    # -- hope ---------------------------------------------------------------------------------

    def hopeless(self, request: SlotRequest) -> bool:
        """Whether waiting cannot help: every candidate needs mending, or there is none."""
        if request.accounts is not None:
            return not any(each.worth_waiting(request.scope) for each in self.candidates(request))
        scope = request.record.scope
        hopeful = self._hopes - self._hopes_lost[scope]  # a job without a scope meets every scope
        if not request.exclude:
            return hopeful <= 0
        excluded = [self.account_states[id] for id in request.exclude if id in self.account_states]
        return hopeful <= sum(each.worth_waiting(scope) for each in excluded)

    def _count_hope(self, account_state: AccountState, hope: Hope | None) -> None:
        """Count what can be expected of an account, and no longer what was; None: it is gone."""
        for sign, each in ((-1, account_state.hope), (1, hope)):
            if each is not None and each.account:
                self._hopes += sign
                if each.scopes:
                    for scope in (*each.scopes, None):
                        self._hopes_lost[scope] += sign
        account_state.hope = hope

    # -- cooldowns and probing ----------------------------------------------------------------

    def accept(self, record: LeaseRecord, now: float) -> None:
        """The account took the job: if this lease is a probe or a trial, it went well."""
        record.accepted, record.declined = True, False
        account_state = record.account_state
        limit, capacity = account_state.limit, account_state.account.capacity
        if limit is not None and limit.trial == record.key:
            self.set_limit(account_state, limits.trial_accepted(limit, capacity, now))
            self._note_limit(account_state, limit)
        self.conclude(record, well=True)

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
        self.set_limit(account_state, None)
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

    # -- learned limits -----------------------------------------------------------------------

    def report(self, report: Report, now: float, doubt_until: float) -> bool:
        """Put what an answer said into effect. True: the account cools for it."""
        record, account_state = self.records.get(report.key), self.account_states.get(report.account)
        only_full = (
            report.teaches and account_state is not None and self._learn(report.key, account_state, now)
        )
        if record is not None:
            if report.accepted:
                self.accept(record, now)
            if report.doubt:
                self.doubt(record, doubt_until, now)
            elif not report.accepted:
                self.decline(record, now)
            record.adverse = record.adverse or report.adverse
        if account_state is None or report.seconds is None or (only_full and not report.named):
            return False
        until = now + report.seconds
        self.cool(account_state, report.scope, until, report.reason, report.worth_waiting)
        return True

    def _learn(self, key: Key, account_state: AccountState, now: float) -> bool:
        """Learn from the refusal of a job how many its account bears.

        True: other jobs run there, so that the account is only full, and need not cool.
        A lease whose job was taken before teaches nothing, as the refusal is of something else.
        """
        record = self.records.get(key)
        if record is not None and record.accepted:
            return False
        limit, others = account_state.limit, account_state.jobs_beside(key)
        if limit is not None and limit.trial == key:
            after: Limit | None = limits.trial_refused(limit, now)
        else:
            after = limits.refused(limit, account_state.account.capacity, others, now)
        self.set_limit(account_state, after)
        self._note_limit(account_state, limit)
        return others > 0

    def _note_limit(self, account_state: AccountState, before: Limit | None) -> None:
        """Note it if it is known by now that an account bears more or fewer jobs than was thought."""
        capacity = account_state.account.capacity
        was = limits.bound(capacity, before, may_try=False)
        bears = limits.bound(capacity, account_state.limit, may_try=False)
        if bears != was:
            self.limit_changes.append(LimitChange(account_state.id, bears, capacity, bears > was))

    def decline(self, record: LeaseRecord, now: float) -> None:
        """No job was taken: nothing runs on the lease's slot, and nothing is learned if it is a trial."""
        record.declined = not record.accepted
        self._end_trial(record, now)

    def set_limit(self, account_state: AccountState, limit: Limit | None) -> None:
        """Have ``limit`` in force for the account; None: none."""
        self.take_over_limit(account_state, limit)
        self.update_selector(account_state)

    def take_over_limit(self, account_state: AccountState, limit: Limit | None) -> None:
        """Do so without a look at where the account stands."""
        account_state.limit = limit
        self._time(account_state)
        account_state.compute_left()

    def space(self, account_state: AccountState, until: float | None) -> None:
        """Leave the account alone until then; None: no longer."""
        account_state.spaced_until = until
        self._time(account_state)

    def _time(self, account_state: AccountState) -> None:
        """Note when something about the account changes by itself."""
        at = account_state.changes_at
        if at == math.inf:
            self.timers.drop(account_state)
        else:
            self.timers.set(account_state, at)

    def _let_time_pass(self, account_state: AccountState, now: float) -> None:
        """Have a trial be due, and the account be granted on again, if their time has come."""
        if account_state.spaced_until is not None and account_state.spaced_until <= now:
            account_state.spaced_until = None
        limit = account_state.limit
        self.set_limit(account_state, None if limit is None else limits.time_passed(limit, now))

    def _end_trial(self, record: LeaseRecord, now: float) -> None:
        """If the lease is a trial, it has ended without an answer to its question."""
        limit = record.account_state.limit
        if limit is not None and limit.trial == record.key:
            self.set_limit(record.account_state, limits.trial_over(limit, now))

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

    def set_external(
        self, external: Mapping[str, int], listed: Mapping[str, ListedJob] = NOTHING, at: float = -math.inf
    ) -> list[AccountState]:
        """Take over how many jobs of others run on each account. Return what changed.

        ``listed``: the jobs of no lease on the list that this is known by, which was asked for at ``at``.
        """
        ids = self.external.keys() | external.keys()
        self.external, self.listed, self.listed_at = external, listed, at
        changed = [self.account_states[id] for id in ids if id in self.account_states]
        for account_state in changed:
            self.recompute(account_state)
        return changed

    def _put(self, account: Account) -> AccountState:
        account_state = self.account_states.get(account.id)
        if account_state is None:
            account_state = self.account_states[account.id] = AccountState(account)
        healed = account_state.account.broken is not None and account.broken is None
        if healed or account_state.account.capacity != account.capacity:
            account_state.limit = None
            self._time(account_state)
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
        self.update_hope(account_state)
        self.update_selector(account_state)

    def update_hope(self, account_state: AccountState) -> None:
        """Count what can be expected of the account now, for all jobs and for those of one scope."""
        cooldowns = account_state.cooldowns
        scoped = cooldowns and not (None in cooldowns and cooldowns[None].cooling)
        (self.scoped.add if scoped else self.scoped.discard)(account_state)
        hope = account_state.compute_hope()
        if hope is not account_state.hope:
            self._count_hope(account_state, hope)

    def update_selector(self, account_state: AccountState) -> None:
        """Have the account stand among those with room exactly if it has room."""
        simple = (
            not account_state.cooldowns
            and account_state.kept_for is None
            and account_state.spaced_until is None
        )
        account_state.plain = simple and account_state.limit is None
        self.selector.update(account_state, account_state.left > 0 and (simple or account_state.fits()))
        if account_state.draining and not account_state.held and not account_state.cooling:
            self.forget(account_state)

    def forget(self, account_state: AccountState) -> None:
        """Take an account that has no room out for good."""
        self.account_states.pop(account_state.id, None)
        self.timers.drop(account_state)
        self.selector.forget(account_state)
        self.scoped.discard(account_state)
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
        self.scoped.clear()
        for account_state in self.account_states.values():
            account_state.hope = None

    # -- time ---------------------------------------------------------------------------------

    def due(self, now: float) -> tuple[list[LeaseRecord], list[AccountState]]:
        """End what has ended by ``now``. Return the expired rows and the accounts that changed."""
        expired: list[LeaseRecord] = []
        changed: list[AccountState] = []
        for thing in self.timers.due(now):
            if isinstance(thing, AccountState):
                changed.append(thing)
                self._let_time_pass(thing, now)
                continue
            changed.append(thing.account_state)
            if isinstance(thing, LeaseRecord):
                expired.append(thing)
                self.end(thing, now)
            else:
                thing.cooling = False
                self.update_cooldowns(thing.account_state)
        return expired, changed

    # -- leases -------------------------------------------------------------------------------

    def take(self, request: SlotRequest, now: float) -> bool:
        """Grant the request's lease on an account that chance picks among those that fit, if any does."""
        if request.record.key in self.records:
            return True
        account_state = self.choose(request)
        if account_state is None:
            return False
        self.grant(request.record, account_state, now)
        return True

    def take_on(self, request: SlotRequest, account_state: AccountState, now: float) -> bool:
        """Grant the request's lease on this account, if it may be served there."""
        if request.record.key in self.records:
            return True
        id, accounts = account_state.id, request.accounts
        if id in request.exclude or (accounts is not None and id not in accounts):
            return False
        if not self.fits(request, account_state):
            return False
        self.grant(request.record, account_state, now)
        return True

    def grant(self, record: LeaseRecord, account_state: AccountState, now: float) -> None:
        """Put a lease on an account. Its state is set last, so that before there is no grant.

        Who finds a key live already leaves it where it is: the step that granted it was cut short before
        its caller was out of the queue.
        """
        record.account_state, record.held_since = account_state, now
        if account_state.cooldowns:
            for cooldown in account_state.cooldowns_for(record.scope):
                cooldown.probe = record.key
        self.records[record.key] = account_state.held[record.key] = record
        account_state.left -= 1
        if account_state.limit is not None and not record.reserves:
            others = account_state.running - 1
            account_state.limit = limits.granted(account_state.limit, record.key, others)
            account_state.compute_left()
        if record.spacing:
            self.space(account_state, now + record.spacing)
        record.state = HELD
        self.update_selector(account_state)

    def end(self, record: LeaseRecord, now: float, *, released: bool = False) -> AccountState:
        """End a live lease, whatever its state, and return its account.

        ``released``: its user says so; if not, it ends by itself, and its job may end another time.
        """
        account_state = record.account_state
        if account_state.limit is not None:
            self._end_trial(record, now)
        record.state = ENDED
        del self.records[record.key], account_state.held[record.key]
        account_state.left += 1
        if record.job_id is not None:
            for job_id in record.running_jobs:
                self.jobs.pop(job_id, None)
                if released:
                    self.done[job_id] = now
        if record.end is not None:
            self.timers.drop(record)
            self.detached_since.drop(record)
        if account_state.cooldowns:
            self.conclude(record, well=not record.adverse)
        self.update_selector(account_state)
        return account_state

    def bind(self, record: LeaseRecord, job_ids: tuple[str, ...], end: float, now: float) -> bool:
        """Tie a live lease to its jobs until ``end``. False: all were released already, so it ended.

        Raises:
            ValueError: a job is another lease's, or the lease is bound to another job.
        """
        for job_id in job_ids:
            if self.jobs.get(job_id, record) is not record:
                raise ValueError(f"job_id {job_id!r} is bound to another lease already")
            if record.state == BOUND and job_id not in record.job_ids:
                raise ValueError(f"job_id {job_id!r}: the lease is bound to {record.job_id!r} already")
        if record.state != BOUND:
            record.job_id, record.other_jobs, record.ended_jobs = job_ids[0], job_ids[1:], frozenset()
        over = [job_id for job_id in record.running_jobs if job_id in self.early]
        if len(over) == len(record.running_jobs):
            self.accept(record, now)
            self.end(record, now, released=True)
        else:
            self._end_jobs(record, over, now)
            record.missed = 0
            self.jobs.update(dict.fromkeys(record.running_jobs, record))
            self._loosen(record, BOUND, end, now)
            self.accept(record, now)
        for job_id in over:
            self.early.pop(job_id, None)
        self._take_off_list(job_ids)
        return record.state is BOUND

    def adopt(
        self, record: LeaseRecord, job_id: str, account_state: AccountState, end: float, now: float
    ) -> LeaseRecord:
        """Write down a job that runs already, even over the bound, and return its lease.

        It is an older one if the job is bound already, and one that has ended if it was released.
        """
        known = self.jobs.get(job_id)
        if known is not None:
            return known
        record.account_state, record.held_since, record.accepted = account_state, now, True
        record.job_id = job_id
        if job_id in self.early or job_id in self.done:
            record.state = ENDED
            return record
        self.records[record.key] = account_state.held[record.key] = self.jobs[job_id] = record
        self._loosen(record, BOUND, end, now)
        # Last: who is cut off in between leaves a job that counts twice until the next list, and not none.
        listed = self.listed.get(job_id)
        if listed is not None and listed.lease not in self.records and self.external.get(account_state.id):
            self.external = {**self.external, account_state.id: self.external[account_state.id] - 1}
        self._take_off_list([job_id])
        self.recompute(account_state)
        return record

    def _take_off_list(self, job_ids: Iterable[str]) -> None:
        """Note that it is known by now whose these jobs are, or that they are over."""
        if not self.listed.keys().isdisjoint(job_ids):
            known = set(job_ids)
            self.listed = {job_id: job for job_id, job in self.listed.items() if job_id not in known}

    def doubt(self, record: LeaseRecord, end: float, now: float) -> None:
        """Keep the slot of a lease of which nobody knows whether its job runs, until ``end``."""
        if record.state != BOUND:
            self._end_trial(record, now)
            self._loosen(record, AMBIGUOUS, end, now)

    def hold(self, record: LeaseRecord) -> None:
        """Have a lease in doubt be its process's again, which keeps it."""
        record.state, record.end = HELD, None
        self.timers.drop(record)
        self.detached_since.drop(record)

    def _loosen(self, record: LeaseRecord, state: str, end: float, now: float) -> None:
        record.end, record.state_since, record.state = end, now, state
        self.detached_since.set(record, now)
        self.timers.set(record, end)

    def set_end(self, record: LeaseRecord, end: float) -> None:
        """Have a live lease end by itself at ``end``."""
        record.end = end
        self.timers.set(record, end)

    def prolong(self, record: LeaseRecord, end: float) -> None:
        """Have a lease whose job still runs end at ``end``, unless its user gave it longer."""
        if record.end is not None and record.end < end:
            self.set_end(record, end)

    def end_job(self, job_id: str, now: float) -> tuple[LeaseRecord | None, bool]:
        """Take note that a job is over. Return its lease, and whether it was the last one of it.

        Then the lease is still to be ended. A job that there never was is remembered as released. (A callback
        may come twice: what was released already, and ended a lease, frees no later one.)
        """
        record = self.jobs.get(job_id)
        if record is None:
            if job_id not in self.done:
                self.early[job_id] = True
            self._take_off_list([job_id])
            return None, False
        if len(record.running_jobs) == 1:
            return record, True
        self._end_jobs(record, [job_id], now)
        return record, False

    def _end_jobs(self, record: LeaseRecord, job_ids: list[str], now: float) -> None:
        """Have some jobs of a lease be over, while others run."""
        record.ended_jobs |= set(job_ids)
        for job_id in job_ids:
            self.jobs.pop(job_id, None)
            self.done[job_id] = now

    # -- derived state ------------------------------------------------------------------------

    def recount(self) -> None:
        """Derive everything from the rows again, after an operation was cut short in its middle.

        An exception such as KeyboardInterrupt can arrive between any two steps. A row's state is what
        counts: it is the last thing that a grant or a bind sets, and the first that an end does.
        """
        for key in [key for key, record in self.records.items() if record.state in (NEW, ENDED)]:
            del self.records[key]
        self.jobs, self.timers, self.detached_since = {}, TimerQueue(), TimerQueue()
        self.selector.clear()
        self.forget_hopes()
        for account_state in self.account_states.values():
            account_state.held, account_state.place = {}, OUT
        for record in self.records.values():
            self._recount_row(record)
        for account_state in list(self.account_states.values()):
            self.recount_cooldowns(account_state)
            self._recount_limit(account_state)
            self.recompute(account_state)

    def _recount_limit(self, account_state: AccountState) -> None:
        limit = account_state.limit
        if limit is not None and limit.trial not in account_state.held:
            account_state.limit = limit._replace(trial=None)
        self._time(account_state)

    def _recount_row(self, record: LeaseRecord) -> None:
        record.account_state.held[record.key] = record
        if record.state != BOUND:
            record.job_id, record.other_jobs, record.ended_jobs = None, (), frozenset()
        else:
            self.jobs.update(dict.fromkeys(record.running_jobs, record))
        if record.state == HELD:
            record.end = None
        elif record.end is not None:
            self.timers.set(record, record.end)
            self.detached_since.set(record, record.state_since)


def _id(account_state: AccountState) -> str:
    return account_state.id
