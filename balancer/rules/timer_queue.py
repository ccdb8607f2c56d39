"""A queue of keys in the order of a number, say the time when it is due; any key can be taken out again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K")


class TimerQueue(Generic[K]):
    """Keys by number, smallest first. Every operation costs O(log n), amortised.

    Taking a key out leaves its entry in the heap until it comes up or until such entries are in
    the majority; so a queue whose members all leave from the middle does not grow for ever.
    """

    __slots__ = ("_heap", "_number", "_tie")

    def __init__(self) -> None:
        self._number: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._tie = 0

    def __len__(self) -> int:
        return len(self._number)

    def __contains__(self, key: K) -> bool:
        return key in self._number

    def __iter__(self) -> Iterator[K]:
        """All keys, in no order."""
        return iter(self._number)

    def set(self, key: K, number: float) -> None:
        """Put ``key`` at ``number``, wherever it was before."""
        if self._number.get(key) == number:
            return
        self._number[key] = number
        self._tie += 1
        heappush(self._heap, (number, self._tie, key))
        if len(self._heap) > 2 * len(self._number) + 64:
            self._rebuild()

    def drop(self, key: K) -> None:
        """Take ``key`` out, if it is in."""
        self._number.pop(key, None)

    def first(self) -> K | None:
        """Return the key with the smallest number, or None."""
        heap = self._heap
        while heap:
            number, _, key = heap[0]
            if self._number.get(key) == number:
                return key
            heappop(heap)
        return None

    @property
    def next(self) -> float:
        """The smallest number; infinity where there is none."""
        if not self._number:
            return math.inf
        number, _, key = self._heap[0]
        if self._number.get(key) == number:
            return number
        self.first()  # so that what was taken out stands at the head no more
        return self._heap[0][0]

    def due(self, now: float) -> list[K]:
        """Take out and return every key whose number is not above ``now``, in order."""
        found: list[K] = []
        while (key := self.first()) is not None and self._heap[0][0] <= now:
            del self._number[key]
            found.append(key)
        return found

    def _rebuild(self) -> None:
        self._heap = [(number, tie, key) for tie, (key, number) in enumerate(self._number.items())]
        self._tie = len(self._heap)
        heapify(self._heap)
