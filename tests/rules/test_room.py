"""The shelves that hold the accounts with room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.models import Account
from balancer.rules.records import AccountState
from balancer.rules.selection import OUT, LeastLoadedSelector, RandomSelector

FILINGS = st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 3)), max_size=60)


def account_states(number):
    """Return so many accounts, of different capacities."""
    return [AccountState(Account(f"account-{n}", 4 + n % 3)) for n in range(number)]


def inside_of(shelf):
    """Return the accounts of a shelf, or of a random room, that may be drawn."""
    return shelf.account_states[: shelf.size] if isinstance(shelf, RandomSelector) else shelf.account_states


@pytest.mark.parametrize("room_type", [RandomSelector, LeastLoadedSelector])
@given(filings=FILINGS)
def test_a_room_holds_exactly_those_that_were_filed_as_fitting(room_type, filings):
    """In or out, in or out again, at whatever load: nobody twice, nobody lost, each at its place."""
    room, all_, inside = room_type(), account_states(8), set()
    for number, fits, external in filings:
        account_state = all_[number]
        account_state.external = external
        room.update(account_state, fits)
        (inside.add if fits else inside.discard)(account_state.id)
        shelves = list(room._classes.values()) if room_type is LeastLoadedSelector else [room]
        assert sorted(account_state.id for shelf in shelves for account_state in inside_of(shelf)) == sorted(
            inside
        )
        assert all(
            shelf.account_states[account_state.place] is account_state
            for shelf in shelves
            for account_state in shelf.account_states
        )
        assert (room.pick(0.5) is None) is not bool(inside)


def test_every_member_is_drawn_by_an_equal_part_of_the_number_range():
    """The choice is an index: k members, k equal parts, none left out at either end."""
    room, all_ = RandomSelector(), account_states(7)
    for account_state in all_:
        room.update(account_state, True)
    room.update(all_[3], False)
    drawn = [room.pick(draw).id for draw in (0.0, 0.17, 0.34, 0.51, 0.67, 0.84, 0.9999999999999999)]
    assert len(set(drawn)) == 6
    assert drawn[-1] == drawn[-2]
    assert all_[3].id not in drawn


def test_the_least_loaded_shelf_is_the_one_drawn_from():
    """Loads that are equal as fractions share a shelf, whatever the capacities."""
    room = LeastLoadedSelector()
    one_of_two, two_of_four, three_of_four = (
        AccountState(Account(id, n)) for id, n in (("a", 2), ("b", 4), ("c", 4))
    )
    one_of_two.external, two_of_four.external, three_of_four.external = 1, 2, 3
    for account_state in (three_of_four, two_of_four, one_of_two):
        room.update(account_state, True)
    assert {room.pick(draw).id for draw in (0.0, 0.4, 0.6, 0.99)} == {"a", "b"}
    one_of_two.external, two_of_four.external = 2, 4
    room.update(one_of_two, False)
    room.update(two_of_four, False)
    assert room.pick(0.0).id == "c"


def test_preference_among_given_accounts_follows_the_strategy():
    """Random takes all of them; least loaded those with the lowest share in use."""
    all_ = account_states(3)
    all_[0].external = 1
    assert RandomSelector().among(all_) == all_
    assert LeastLoadedSelector().among(all_) == all_[1:]
    assert LeastLoadedSelector().among([]) == []


@pytest.mark.parametrize("number", [10, 100_000])
def test_filing_and_picking_touch_one_account_however_many_there_are(number):
    """Taking one out of the middle moves one other; nothing is searched or shifted."""
    room, all_ = RandomSelector(), account_states(number)
    for account_state in all_:
        room.update(account_state, True)
    before = {account_state.id: account_state.place for account_state in all_}
    picked = room.pick(0.5)
    room.update(picked, False)
    assert sum(before[account_state.id] != account_state.place for account_state in all_) <= 2
    room.update(picked, True)
    assert sum(before[account_state.id] != account_state.place for account_state in all_) <= 2


def test_a_cleared_room_is_empty():
    """Everything can be filed anew after it."""
    for room in (RandomSelector(), LeastLoadedSelector()):
        account_state = account_states(1)[0]
        room.update(account_state, True)
        room.clear()
        account_state.place = OUT
        assert room.pick(0.0) is None
        room.update(account_state, True)
        assert room.pick(0.0) is account_state
