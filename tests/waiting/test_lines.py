"""Who waits, in what order, for which accounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.rules.records import LeaseRecord, SlotRequest
from balancer.waiting.queue import WaitQueue
from balancer.waiting.threads import ThreadWaiter

ACCOUNTS = st.none() | st.frozensets(st.sampled_from("abc"))


def waiter(lines=None, accounts=None, *, scope=None, max_jobs=None):
    """Return a waiter for some accounts, and have it join."""
    row = LeaseRecord(object(), scope=scope)
    new = ThreadWaiter(row)
    new.slot_request = SlotRequest(
        row, accounts=None if accounts is None else frozenset(accounts), max_jobs=max_jobs
    )
    if lines is not None:
        lines.join(new)
    return new


def queue(lines, account):
    """Return who an account could serve, first of each group, in order of arrival."""
    groups = [group for group in lines.groups_for(account) if group.first.slot_request.admits(account)]
    assert groups == sorted(groups, key=lambda group: group.arrival)
    return [group.first for group in groups]


def test_those_who_want_the_same_stand_in_one_line_in_order_of_arrival():
    """Only the first of a line is ever looked at, so a long queue costs no more than a short one (P-17)."""
    lines = WaitQueue()
    waiters = [waiter(lines) for _ in range(1000)]
    (line,) = lines.groups_for("a")
    for expected in waiters:
        assert line.first is expected
        lines.leave(expected)
    assert list(lines.groups()) == []


def test_an_account_serves_those_without_constraints_those_pinned_to_it_and_those_who_listed_it():
    """And nobody else, oldest first over all lines (P-34)."""
    lines = WaitQueue()
    listed, pinned, anybody, other = (waiter(lines, x) for x in ("ab", "a", None, "b"))
    waiter(lines, "")
    assert queue(lines, "a") == [listed, pinned, anybody]
    assert queue(lines, "b") == [listed, anybody, other]
    assert queue(lines, "z") == [anybody]


@pytest.mark.parametrize("different", [{"scope": "veo"}, {"max_jobs": 3}, {"accounts": "a"}])
def test_those_who_can_be_served_differently_stand_in_different_lines(different):
    """One that cannot be served does not hold up another that can."""
    lines = WaitQueue()
    first, second = waiter(lines), waiter(lines, **different)
    assert queue(lines, "a") == [first, second]


def test_a_waiter_that_changes_lines_keeps_its_place_in_time():
    """New accounts change what it may use, not since when it waits (P-34)."""
    lines = WaitQueue()
    old, young = waiter(lines, "a"), waiter(lines)
    lines.step_aside(old)
    assert queue(lines, "a") == [young]
    old.slot_request = SlotRequest(old.record, accounts=frozenset("ab"))
    lines.join(old)
    assert queue(lines, "b") == [old, young]


def test_a_waiter_that_joins_anew_without_leaving_stands_in_one_line():
    """It is not left behind in the line of its former ticket, to be served twice."""
    lines = WaitQueue()
    moved = waiter(lines, "a")
    moved.slot_request = SlotRequest(moved.record, accounts=frozenset("b"))
    lines.join(moved)
    assert (queue(lines, "a"), queue(lines, "b")) == ([], [moved])
    lines.leave(moved)
    assert list(lines.groups()) == []


def test_counting_follows_whoever_leaves():
    """Counted once however often it is asked, and no longer once it has left, twice or not."""
    lines = WaitQueue()
    one, two = waiter(lines), waiter(lines, "a")
    for _ in range(3):
        lines.count(one, None, "custom")
    lines.count(two, None, "custom")
    assert lines.counted == 2
    lines.step_aside(one)
    assert lines.counted == 2
    lines.leave(one)
    lines.leave(one)
    assert lines.counted == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(("join", "leave", "change")), st.integers(0, 5), ACCOUNTS), max_size=50
    )
)
def test_lines_equal_a_list_of_waiters(steps):
    """Whoever comes and goes: each account finds the oldest of every kind that it could serve."""
    lines, naive, arrived = WaitQueue(), {}, 0
    waiters = {}
    for what, name, accounts in steps:
        if what == "join" and name not in waiters:
            arrived += 1
            waiters[name] = waiter(lines, accounts)
            naive[name] = (arrived, accounts)
        elif what == "leave" and name in waiters:
            lines.leave(waiters.pop(name))
            del naive[name]
        elif what == "change" and name in waiters:
            waiters[name].slot_request = SlotRequest(waiters[name].record, accounts=accounts)
            lines.join(waiters[name])
            naive[name] = (naive[name][0], accounts)
        for account in "abc":
            firsts = {}
            for arrival, wanted in sorted(naive.values(), key=lambda entry: entry[0]):
                if wanted is None or account in wanted:
                    firsts.setdefault(wanted, arrival)
            assert [first.arrival for first in queue(lines, account)] == sorted(firsts.values())
        assert set(lines.waiters) == set(waiters.values())
        assert len(list(lines.groups())) == len({accounts for _, accounts in naive.values()})
