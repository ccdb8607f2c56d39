"""An exception in the middle of an operation: the ledger is whole again after a recount.

KeyboardInterrupt can arrive between any two instructions. Here it is made to, at every one of them
in turn, in each operation.
"""

from __future__ import annotations

import math
import sys
from itertools import count
from pathlib import Path

import pytest
from ledgers import Desk, learn

from balancer.models import Account
from balancer.rules import ledger as module
from balancer.rules.ledger import Changes
from balancer.rules.limits import Limit, bound
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, HELD, NEW, LeaseRecord, ListedJob, SlotRequest
from balancer.rules.selection import OUT

MODULES = ("ledger", "limits", "records", "selection", "timer_queue")
FILES = {str(Path(module.__file__).with_name(f"{name}.py")) for name in MODULES}
CAPACITY = {"a": 3, "b": 2, "d": 3, "e": 3}


def cut_short(operation, at):
    """Run ``operation`` with an interruption at its instruction number ``at``. True: it got that far."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            seen += 1
            if seen == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        operation()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


class Scene:
    """Accounts that probe, cool, are to be tried and are being tried, with leases in every state."""

    def __init__(self, strategy):
        desk = self.desk = Desk(strategy, **CAPACITY)
        self.held, self.bound, self.unsure = desk.take("a"), desk.take("a"), desk.take("b")
        desk.bind(self.bound, "job", ttl=500)
        desk.ledger.doubt(self.unsure, 600.0, desk.now)
        desk.ledger.set_external({"b": 1})
        for id in ("d", "e"):
            desk.ledger.set_limit(desk.take(id).account_state, Limit(1, 5.0))
        desk.cool("a", 10)
        desk.at(10)
        desk.cool("b", 50)
        desk.release_job("early")
        self.trial = desk.take("e")
        self.new = SlotRequest(LeaseRecord("new"), draw=0.5)

    @property
    def ledger(self):
        return self.desk.ledger

    def rows(self):
        return [self.held, self.bound, self.unsure, self.trial, self.new.record]


def configure(scene):
    """Make one account larger, add one, let one go."""
    changes = Changes((Account("b", 5), Account("c", 1)), ("a",))
    scene.ledger.configure(changes)


def take_scoped(scene):
    """Take a lease for a model, which not every cooldown concerns."""
    scene.new.record.scope = "veo"
    scene.ledger.take(scene.new, 10.0)


OPERATIONS = {
    "take": lambda s: s.ledger.take(s.new, 10.0),
    "take for a scope": take_scoped,
    "end held": lambda s: s.ledger.end(s.held, 10.0),
    "end bound": lambda s: s.ledger.end(s.bound, 10.0, released=True),
    "end unsure": lambda s: s.ledger.end(s.unsure, 10.0),
    "bind": lambda s: s.ledger.bind(s.held, ("other",), 900.0, 10.0),
    "bind when over": lambda s: s.ledger.bind(s.held, ("early",), 900.0, 10.0),
    "bind unsure": lambda s: s.ledger.bind(s.unsure, ("other",), 900.0, 10.0),
    "doubt": lambda s: s.ledger.doubt(s.held, 600.0, 10.0),
    "renew": lambda s: s.ledger.set_end(s.bound, 800.0),
    "take a trial": lambda s: s.ledger.take_on(s.new, s.ledger.account_states["d"], 10.0),
    "end a trial": lambda s: s.ledger.end(s.trial, 10.0),
    "accept a trial": lambda s: s.ledger.accept(s.trial, 10.0),
    "bind a trial": lambda s: s.ledger.bind(s.trial, ("other",), 900.0, 10.0),
    "doubt a trial": lambda s: s.ledger.doubt(s.trial, 600.0, 10.0),
    "decline a trial": lambda s: s.ledger.decline(s.trial, 10.0),
    "refuse a trial": lambda s: learn(s.ledger, s.trial, 10.0),
    "refuse": lambda s: learn(s.ledger, s.held, 10.0),
    "accept": lambda s: s.ledger.accept(s.held, 10.0),
    "cool": lambda s: s.ledger.cool(s.held.account_state, None, 90.0, "why", worth_waiting=True),
    "cool longer": lambda s: s.ledger.cool(s.unsure.account_state, None, 90.0, "why", worth_waiting=True),
    "reset": lambda s: s.ledger.reset(s.unsure.account_state),
    "configure": configure,
    "external": lambda s: s.ledger.set_external({"a": 1}),
    "due": lambda s: s.ledger.due(700.0),
}


def check_whole(ledger):
    """Everything derived agrees with the rows, the pauses and the configuration."""
    assert all(row.state in (HELD, BOUND, AMBIGUOUS) for row in ledger.records.values())
    held = {
        key: row
        for account_state in ledger.account_states.values()
        for key, row in account_state.held.items()
    }
    assert held == ledger.records
    assert all(row.key in row.account_state.held for row in ledger.records.values())
    assert ledger.jobs == {row.job_id: row for row in ledger.records.values() if row.state == BOUND}
    ending = {row: row.end for row in ledger.records.values() if row.state != HELD}
    cooldowns = [
        pause
        for account_state in ledger.account_states.values()
        for pause in account_state.cooldowns.values()
    ]
    cooling = {pause: pause.until for pause in cooldowns if pause.cooling}
    states = ledger.account_states.values()
    trials = {each: at for each in states if (at := each.changes_at) < math.inf}
    assert dict(ledger.timers._number) == {**ending, **cooling, **trials}
    assert all(each.limit is None or each.limit.trial in {None, *each.held} for each in states)
    assert dict(ledger.detached_since._number) == {row: row.state_since for row in ending}
    assert all(pause.probe is None or pause.probe in pause.account_state.held for pause in cooldowns)
    for account_state in ledger.account_states.values():
        usable = not account_state.draining and account_state.account.broken is None
        external = ledger.external.get(account_state.id, 0)
        assert account_state.left == (
            max(0, bound(account_state.account.capacity, account_state.limit) - external) if usable else 0
        ) - len(account_state.held)
        assert (
            OUT < account_state.place < getattr(ledger.selector, "size", math.inf)
        ) is account_state.fits()


def check_no_slot_lost(desk):
    """Once all has ended, every account takes exactly its capacity."""
    desk.ledger.set_external({})
    for row in list(desk.ledger.records.values()):
        desk.release(row)
    desk.at(10_000.0)
    for id, account_state in sorted(desk.ledger.account_states.items()):
        assert not account_state.draining
        desk.ledger.reset(account_state)
        granted = [desk.take(id) is not None for _ in range(account_state.account.capacity + 1)]
        assert granted == [True] * account_state.account.capacity + [False]
        assert desk.in_flight(id) == account_state.account.capacity


@pytest.mark.parametrize(
    ("name", "strategy"),
    [*((name, "random") for name in OPERATIONS), *((name, "least_loaded") for name in ("take", "end bound"))],
)
def test_an_operation_cut_short_anywhere_leaves_a_ledger_that_a_recount_makes_whole(name, strategy):
    """At no instruction can an interruption lose a slot, double a grant or strand a cooldown (P-1)."""
    for at in count(1):
        scene = Scene(strategy)
        if not cut_short(lambda: OPERATIONS[name](scene), at):  # noqa: B023  # called at once
            break
        scene.ledger.recount()
        check_whole(scene.ledger)
        for row in scene.rows():
            assert (row.key in scene.ledger.records) is (row.state not in (NEW, ENDED))
        if name.startswith("take"):
            granted = scene.new.record.state == HELD
            if name == "take a trial" and not granted:
                scene.desk.at(10.0)
                assert scene.ledger.account_states["d"].limit.due, "the trial was lost"
            assert scene.ledger.take(scene.new, 10.0) or not granted
            assert (
                sum("new" in account_state.held for account_state in scene.ledger.account_states.values())
                <= 1
            )
        if name == "configure":
            configure(scene)
            assert scene.ledger.account_states["a"].draining
            assert scene.desk.take("c") is not None
        check_whole(scene.ledger)
        check_no_slot_lost(scene.desk)
    assert at > 1, "nothing was cut short"


def test_a_recount_can_be_cut_short_and_repeated():
    """Whoever recounts may be interrupted as well."""
    for at in count(1):
        scene = Scene("random")
        if not cut_short(scene.ledger.recount, at):
            break
        scene.ledger.recount()
        check_whole(scene.ledger)
        assert len(scene.ledger.records) == 6
        check_no_slot_lost(scene.desk)
    assert at > 1, "nothing was cut short"


def test_an_adoption_cut_short_anywhere_leaves_its_job_counted():
    """A job of somebody else's becomes a lease's: in between it may count twice, and never not at all."""
    for at in count(1):
        desk = Desk("random", a=2)
        desk.ledger.set_external({"a": 2}, {"x": ListedJob("a"), "y": ListedJob("a")})
        state = desk.ledger.account_states["a"]

        def adopt(desk=desk, state=state):
            desk.ledger.adopt(LeaseRecord("new"), "x", state, 900.0, 10.0)

        if not cut_short(adopt, at):
            break
        desk.ledger.recount()
        check_whole(desk.ledger)
        assert len(state.held) + state.external >= 2
        adopt()  # whoever was interrupted asks again
        assert len(state.held) + state.external >= 2
        assert desk.take("a") is None
    assert at > 1, "nothing was cut short"
    assert (len(state.held), state.external) == (1, 1)
