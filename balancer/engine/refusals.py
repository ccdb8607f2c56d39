"""The errors that turn a caller away, with all that it may want to know."""

from __future__ import annotations

import math
from datetime import datetime

from balancer.engine.pool_core import PoolCore
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.request import AcquireRequest
from balancer.rules.ledger import Ledger
from balancer.rules.records import HELD, AccountState, LeaseRecord, SlotRequest
from balancer.useapi.sources import describe
from balancer.waiting.drivers import Flow

SHOWN = 20
"""Accounts named in the error of a timeout."""


def no_accounts(core: PoolCore, request: AcquireRequest, slot_request: SlotRequest) -> Flow[NoAccounts]:
    """Return the error for a caller whom waiting cannot help."""
    reasons = yield from explain(core, request)
    if not reasons:
        why = f"no account is configured ({describe(core.options.source, jobs=False)} lists none)"
    elif request.account is not None and request.account not in reasons:
        why, reasons = (
            f"{request.account}: not in the configuration",
            {request.account: "not in the configuration"},
        )
    else:
        why = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:SHOWN])
    retry_at = yield from core.store.inspect(
        lambda ledger: _retry_at(core, ledger, slot_request), patient=False
    )
    later = "" if retry_at is None else f"; the next may be usable at {_told(retry_at)}"
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}{later}", reasons=reasons, retry_at=retry_at
    )


def timed_out(core: PoolCore, request: AcquireRequest, slot_request: SlotRequest) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""

    def look(ledger: Ledger) -> tuple[dict[str, str], list[float], datetime | None]:
        account_states = ledger.candidates(slot_request)
        states = {
            account_state.id: _state(ledger, account_state, slot_request)
            for account_state in account_states[:SHOWN]
        }
        kept = [record.state_since for record in ledger.records.values() if record.state != HELD]
        return states, kept, _retry_at(core, ledger, slot_request)

    states, kept, retry_at = yield from core.store.inspect(look, patient=False)
    shown = ", ".join(f"{id}: {state}" for id, state in states.items()) or _nothing_shown(core)
    since = core.clock.instant(min(kept, default=math.inf))
    if since is not None:
        shown += f"; {len(kept)} held by bound or ambiguous jobs, the oldest since {_told(since)}"
    if retry_at is not None:
        shown += f"; the next may be free at {_told(retry_at)}"
    timeout = request.timeout if request.asked is None else request.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=states,
        kept=len(kept),
        kept_since=since,
        retry_at=retry_at,
    )


def _nothing_shown(core: PoolCore) -> str:
    return core.refresher.missing() if core.store.table is None else "no account fits"


def explain(core: PoolCore, request: AcquireRequest) -> Flow[dict[str, str]]:
    """Say for each account whether it is eligible for ``wish``, or why not."""
    table = core.store.table
    accounts = table.accounts if table else {}
    barred = {id: why for id, account in accounts.items() if (why := request.why_not(id, account))}
    slot_request = SlotRequest(LeaseRecord(None, scope=request.scope), max_jobs=request.max_jobs)

    def look(ledger: Ledger) -> dict[str, str]:
        return {
            id: barred.get(id)
            or (
                "eligible"
                if ledger.fits(slot_request, account_state)
                else _why(ledger, account_state, slot_request)
            )
            for id, account_state in ledger.account_states.items()
        }

    return (yield from core.store.inspect(look, patient=False))


def _why(ledger: Ledger, account_state: AccountState, slot_request: SlotRequest) -> str:
    return account_state.why_not(ledger.capacity_for(slot_request, account_state), slot_request.scope)


def _state(ledger: Ledger, account_state: AccountState, slot_request: SlotRequest) -> str:
    if ledger.fits(slot_request, account_state):
        return account_state.state
    return _why(ledger, account_state, slot_request)


def _told(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _retry_at(core: PoolCore, ledger: Ledger, slot_request: SlotRequest) -> datetime | None:
    account_states = ledger.candidates(slot_request)
    ends: list[float] = []
    for account_state in account_states:
        if account_state.usable:
            cooling = [
                pause.until for pause in account_state.cooldowns_for(slot_request.scope) if pause.cooling
            ]
            records = [record.end for record in account_state.held.values() if record.end is not None]
            ends.append(max(cooling) if cooling else min(records, default=math.inf))
    return core.clock.instant(min(ends, default=math.inf))
