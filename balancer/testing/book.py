"""The book: every account and every job of the stand-in, behind one lock."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing.audit import Violation
from balancer.testing.jobs import Configured, Job, Lane
from balancer.testing.sites import Site

Name = Callable[[str, int, random.Random], str]
"""Makes a job's id from the account, a number and a source of randomness."""


class TurnedDownError(Exception):
    """A create that becomes no job: ``why``, and the account that it is about, if it is about one."""

    def __init__(self, why: str, account: str = "", detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.account = account
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Order:
    """What a create asks for."""

    row: Service
    verb: str
    fields: Mapping[str, Any]
    account: str | None = None
    """The account that it names."""
    limit: int | None = None
    """The maximum that it sets for itself."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One account as the lists show it."""

    id: str
    limit: int
    reason: str | None
    jobs: tuple[Job, ...]


class Book:
    """Mutable: the accounts, the jobs, the counts. Every method is atomic."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        seconds: Callable[[], float],
        *,
        failures: float,
        enforce: bool,
        lag: float,
    ) -> None:
        self._clock, self._rng, self._seconds = clock, rng, seconds
        self._failures, self._enforce, self._lag = failures, enforce, lag
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._sites: dict[str, dict[str, Configured]] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._jobs: dict[str, Job] = {}
        self._over: list[Violation] = []

    def configure(self, site: str, account: str, own: Mapping[str, Any], slots: int | None) -> None:
        """Add an account, or replace what is configured for it. Its jobs run on."""
        with self._lock:
            self._sites.setdefault(site, {})[account] = Configured(account, own, slots)

    def remove(self, site: str, account: str) -> None:
        """Take an account out of the configuration. Its jobs run on. KeyError if it is not there."""
        with self._lock:
            del self._sites[site][account]

    def mark(self, site: str, account: str, reason: str | None) -> None:
        """Break an account for ``reason``, or heal it with None. KeyError if it is not there."""
        with self._lock:
            configured = self._sites[site][account]
            self._sites[site][account] = replace(configured, reason=reason)

    def accounts(self, site: str) -> tuple[Configured, ...]:
        """Return the accounts of a site in the order of their configuration."""
        with self._lock:
            return tuple(self._sites.get(site, {}).values())

    def account(self, site: str, account: str) -> Configured | None:
        """Return one account, or None."""
        return self._sites.get(site, {}).get(account)

    def start(self, site: str, order: Order, name: Name, veto: Callable[[str], None]) -> Job:
        """Choose an account unless one is named, and start the job there.

        ``veto(account)`` may raise to prevent that. Raises TurnedDownError.
        """
        with self._lock:
            now = self._clock.now()
            chosen = self._named(site, order) if order.account else self._picked(site, order, now)
            veto(chosen.id)
            if chosen.reason is not None:
                raise TurnedDownError("broken", chosen.id, chosen.reason)
            own = chosen.limit(order.row)
            limit = order.limit or own
            lane = self._lane(order.row.key, chosen.id)
            if lane.settle(now) >= limit and self._enforce:
                lane.refused += 1
                raise TurnedDownError("full", chosen.id)
            job = self._job(order.row, chosen.id, order.verb, order.fields, name)
            running = lane.add(job, own, picked=not order.account)
            if running > min(limit, own):
                over = (limit, "create") if running > limit else (own, "override")
                self._over.append(Violation(lane.service, lane.account, running, *over))
            return job

    def stranger(self, site: str, row: Service, account: str, name: Name, *, listed: bool) -> Job:
        """Start a job that no create of ours asked for, even beyond the maximum."""
        with self._lock:
            now = self._clock.now()
            limit = self._sites[site][account].limit(row)
            lane = self._lane(row.key, account)
            lane.settle(now)
            job = self._job(row, account, "elsewhere", {}, name)
            job.listed = listed
            running = lane.add(job, limit, stranger=True)
            if running > limit:
                self._over.append(Violation(lane.service, lane.account, running, limit, "stranger"))
            return job

    def end(self, job: Job, outcome: str | None, *, cancelled: bool = False) -> None:
        """End ``job`` now with that outcome; None only frees its slot and lets it run on."""
        with self._lock:
            now = self._clock.now()
            job.frees = min(job.frees, now)
            if outcome is not None and now < job.ends:
                job.ends, job.outcome, job.cancelled = now, outcome, cancelled
            self._lane(job.service, job.account).hurry(job)

    def job(self, job_id: str) -> Job | None:
        """Return the job of that id, however long ago it ended."""
        return self._jobs.get(job_id)

    def running(self, service: str, account: str | None) -> tuple[Job, ...]:
        """Return what runs now, strangers included."""
        with self._lock:
            now, found = self._clock.now(), list[Job]()
            for lane in self._lanes.values():
                if lane.service == service and account in (None, lane.account):
                    lane.settle(now)
                    found += lane.running.values()
            return tuple(found)

    def standings(self, site: Site, omit: Collection[str]) -> tuple[Standing, ...]:
        """Return each account of a site with its listed jobs, as of ``lag`` seconds ago."""
        with self._lock:
            now = self._clock.now()
            return tuple(
                Standing(one.id, one.limit(site.row), one.reason, self._listed(site, one.id, now, omit))
                for one in self._sites.get(site.name, {}).values()
            )

    def lanes(self) -> tuple[tuple[Lane, ...], tuple[Violation, ...]]:
        """Return every lane and every violation so far."""
        with self._lock:
            return tuple(self._lanes.values()), tuple(self._over)

    def _listed(self, site: Site, account: str, now: float, omit: Collection[str]) -> tuple[Job, ...]:
        lanes = [self._lanes.get((row.key, account)) for row in site.kinds.values() if row.key not in omit]
        jobs = list[Job]()
        for lane in filter(None, lanes):
            lane.settle(now)
            jobs += [job for job in lane.at(now - self._lag) if job.verb not in omit]
        return tuple(jobs)

    def _named(self, site: str, order: Order) -> Configured:
        try:
            return self._sites.get(site, {})[order.account or ""]
        except KeyError:
            raise TurnedDownError("unknown", order.account or "") from None

    def _picked(self, site: str, order: Order, now: float) -> Configured:
        accounts = list(self._sites.get(site, {}).values())
        if not accounts:
            raise TurnedDownError("none")
        if order.row.selector_required and len(accounts) > 1:
            raise TurnedDownError("unnamed")
        healthy = [account for account in accounts if account.reason is None]
        if not healthy:
            raise TurnedDownError("broken", accounts[0].id, accounts[0].reason or "")
        roomy = [account for account in healthy if not self._enforce or self._has_room(account, order, now)]
        if not roomy:
            raise TurnedDownError("all-full")
        return roomy[int(self._rng.random() * len(roomy))]

    def _has_room(self, account: Configured, order: Order, now: float) -> bool:
        count = self._lane(order.row.key, account.id).settle(now)
        return count < (order.limit or account.limit(order.row))

    def _lane(self, service: str, account: str) -> Lane:
        key = (service, account)
        try:
            return self._lanes[key]
        except KeyError:
            return self._lanes.setdefault(key, Lane(service, account, self._lag))

    def _job(self, row: Service, account: str, verb: str, fields: Mapping[str, Any], name: Name) -> Job:
        now = self._clock.now()
        ends = now + self._seconds()
        job = Job(
            id=name(account, next(self._numbers), self._rng),
            row=row,
            account=account,
            verb=verb,
            request=fields,
            started=now,
            ends=ends,
            frees=ends,
            outcome="failed" if self._rng.random() < self._failures else "completed",
        )
        self._jobs[job.id] = job
        return job
