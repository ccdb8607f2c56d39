"""A ledger beside a naive one, and what it means that they are in step."""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine, invariant
from naive import NaiveLedger

from balancer.ledger import Ledger
from balancer.model import Table
from balancer.room import LeastLoadedRoom, RandomRoom
from balancer.tally import Pause


class InStep(RuleBasedStateMachine):
    """Compares the two after every step."""

    strategy = "random"
    lower_only = False

    def __init__(self) -> None:
        super().__init__()
        self.model = NaiveLedger(self.strategy, lower_only=self.lower_only)
        self.ledger = Ledger(self.strategy, lambda: self.model.now, lower_only=self.lower_only)
        self.table: Table | None = None
        self.keys = 0

    @property
    def now(self) -> float:
        return self.model.now

    @invariant()
    def same_leases(self):
        assert {
            row.key: (row.tally.id, row.scope, row.state, row.job_id, row.end, row.adverse)
            for row in self.ledger.rows.values()
        } == {x.key: (x.account, x.scope, x.state, x.job, x.end, x.adverse) for x in self.model.leases}
        assert {job: row.key for job, row in self.ledger.jobs.items()} == {
            x.job: x.key for x in self.model.leases if x.state == "bound"
        }
        assert dict(self.ledger.early) == {job: True for job, _ in self.model.early}
        assert dict(self.ledger.done) == dict(self.model.done)

    @invariant()
    def same_accounts(self):
        assert self.ledger.tallies.keys() == self.model.known()
        for id, tally in self.ledger.tallies.items():
            assert set(tally.held) == {lease.key for lease in self.model.on(id)}
            assert all(self.ledger.rows[key].tally is tally for key in tally.held)
            assert tally.external == self.model.external.get(id, 0)
            assert tally.draining is (id not in self.model.config)
            assert tally.state == self.model.state(id)
            assert (tally.free > 0) is (tally.state == "ready")

    @invariant()
    def same_cooldowns(self):
        pauses = {
            (id, pause.scope, pause.until, not pause.cooling, pause.probe)
            for id, tally in self.ledger.tallies.items()
            for pause in tally.pauses.values()
        }
        assert pauses == {
            (c.account, c.scope, c.until, c.over, next(iter(self.model.probing(c)), None))
            for c in self.model.cooldowns
        }

    @invariant()
    def room_holds_exactly_who_has_room(self):
        room = self.ledger.room
        shelves = list(room._shelves.values()) if isinstance(room, LeastLoadedRoom) else [room]
        for shelf in shelves:
            assert [tally.place for tally in shelf.tallies] == list(range(len(shelf.tallies)))
            assert all(self.ledger.tallies[tally.id] is tally for tally in shelf.tallies)
        inside = [tally.id for shelf in shelves for tally in shelf.tallies]
        if isinstance(room, RandomRoom):
            assert sorted(inside) == sorted(self.ledger.tallies)
            inside = inside[: room.size]
        assert sorted(inside) == sorted(id for id in self.model.config if self.model.state(id) == "ready")
        if isinstance(room, LeastLoadedRoom):
            assert room._loads == sorted(room._shelves)
            assert all({tally.load for tally in s.tallies} == {load} for load, s in room._shelves.items())

    @invariant()
    def agenda_holds_exactly_what_ends(self):
        ends = {("lease", lease.key, lease.end) for lease in self.model.leases if lease.end is not None}
        ends |= {("pause", (c.account, c.scope), c.until) for c in self.model.cooldowns if not c.over}
        agenda = self.ledger.agenda
        assert {
            ("pause", (thing.tally.id, thing.scope), thing.until)
            if isinstance(thing, Pause)
            else ("lease", thing.key, thing.end)
            for thing in agenda
        } == ends
        assert agenda.next == min((end for _, _, end in ends), default=float("inf"))
        loose = {x.key: x.since for x in self.model.leases if x.state in ("bound", "ambiguous")}
        assert {row.key: row.state_since for row in self.ledger.loose} == loose
        assert self.ledger.loose.next == min(loose.values(), default=float("inf"))
