"""The clock that tests move by hand."""

from __future__ import annotations

import gc
import math
import threading
from datetime import UTC, datetime

import pytest

from balancer.clock import Clock
from balancer.testing import ManualClock


class Listener:
    def __init__(self):
        self.calls = 0

    def wake(self):
        self.calls += 1


def test_it_stands_still_until_it_is_moved():
    """Both readings come from the constructor, and only a move changes them."""
    clock = ManualClock(5.0, wall=1000.0)
    assert (clock(), clock.time(), clock()) == (5.0, 1000.0, 5.0)
    clock.advance(2.5)
    assert (clock(), clock.time()) == (7.5, 1002.5)


def test_the_wall_clock_may_be_given_as_a_datetime():
    """An aware datetime stands for its epoch seconds; a naive one could mean any instant."""
    assert ManualClock(wall=datetime(1970, 1, 2, tzinfo=UTC)).time() == 86_400.0
    with pytest.raises(ValueError, match="aware"):
        ManualClock(wall=datetime(1970, 1, 2))  # noqa: DTZ001  # what is tested


def test_its_wall_clock_starts_at_the_same_instant_every_time():
    """Tests that print dates print the same ones each day."""
    assert datetime.fromtimestamp(ManualClock().time(), UTC).year == 2026


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf, -math.inf])
def test_it_refuses_to_go_back_or_nowhere(seconds):
    """A monotonic clock never runs back, and the refusal leaves it where it was."""
    clock = ManualClock(5.0)
    with pytest.raises(ValueError, match=r"go back|finite"):
        clock.advance(seconds)
    assert clock() == 5.0


def test_a_move_wakes_every_subscriber_after_the_move():
    """Who is woken reads the new time."""
    clock, read = ManualClock(), []
    clock.subscribe(lambda: read.append(clock()))
    clock.subscribe(lambda: read.append(clock.time() - clock()))
    offset = clock.time()
    clock.advance(3)
    assert read == [3.0, offset]


def test_a_subscription_ends_when_told_so():
    """The call that subscribe returned may be made twice."""
    clock, listener = ManualClock(), Listener()
    unsubscribe = clock.subscribe(listener.wake)
    clock.advance(1)
    unsubscribe()
    unsubscribe()
    clock.advance(1)
    assert listener.calls == 1


def test_a_subscription_does_not_keep_its_object_alive():
    """A pool that nobody holds any more can be collected although it watches the clock."""
    clock, listener, heard = ManualClock(), Listener(), Listener()
    clock.subscribe(listener.wake)
    clock.subscribe(heard.wake)
    del listener
    gc.collect()
    clock.advance(1)
    assert heard.calls == 1
    assert len(clock._subscribers) == 1


def test_the_wall_clock_can_jump_alone():
    """A correction of the system's time moves no monotonic reading, and those who wait look again."""
    clock, listener = ManualClock(5.0, wall=1000.0), Listener()
    clock.subscribe(listener.wake)
    clock.jump_wall(-300)
    assert (clock(), clock.time(), listener.calls) == (5.0, 700.0, 1)
    with pytest.raises(ValueError, match="finite"):
        clock.jump_wall(math.nan)


def test_subscribers_may_use_the_clock():
    """They are called outside its lock: one that moves or unsubscribes does not deadlock."""
    clock, listener = ManualClock(), Listener()

    def once():
        unsubscribe()
        clock.advance(1)

    unsubscribe = clock.subscribe(once)
    clock.subscribe(listener.wake)
    clock.advance(1)
    assert (clock(), listener.calls) == (2.0, 2)


def test_moves_of_many_threads_add_up():
    """No move is lost when several threads move it at once."""
    clock = ManualClock()
    threads = [threading.Thread(target=lambda: [clock.advance(1) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 4000.0


def test_the_library_takes_it_as_a_clock():
    """The library finds all three parts, and never sleeps on a clock that can be moved."""
    manual, listener = ManualClock(wall=1000.0), Listener()
    clock = Clock(manual)
    clock.watch(listener.wake)
    manual.advance(1)
    assert (clock.now(), clock.time(), listener.calls) == (1.0, 1001.0, 1)
    assert clock.sleep_for(50.0) is None
