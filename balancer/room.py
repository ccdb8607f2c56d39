"""The accounts that have room, kept so that one can be chosen at the same cost however many there are.

A tally (see :mod:`balancer.ledger`) knows its own place in here, so that moving it in or out is a swap
with one other: the order in here means nothing, and a choice by index is exactly uniform.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from balancer.tally import Tally

OUT = -1
"""Place of a tally that is in no shelf."""


class Shelf:
    """Tallies in no order, any of them removable and any of them drawn at the same cost."""

    __slots__ = ("tallies",)

    def __init__(self) -> None:
        self.tallies: list[Tally] = []

    def __len__(self) -> int:
        return len(self.tallies)

    def add(self, tally: Tally) -> None:
        """Put ``tally`` in; it must be out."""
        tally.place = len(self.tallies)
        self.tallies.append(tally)

    def remove(self, tally: Tally) -> None:
        """Take ``tally`` out; it must be in."""
        last = self.tallies.pop()
        if last is not tally:
            self.tallies[tally.place] = last
            last.place = tally.place
        tally.place = OUT

    def draw(self, draw: float) -> Tally:
        """Return the tally that ``draw`` in [0, 1) falls on."""
        return self.tallies[int(draw * len(self.tallies))]


class Room(Protocol):
    """What the ledger asks of the accounts with room, whatever the strategy."""

    def file(self, tally: Tally, fits: bool) -> None:
        """Have ``tally`` in exactly if it ``fits``, at the load that it has now."""

    def forget(self, tally: Tally) -> None:
        """Take an account without room out for good."""

    def clear(self) -> None:
        """Forget every account."""

    def pick(self, draw: float) -> Tally | None:
        """Return the choice for ``draw``, or None if no account has room."""

    def prefer(self, tallies: list[Tally]) -> list[Tally]:
        """Return those of ``tallies`` among which chance may decide."""


class RandomRoom:
    """Every account with room is equally likely, whatever its free room: the server's own rule.

    Source: useapi.net, get-riffusion-accounts: "randomly selecting an account with available
    capacity".

    The first ``size`` of ``tallies`` have room, the others have none. So the list does not change its
    length while slots come and go, and moving an account across that border takes no call.
    """

    __slots__ = ("size", "tallies")

    def __init__(self) -> None:
        self.tallies: list[Tally] = []
        self.size = 0

    def file(self, tally: Tally, fits: bool) -> None:
        """Have ``tally`` before the border exactly if it ``fits``."""
        if tally.place == OUT:
            tally.place = len(self.tallies)
            self.tallies.append(tally)
        if fits and tally.place >= self.size:
            self._swap(tally, self.size)
            self.size += 1
        elif not fits and tally.place < self.size:
            self._swap(tally, self.size - 1)
            self.size -= 1

    def _swap(self, tally: Tally, place: int) -> None:
        other = self.tallies[place]
        self.tallies[tally.place], self.tallies[place] = other, tally
        other.place, tally.place = tally.place, place

    def forget(self, tally: Tally) -> None:
        """Take an account without room out for good."""
        self._swap(tally, len(self.tallies) - 1)
        self.tallies.pop()
        tally.place = OUT

    def clear(self) -> None:
        """Forget every account; the list stays the same object."""
        self.size = 0
        self.tallies.clear()

    def pick(self, draw: float) -> Tally | None:
        """Return the account that ``draw`` in [0, 1) falls on, or None."""
        return self.tallies[int(draw * self.size)] if self.size else None

    def prefer(self, tallies: list[Tally]) -> list[Tally]:
        """Chance decides among all of them."""
        return tallies


class LeastLoadedRoom:
    """The account with the lowest (in_flight + external) / capacity; chance decides ties.

    One shelf for each load that occurs. Loads are fractions of small numbers, so there are few.
    """

    __slots__ = ("_filed", "_loads", "_shelves")

    def __init__(self) -> None:
        self._filed: dict[Tally, float] = {}
        """The load of a tally when it was filed."""
        self._shelves: dict[float, Shelf] = {}
        self._loads: list[float] = []

    def file(self, tally: Tally, fits: bool) -> None:
        """Have ``tally`` on the shelf of its present load exactly if it ``fits``."""
        if tally.place != OUT:
            self._remove(tally)
        if fits:
            self._add(tally)

    def forget(self, _: Tally) -> None:
        """Nothing is kept of an account without room."""

    def clear(self) -> None:
        """Forget every account."""
        self._filed.clear()
        self._shelves.clear()
        self._loads.clear()

    def pick(self, draw: float) -> Tally | None:
        """Return the tally that ``draw`` falls on among the least loaded, or None."""
        return self._shelves[self._loads[0]].draw(draw) if self._loads else None

    def prefer(self, tallies: list[Tally]) -> list[Tally]:
        """Return the least loaded of ``tallies``."""
        least = min((tally.load for tally in tallies), default=0.0)
        return [tally for tally in tallies if tally.load == least]

    def _add(self, tally: Tally) -> None:
        load = self._filed[tally] = tally.load
        shelf = self._shelves.get(load)
        if shelf is None:
            shelf = self._shelves[load] = Shelf()
            insort(self._loads, load)
        shelf.add(tally)

    def _remove(self, tally: Tally) -> None:
        load = self._filed.pop(tally)
        shelf = self._shelves[load]
        shelf.remove(tally)
        if not shelf:
            del self._shelves[load]
            del self._loads[bisect_left(self._loads, load)]


STRATEGIES: dict[str, type[RandomRoom | LeastLoadedRoom]] = {
    "random": RandomRoom,
    "least_loaded": LeastLoadedRoom,
}
