"""The errors that turn a caller away, with all that it may want to know."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import islice

from balancer.core import Core
from balancer.effect import Flow
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.ledger import Ledger
from balancer.tally import Row, Tally, Ticket
from balancer.wish import Wish

SHOWN = 20
"""Accounts named in the error of a timeout."""


def no_accounts(core: Core, wish: Wish, ticket: Ticket) -> Flow[NoAccounts]:
    """Return the error for a caller whom waiting cannot help."""
    reasons = yield from _explain(core, wish, SHOWN)
    if not reasons and not (core.store.table and core.store.table.accounts):
        why = "no account is configured"
    elif wish.account is not None and wish.account not in reasons:
        why, reasons = f"{wish.account}: not in the configuration", {wish.account: "not in the configuration"}
    else:
        why = "; ".join(f"{id}: {reason}" for id, reason in reasons.items())
    retry_at = yield from core.store.inspect(lambda ledger: _retry_at(core, ledger, ticket), patient=False)
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}", reasons=reasons, retry_at=retry_at
    )


def timed_out(core: Core, wish: Wish, ticket: Ticket) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""

    def look(ledger: Ledger) -> tuple[dict[str, str], int, float, datetime | None]:
        states = {tally.id: _state(ledger, tally, ticket) for tally in _some(ledger, ticket)}
        return states, len(ledger.loose), ledger.loose.next, _retry_at(core, ledger, ticket)

    states, kept, oldest, retry_at = yield from core.store.inspect(look, patient=False)
    shown = (
        ", ".join(f"{id}: {state}" for id, state in states.items()) or "the configuration is not there yet"
    )
    since = core.clock.instant(oldest)
    if since is not None:
        shown += f"; {kept} held by bound or ambiguous jobs, the oldest since {since:%Y-%m-%d %H:%M:%S} UTC"
    timeout = wish.timeout if wish.asked is None else wish.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=states,
        kept=kept,
        kept_since=since,
        retry_at=retry_at,
    )


def explain(core: Core, wish: Wish) -> Flow[dict[str, str]]:
    """Say for each account whether it is eligible for ``wish``, or why not."""
    return (yield from _explain(core, wish, None))


def _explain(core: Core, wish: Wish, most: int | None) -> Flow[dict[str, str]]:
    """The same for at most so many accounts, the one that was asked for first."""
    table = core.store.table
    accounts = table.accounts if table else {}
    ticket = Ticket(Row(None, scope=wish.scope), max_jobs=wish.max_jobs)
    named = () if wish.account is None or most is None else (wish.account,)

    def pick(ledger: Ledger) -> list[Tally]:
        if named:
            return [ledger.tallies[id] for id in named if id in ledger.tallies]
        return list(islice(ledger.tallies.values(), most))

    ids = yield from core.store.inspect(lambda ledger: [tally.id for tally in pick(ledger)], patient=False)
    # Out of the look: what the user brought must not run inside it.
    barred = {id: why for id in ids if id in accounts and (why := wish.why_not(id, accounts[id])) is not None}

    def look(ledger: Ledger) -> dict[str, str]:
        return {
            tally.id: barred.get(tally.id)
            or ("eligible" if ledger.fits(ticket, tally) else _why(ledger, tally, ticket))
            for tally in pick(ledger)
        }

    return (yield from core.store.inspect(look, patient=False))


def _some(ledger: Ledger, ticket: Ticket) -> list[Tally]:
    """Return as many of the accounts that the ticket's constraints leave as are shown."""
    if ticket.accounts is None:
        return list(islice(ledger.tallies.values(), SHOWN))
    return list(islice((ledger.tallies[id] for id in ticket.accounts if id in ledger.tallies), SHOWN))


def _why(ledger: Ledger, tally: Tally, ticket: Ticket) -> str:
    return tally.why_not(ledger.capacity_for(ticket, tally), ticket.scope)


def _state(ledger: Ledger, tally: Tally, ticket: Ticket) -> str:
    if ledger.fits(ticket, tally):
        return tally.state
    return _why(ledger, tally, ticket)


def _retry_at(core: Core, ledger: Ledger, ticket: Ticket) -> datetime | None:
    """Return when something of use may end. Of many accounts only what ends first of all is looked at."""
    tallies = _some(ledger, ticket)
    number = len(ledger.tallies if ticket.accounts is None else ticket.accounts)
    if number > SHOWN:
        first = ledger.agenda.first()
        here = first is not None and (ticket.accounts is None or first.tally.id in ticket.accounts)
        if first is not None and here and first.tally.usable:
            tallies = [first.tally]
    ends: list[float] = []
    for tally in tallies:
        if tally.usable:
            cooling = [pause.until for pause in tally.pauses_for(ticket.scope) if pause.cooling]
            rows = [row.end for row in tally.held.values() if row.end is not None]
            ends.append(max(cooling) if cooling else min(rows, default=math.inf))
    return core.clock.instant(min(ends, default=math.inf))
