"""The errors that turn a caller away, with all that it may want to know."""

from __future__ import annotations

from balancer.core import Core
from balancer.effect import Flow
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.ledger import Ledger
from balancer.store.base import next_end
from balancer.tally import Row, Tally, Ticket
from balancer.wish import Wish

SHOWN = 20
"""Accounts named in the error of a timeout."""


def no_accounts(core: Core, wish: Wish, ticket: Ticket) -> Flow[NoAccounts]:
    """Return the error for a caller whom waiting cannot help."""
    reasons = yield from explain(core, wish)
    if not reasons:
        why = "no account is configured"
    elif wish.account is not None and wish.account not in reasons:
        why, reasons = f"{wish.account}: not in the configuration", {wish.account: "not in the configuration"}
    else:
        why = "; ".join(f"{id}: {reason}" for id, reason in list(reasons.items())[:SHOWN])
    end = yield from core.store.inspect(
        lambda ledger: next_end(ledger.candidates(ticket), ticket.scope), patient=False
    )
    return NoAccounts(
        f"no account of {core.service.key} can be used: {why}",
        reasons=reasons,
        retry_at=core.clock.instant(end),
    )


def timed_out(core: Core, wish: Wish, ticket: Ticket) -> Flow[AcquireTimeout]:
    """Return the error for a caller who has waited long enough."""
    seen = yield from core.store.outlook(ticket, SHOWN)
    states = {tally.id: _state(seen.ledger, tally, ticket) for tally in seen.tallies}
    shown = (
        ", ".join(f"{id}: {state}" for id, state in states.items()) or "the configuration is not there yet"
    )
    pause, retry_at = seen.closed_until - core.now(), seen.next_end
    if pause > 0:
        shown = (
            f"the store grants nothing for {pause:.1f} s, until all processes have said what they hold; "
            + shown
        )
        retry_at = seen.closed_until
    since = core.clock.instant(seen.detached_since)
    if since is not None:
        shown += (
            f"; {seen.detached} held by bound or ambiguous jobs, "
            f"the oldest since {since:%Y-%m-%d %H:%M:%S} UTC"
        )
    timeout = wish.timeout if wish.asked is None else wish.asked
    return AcquireTimeout(
        f"no slot of {core.service.key} within {timeout:g} s ({shown})",
        service=core.service.key,
        timeout=timeout,
        accounts=states,
        kept=seen.detached,
        kept_since=since,
        retry_at=core.clock.instant(retry_at),
    )


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
