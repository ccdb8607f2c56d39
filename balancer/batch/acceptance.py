"""What proves that a call which was cut off had not been accepted. Pure.

The service's list shows a job, with the id of its lease, from soon after its create until it ends. A line
whose lease is not on the list was therefore not accepted, or its job has ended already. How long jobs live no
page says; but those of the same batch tell: of each it is known for how long it was seen to run. A line that
was missing from the list at less than half of the shortest such life was not accepted, and may be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable

from balancer.batch.journal import Entry

GRACE = 3.0
"""Seconds after its call, at least, from which a job that was accepted must be on the list."""
ENOUGH = 10
"""Lives by which a line may be judged while others still run."""


def lives(entries: Iterable[Entry]) -> list[float]:
    """Return for how many seconds each job that has ended was seen to run at least."""
    return [entry.life for entry in entries if entry.life is not None]


def life(entry: Entry, seen_at: float | None, *, sent_here: bool) -> float | None:
    """Return for how many seconds a job that has ended was seen to run at least; None: nobody can tell.

    ``seen_at`` is when it last ran, by the clock of the machine. A job that this very process has sent and
    never saw running may have been as short as can be: then no line is ever judged by its absence.
    """
    if seen_at is None or entry.sent_monotonic is None:
        return 0.0 if sent_here else None
    lived = seen_at - entry.sent_monotonic
    return lived if lived >= 0 else None  # the machine was started anew in between


def surely_not_accepted(entry: Entry, known: list[float]) -> bool:
    """Whether a line that was missing from the list cannot have been a job that has ended."""
    return entry.absent is not None and bool(known) and entry.absent < min(known) / 2
