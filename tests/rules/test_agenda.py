"""The queue of what is due when."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from balancer.rules.timer_queue import TimerQueue

KEYS = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("due"), st.integers(0, 20)),
    ),
    max_size=80,
)


@given(STEPS)
def test_an_agenda_equals_a_dict_that_is_sorted_when_asked(steps):
    """Set anew, taken out, due: the order is that of the numbers, and nobody is forgotten or kept."""
    agenda, naive = TimerQueue(), {}
    for step in steps:
        if step[0] == "set":
            agenda.set(step[1], step[2])
            naive[step[1]] = step[2]
        elif step[0] == "drop":
            agenda.drop(step[1])
            naive.pop(step[1], None)
        else:
            due = agenda.due(step[1])
            expected = {key: number for key, number in naive.items() if number <= step[1]}
            assert sorted(due) == sorted(expected)
            assert [expected[key] for key in due] == sorted(expected.values())
            naive = {key: number for key, number in naive.items() if key not in expected}
        assert (len(agenda), sorted(agenda)) == (len(naive), sorted(naive))
        assert agenda.next == min(naive.values(), default=math.inf)
        assert naive.get(agenda.first()) == min(naive.values(), default=None)
        assert all((key in agenda) is (key in naive) for key in range(10))


def test_those_with_equal_numbers_come_in_the_order_they_were_set():
    """First come, first served."""
    agenda = TimerQueue()
    for key in "cab":
        agenda.set(key, 1.0)
    assert agenda.due(1.0) == ["c", "a", "b"]


def test_an_agenda_whose_members_all_leave_early_does_not_grow():
    """What was taken out is swept away in time, and stays out of the way of a set that comes back."""
    agenda = TimerQueue()
    agenda.set("stays", -1.0)
    for number in range(100_000):
        agenda.set("leaves", float(number))
        agenda.drop("leaves")
    assert len(agenda._heap) < 200
    assert list(agenda) == ["stays"]


def test_an_end_that_never_comes_is_kept_and_never_due():
    """Infinity is a number like any other."""
    agenda = TimerQueue()
    agenda.set("never", math.inf)
    assert agenda.due(1e300) == []
    assert (agenda.first(), agenda.next) == ("never", math.inf)


class Counted(float):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other):
        Counted.compared += 1
        return super().__lt__(other)


def test_the_cost_of_an_entry_hardly_grows_with_their_number():
    """A thousand times as many cost at most a few times as many comparisons each, out of order as well."""
    each = {}
    for size in (100, 100_000):
        agenda, Counted.compared = TimerQueue(), 0
        for n in range(size):
            agenda.set(n, Counted((n * 7919) % size))
        for n in range(0, size, 2):
            agenda.drop(n)
        assert len(agenda.due(float(size))) == size // 2
        each[size] = Counted.compared / size
    assert each[100_000] < 5 * each[100]
