"""A bar of an account's room: held, bound, external, free and closed slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.text import Text

from balancer import AccountStats

WIDTH = 24
_PARTS = (
    # name, style, what stands for a slot, and where only ASCII can be shown
    ("held", "yellow", "█", "#"),
    ("bound", "green", "▓", "="),
    ("external", "magenta", "▒", "x"),
    ("free", "bright_black", "░", "."),
    ("closed", "red", "▞", "-"),
)


@dataclass(frozen=True)
class Room:
    """How an account's slots are used."""

    held: int
    bound: int
    """By jobs, ambiguous ones included."""
    external: int
    free: int
    closed: int
    """Not to be had, as the account pauses, is broken or drains."""

    @staticmethod
    def of(account: AccountStats, states: Counter[str]) -> Room:
        """Return the room of an account whose leases have these states."""
        held, used = states["held"], account.in_flight + account.external
        return Room(
            held=held,
            bound=max(0, account.in_flight - held),
            external=account.external,
            free=account.free,
            closed=max(0, account.capacity - used - account.free),
        )


class Bar:
    """Shows a room, one character a slot, or fewer where there are many."""

    def __init__(self, room: Room) -> None:
        counts = [getattr(room, name) for name, *_ in _PARTS]
        scale = max(1.0, sum(counts) / WIDTH)
        # Rounding must not hide the only slot of a kind.
        self._lengths = [0 if not count else max(1, round(count / scale)) for count in counts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield _joined(self._lengths, ascii_only=options.ascii_only)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(sum(self._lengths), sum(self._lengths))


class Legend:
    """Says what the parts of a bar stand for."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = _joined([1] * len(_PARTS), ascii_only=options.ascii_only)
        words = zip(line.divide(range(1, len(_PARTS))), _PARTS, strict=True)
        yield Text("  ").join(part + Text(f" {name}") for part, (name, *_) in words)


def _joined(lengths: list[int], *, ascii_only: bool) -> Text:
    joined = Text()
    for length, (_, style, block, letter) in zip(lengths, _PARTS, strict=True):
        joined.append((letter if ascii_only else block) * length, style)
    return joined
