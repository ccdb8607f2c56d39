"""The pool as people want to see it."""

from __future__ import annotations

from balancer.engine.pool_core import PoolCore
from balancer.models import AccountStats, FrozenDict, Holder, PoolStats
from balancer.rules.ledger import Ledger
from balancer.rules.records import AccountState, LeaseRecord
from balancer.waiting.drivers import Flow


def stats(core: PoolCore, *, patient: bool = True) -> Flow[PoolStats]:
    """Return a pool's numbers at one moment. ``patient``: a store that is away is asked again for a while."""
    accounts = yield from core.store.inspect(
        lambda ledger: [_account(core, t) for t in ledger.account_states.values()], patient=patient
    )
    catalog, totals = core.refresher.configuration, core.store.totals
    now = core.now()
    age = catalog.age(now)
    trouble = catalog.trouble or core.refresher.reconcile_schedule.trouble
    return PoolStats(
        service=core.service.key,
        accounts=FrozenDict({account.id: account for account in accounts}),
        capacity=sum(a.capacity for a in accounts if a.state not in ("broken", "draining")),
        in_flight=sum(a.in_flight for a in accounts),
        external=sum(a.external for a in accounts),
        free=sum(a.free for a in accounts),
        waiting=core.store.wait_queue.counted,
        fetched_at=None if catalog.fetched_at is None else core.clock.instant(catalog.fetched_at),
        age=age,
        stale=age is not None and age > catalog.ttl and catalog.failures > 0,
        last_error=None if trouble is None else f"{type(trouble).__name__}: {trouble}",
        # Ends are read before beginnings, as others go on meanwhile: no more has ended than was begun.
        released=core.store.released,
        expired=totals.expired,
        reclaimed=totals.reclaimed,
        acquired=totals.acquired,
        timeouts=totals.timeouts,
        refreshes=catalog.refreshes,
        refresh_failures=catalog.refresh_failures,
    )


def holders(core: PoolCore) -> Flow[tuple[Holder, ...]]:
    """Return every live lease, oldest first."""

    def look(ledger: Ledger) -> list[Holder]:
        now = core.now()
        return [_holder(core, record, now) for record in ledger.records.values()]

    return tuple((yield from core.store.inspect(look)))


def _account(core: PoolCore, account_state: AccountState) -> AccountStats:
    cooling = [pause for pause in account_state.cooldowns.values() if pause.cooling]
    last = max(cooling, key=lambda pause: pause.until, default=None)
    return AccountStats(
        id=account_state.id,
        capacity=account_state.account.capacity,
        in_flight=len(account_state.held),
        external=account_state.external,
        free=account_state.free,
        state=account_state.state,
        reason=_reason(account_state),
        until=None if last is None else core.clock.instant(last.until),
    )


def _reason(account_state: AccountState) -> str | None:
    if account_state.draining:
        return "no longer in the configuration"
    if account_state.account.broken is not None:
        return account_state.account.broken
    for pause in account_state.cooldowns.values():
        if pause.cooling:
            return pause.reason if pause.scope is None else f"{pause.scope}: {pause.reason}"
    return "probing after a cooldown" if account_state.cooldowns else account_state.account.note


def _holder(core: PoolCore, record: LeaseRecord, now: float) -> Holder:
    return Holder(
        id=core.text(record.key),
        account=record.account_state.id,
        job_id=record.job_id,
        label=record.label,
        owner=record.owner or core.origin.host_pid,
        age=now - record.held_since,
        expires_in=None if record.end is None else max(0.0, record.end - now),
        state=record.state,
    )
