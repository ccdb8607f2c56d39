"""The pool as people want to see it."""

from __future__ import annotations

from balancer.core import Core
from balancer.effect import Flow
from balancer.ledger import Ledger
from balancer.model import AccountStats, FrozenDict, Holder, PoolStats
from balancer.tally import Row, Tally


def stats(core: Core, *, patient: bool = True) -> Flow[PoolStats]:
    """Return a pool's numbers at one moment. ``patient``: a store that is away is asked again for a while."""
    accounts = yield from core.store.inspect(
        lambda ledger: [_account(core, t) for t in ledger.tallies.values()], patient=patient
    )
    catalog, totals = core.upkeep.catalog, core.store.totals
    now = core.now()
    age = catalog.age(now)
    trouble = catalog.trouble or core.upkeep.survey.trouble
    return PoolStats(
        service=core.service.key,
        accounts=FrozenDict({account.id: account for account in accounts}),
        capacity=sum(a.capacity for a in accounts if a.state not in ("broken", "draining")),
        in_flight=sum(a.in_flight for a in accounts),
        external=sum(a.external for a in accounts),
        free=sum(a.free for a in accounts),
        waiting=core.store.lines.counted,
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


def holders(core: Core) -> Flow[tuple[Holder, ...]]:
    """Return every live lease, oldest first."""

    def look(ledger: Ledger) -> list[Holder]:
        now = core.now()
        return [_holder(core, row, now) for row in ledger.rows.values()]

    return tuple((yield from core.store.inspect(look)))


def _account(core: Core, tally: Tally) -> AccountStats:
    cooling = [pause for pause in tally.pauses.values() if pause.cooling]
    last = max(cooling, key=lambda pause: pause.until, default=None)
    return AccountStats(
        id=tally.id,
        capacity=tally.account.capacity,
        in_flight=len(tally.held),
        external=tally.external,
        free=tally.free,
        state=tally.state,
        reason=_reason(tally),
        until=None if last is None else core.clock.instant(last.until),
    )


def _reason(tally: Tally) -> str | None:
    if tally.draining:
        return "no longer in the configuration"
    if tally.account.broken is not None:
        return tally.account.broken
    for pause in tally.pauses.values():
        if pause.cooling:
            return pause.reason if pause.scope is None else f"{pause.scope}: {pause.reason}"
    return "probing after a cooldown" if tally.pauses else tally.account.note


def _holder(core: Core, row: Row, now: float) -> Holder:
    return Holder(
        id=core.text(row.key),
        account=row.tally.id,
        job_id=row.job_id,
        label=row.label,
        owner=row.owner or core.origin.host_pid,
        age=now - row.held_since,
        expires_in=None if row.end is None else max(0.0, row.end - now),
        state=row.state,
    )
