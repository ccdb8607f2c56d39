"""Cancellation, swept over every moment of an acquire and of the block behind it."""

import itertools

import pytest
from cancel_worlds import WORLDS, Closing, Free, Loading
from stepping import SteppedLoop

from balancer import PoolClosed, SourceUnavailable
from balancer.testing import at_rest

OUTCOMES = ("ok", "error", "slow", "never")
TICKS = range(5)
LATER = 4  # rounds after which every cancellation of a sweep has struck


def schedules(outcome):
    """Yield the rounds in which victim and event are struck, and which of them is struck first."""
    events = {"slow": (LATER + 1, LATER + 2), "never": (None,)}.get(outcome, TICKS)
    for cancelled, event, first in itertools.product(TICKS, events, (True, False)):
        if cancelled == event or first:  # the order matters only within one round
            yield cancelled, event, first


def play(world, outcome, schedule, *, victim_leads, twice):
    """Run one interleaving; return the two tasks, and whether the victim took notice of its end."""
    cancelled, event, cancel_first = schedule
    names = ("victim", "neighbour") if victim_leads else ("neighbour", "victim")
    tasks = {name: world.loop.create_task(world.use(name)) for name in names}
    struck = False
    for tick in range(max(TICKS) + LATER):
        strikes = [lambda: world.happen(outcome)] if tick == event else []
        if tick == cancelled or (twice and tick == cancelled + 1):
            strikes.insert(0 if cancel_first else len(strikes), tasks["victim"].cancel)
        for strike in strikes:
            struck = strike() is True or struck
        world.tick()
    return tasks["victim"], tasks["neighbour"], struck


def open_gate(world, name):
    """Let the block of one of the two end."""
    if not world.gates[name].done():
        world.gates[name].set_result(None)
    world.loop.tick(4)


def assert_nothing_is_left(world, tasks):
    """No slot taken, nobody in the queue, and every slot can be had."""
    assert all(task.done() for task in tasks)
    assert at_rest(world.sync, callers=0, landed=False, timeout=0)
    assert not world.sync.holders()
    if not world.sync._core.closed:
        slots = world.source.table["a"]
        assert len([world.sync.acquire(timeout=0) for _ in range(slots)]) == slots
    world.sync.close()  # its timekeeper goes with it, and not when the next hundred worlds have theirs


def check(world, outcome, victim, neighbour, struck):
    """Look at the world as it is, then bring it to rest and look again."""
    assert victim.cancelled() is struck  # an accepted cancellation surfaces, and nothing else does
    ready = world.happens_by_itself or world.happened
    refused = world.happened and world.refuses(outcome)
    open_gate(world, "victim")
    world.wait_out()
    if ready:  # nobody helps: the slot, or the refusal, goes on by itself
        assert "neighbour" in world.served or (refused and neighbour.done())
    open_gate(world, "neighbour")
    world.finish()
    world.loop.tick(4)
    assert_nothing_is_left(world, (victim, neighbour))
    allowed = (PoolClosed, SourceUnavailable) if refused or isinstance(world, Closing | Loading) else ()
    error = neighbour.exception()
    assert error is None or isinstance(error, allowed)
    if not victim.cancelled():
        own = (KeyError,) if isinstance(world, Free) and outcome == "error" else ()
        assert victim.exception() is None or isinstance(victim.exception(), (*allowed, *own))


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", WORLDS)
def test_a_cancelled_acquire_leaves_no_trace_whenever_it_is_struck(kind, outcome):
    """P-1, P-2, P-12, P-13: no slot stays taken, nobody stays in line, the next one is served."""
    ways = itertools.product(schedules(outcome), (True, False), (True, False))
    for schedule, victim_leads, twice in ways:
        with SteppedLoop() as loop:
            world = kind(loop)
            victim, neighbour, struck = play(world, outcome, schedule, victim_leads=victim_leads, twice=twice)
            check(world, outcome, victim, neighbour, struck)
