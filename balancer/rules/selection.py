"""The accounts that have room, kept so that one can be chosen at the same cost however many there are.

An account knows its own place in here, so that moving it in or out is a swap with one other: the order in
here means nothing, and a choice by index is exactly uniform.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

from balancer.rules.records import OUT, AccountState


class LoadClass:
    """Accounts in no order, any of them removable and any of them drawn at the same cost."""

    __slots__ = ("account_states",)

    def __init__(self) -> None:
        self.account_states: list[AccountState] = []

    def __len__(self) -> int:
        return len(self.account_states)

    def add(self, account_state: AccountState) -> None:
        """Put ``account_state`` in; it must be out."""
        account_state.place = len(self.account_states)
        self.account_states.append(account_state)

    def remove(self, account_state: AccountState) -> None:
        """Take ``account_state`` out; it must be in."""
        last = self.account_states.pop()
        if last is not account_state:
            self.account_states[account_state.place] = last
            last.place = account_state.place
        account_state.place = OUT

    def draw(self, draw: float) -> AccountState:
        """Return the account that ``draw`` in [0, 1) falls on."""
        return self.account_states[int(draw * len(self.account_states))]


class Selector(Protocol):
    """What the ledger asks of the accounts with room, whatever the strategy."""

    def update(self, account_state: AccountState, fits: bool) -> None:
        """Have ``account_state`` in exactly if it ``fits``, at the load that it has now."""

    def forget(self, account_state: AccountState) -> None:
        """Take an account without room out for good."""

    def clear(self) -> None:
        """Forget every account."""

    def pick(self, draw: float) -> AccountState | None:
        """Return the choice for ``draw``, or None if no account has room."""

    def pick_except(self, draw: float, excluded: list[AccountState]) -> AccountState | None:
        """Return the choice for ``draw`` among the others, or None. ``excluded`` holds each once."""

    def with_room(self) -> Sequence[AccountState]:
        """Return every account that has room, in no order."""

    def among(self, account_states: list[AccountState]) -> list[AccountState]:
        """Return those of ``account_states`` among which chance may decide."""


class RandomSelector:
    """Every account with room is equally likely, whatever its free room: the server's own rule.

    Source: useapi.net, get-riffusion-accounts: "randomly selecting an account with available
    capacity".

    The first ``size`` of ``account_states`` have room, the others have none. So the list does not change
    its length while slots come and go, and moving an account across that border takes no call.
    """

    __slots__ = ("account_states", "size")

    def __init__(self) -> None:
        self.account_states: list[AccountState] = []
        self.size = 0

    def update(self, account_state: AccountState, fits: bool) -> None:
        """Have ``account_state`` before the border exactly if it ``fits``."""
        states, place = self.account_states, account_state.place
        if place == OUT:
            place = account_state.place = len(states)
            states.append(account_state)
        if fits is (place < self.size):
            return
        if not fits:
            self.size -= 1
        border = self.size
        states[place], states[border] = states[border], account_state
        states[place].place, account_state.place = place, border
        if fits:
            self.size += 1

    def forget(self, account_state: AccountState) -> None:
        """Take an account without room out for good."""
        last = self.account_states.pop()
        if last is not account_state:
            self.account_states[account_state.place] = last
            last.place = account_state.place
        account_state.place = OUT

    def clear(self) -> None:
        """Forget every account; the list stays the same object."""
        self.size = 0
        self.account_states.clear()

    def pick(self, draw: float) -> AccountState | None:
        """Return the account that ``draw`` in [0, 1) falls on, or None."""
        return self.account_states[int(draw * self.size)] if self.size else None

    def pick_except(self, draw: float, excluded: list[AccountState]) -> AccountState | None:
        """Return the account that ``draw`` falls on among those that are not ``excluded``, or None."""
        return _draw_except(self.account_states, self.size, draw, excluded)

    def with_room(self) -> Sequence[AccountState]:
        """Return every account that has room, in no order."""
        return self.account_states[: self.size]

    def among(self, account_states: list[AccountState]) -> list[AccountState]:
        """Chance decides among all of them."""
        return account_states


class LeastLoadedSelector:
    """The account with the lowest (in_flight + external) / capacity; chance decides ties.

    One class for each load that occurs. Loads are fractions of small numbers, so there are few.
    """

    __slots__ = ("_classes", "_load_of", "_loads")

    def __init__(self) -> None:
        self._load_of: dict[AccountState, float] = {}
        """The load of an account when it was put in."""
        self._classes: dict[float, LoadClass] = {}
        self._loads: list[float] = []

    def update(self, account_state: AccountState, fits: bool) -> None:
        """Have ``account_state`` in the class of its present load exactly if it ``fits``."""
        if account_state.place != OUT:
            self._remove(account_state)
        if fits:
            self._add(account_state)

    def forget(self, _: AccountState) -> None:
        """Nothing is kept of an account without room."""

    def clear(self) -> None:
        """Forget every account."""
        self._load_of.clear()
        self._classes.clear()
        self._loads.clear()

    def pick(self, draw: float) -> AccountState | None:
        """Return the account that ``draw`` falls on among the least loaded, or None."""
        return self._classes[self._loads[0]].draw(draw) if self._loads else None

    def pick_except(self, draw: float, excluded: list[AccountState]) -> AccountState | None:
        """Return the account that ``draw`` falls on among the least loaded that are not ``excluded``."""
        for load in self._loads:
            states = self._classes[load].account_states
            found = _draw_except(states, len(states), draw, excluded)
            if found is not None:
                return found
        return None

    def with_room(self) -> Sequence[AccountState]:
        """Return every account that has room, in no order."""
        return list(self._load_of)

    def among(self, account_states: list[AccountState]) -> list[AccountState]:
        """Return the least loaded of ``account_states``."""
        least = min((account_state.load for account_state in account_states), default=0.0)
        return [account_state for account_state in account_states if account_state.load == least]

    def _add(self, account_state: AccountState) -> None:
        load = self._load_of[account_state] = account_state.load
        members = self._classes.get(load)
        if members is None:
            members = self._classes[load] = LoadClass()
            insort(self._loads, load)
        members.add(account_state)

    def _remove(self, account_state: AccountState) -> None:
        load = self._load_of.pop(account_state)
        members = self._classes[load]
        members.remove(account_state)
        if not members:
            del self._classes[load]
            del self._loads[bisect_left(self._loads, load)]


def _draw_except(
    states: list[AccountState], size: int, draw: float, excluded: list[AccountState]
) -> AccountState | None:
    """Return the account that ``draw`` falls on among the first ``size`` but the ``excluded``, or None."""
    places = sorted(each.place for each in excluded if OUT < each.place < size and states[each.place] is each)
    number = size - len(places)
    if number <= 0:
        return None
    choice = int(draw * number)
    for place in places:  # each that stands before the choice moves it on by one
        if place > choice:
            break
        choice += 1
    return states[choice]


STRATEGIES: dict[str, type[RandomSelector | LeastLoadedSelector]] = {
    "random": RandomSelector,
    "least_loaded": LeastLoadedSelector,
}
