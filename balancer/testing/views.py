"""Jobs and accounts as a body tells them: instants as text, fields that are absent when unset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing.jobs import Job


@dataclass(frozen=True, slots=True)
class Seen:
    """One job at one moment."""

    job: Job
    row: Service
    status: str
    """``running``, ``completed`` or ``failed``."""
    clock: Clock

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def account(self) -> str:
        """The account that it runs on."""
        return self.job.account

    def stamp(self, reading: float) -> str:
        """Return the instant of a clock reading in ISO form, with milliseconds."""
        instant = self.clock.instant(reading)
        return "" if instant is None else f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03}Z"

    @property
    def kind(self) -> str:
        """Last part of its row's key: ``images``, or ``""``."""
        return self.row.key.partition("/")[2]

    @property
    def started(self) -> str:
        """When it was accepted."""
        return self.stamp(self.job.started)

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status != "running"

    @property
    def seconds(self) -> int:
        """Whole seconds for which it has run."""
        return max(0, int(min(self.clock.now(), self.job.ends) - self.job.started))

    @property
    def elapsed(self) -> str:
        """The same as ``MM:SS``."""
        return f"{self.seconds // 60:02}:{self.seconds % 60:02}"

    @property
    def reply(self) -> dict[str, Any]:
        """The ``replyUrl`` and ``replyRef`` of its request, where it had them."""
        return {name: self.job.request[name] for name in ("replyUrl", "replyRef") if name in self.job.request}

    @property
    def timing(self) -> dict[str, Any]:
        """When it started and for how long it has run, as the older schedulers tell it."""
        return {"started": self.started, "elapsed": self.elapsed}


def look(job: Job, status: str, clock: Clock) -> Seen:
    """Return ``job`` as it is seen now, with that status."""
    return Seen(job, job.row, status, clock)


@dataclass(frozen=True, slots=True)
class Shown:
    """One account with its listed jobs at one moment."""

    id: str
    limit: int
    health: str
    jobs: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What a load endpoint tells about: a site's accounts and their listed jobs."""

    row: Service
    accounts: tuple[Shown, ...]
    query: Mapping[str, str]
    """Of the request."""

    @property
    def jobs(self) -> Iterator[Seen]:
        """Every job of every account."""
        return (job for account in self.accounts for job in account.jobs)

    @property
    def busy(self) -> Iterator[Shown]:
        """The accounts on which something runs."""
        return (account for account in self.accounts if account.jobs)
