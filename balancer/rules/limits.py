"""What a 429 teaches about an account: how many jobs it really bears, and when to try one more.

``maxJobs`` is what the customer wrote down. The site may run fewer (its plan; jobs started on the website),
and says so only by refusing. So an account that has refused gets a *limit*: the number of jobs that ran on it
then. Now and then one job more is let in, a *trial*: if it is taken, the limit is one more.

Everything in here is arithmetic on one small value. Who asks brings ``now`` and how many jobs run, and puts
the returned limit in the place of the old one; None is an account without a limit.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

FIRST_WAIT = 60.0
"""Seconds from a limit's last change or refusal to the next trial, as long as none was refused."""
LONGEST_WAIT = 7200.0
"""Seconds to which refused trials can draw that out, each doubling it."""


class Limit(NamedTuple):
    """How many jobs an account has been seen to bear, though it says that it takes more."""

    jobs: int
    """At least 1, and fewer than the account's capacity."""
    next_trial_at: float
    """When a trial becomes due, unless one is under way then."""
    wait: float = FIRST_WAIT
    """Seconds from what happens next to the trial after it."""
    trial: Hashable = None
    """Key of the lease that is the trial under way; None: there is none."""
    due: bool = False
    """A trial is due, and stays so until a job is granted at the limit."""


def bound(capacity: int, limit: Limit | None, *, may_try: bool = True) -> int:
    """Return how many jobs may run for this decision. ``may_try``: the next one may be a trial."""
    if limit is None:
        return capacity
    return min(capacity, limit.jobs + (may_try and limit.due))


def refused(limit: Limit | None, capacity: int, others: int, now: float) -> Limit | None:
    """Learn from a job, no trial, that was refused while ``others`` ran. A refusal never raises a limit.

    With no others there is nothing to learn about how many go together: the limit stays as it was.
    """
    jobs = min(others or capacity, capacity if limit is None else limit.jobs)
    if jobs >= capacity:
        return None
    return Limit(jobs, now + FIRST_WAIT) if limit is None else _again(limit._replace(jobs=jobs), now)


def trial_refused(limit: Limit, now: float) -> Limit:
    """Learn from a trial that was refused: nothing new, but to wait twice as long for the next."""
    return _over(limit._replace(wait=min(LONGEST_WAIT, 2 * limit.wait)), now)


def trial_accepted(limit: Limit, capacity: int, now: float) -> Limit | None:
    """Learn from a trial whose job was taken: one more. At the capacity no limit is left."""
    return Limit(limit.jobs + 1, now + FIRST_WAIT) if limit.jobs + 1 < capacity else None


def trial_over(limit: Limit, now: float) -> Limit:
    """Learn nothing from a trial that ended without an answer to its question; another comes later."""
    return _over(limit, now)


def granted(limit: Limit, key: Hashable, running: int) -> Limit:
    """Have the job ``key``, granted while ``running`` others ran, be the trial if one is due at the limit."""
    return limit._replace(trial=key, due=False) if limit.due and running >= limit.jobs else limit


def time_passed(limit: Limit, now: float) -> Limit:
    """Have a trial be due if its time has come."""
    return limit._replace(due=True) if limit.trial is None and now >= limit.next_trial_at else limit


def due_at(limit: Limit | None) -> float:
    """Return when a trial becomes due by itself; infinity: nothing is to be waited for."""
    return math.inf if limit is None or limit.due or limit.trial is not None else limit.next_trial_at


def _again(limit: Limit, now: float) -> Limit:
    """Have the wait begin again, at its present length."""
    return limit._replace(next_trial_at=now + limit.wait, due=False)


def _over(limit: Limit, now: float) -> Limit:
    return _again(limit._replace(trial=None), now)
