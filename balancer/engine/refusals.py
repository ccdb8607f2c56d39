"""The errors that turn a caller away, with all that it may want to know."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import islice

from balancer.engine.pool_core import PoolCore
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.request import AcquireRequest
from balancer.rules.ledger import Ledger
from balancer.rules.records import AccountState, LeaseRecord, SlotRequest
from balancer.waiting.drivers import Flow

SHOWN = 20
"""Accounts named in the error of a timeout."""


def no_accounts(core: PoolCore, request: AcquireRequest, slot_request: SlotRequest) -> Flow[NoAccounts]:
    """Return the error for a caller whom waiting cannot help."""
    reasons = yield from _explain(core, request, SHOWN)
    if not reasons and not (core.store.table and core.store.table.accounts):
        why = "no account is configured"
    elif request.account is not None and request.account not in reasons:
        why, reasons = (
            f"{request.account}: not in the configuration",
            {request.account: "not in the configuration"},
        )
    else:
        why = "; ".join(f"{id}: {reason}" for id, reason in reasons.items())
    retry_at = yield from core.store.inspect(
        lambda ledger: _retry_at(core, ledger, slot_request), patient=False
    )
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}", reasons=reasons, retry_at=retry_at
    )


def timed_out(core: PoolCore, request: AcquireRequest, slot_request: SlotRequest) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""

    def look(ledger: Ledger) -> tuple[dict[str, str], int, float, datetime | None]:
        states = {
            account_state.id: _state(ledger, account_state, slot_request)
            for account_state in _some(ledger, slot_request)
        }
        return (
            states,
            len(ledger.detached_since),
            ledger.detached_since.next,
            _retry_at(core, ledger, slot_request),
        )

    states, kept, oldest, retry_at = yield from core.store.inspect(look, patient=False)
    shown = (
        ", ".join(f"{id}: {state}" for id, state in states.items()) or "the configuration is not there yet"
    )
    since = core.clock.instant(oldest)
    if since is not None:
        shown += f"; {kept} held by bound or ambiguous jobs, the oldest since {since:%Y-%m-%d %H:%M:%S} UTC"
    timeout = request.timeout if request.asked is None else request.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=states,
        kept=kept,
        kept_since=since,
        retry_at=retry_at,
    )


def explain(core: PoolCore, request: AcquireRequest) -> Flow[dict[str, str]]:
    """Say for each account whether it is eligible for ``wish``, or why not."""
    return (yield from _explain(core, request, None))


def _explain(core: PoolCore, request: AcquireRequest, most: int | None) -> Flow[dict[str, str]]:
    """The same for at most so many accounts, the one that was asked for first."""
    table = core.store.table
    accounts = table.accounts if table else {}
    slot_request = SlotRequest(LeaseRecord(None, scope=request.scope), max_jobs=request.max_jobs)
    named = () if request.account is None or most is None else (request.account,)

    def pick(ledger: Ledger) -> list[AccountState]:
        if named:
            return [ledger.account_states[id] for id in named if id in ledger.account_states]
        return list(islice(ledger.account_states.values(), most))

    ids = yield from core.store.inspect(
        lambda ledger: [account_state.id for account_state in pick(ledger)], patient=False
    )
    # Out of the look: what the user brought must not run inside it.
    barred = {
        id: why for id in ids if id in accounts and (why := request.why_not(id, accounts[id])) is not None
    }

    def look(ledger: Ledger) -> dict[str, str]:
        return {
            account_state.id: barred.get(account_state.id)
            or (
                "eligible"
                if ledger.fits(slot_request, account_state)
                else _why(ledger, account_state, slot_request)
            )
            for account_state in pick(ledger)
        }

    return (yield from core.store.inspect(look, patient=False))


def _some(ledger: Ledger, slot_request: SlotRequest) -> list[AccountState]:
    """Return as many of the accounts that the ticket's constraints leave as are shown."""
    if slot_request.accounts is None:
        return list(islice(ledger.account_states.values(), SHOWN))
    return list(
        islice(
            (ledger.account_states[id] for id in slot_request.accounts if id in ledger.account_states), SHOWN
        )
    )


def _why(ledger: Ledger, account_state: AccountState, slot_request: SlotRequest) -> str:
    return account_state.why_not(ledger.capacity_for(slot_request, account_state), slot_request.scope)


def _state(ledger: Ledger, account_state: AccountState, slot_request: SlotRequest) -> str:
    if ledger.fits(slot_request, account_state):
        return account_state.state
    return _why(ledger, account_state, slot_request)


def _retry_at(core: PoolCore, ledger: Ledger, slot_request: SlotRequest) -> datetime | None:
    """Return when something of use may end. Of many accounts only what ends first of all is looked at."""
    account_states = _some(ledger, slot_request)
    number = len(ledger.account_states if slot_request.accounts is None else slot_request.accounts)
    if number > SHOWN:
        first = ledger.timers.first()
        here = first is not None and (
            slot_request.accounts is None or first.account_state.id in slot_request.accounts
        )
        if first is not None and here and first.account_state.usable:
            account_states = [first.account_state]
    ends: list[float] = []
    for account_state in account_states:
        if account_state.usable:
            cooling = [
                pause.until for pause in account_state.cooldowns_for(slot_request.scope) if pause.cooling
            ]
            records = [record.end for record in account_state.held.values() if record.end is not None]
            ends.append(max(cooling) if cooling else min(records, default=math.inf))
    return core.clock.instant(min(ends, default=math.inf))
