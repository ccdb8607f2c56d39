"""From a request to an answer: which service is meant, what is asked, and what the book says to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from balancer.clock import Clock
from balancer.testing import refusals
from balancer.testing.book import Book
from balancer.testing.callbacks import Callbacks
from balancer.testing.creates import Creates
from balancer.testing.entries import entry
from balancer.testing.faults import Answer, Faults, answer
from balancer.testing.shapes import lists_of, shape_of, told
from balancer.testing.sites import Site, Sites
from balancer.testing.views import Shown, View, look
from balancer.testing.wire import Request


class App:
    """Answers requests. Mutable: only the count of them; the book and the faults keep their own state."""

    def __init__(
        self,
        book: Book,
        sites: Sites,
        faults: Faults,
        callbacks: Callbacks,
        clock: Clock,
        *,
        token: str,
        omit: Collection[str],
    ) -> None:
        self._book, self._faults, self._callbacks, self._clock = book, faults, callbacks, clock
        self._sites = sites
        self._bearer, self._omit = f"Bearer {token}", omit
        self._lock = threading.Lock()
        self.creates = Creates(book, faults, callbacks, clock)
        self.requests: Counter[str] = Counter()

    def __call__(self, request: Request) -> Answer:
        """Carry out one request, unless a fault takes its place."""
        path = urlsplit(request.target).path
        fault = self._faults.take(request.method, unquote(path))
        self._count(request.method, path)
        if fault is None:
            return self._authorized(request, path, empty=False)
        if fault.replaces:
            return fault.scripted()
        return fault.onto(self._authorized(request, path, empty=fault.empty))

    def _count(self, method: str, path: str) -> None:
        head, _, last = path.rpartition("/")
        found, last = self._sites.locate(path), unquote(last)
        named = self._book.job(last) or (found and self._book.account(found[0].name, last))
        with self._lock:
            self.requests[f"{method} {head}/*" if named else f"{method} {path}"] += 1

    def _authorized(self, request: Request, path: str, *, empty: bool) -> Answer:
        given = request.headers.get("authorization")
        if given is None:
            return answer(401, {"error": "Unauthorized"})
        if given != self._bearer:
            return refusals.error(401, "Unauthorized")
        found = self._sites.locate(path)
        if found is None:
            return refusals.error(404, "Not found")
        return self._routed(*found, request, empty=empty)

    def _routed(self, site: Site, below: str, request: Request, *, empty: bool) -> Answer:
        query = dict(parse_qsl(urlsplit(request.target).query))
        if request.method == "GET":
            return self._get(site, below, query, empty=empty)
        if request.method == "DELETE" and not _is_accounts(site, below):
            return self._delete(below)
        if request.method == "POST" and not _is_accounts(site, below):
            return self.creates(site, below, query, request)
        return refusals.error(405, "The stand-in offers no such request")

    def _get(self, site: Site, below: str, query: Mapping[str, str], *, empty: bool) -> Answer:
        if below == site.row.accounts:
            return self._accounts(site, empty=empty)
        if _is_accounts(site, below):
            return self._account(site, unquote(below[len(site.row.accounts) + 1 :]))
        if below in lists_of(site.row):
            return self._load(site, below, query, empty=empty)
        if site.name == "riffusion" and below == "music":
            return self._song(site, query)
        return self._status(unquote(below.rpartition("/")[2]))

    def _load(self, site: Site, below: str, query: Mapping[str, str], *, empty: bool) -> Answer:
        view = self._view(site, query, empty=empty)
        none = None if view.accounts or empty else refusals.no_load(site)
        return none or answer(200, lists_of(site.row)[below](view))

    def _accounts(self, site: Site, *, empty: bool) -> Answer:
        accounts = () if empty else self._book.accounts(site.name)
        if not accounts:
            return answer(200, {}) if empty else refusals.no_accounts(site)
        running = {shown.id: len(shown.jobs) for shown in self._view(site, {}, empty=False).accounts}
        return answer(200, {account.id: entry(site, account, running[account.id]) for account in accounts})

    def _account(self, site: Site, account: str) -> Answer:
        found = self._book.account(site.name, account)
        if found is None:
            return refusals.unknown(site, account)
        fields = entry(site, found, len(self._book.running(site.name, account)))
        if site.name == "riffusion":
            fields.pop("error", None)
        if site.name == "flowmusic" and found.reason is None:
            fields |= {"credits_remaining": 5000, "tokens_remaining": 60000}
        return answer(200, fields)

    def _view(self, site: Site, query: Mapping[str, str], *, empty: bool) -> View:
        standings = () if empty else self._book.standings(site, self._omit)
        shown = (
            Shown(
                one.id,
                one.limit,
                one.reason or "OK",
                tuple(look(job, "running", self._clock) for job in one.jobs),
            )
            for one in standings
        )
        return View(site.row, tuple(shown), query)

    def _song(self, site: Site, query: Mapping[str, str]) -> Answer:
        if len(self._book.accounts(site.name)) > 1 and "user_id" not in query:
            return refusals.error(400, "Parameter user_id is required: several accounts are configured")
        job = self._book.job(query.get("id", ""))
        return answer(
            200, [told(job, self._clock)] if job and job.account == query.get("user_id", job.account) else []
        )

    def _status(self, job_id: str) -> Answer:
        job = self._book.job(job_id)
        if job is None:
            return refusals.error(404, "Job not found")
        if shape_of(job.service).poll_404 and job.status(self._clock.now()) == "running":
            return refusals.error(404, "Not ready yet")
        return answer(200, told(job, self._clock))

    def _delete(self, below: str) -> Answer:
        job = self._book.job(unquote(below.rpartition("/")[2]))
        if job is None or not job.at(self._clock.now()):
            return refusals.error(404, "Job not found")
        untracked = below.startswith("scheduler/")
        self._book.end(job, None if untracked else "failed", cancelled=True)
        if not untracked:
            self._callbacks.plan_final(job)
        return answer(204)


def _is_accounts(site: Site, below: str) -> bool:
    return below == site.row.accounts or below.startswith(site.row.accounts + "/")
