"""What one process does for all: fetching the configuration, and reading the server's list of jobs.

Whoever claims it from the store does it; the others take over what it brought. Everything in here runs
in a thread of its own that may block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from balancer import errors
from balancer.errors import BalancerError, SourceError, SourceUnavailable, StoreUnavailable
from balancer.models import AccountTable, JobList
from balancer.rules.freshness import BELIEVED, FETCH_DEADLINE, RECONCILE_DEADLINE
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.operations import (
    Apply,
    Claim,
    Claimed,
    Configure,
    Configured,
    Fail,
    FleetTask,
    Operation,
    ReadAll,
    ReadTable,
    State,
)
from balancer.rules.reconciliation import Plan, Snapshot, reconcile_jobs
from balancer.rules.records import BOUND
from balancer.stores.backend_client import PATIENCE

_ASK_AGAIN = 0.1
"""Seconds after which to ask whether somebody else has finished."""
_MOST_PAUSE = 30.0
_TRIES = 3
"""How often what was asked of the source is put into effect if the store has changed under it."""


class FleetTasks:
    """The claims of this process. Mutable: how many it holds, and how often it has failed in a row.

    Args:
        call: Carries out an operation, trying again for so many seconds while the store is away.
        ledger: What the store holds -> the same by this process's clock.
        now: That clock.
        keep_alive: Has the store told that this process lives, as long as it holds a claim.
        on_reconciled: Takes in what a list of jobs came to: the plan, and the ids of the leases that ended.
    """

    def __init__(
        self,
        *,
        call: Callable[[Operation, float], Any],
        ledger: Callable[[State], Ledger],
        now: Callable[[], float],
        keep_alive: Callable[[], None],
        on_reconciled: Callable[[Plan, frozenset[str]], None],
    ) -> None:
        self._call, self._ledger, self._now = call, ledger, now
        self._keep_alive, self._on_reconciled = keep_alive, on_reconciled
        self._failures = 0
        self._lock = threading.Lock()
        self.claims = 0

    # -- the configuration ------------------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], max_age: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        try:
            for _ in range(_TRIES):
                claimed = self._claim("fetch", max_age, FETCH_DEADLINE)
                if claimed is None:
                    return SourceUnavailable("another process is still fetching the configuration"), 0.0
                if claimed.trouble is not None:
                    return _again(claimed), 0.0
                if not claimed.go:
                    if (found := self._read()) is not None:
                        return replace(found.table, version=found.version), found.age
                elif (outcome := self._fetch_for_all(claimed.number, ask)) is not None:
                    return outcome, 0.0
        except StoreUnavailable as error:
            return error.with_traceback(None), 0.0
        return SourceUnavailable("the store keeps losing the configuration"), 0.0

    def _fetch_for_all(
        self, number: int, ask: Callable[[], AccountTable | BalancerError]
    ) -> AccountTable | BalancerError | None:
        with self._at_work():
            outcome = ask()
        if isinstance(outcome, BalancerError):
            self._failed("fetch", number, outcome)
            return outcome
        self._failures = 0
        for _ in range(_TRIES):
            known = self._read()
            base, table = (known.version, known.table) if known else (0, None)
            changes = Changes.between(table, outcome)
            version = self._do(Configure(number, base, outcome, changes.put, changes.gone))
            if version is not None:
                return replace(outcome, version=version)
        return None

    def _read(self) -> Configured | None:
        configured: Configured | None = self._do(ReadTable())
        return configured

    def _do(self, operation: Operation) -> Any:
        # What was fetched is worth some patience, and so is a claim that would be in everybody's way.
        return self._call(operation, PATIENCE)

    # -- the server's list --------------------------------------------------------------------------

    def reconcile(
        self,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        max_age: float,
    ) -> Plan | BalancerError:
        """Compare the server's list with the store; an empty plan if somebody else has just done so."""
        try:
            for _ in range(_TRIES):
                claimed = self._claim("survey", max_age, RECONCILE_DEADLINE)
                if claimed is None:
                    return SourceUnavailable("another process is still reading the list of jobs")
                if not claimed.go:
                    return Plan() if claimed.trouble is None else _again(claimed)
                plan = self._reconcile_for_all(claimed.number, ask, wanted, interval)
                if plan is not None:
                    return plan
        except StoreUnavailable as error:
            return error.with_traceback(None)
        return SourceUnavailable("the list of jobs was overtaken by another one")

    def _reconcile_for_all(
        self,
        number: int,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
    ) -> Plan | BalancerError | None:
        before = Snapshot.of(self._ledger(self._do(ReadAll())), self._now())
        with self._at_work():
            listing = ask()
        if not isinstance(listing, BalancerError) and not wanted():
            listing = SourceUnavailable("the list of jobs came too late")
        if isinstance(listing, BalancerError):
            self._failed("survey", number, listing)
            return listing
        ledger = self._ledger(self._do(ReadAll()))
        missed = {record.key: record.missed for record in ledger.records.values() if record.state is BOUND}
        plan = reconcile_jobs(listing, before, ledger, interval, str)
        changed = {
            str(key): ledger.records[key].missed
            for key, count in missed.items()
            if ledger.records[key].missed != count
        }
        age = self._now() - before.requested_at
        ended: tuple[str, ...] | None = self._do(_applied(number, plan, changed, age))
        if ended is None:
            return None
        self._on_reconciled(plan, frozenset(ended))
        return plan

    # -- claims -------------------------------------------------------------------------------------

    def _claim(self, what: FleetTask, max_age: float, hold: float) -> Claimed | None:
        """Return a claim that is settled: ours, done by somebody else, or failed. None: it takes too long."""
        begun, waited = time.monotonic(), 0.0
        while waited < hold:
            # What was done since we began to ask is as fresh as anybody could want.
            claimed: Claimed = self._call(Claim(what, max(max_age, waited), hold), 0.0)
            if claimed.go or claimed.trouble is not None or claimed.retry_in <= 0:
                return claimed
            time.sleep(min(claimed.retry_in, _ASK_AGAIN))
            waited = time.monotonic() - begun
        return None

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have the store told that this process lives while it holds a claim."""
        with self._lock:
            self.claims += 1
        self._keep_alive()
        try:
            yield
        finally:
            with self._lock:
                self.claims -= 1

    def _failed(self, what: FleetTask, number: int, error: BalancerError) -> None:
        asked = error.retry_after if isinstance(error, SourceError) else None
        pause = 0.0
        if what == "fetch":
            pause = max(min(asked or 0.0, BELIEVED), min(_MOST_PAUSE, 2.0 ** min(self._failures, 10)))
            self._failures += 1
        self._do(Fail(what, number, type(error).__name__, str(error), pause))


def _applied(number: int, plan: Plan, missed: dict[str, int], age: float) -> Apply:
    return Apply(
        number=number,
        external=plan.external,
        listed=tuple(
            (job_id, job.account, "" if job.lease is None else str(job.lease))
            for job_id, job in plan.listed.items()
        ),
        age=age,
        bind=tuple((str(record.key), job_id) for record, job_id in plan.bind),
        prolong=tuple(str(record.key) for record in plan.prolong),
        reclaim=tuple(str(record.key) for record in plan.reclaim),
        resolve=tuple(str(record.key) for record in plan.resolve),
        missed=missed,
    )


def _again(claimed: Claimed) -> BalancerError:
    """Return the error that another process has met."""
    kind, text = claimed.trouble or ("SourceUnavailable", "")
    found = getattr(errors, kind, SourceUnavailable)
    if not (isinstance(found, type) and issubclass(found, BalancerError)):
        found = SourceUnavailable
    error = found(text)
    if isinstance(error, SourceError):
        error.retry_after = claimed.retry_in or None
    return error
