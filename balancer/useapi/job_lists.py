"""Reading a service's list of running jobs, as its row describes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from balancer.errors import InvalidConfiguration
from balancer.models import MAX_CAPACITY, Job, JobList
from balancer.services.schema import JobsEndpoint, Service
from balancer.useapi.json_access import field, first, folded, identifier, kind


class _Spot(NamedTuple):
    """A place in a body, and what the keys on the way to it said."""

    value: Any
    account: str | None = None
    job: str | None = None


def job_list(body: object, service: Service) -> JobList:
    """Return the jobs that a load answer lists.

    Rows that cannot be read are passed over; a list that has any, or has no rows where they belong,
    is not ``complete``: a job that it does not name may still run.

    Raises:
        InvalidConfiguration: it is no list of jobs at all.
    """
    load = service.load
    if load is None:
        return JobList(complete=False)
    if not any(_fits(body, path) for path in load.rows or (load.counts or "",)):
        raise InvalidConfiguration(f"the list of running jobs is {kind(body)} that has no such list in it")
    found = [_rows(body, path) for path in load.rows]
    jobs = [_job(spot, load) for spots, _ in found for spot in spots]
    named = Counter(folded(job.account) for job in jobs if job and job.account)
    counts = {
        id: number
        for id, number in _counts(body, load)
        if number > named[folded(id)] or not named[folded(id)]
    }
    readable = all(job and job.id for job in jobs) and any(complete for _, complete in found)
    return JobList(tuple(_of_kind(jobs, load)), counts, load.covers and readable)


def _fits(body: object, path: str) -> bool:
    """Return whether ``body`` can be what the path is about. An empty one can: all is optional."""
    if isinstance(body, list):
        return not path or not body
    if not isinstance(body, Mapping):
        return False
    name = path.split(".", maxsplit=1)[0].casefold()
    if name in ("*", "#"):
        return not body or any(value is None or isinstance(value, Mapping | list) for value in body.values())
    return not body or any(isinstance(key, str) and key.casefold() == name for key in body)


def _rows(body: object, path: str) -> tuple[list[_Spot], bool]:
    """Return the rows at a path, and whether every place on the way there was what it should be."""
    spots, complete = _walk(body, path)
    if path.endswith("#"):
        return spots, complete
    lists = [spot for spot in spots if isinstance(spot.value, list)]
    rows = [_Spot(row, spot.account) for spot in lists for row in spot.value]
    return rows, complete and len(lists) == len(spots)


def _walk(body: object, path: str) -> tuple[list[_Spot], bool]:
    spots, complete = [_Spot(body)], True
    for name in path.split(".") if path else ():
        maps = [spot for spot in spots if isinstance(spot.value, Mapping)]
        complete = complete and len(maps) == len(spots)
        spots = [step for spot in maps for step in _step(spot, name)]
    return spots, complete


def _step(spot: _Spot, name: str) -> Iterator[_Spot]:
    if name == "*":
        yield from (_Spot(value, identifier(key)) for key, value in spot.value.items())
    elif name == "#":
        yield from (_Spot(value, spot.account, identifier(key)) for key, value in spot.value.items())
    else:
        yield _Spot(field(spot.value, name), spot.account)


def _job(spot: _Spot, load: JobsEndpoint) -> Job | None:
    """Return the job of a row, or None if the row tells neither its id nor its account."""
    id = spot.job or identifier(spot.value) or first(spot.value, load.job)
    account = first(spot.value, load.account) or spot.account or _account_in(id, load)
    return Job(id, account, first(spot.value, (load.ref,))) if id or account else None


def _account_in(id: str | None, load: JobsEndpoint) -> str | None:
    found = re.search(load.account_in_id, id) if id and load.account_in_id else None
    return found.group(1) if found else None


def _of_kind(jobs: Iterable[Job | None], load: JobsEndpoint) -> Iterator[Job]:
    """Yield the jobs of this row's kind, each id once."""
    seen: set[str] = set()
    for job in jobs:
        if job is None or job.id in seen or (load.only and not re.search(load.only, job.id or "")):
            continue
        if job.id:
            seen.add(job.id)
        yield job


def _counts(body: object, load: JobsEndpoint) -> Iterator[tuple[str, int]]:
    for spot in _walk(body, load.counts)[0] if load.counts else ():
        number = identifier(spot.value)
        if spot.account and number and number.isdecimal():
            yield spot.account, min(int(number), MAX_CAPACITY)
