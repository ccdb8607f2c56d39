"""What the stand-in saw: the values of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One job that took an account over its maximum."""

    service: str
    account: str
    running: int
    """Jobs that ran on it from then on, this one included."""
    limit: int
    """The account's own maximum at that moment."""
    cause: str
    """``create``; ``override`` if the request's own ``maxJobs`` allowed it; ``stranger``."""


@dataclass(frozen=True, slots=True)
class AccountAudit:
    """One account of one service, from the start to now."""

    peak: int = 0
    """Most jobs that ever ran at once, strangers included."""
    limit: int = 0
    """Its maximum at the moment of the peak."""
    accepted: int = 0
    """Creates that became jobs here."""
    picked: int = 0
    """Those of them for which the server chose the account."""
    refused: int = 0
    """Creates that named it and were answered 429 because it was full."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything counted so far."""

    accounts: Mapping[str, Mapping[str, AccountAudit]]
    """Service key -> account id -> what happened there."""
    over: tuple[Violation, ...]
    """Every time an account had more jobs running than its maximum, in order."""
    accepted: int
    """Creates that became jobs."""
    refused: int
    """Creates answered 429 because no slot was free."""
    refused_other: int
    """Creates turned away for any other reason, scripted faults aside."""
    requests: Mapping[str, int]
    """``"GET /v1/flowmusic/accounts"`` -> requests; an id in a path is written ``*``."""

    @property
    def clean(self) -> bool:
        """Whether no plain create ever took an account over its maximum."""
        return not any(violation.cause == "create" for violation in self.over)
