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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from balancer.ledger import Ledger
from balancer.model import Listing
from balancer.tally import AMBIGUOUS, BOUND, Key, Row

LISTS_TO_RECLAIM = 2


@dataclass(slots=True)
class Plan:
    """What to do about a list."""

    external: Mapping[str, int] = field(default_factory=dict)
    bind: list[tuple[Row, str]] = field(default_factory=list)
    """Ambiguous leases whose job was found by its ``replyRef``."""
    prolong: list[Row] = field(default_factory=list)
    """Bound leases whose job still runs."""
    reclaim: list[Row] = field(default_factory=list)
    """Bound leases whose job is gone."""
    resolve: list[Row] = field(default_factory=list)
    """Ambiguous leases for which no job is left."""
    keep: list[Row] = field(default_factory=list)
    """Bound and ambiguous leases that stay."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was live when a list was asked for."""

    requested_at: float
    nameless: Mapping[Key, str]
    """Unbound and ambiguous leases -> their account."""
    live: Mapping[str, int]
    """Account -> leases of any state."""

    @staticmethod
    def of(ledger: Ledger, now: float) -> Snapshot:
        """Take the snapshot of a ledger."""
        nameless = {key: row.tally.id for key, row in ledger.rows.items() if row.state != BOUND}
        return Snapshot(now, nameless, Counter(row.tally.id for row in ledger.rows.values()))


def match(
    listing: Listing, before: Snapshot, ledger: Ledger, interval: float, text: Callable[[Key], str]
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
    since = before.requested_at - interval
    listed, found, left = _sort_jobs(listing, ledger, plan, text, since)
    for row in ledger.rows.values():
        if row.state == BOUND:
            _review_bound(row, row in listed, listing.complete and row.state_since <= since, plan)
    for account, rows in _in_doubt(ledger, found).items():
        jobs_left = left[account] + listing.counts.get(account, 0)
        _review_doubtful(rows, jobs_left, since if listing.complete else -math.inf, plan)
    plan.external = _external(listing, before, ledger, found, left)
    return plan


def _sort_jobs(
    listing: Listing, ledger: Ledger, plan: Plan, text: Callable[[Key], str], since: float
) -> tuple[set[Row], set[Key], Counter[str]]:
    """Return the bound leases that are listed, the others found by reference, and what is left over."""
    by_ref = {text(key): row for key, row in ledger.rows.items()}
    listed: set[Row] = set()
    found: set[Key] = set()
    left: Counter[str] = Counter()
    for job in listing.jobs:
        row = ledger.jobs.get(job.id or "") or by_ref.get(job.ref or "")
        if row is None:
            if job.account is not None and ledger.done.get(job.id or "", -math.inf) < since:
                left[job.account] += 1
        elif row.state == BOUND:
            listed.add(row)
        else:
            found.add(row.key)
            if row.state == AMBIGUOUS and job.id is not None:
                plan.bind.append((row, job.id))
    return listed, found, left


def _review_bound(row: Row, listed: bool, had_its_time: bool, plan: Plan) -> None:
    if listed:
        row.missed = 0
        plan.prolong.append(row)
    elif had_its_time:
        row.missed += 1
    (plan.reclaim if row.missed >= LISTS_TO_RECLAIM else plan.keep).append(row)


def _in_doubt(ledger: Ledger, found: set[Key]) -> dict[str, list[Row]]:
    """Return the ambiguous leases that no reference explains, by account, oldest first."""
    doubtful: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(ledger.rows.values(), key=lambda row: row.state_since):
        if row.state == AMBIGUOUS and row.key not in found:
            doubtful[row.tally.id].append(row)
    return doubtful


def _review_doubtful(rows: list[Row], jobs_left: int, since: float, plan: Plan) -> None:
    """As many stay as there are jobs that could be theirs; of the others, those that had their time end."""
    spare = len(rows) - jobs_left
    for row in rows:
        ends = spare > 0 and row.state_since <= since
        (plan.resolve if ends else plan.keep).append(row)
        spare -= ends


def _external(
    listing: Listing, before: Snapshot, ledger: Ledger, found: set[Key], left: Counter[str]
) -> Mapping[str, int]:
    """External = max(0, jobs without a match - leases of unknown job that were live at the request)."""
    unexplained = Counter(left)
    for key, account in before.nameless.items():
        row = ledger.rows.get(key)
        if key not in found and (row is None or row.state != BOUND):
            unexplained[account] -= 1
    for account, running in listing.counts.items():
        unexplained[account] = running - before.live.get(account, 0)
    return {account: jobs for account, jobs in unexplained.items() if jobs > 0}
