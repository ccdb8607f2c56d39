"""The service table: one row per service, and one for each kind with limits of its own.

The wire names of useapi.net live in this package and nowhere else. Every row was read from the
pages that its comment names. Where no page tells, a field keeps its default, so that nothing is sent
or believed that nobody promised. Two answers mean the same everywhere and stand in no row: 412 says
that credits or an allowance are used up, and 5xx leaves open whether the job runs (MiniMax, Google
Vids and Midjourney answer 502 and 504 to jobs that run on, and bill them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balancer.models import FrozenDict
from balancer.services.schema import CancelEndpoint, StatusEndpoint, VerdictRule

DOCS = "https://useapi.net/docs/api-"


def ends(**fields: Any) -> Mapping[str, tuple[Any, ...]]:
    """Return a row's ``final``: field -> the one value, or the tuple of values, that ends a job."""
    return FrozenDict({name: end if isinstance(end, tuple) else (end,) for name, end in fields.items()})


DONE = ends(status=("completed", "failed"))
"""What most services call the end of a job."""

COMPLETED = ends(status="completed")
"""What most services call an end that went well."""

JOBS = (StatusEndpoint(path="jobs/{job}"),)
"""Where most services are asked for a job. Their 404 is a job that is deleted or too old."""

DISCORD_JOBS = (StatusEndpoint(path="jobs/?jobid={job}"),)
DISCORD_CANCEL = CancelEndpoint(path="jobs/cancel/?jobid={job}", method="GET")
DISCORD_ENDS = ends(status=("completed", "moderated", "failed", "cancelled"))
"""The services that work through Discord share their pages' words."""

SUBSCRIPTION = r"no subscription or subscription expired|subscription required"
"""By these words a 402 is known to be about the customer's subscription at useapi.net."""

CREDITS = (
    VerdictRule(status=402, verdict="TOKEN", match=SUBSCRIPTION),
    VerdictRule(status=402, verdict="EXHAUSTED"),
)
"""402 is about the account's credits, unless it speaks of the subscription."""
