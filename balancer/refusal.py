"""The errors that turn a caller away, with all that it may want to know."""

from __future__ import annotations

import math
from datetime import datetime

from balancer.core import Core
from balancer.effect import Flow
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.ledger import Ledger
from balancer.source import describe
from balancer.tally import HELD, Row, Tally, Ticket
from balancer.wish import Wish

SHOWN = 20
"""Accounts named in the error of a timeout."""


def no_accounts(core: Core, wish: Wish, ticket: Ticket) -> Flow[NoAccounts]:
    """Return the error for a caller whom waiting cannot help."""
    reasons = yield from explain(core, wish)
    if not reasons:
        why = f"no account is configured ({describe(core.options.source, jobs=False)} lists none)"
    elif wish.account is not None and wish.account not in reasons:
        why, reasons = f"{wish.account}: not in the configuration", {wish.account: "not in the configuration"}
    else:
        why = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:SHOWN])
    retry_at = yield from core.store.inspect(lambda ledger: _retry_at(core, ledger, ticket), patient=False)
    later = "" if retry_at is None else f"; the next may be usable at {_told(retry_at)}"
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}{later}", reasons=reasons, retry_at=retry_at
    )


def timed_out(core: Core, wish: Wish, ticket: Ticket) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""

    def look(ledger: Ledger) -> tuple[dict[str, str], list[float], datetime | None]:
        tallies = ledger.candidates(ticket)
        states = {tally.id: _state(ledger, tally, ticket) for tally in tallies[:SHOWN]}
        kept = [row.state_since for row in ledger.rows.values() if row.state != HELD]
        return states, kept, _retry_at(core, ledger, ticket)

    states, kept, retry_at = yield from core.store.inspect(look, patient=False)
    shown = ", ".join(f"{id}: {state}" for id, state in states.items()) or _nothing_shown(core)
    since = core.clock.instant(min(kept, default=math.inf))
    if since is not None:
        shown += f"; {len(kept)} held by bound or ambiguous jobs, the oldest since {_told(since)}"
    if retry_at is not None:
        shown += f"; the next may be free at {_told(retry_at)}"
    timeout = wish.timeout if wish.asked is None else wish.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=states,
        kept=len(kept),
        kept_since=since,
        retry_at=retry_at,
    )


def _nothing_shown(core: Core) -> str:
    return core.upkeep.missing() if core.store.table is None else "no account fits"


def explain(core: Core, wish: Wish) -> Flow[dict[str, str]]:
    """Say for each account whether it is eligible for ``wish``, or why not."""
    table = core.store.table
    accounts = table.accounts if table else {}
    barred = {id: why for id, account in accounts.items() if (why := wish.why_not(id, account))}
    ticket = Ticket(Row(None, scope=wish.scope), max_jobs=wish.max_jobs)

    def look(ledger: Ledger) -> dict[str, str]:
        return {
            id: barred.get(id) or ("eligible" if ledger.fits(ticket, tally) else _why(ledger, tally, ticket))
            for id, tally in ledger.tallies.items()
        }

    return (yield from core.store.inspect(look, patient=False))


def _why(ledger: Ledger, tally: Tally, ticket: Ticket) -> str:
    return tally.why_not(ledger.capacity_for(ticket, tally), ticket.scope)


def _state(ledger: Ledger, tally: Tally, ticket: Ticket) -> str:
    if ledger.fits(ticket, tally):
        return tally.state
    return _why(ledger, tally, ticket)


def _told(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _retry_at(core: Core, ledger: Ledger, ticket: Ticket) -> datetime | None:
    tallies = ledger.candidates(ticket)
    ends: list[float] = []
    for tally in tallies:
        if tally.usable:
            cooling = [pause.until for pause in tally.pauses_for(ticket.scope) if pause.cooling]
            rows = [row.end for row in tally.held.values() if row.end is not None]
            ends.append(max(cooling) if cooling else min(rows, default=math.inf))
    return core.clock.instant(min(ends, default=math.inf))
