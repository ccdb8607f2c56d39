"""The book of accounts and jobs: what runs where, read off the clock when somebody asks.

No thread ends a job. A job knows when it ends, and every question first settles what has ended
since the last one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from balancer.services.schema import Service
from balancer.testing.audit import AccountAudit


@dataclass(slots=True)
class Job:
    """One job. Only the book changes it."""

    id: str
    row: Service
    """The row that it counts under."""
    account: str
    verb: str
    """Path of its create below the site: ``music/create-prompt``."""
    request: Mapping[str, Any]
    started: float
    ends: float
    """Clock reading at which its status becomes final."""
    frees: float
    """Clock reading at which its slot is free; before ``ends`` if it was struck off the schedule."""
    outcome: str = "completed"
    """Its status from then on: ``completed`` or ``failed``."""
    cancelled: bool = False
    listed: bool = True
    """Whether the load endpoints show it."""

    @property
    def service(self) -> str:
        """Key of its row."""
        return self.row.key

    def status(self, now: float) -> str:
        """Return ``running`` or the outcome."""
        return "running" if now < self.ends else self.outcome

    def at(self, reading: float) -> bool:
        """Return whether it held its slot at that clock reading."""
        return self.started <= reading < self.frees


@dataclass(slots=True)
class Configured:
    """One account as it is configured now. A change replaces its fields, never the object."""

    id: str
    own: Mapping[str, Any]
    """Fields of its entry that were given for it."""
    slots: int | None = None
    """Its maximum for the kinds of job for which the service's entries do not state one."""
    reason: str | None = None
    """Why it is broken, or None."""

    def limit(self, row: Service) -> int:
        """Return how many jobs of that kind it may run at once."""
        if row.capacity is None and self.slots is not None:
            return self.slots
        try:
            return max(0, int(float(self.own[row.capacity or ""])))
        except (KeyError, TypeError, ValueError, OverflowError):
            return row.default_capacity or 1


@dataclass(slots=True)
class Lane:
    """The jobs of one kind on one account, and what was counted there."""

    service: str
    account: str
    keep: float
    """Seconds for which an ended job can still be asked for by the lists."""
    running: dict[str, Job] = field(default_factory=dict)
    _ended: deque[Job] = field(default_factory=deque)
    _next_end: float = math.inf
    _peak: int = 0
    _peak_limit: int = 0
    _accepted: int = 0
    _picked: int = 0
    refused: int = 0

    def settle(self, now: float) -> int:
        """Take out what has ended; return how many run."""
        if now >= self._next_end:
            for job in [job for job in self.running.values() if job.frees <= now]:
                del self.running[job.id]
                self._ended.append(job)
            self._next_end = min((job.frees for job in self.running.values()), default=math.inf)
        while self._ended and self._ended[0].frees <= now - self.keep:
            self._ended.popleft()
        return len(self.running)

    def add(self, job: Job, limit: int, *, picked: bool = False, stranger: bool = False) -> int:
        """Let ``job`` run where ``limit`` is the maximum; return how many run now."""
        self.running[job.id] = job
        self._next_end = min(self._next_end, job.frees)
        self._accepted += not stranger
        self._picked += picked
        count = len(self.running)
        if count > self._peak:
            self._peak, self._peak_limit = count, limit
        return count

    def hurry(self, job: Job) -> None:
        """Note that ``job`` now ends earlier than it was to."""
        self._next_end = min(self._next_end, job.frees)

    def at(self, reading: float) -> list[Job]:
        """Return the listed jobs that held a slot at that clock reading, not older than ``keep``."""
        jobs = [*self._ended, *self.running.values()]
        return [job for job in jobs if job.listed and job.at(reading)]

    def audit(self) -> AccountAudit:
        """Return what was counted."""
        return AccountAudit(self._peak, self._peak_limit, self._accepted, self._picked, self.refused)
