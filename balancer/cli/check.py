"""Hold a row against what its service answers, and say what of it the row does not understand.

Names of fields and ids of accounts and jobs are shown, values never: entries hold secrets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from balancer import HttpSource, InvalidConfiguration, Lease, Service
from balancer.services import kinds
from balancer.useapi import following, parsing
from balancer.useapi.http_client import BearerAuth
from balancer.useapi.json_access import field

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen."""

    where: str
    """``accounts``, ``jobs``, ``create`` or ``status``."""
    what: str
    odd: bool = False
    """The row does not understand it."""


def looked(api: HttpSource) -> Iterator[Finding]:
    """Compare the account list and the job list of the server with the row."""
    row = api.service
    accounts = api.fetch(row.accounts)
    yield from of_accounts(accounts, row)
    if row.load is None:
        yield Finding("jobs", "the row names no list of running jobs")
    else:
        yield from of_jobs(api.fetch(row.load.path), row, accounts)


def of_accounts(body: object, row: Service) -> Iterator[Finding]:
    """Say what an account list tells, and what of it the row does not read."""
    try:
        table = parsing.table(body, row, None)
    except InvalidConfiguration as error:
        yield Finding("accounts", str(error), odd=True)
        return
    yield Finding("accounts", f"{len(table)} accounts are listed")
    for account in table.accounts.values():
        if account.broken:
            yield Finding("accounts", f"{account.id} cannot be used: {account.broken}")
    entries = [entry for entry in _values(body) if isinstance(entry, Mapping)]
    if row.capacity and entries and all(field(entry, row.capacity) is None for entry in entries):
        yield Finding(
            "accounts", f"no entry states {row.capacity}, which the row takes for its maximum", odd=True
        )
    known = {row.selector, row.capacity, row.health, *row.error, *row.strings}
    if others := sorted({str(name) for entry in entries for name in entry} - known):
        yield Finding("accounts", f"fields that the row does not read: {_few(others)}")


def of_jobs(body: object, row: Service, accounts: object) -> Iterator[Finding]:
    """Say what a list of running jobs tells, and what of it the row does not read."""
    try:
        listed = parsing.job_list(body, row)
    except InvalidConfiguration as error:
        yield Finding("jobs", str(error), odd=True)
        return
    configured = set(accounts) if isinstance(accounts, Mapping) else set[str]()
    yield Finding("jobs", f"{len(listed.jobs)} jobs of this kind are listed")
    if row.load and row.load.covers and not listed.complete:
        yield Finding(
            "jobs", "some rows of the list cannot be read, so no job is ever called missing", odd=True
        )
    for job in listed.jobs:
        if job.account is None:
            yield Finding("jobs", f"{job.id} names no account", odd=True)
        elif configured and job.account not in configured:
            yield Finding("jobs", f"{job.id} runs on {job.account}, which is no configured account", odd=True)
        named = row.account_of(job.id) if job.id else None
        if named and job.account and named != job.account:
            yield Finding("jobs", f"{job.id} names {named}, its row of the list {job.account}", odd=True)
        if job.id and following.status_path(row, job.id) is None:
            yield Finding("jobs", f"the row does not say where {job.id} is asked for", odd=True)


def of_create(path: str, status: int, body: object, row: Service) -> Iterator[Finding]:
    """Say what the answer to a create tells."""
    if following.created_by(kinds(row), path) is not row:
        yield Finding("create", f"{path} is no create of this kind in the row", odd=True)
    yield Finding("create", f"POST {path} was answered {status} with {_names(body)}")
    if not 200 <= status < 300:
        return
    state = following.outcome(body, row)
    if parsing.job_id(body, row) is None and state == "running":
        where = ", ".join(row.job_id)
        yield Finding("create", f"no job is named where the row looks for one: {where}", odd=True)


def of_status(job: str, status: int, body: object, row: Service) -> Iterator[Finding]:
    """Say what the answer to a question after a job tells."""
    state = following.outcome(body, row, status=status, job=job)
    yield Finding("status", f"{job} was answered {status} with {_names(body)}: {state}")
    if 200 <= status < 300 and not any(_has(body, path) for path in row.final):
        yield Finding(
            "status", f"none of the fields that end a job is there: {', '.join(row.final)}", odd=True
        )
    if state == "succeeded" and row.results and not following.results(body, row):
        yield Finding("status", f"no result stands where the row looks: {', '.join(row.results)}", odd=True)


def tried(api: HttpSource, lease: Lease, path: str, fields: Mapping[str, Any]) -> Iterator[Finding]:
    """Create one job on the account of ``lease``, and ask for it once."""
    row, root = api.service, f"{api.base_url}{api.service.path}"
    with requests.Session() as session:
        session.auth = BearerAuth(api.token.now())
        answer = session.post(f"{root}/{path}", json={**fields, **lease.params}, timeout=(5, 300))
        lease.report(answer)
        body = _json(answer)
        yield from of_create(path, answer.status_code, body, row)
        job = parsing.job_id(body, row)
        if not answer.ok or job is None:
            return
        lease.bind(job)
        status_path = following.status_path(row, job, lease.account.id)
        if status_path is not None:
            time.sleep(row.poll[0])
            answer = session.get(f"{root}/{status_path}", timeout=(5, 30))
            yield from of_status(job, answer.status_code, _json(answer), row)


def _json(answer: requests.Response) -> object:
    try:
        return parsing.body(answer.content, answer.headers.get("Content-Type"))
    except InvalidConfiguration:
        return None


def _values(body: object) -> list[Any]:
    return list(body.values()) if isinstance(body, Mapping) else []


def _has(body: object, path: str) -> bool:
    items = body if isinstance(body, list) else [body]
    name = path.partition(".")[0]
    return any(isinstance(item, Mapping) and field(item, name) is not None for item in items)


def _names(body: object) -> str:
    if isinstance(body, Mapping):
        return f"the fields {_few(sorted(map(str, body)))}"
    return f"an array of {len(body)}" if isinstance(body, list) else "no JSON object"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
