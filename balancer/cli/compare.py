"""The server's list of running jobs beside the leases in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from balancer import Holder, Job, JobList, PoolStats


@dataclass(frozen=True)
class Line:
    """One account, both ways. None: the server does not tell."""

    account: str
    capacity: int | None
    listed: int | None
    """Jobs that the server lists."""
    leases: int
    """Live leases, unbound ones included."""
    not_listed: int | None
    """Leases bound to a job that the server does not list: stuck, or its list is late."""
    not_leased: int | None
    """Listed jobs that are nobody's lease."""
    state: str


def compared(stats: PoolStats, held: Collection[Holder], job_list: JobList | None) -> list[Line]:
    """Return a line for each account that is configured, leased or listed."""
    listed = None if job_list is None else _listed(job_list)
    accounts = {**stats.accounts, **dict.fromkeys(listed or ())}
    return [
        Line(
            account=id,
            capacity=stats.accounts[id].capacity if id in stats.accounts else None,
            listed=None if listed is None else listed[id],
            leases=sum(1 for holder in held if holder.account == id),
            not_listed=None if job_list is None else _count(_not_listed(held, job_list), id),
            not_leased=None if job_list is None else _count(_not_leased(held, job_list), id),
            state=stats.accounts[id].state if id in stats.accounts else "not configured",
        )
        for id in accounts
    ]


def _listed(job_list: JobList) -> Counter[str]:
    named = Counter(job.account for job in job_list.jobs if job.account is not None)
    return named + Counter(job_list.counts)


def _not_listed(held: Collection[Holder], job_list: JobList) -> Iterator[Holder]:
    running = {job.id for job in job_list.jobs}
    return (one for one in held if one.job_id is not None and one.job_id not in running)


def _not_leased(held: Collection[Holder], job_list: JobList) -> Iterator[Job]:
    jobs, leases = {holder.job_id for holder in held}, {holder.id for holder in held}
    return (job for job in job_list.jobs if job.id not in jobs and job.ref not in leases)


def _count(found: Iterator[Holder] | Iterator[Job], account: str) -> int:
    return sum(1 for one in found if one.account == account)
