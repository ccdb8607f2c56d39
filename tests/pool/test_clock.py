"""Time as the library sees it: the caller's clock with its optional parts filled in."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from balancer import AccountPool
from balancer.clock import Clock
from balancer.testing import ManualClock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def test_without_a_clock_the_systems_own_is_read():
    """Monotonic for durations, wall for instants."""
    clock = Clock(None)
    assert not clock.given
    assert clock.now is time.monotonic
    assert clock.time is time.time
    assert 0 <= clock.sleep_for(clock.now() + 1000) <= 1000


def test_a_bare_callable_will_do():
    """Wall time comes from the system where the caller's clock offers none."""
    clock = Clock(lambda: 5.0)
    assert clock.given
    assert clock.now() == 5.0
    assert clock.time is time.time
    clock.watch(lambda: None)
    assert clock.sleep_for(7.5) == 2.5
    assert clock.sleep_for(3.0) == 0.0
    assert clock.sleep_for(-math.inf) == 0.0


def test_a_clock_that_can_be_moved_is_never_slept_on():
    """Who waits is woken by the move, however long that takes in real time."""
    manual = ManualClock()
    clock, woken = Clock(manual), []
    clock.watch(lambda: woken.append(clock.now()))
    assert clock.sleep_for(7.5) is None
    manual.advance(7.5)
    assert woken == [7.5]
    assert clock.sleep_for(7.5) == 0.0  # nothing is slept through: that moment is here


def test_what_never_comes_is_waited_for_until_woken():
    """No timer is set for infinity."""
    assert Clock(None).sleep_for(math.inf) is None
    assert Clock(None).instant(math.inf) is None
    assert Clock(None).instant(-math.inf) is None
    assert Clock(None).instant(math.nan) is None


def test_instants_are_aware_and_follow_the_wall_clock():
    """What users are shown is UTC, also after the wall clock was set."""
    manual = ManualClock()
    clock = Clock(manual)
    assert clock.instant(90) == EPOCH + timedelta(seconds=90)
    manual.advance(30)
    assert clock.instant(90) == EPOCH + timedelta(seconds=90)
    manual.jump_wall(3600)
    assert clock.instant(90) == EPOCH + timedelta(seconds=90 + 3600)
    assert clock.instant(1e18) is None, "beyond what a datetime can say"


@pytest.mark.parametrize("source", [5, "now", object()])
def test_what_cannot_be_called_is_no_clock(source):
    """The argument is named."""
    with pytest.raises(TypeError, match="clock"):
        Clock(source)


def test_a_wall_clock_that_jumps_moves_no_end():
    """Cooldowns and bound leases end by the monotonic clock."""
    manual = ManualClock()
    pool = AccountPool(source={"a": 1}, clock=manual, ttl=1e9)
    lease = pool.acquire()
    lease.bind("job", ttl=100)
    manual.jump_wall(86400)
    assert pool.stats().in_flight == 1
    manual.jump_wall(-2 * 86400)
    manual.advance(99)
    assert pool.stats().in_flight == 1
    manual.advance(1)
    assert pool.stats().in_flight == 0
    assert not lease.release()


def test_a_pool_does_not_outlive_its_last_reference_by_its_clock():
    """The clock holds its subscribers weakly: pools made in tests go away."""
    import gc
    import weakref

    manual = ManualClock()
    pool = AccountPool(source={"a": 1}, clock=manual)
    pool.refresh()
    gone = weakref.ref(pool._core)
    del pool
    gc.collect()
    manual.advance(1)
    gc.collect()
    assert gone() is None
