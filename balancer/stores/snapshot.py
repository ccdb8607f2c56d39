"""What a shared store holds, as a ledger: everything that reads or plans works on it as in one process."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern

from balancer.rules.ledger import Changes, Ledger
from balancer.rules.limits import Limit
from balancer.rules.operations import CooldownState, LeaseState, RestrictionState, State
from balancer.rules.records import AccountState, Cooldown, LeaseRecord


def fill(ledger: Ledger, state: State, now: float) -> Ledger:
    """Fill an empty ledger with ``state``, its instants told by a clock that reads ``now``."""
    if state.table is not None:
        ledger.configure(Changes.between(None, state.table))
    for account in state.draining:
        account_state = ledger.account_states[account.id] = AccountState(account)
        account_state.draining = True
    for record in state.rows:
        _put_record(ledger, record, state.owners, now)
    for pause in state.cooldowns:
        _put_cooldown(ledger, pause, now)
    for restriction in state.restrictions:
        _put_restriction(ledger, restriction, now)
    for job_id, age in sorted(state.done.items(), key=lambda item: -item[1]):
        ledger.done[job_id] = now - age
    ledger.external = state.external
    ledger.recount()
    for id, reserved in state.offers.items():
        if (offered := ledger.account_states.get(id)) is not None:
            # A reserved slot is taken for everybody who looks from outside.
            # And what is reserved on an account that is being tried out is its one try.
            offered.left = 0 if offered.cooldowns else max(0, offered.left - reserved)
            ledger.update_selector(offered)
    return ledger


def _put_record(ledger: Ledger, state: LeaseState, owners: Mapping[str, str], now: float) -> None:
    account_state = ledger.account_states.get(state.account)
    if account_state is None:
        return
    record = LeaseRecord(state.key, state.label, state.scope)
    # Interned, as the library compares states by identity.
    record.account_state, record.state, record.held_since = (
        account_state,
        intern(state.state),
        now - state.age,
    )
    record.state_since, record.job_id = now - state.state_age, state.job_id
    record.other_jobs, record.ended_jobs = state.other_jobs, frozenset(state.ended_jobs)
    record.end = None if state.expires_in is None else now + state.expires_in
    record.adverse, record.missed = state.adverse, state.missed
    record.accepted, record.declined = state.accepted, state.declined
    record.owner = owners.get(state.key.rpartition("-")[0])
    ledger.records[state.key] = record


def _put_restriction(ledger: Ledger, state: RestrictionState, now: float) -> None:
    account_state = ledger.account_states.get(state.account)
    if account_state is None:
        return
    if state.jobs is not None:
        next_at = now + state.next_trial_in
        account_state.limit = Limit(state.jobs, next_at, state.wait, state.trial, state.due)
    if state.spaced_for is not None:
        account_state.spaced_until = now + state.spaced_for


def _put_cooldown(ledger: Ledger, state: CooldownState, now: float) -> None:
    account_state = ledger.account_states.get(state.account)
    if account_state is None:
        return
    pause = Cooldown(account_state, state.scope, now + state.left, state.reason, state.worth_waiting)
    pause.cooling, pause.probe = state.left > 0, state.probe
    account_state.put_cooldown(pause)
    if pause.cooling:
        ledger.timers.set(pause, pause.until)
