"""The pool as people want to see it: numbers, holders, and why a caller was turned away."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from balancer.engine.pool_core import PoolCore
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.models import Account, AccountStats, FrozenDict, Holder, PoolStats
from balancer.request import AcquireRequest
from balancer.rules.ledger import Ledger
from balancer.rules.records import AccountState, LeaseRecord, SlotRequest
from balancer.stores.base import next_end
from balancer.useapi.sources import describe
from balancer.waiting.drivers import Flow, result_of

SHOWN = 20
"""Accounts that the text of a refusal shows; no others are worked out, however many there are."""


def no_accounts(
    core: PoolCore, request: AcquireRequest, slot_request: SlotRequest
) -> Flow[NoAccounts | None]:
    """Return the error for a caller whom waiting cannot help; None if it can, as the store is by now."""
    table = core.store.table
    accounts = table.accounts if table else {}

    def look(ledger: Ledger) -> tuple[dict[str, str], float] | None:
        if not ledger.hopeless(slot_request):
            return None
        shown: Iterable[AccountState] = islice(ledger.account_states.values(), SHOWN)
        if request.account is not None:
            pinned = ledger.account_states.get(request.account)
            shown = () if pinned is None else (pinned,)
        states = {each.id: ledger.eligibility(slot_request, each) for each in shown}
        return states, next_end(ledger, slot_request, SHOWN)

    seen = yield from result_of(core.store.inspect(look, patience=0.0))
    if seen is None:
        return None
    states, end = seen
    # Only now, as the caller's own function may be asked, which nobody calls under a lock.
    reasons = {id: request.why_not(id, accounts.get(id)) or state for id, state in states.items()}
    retry_at = core.clock.instant(end)
    if request.account is not None and not reasons:
        reasons = {request.account: "not in the configuration"}
    why = "; ".join(f"{id}: {reason}" for id, reason in reasons.items())
    if not why:
        why = f"no account is configured ({describe(core.options.source, jobs=False)} lists none)"
    later = "" if retry_at is None else f"; the next may be usable at {_told(retry_at)}"
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}{later}", reasons=reasons, retry_at=retry_at
    )


def timed_out(core: PoolCore, request: AcquireRequest, slot_request: SlotRequest) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""
    seen = yield from result_of(core.store.outlook(slot_request, SHOWN))
    shown = ", ".join(f"{id}: {state}" for id, state in seen.states.items()) or _nothing_shown(core)
    pause, end = seen.closed_until - core.now(), seen.next_end
    if pause > 0:
        why = f"the store grants nothing for {pause:.1f} s, until all processes have said what they hold"
        shown, end = f"{why}; {shown}", seen.closed_until
    oldest, retry_at = core.clock.instant(seen.detached_since), core.clock.instant(end)
    if oldest is not None:
        shown += f"; {seen.detached} held by bound or ambiguous jobs, the oldest since {_told(oldest)}"
    if retry_at is not None:
        shown += f"; the next may be free at {_told(retry_at)}"
    timeout = request.timeout if request.asked is None else request.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=seen.states,
        kept=seen.detached,
        kept_since=oldest,
        retry_at=retry_at,
    )


def _nothing_shown(core: PoolCore) -> str:
    return core.refresher.missing() if core.store.table is None else "no account fits"


def _told(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def explain(core: PoolCore, request: AcquireRequest) -> Flow[dict[str, str]]:
    """Say for each account whether it is eligible for ``request``, or why not."""
    table = core.store.table
    accounts = table.accounts if table else {}
    barred = {id: why for id, account in accounts.items() if (why := request.why_not(id, account))}
    slot_request = SlotRequest(LeaseRecord(None, scope=request.scope), max_jobs=request.max_jobs)

    def look(ledger: Ledger) -> dict[str, str]:
        return {
            id: barred.get(id) or ledger.eligibility(slot_request, account_state)
            for id, account_state in ledger.account_states.items()
        }

    return (yield from result_of(core.store.inspect(look, patience=0.0)))


def stats(core: PoolCore, *, patient: bool = True) -> Flow[PoolStats]:
    """Return a pool's numbers at one moment. ``patient``: a store that is away is asked again for a while."""

    def look(ledger: Ledger) -> tuple[list[str], list[AccountStats], Numbers]:
        # All of one moment, so under the lock; but of most accounts four numbers say all, and the objects
        # that people get are made of them later.
        states = ledger.account_states.values()
        plain = [each for each in states if each.plain and not each.draining and not each.account.broken]
        found = set(plain) if len(plain) < len(states) else None
        others = [] if found is None else [each for each in states if each not in found]
        numbers = (
            [each.account for each in plain],
            [len(each.held) for each in plain],
            [each.external for each in plain],
            [each.left for each in plain],
        )
        return list(ledger.account_states), [_account(core, each) for each in others], numbers

    order, others, numbers = yield from result_of(
        core.store.inspect(look, patience=math.inf if patient else 0.0)
    )
    made = {each.id: each for each in (*map(_plain_account, *numbers), *others)}
    accounts = [made[id] for id in order]
    configuration, totals = core.refresher.configuration, core.store.totals
    now = core.now()
    age = configuration.age(now)
    trouble = configuration.trouble or core.refresher.reconcile_schedule.trouble
    return PoolStats(
        service=core.service.key,
        accounts=FrozenDict({account.id: account for account in accounts}),
        capacity=sum(a.capacity for a in accounts if a.state not in ("broken", "draining")),
        in_flight=sum(a.in_flight for a in accounts),
        external=sum(a.external for a in accounts),
        free=sum(a.free for a in accounts),
        waiting=core.store.wait_queue.counted,
        fetched_at=None if configuration.fetched_at is None else core.clock.instant(configuration.fetched_at),
        age=age,
        stale=age is not None and age > configuration.ttl and configuration.failures > 0,
        last_error=None if trouble is None else f"{type(trouble).__name__}: {trouble}",
        # Ends are read before beginnings, as others go on meanwhile: no more has ended than was begun.
        released=core.store.released,
        expired=totals.expired,
        reclaimed=totals.reclaimed,
        acquired=totals.acquired,
        timeouts=totals.timeouts,
        refreshes=configuration.refreshes,
        refresh_failures=configuration.refresh_failures,
    )


def holders(core: PoolCore) -> Flow[tuple[Holder, ...]]:
    """Return every live lease, oldest first."""

    def look(ledger: Ledger) -> list[Holder]:
        now = core.now()
        records = sorted(ledger.records.values(), key=_beginning)  # Redis has them in no order
        return [_holder(core, record, now) for record in records]

    return tuple((yield from result_of(core.store.inspect(look))))


Numbers = tuple[list[Account], list[int], list[int], list[int]]
"""Of one account after the other: itself, its leases, jobs of others on it, and how many more it takes."""


def _plain_account(account: Account, in_flight: int, external: int, left: int) -> AccountStats:
    """Return the numbers of an account that nothing but its capacity bounds."""
    return AccountStats(
        id=account.id,
        capacity=account.capacity,
        in_flight=in_flight,
        external=external,
        free=max(0, left),
        state="ready" if left > 0 else "full",
        reason=account.note,
    )


def _account(core: PoolCore, account_state: AccountState) -> AccountStats:
    cooling = [cooldown for cooldown in account_state.cooldowns.values() if cooldown.cooling]
    until = max((cooldown.until for cooldown in cooling), default=account_state.spaced_until)
    return AccountStats(
        id=account_state.id,
        capacity=account_state.account.capacity,
        in_flight=len(account_state.held),
        external=account_state.external,
        free=account_state.free,
        state=account_state.state,
        reason=_reason(account_state),
        until=None if until is None else core.clock.instant(until),
        limit=None if account_state.limit is None else account_state.limit.jobs,
    )


def _reason(account_state: AccountState) -> str | None:
    if account_state.draining:
        return "no longer in the configuration"
    if account_state.account.broken is not None:
        return account_state.account.broken
    for cooldown in account_state.cooldowns.values():
        if cooldown.cooling:
            return cooldown.reason if cooldown.scope is None else f"{cooldown.scope}: {cooldown.reason}"
    return "probing after a cooldown" if account_state.cooldowns else _less_than_it_says(account_state)


def _less_than_it_says(account_state: AccountState) -> str | None:
    if account_state.spaced_until is not None:
        return "left alone for a moment after its last grant"
    if account_state.limit is not None:
        return f"limited to {account_state.limit.jobs} of {account_state.account.capacity} by a 429"
    return account_state.account.note


def _beginning(record: LeaseRecord) -> float:
    return record.held_since


def _holder(core: PoolCore, record: LeaseRecord, now: float) -> Holder:
    return Holder(
        id=core.store.lease_id(record.key),
        account=record.account_state.id,
        job_id=record.job_id,
        label=record.label,
        owner=record.owner or core.store.process.host_pid,
        age=now - record.held_since,
        expires_in=None if record.end is None else max(0.0, record.end - now),
        state=record.state,
        job_ids=record.job_ids,
    )
