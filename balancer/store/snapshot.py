"""What a shared store holds, as a ledger: everything that reads or plans works on it as in one process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from sys import intern

from balancer.ledger import Changes, Ledger
from balancer.model import Table
from balancer.store.operations import PauseState, RowState, State
from balancer.tally import HELD, Pause, Row, Tally


def fill(ledger: Ledger, state: State, now: float) -> Ledger:
    """Fill an empty ledger with ``state``, its instants told by a clock that reads ``now``."""
    if state.table is not None:
        ledger.configure(Changes.between(None, state.table))
    for account in state.draining:
        tally = ledger.tallies[account.id] = Tally(account)
        tally.draining = True
    for row in state.rows:
        _put_row(ledger, row, state.owners, now)
    for pause in state.pauses:
        _put_pause(ledger, pause, now)
    for job_id, age in sorted(state.done.items(), key=lambda item: -item[1]):
        ledger.done[job_id] = now - age
    ledger.external = state.external
    ledger.recount()
    for id, reserved in state.offers.items():
        if (offered := ledger.tallies.get(id)) is not None:
            # A reserved slot is taken for everybody who looks from outside.
            # And what is reserved on an account that is being tried out is its one try.
            offered.left = 0 if offered.pauses else max(0, offered.left - reserved)
            ledger.refile(offered)
    return ledger


def only(state: State, ids: Collection[str]) -> State:
    """Return what ``state`` says of some accounts, and what is told beside it."""
    accounts = state.table.accounts if state.table is not None else {}
    detached = [row for row in state.rows if row.state != HELD]
    ends = [row.expires_in for row in detached if row.expires_in is not None]
    ends += [pause.left for pause in state.pauses if pause.left > 0]
    return State(
        version=state.version,
        table=state.table and Table({id: accounts[id] for id in ids if id in accounts}),
        draining=tuple(account for account in state.draining if account.id in ids),
        rows=tuple(row for row in state.rows if row.account in ids),
        pauses=tuple(pause for pause in state.pauses if pause.account in ids),
        external={id: jobs for id, jobs in state.external.items() if id in ids},
        owners=state.owners,
        offers={id: number for id, number in state.offers.items() if id in ids},
        detached=len(detached),
        next_end=min(ends, default=None),
    )


def _put_row(ledger: Ledger, state: RowState, owners: Mapping[str, str], now: float) -> None:
    tally = ledger.tallies.get(state.account)
    if tally is None:
        return
    row = Row(state.key, state.label, state.scope)
    # Interned, as the library compares states by identity.
    row.tally, row.state, row.held_since = tally, intern(state.state), now - state.age
    row.state_since, row.job_id = now - state.state_age, state.job_id
    row.end = None if state.expires_in is None else now + state.expires_in
    row.adverse, row.missed = state.adverse, state.missed
    row.owner = owners.get(state.key.rpartition("-")[0])
    ledger.rows[state.key] = row


def _put_pause(ledger: Ledger, state: PauseState, now: float) -> None:
    tally = ledger.tallies.get(state.account)
    if tally is None:
        return
    pause = Pause(tally, state.scope, now + state.left, state.reason, state.worth_waiting)
    pause.cooling, pause.probe = state.left > 0, state.probe
    tally.put_pause(pause)
    if pause.cooling:
        ledger.agenda.set(pause, pause.until)
