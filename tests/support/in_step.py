"""A ledger beside a naive one, and what it means that they are in step."""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine, invariant
from naive import NaiveLedger

from balancer.models import AccountTable
from balancer.rules.ledger import Ledger
from balancer.rules.records import AccountState, Cooldown
from balancer.rules.selection import LeastLoadedSelector, RandomSelector


class InStep(RuleBasedStateMachine):
    """Compares the two after every step."""

    strategy = "random"
    lower_only = False

    def __init__(self) -> None:
        super().__init__()
        self.model = NaiveLedger(self.strategy, lower_only=self.lower_only)
        self.ledger = Ledger(self.strategy, lambda: self.model.now, lower_only=self.lower_only)
        self.table: AccountTable | None = None
        self.keys = 0

    @property
    def now(self) -> float:
        return self.model.now

    @invariant()
    def same_leases(self):
        assert {
            row.key: (row.account_state.id, row.scope, row.state, row.job_id, row.end, row.adverse)
            for row in self.ledger.records.values()
        } == {x.key: (x.account, x.scope, x.state, x.job, x.end, x.adverse) for x in self.model.leases}
        assert {job: row.key for job, row in self.ledger.jobs.items()} == {
            x.job: x.key for x in self.model.leases if x.state == "bound"
        }
        assert dict(self.ledger.early) == {job: True for job, _ in self.model.early}
        assert dict(self.ledger.done) == dict(self.model.done)

    @invariant()
    def same_accounts(self):
        assert self.ledger.account_states.keys() == self.model.known()
        for id, account_state in self.ledger.account_states.items():
            assert set(account_state.held) == {lease.key for lease in self.model.on(id)}
            assert all(self.ledger.records[key].account_state is account_state for key in account_state.held)
            assert account_state.external == self.model.external.get(id, 0)
            assert account_state.draining is (id not in self.model.config)
            assert account_state.state == self.model.state(id)
            assert (account_state.free > 0) is (account_state.state == "ready")

    @invariant()
    def same_cooldowns(self):
        cooldowns = {
            (id, pause.scope, pause.until, not pause.cooling, pause.probe)
            for id, account_state in self.ledger.account_states.items()
            for pause in account_state.cooldowns.values()
        }
        assert cooldowns == {
            (c.account, c.scope, c.until, c.over, next(iter(self.model.probing(c)), None))
            for c in self.model.cooldowns
        }

    @invariant()
    def same_limits(self):
        assert {
            id: (limit.jobs, limit.wait, limit.trial, limit.due)
            for id, account_state in self.ledger.account_states.items()
            if (limit := account_state.limit) is not None
        } == {
            id: (lesson.jobs, lesson.wait, lesson.trial, self.model.trial_due(id))
            for id, lesson in self.model.lessons.items()
        }

    @invariant()
    def room_holds_exactly_who_has_room(self):
        room = self.ledger.selector
        shelves = list(room._classes.values()) if isinstance(room, LeastLoadedSelector) else [room]
        for shelf in shelves:
            assert [account_state.place for account_state in shelf.account_states] == list(
                range(len(shelf.account_states))
            )
            assert all(
                self.ledger.account_states[account_state.id] is account_state
                for account_state in shelf.account_states
            )
        inside = [account_state.id for shelf in shelves for account_state in shelf.account_states]
        if isinstance(room, RandomSelector):
            assert sorted(inside) == sorted(self.ledger.account_states)
            inside = inside[: room.size]
        assert sorted(inside) == sorted(id for id in self.model.config if self.model.state(id) == "ready")
        if isinstance(room, LeastLoadedSelector):
            assert room._loads == sorted(room._classes)
            assert all(
                {account_state.load for account_state in s.account_states} == {load}
                for load, s in room._classes.items()
            )

    @invariant()
    def agenda_holds_exactly_what_ends(self):
        ends = {("lease", lease.key, lease.end) for lease in self.model.leases if lease.end is not None}
        ends |= {("pause", (c.account, c.scope), c.until) for c in self.model.cooldowns if not c.over}
        ends |= {
            ("trial", id, lesson.since + lesson.wait)
            for id, lesson in self.model.lessons.items()
            if lesson.trial is None and not self.model.trial_due(id)
        }
        agenda = self.ledger.timers
        assert {
            ("pause", (thing.account_state.id, thing.scope), thing.until)
            if isinstance(thing, Cooldown)
            else ("trial", thing.id, thing.limit.next_trial_at)
            if isinstance(thing, AccountState)
            else ("lease", thing.key, thing.end)
            for thing in agenda
        } == ends
        assert agenda.next == min((end for _, _, end in ends), default=float("inf"))
        loose = {x.key: x.since for x in self.model.leases if x.state in ("bound", "ambiguous")}
        assert {row.key: row.state_since for row in self.ledger.detached_since} == loose
        assert self.ledger.detached_since.next == min(loose.values(), default=float("inf"))
