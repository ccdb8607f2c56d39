"""What the server's list of running jobs means for our leases. Pure.

Jobs are matched by id, then by the ``replyRef`` that carries the lease's id. What is left over on
an account belongs first to leases whose job we do not know by name (unbound and ambiguous ones that
were live when the list was asked for), and beyond those to somebody else: external jobs.

The list may lag behind. So a lease ends only if its job is missing from two lists in a row and had
one interval to appear, and a job that we ended a moment ago is not counted as somebody else's.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from balancer.models import Job, JobList
from balancer.rules.ledger import Ledger
from balancer.rules.records import AMBIGUOUS, BOUND, Key, LeaseRecord, ListedJob
from balancer.useapi.json_access import folded

LISTS_TO_RECLAIM = 2


class Plan:
    """What to do about a list; at first nothing."""

    def __init__(self) -> None:
        self.external: Mapping[str, int] = {}
        self.listed: Mapping[str, ListedJob] = {}
        """Jobs that no lease is bound to, by id, as far as the list tells where they run."""
        self.bind: list[tuple[LeaseRecord, str]] = []
        """Ambiguous leases whose job was found by its ``replyRef``."""
        self.prolong: list[LeaseRecord] = []
        """Bound leases whose job still runs."""
        self.reclaim: list[LeaseRecord] = []
        """Bound leases whose job is gone."""
        self.resolve: list[LeaseRecord] = []
        """Ambiguous leases for which no job is left."""
        self.keep: list[LeaseRecord] = []
        """Bound and ambiguous leases that stay."""


class Snapshot(NamedTuple):
    """What was live when a list was asked for."""

    requested_at: float
    nameless: Mapping[Key, str]
    """Unbound and ambiguous leases -> their account."""
    live: Mapping[str, int]
    """Account -> leases of any state."""

    @staticmethod
    def of(ledger: Ledger, now: float) -> Snapshot:
        """Take the snapshot of a ledger."""
        nameless = {
            key: record.account_state.id for key, record in ledger.records.items() if record.state != BOUND
        }
        return Snapshot(now, nameless, Counter(record.account_state.id for record in ledger.records.values()))


def reconcile_jobs(
    listing: JobList, before: Snapshot, ledger: Ledger, interval: float, text: Callable[[Key], str]
) -> Plan:
    """Compare a list with the ledger.

    Args:
        listing: What the server says is running.
        before: What was live when the list was asked for.
        ledger: What is live now. Rows' counts of lists missed are brought up to date in it.
        interval: Seconds between two reconciliations.
        text: The id that a key is known by outside.
    """
    plan = Plan()
    listing = _as_configured(listing, ledger.account_states)
    since = before.requested_at - interval
    jobs = _sort_jobs(listing, ledger, plan, text, since)
    for record in ledger.records.values():
        if record.state == BOUND:
            covered = listing.complete and not listing.counts.get(record.account_state.id)
            _review_bound(record, record in jobs.listed, covered and record.state_since <= since, plan)
    for account, records in _in_doubt(ledger, jobs.found).items():
        jobs_left = jobs.left[account] + jobs.left[None] + listing.counts.get(account, 0)
        _review_doubtful(records, jobs_left, since if listing.complete else -math.inf, plan)
    plan.external = _external(listing, before, ledger, jobs, text)
    plan.listed = jobs.unbound
    return plan


def _as_configured(listing: JobList, known: Collection[str]) -> JobList:
    """Return the list with each account spelled as in the configuration, where that can only be one.

    A vendor may list ``Ann@example.com`` where it has ``ann@example.com`` connected: a job on an account
    that nobody knows would be nobody's, its slot given out again, and its lease ended.
    """
    strange = {job.account for job in listing.jobs if job.account} | set(listing.counts)
    strange -= set(known)
    if not strange:
        return listing
    spellings: dict[str, list[str]] = defaultdict(list)
    for id in known:
        spellings[folded(id)].append(id)
    meant = {id: spellings[folded(id)][0] for id in strange if len(spellings[folded(id)]) == 1}
    counts: Counter[str] = Counter()
    for id, number in listing.counts.items():
        counts[meant.get(id, id)] += number
    jobs = tuple(replace(job, account=meant.get(job.account or "", job.account)) for job in listing.jobs)
    return JobList(jobs, counts, listing.complete)


class _Sorted:
    """The listed jobs, by whose they are."""

    def __init__(self) -> None:
        self.listed: set[LeaseRecord] = set()
        """Bound leases whose job is listed."""
        self.found: set[Key] = set()
        """Other leases that the reference of a job names."""
        self.unbound: dict[str, ListedJob] = {}
        """Jobs that no lease is bound to, on accounts that are known."""
        self.left: Counter[str | None] = Counter()
        """Account -> jobs of no lease; None: the list does not tell where they run."""
        self.refs: set[str] = set()
        """The references of those jobs."""


def _sort_jobs(
    listing: JobList, ledger: Ledger, plan: Plan, text: Callable[[Key], str], since: float
) -> _Sorted:
    by_ref = {text(key): record for key, record in ledger.records.items()}
    result = _Sorted()
    for number, job in enumerate(_distinct(listing.jobs)):
        id = job.id or f"#{number}"
        record = ledger.jobs.get(job.id or "") or by_ref.get(job.ref or "")
        if record is None:
            if ledger.done.get(job.id or "", -math.inf) < since:
                result.left[job.account] += 1
                result.refs |= {job.ref} if job.ref else set()
                if job.account:
                    result.unbound[id] = ListedJob(job.account)
        elif record.state == BOUND:
            result.listed.add(record)
        else:
            result.unbound[id] = ListedJob(record.account_state.id, record.key)
            if record.state == AMBIGUOUS and record.key not in result.found:
                _bind_found(record, job.id, plan)
            result.found.add(record.key)
    return result


def _distinct(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield each job once, though a source of somebody's own may list it twice."""
    seen: set[str] = set()
    for job in jobs:
        if job.id is None or job.id not in seen:
            seen.add(job.id or "")
            yield job


def _bind_found(record: LeaseRecord, job_id: str | None, plan: Plan) -> None:
    if job_id is None:
        plan.keep.append(record)
    else:
        plan.bind.append((record, job_id))


def _review_bound(record: LeaseRecord, listed: bool, had_its_time: bool, plan: Plan) -> None:
    if listed:
        record.missed = 0
        plan.prolong.append(record)
    elif had_its_time:
        record.missed += 1
    ends = had_its_time and record.missed >= LISTS_TO_RECLAIM
    (plan.reclaim if ends else plan.keep).append(record)


def _in_doubt(ledger: Ledger, found: set[Key]) -> dict[str, list[LeaseRecord]]:
    """Return the ambiguous leases that no reference explains, by account, oldest first."""
    doubtful: dict[str, list[LeaseRecord]] = defaultdict(list)
    for record in sorted(ledger.records.values(), key=lambda record: record.state_since):
        if record.state == AMBIGUOUS and record.key not in found:
            doubtful[record.account_state.id].append(record)
    return doubtful


def _review_doubtful(records: list[LeaseRecord], jobs_left: int, since: float, plan: Plan) -> None:
    """Of those that had their time, the first, as many stay as there are jobs that could be theirs.

    A younger lease stays anyway, and takes no job from an older one: its own may not be listed yet.
    """
    spare = max(0, sum(record.state_since <= since for record in records) - jobs_left)
    plan.resolve += records[:spare]
    plan.keep += records[spare:]


def _external(
    listing: JobList, before: Snapshot, ledger: Ledger, jobs: _Sorted, text: Callable[[Key], str]
) -> Mapping[str, int]:
    """External = max(0, jobs without a match - leases of unknown job that were live at the request).

    A lease that has ended since, as its process was found dead, explains nothing where a job names it: that
    job runs on, and nobody holds its slot.
    """
    unexplained = Counter(jobs.left)
    for key, account in before.nameless.items():
        record = ledger.records.get(key)
        if record is None and text(key) in jobs.refs:
            continue
        if key not in jobs.found and (record is None or record.state != BOUND):
            unexplained[account] -= 1
    for account, running in listing.counts.items():
        unexplained[account] = running - before.live.get(account, 0)
    return {account: number for account, number in unexplained.items() if account is not None and number > 0}
