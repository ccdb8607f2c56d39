"""Creates: from what a request asks for to a job, or to the reason why there is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing import refusals
from balancer.testing.book import Book, Order, TurnedDownError
from balancer.testing.callbacks import Callbacks, on_loopback
from balancer.testing.faults import Answer, Faults, Struck, answer
from balancer.testing.jobs import Job
from balancer.testing.shapes import shape_of
from balancer.testing.sites import Site
from balancer.testing.views import look
from balancer.testing.wire import Request


class Creates:
    """Answers creates. Mutable: only its counts."""

    def __init__(self, book: Book, faults: Faults, callbacks: Callbacks, clock: Clock) -> None:
        self._book, self._faults, self._callbacks, self._clock = book, faults, callbacks, clock
        self._lock = threading.Lock()
        self.refused = 0
        """Turned down because no slot was free."""
        self.refused_other = 0
        """Turned down for another reason."""

    def __call__(self, site: Site, verb: str, query: Mapping[str, str], request: Request) -> Answer:
        """Start the job that the request asks for."""
        path = unquote(urlsplit(request.target).path)

        def veto(account: str) -> None:
            if fault := self._faults.take(request.method, path, account, replaces=True):
                raise Struck(fault)

        try:
            order = _order(site, verb, {**query, **_json(request)})
            job = self._book.start(site.name, order, _namer(order.row), veto)
        except Struck as struck:
            return struck.fault.scripted()
        except ValueError as wrong:
            return self._refuse(refusals.error(400, str(wrong)))
        except TurnedDownError as refusal:
            return self._refuse(refusals.turned_down(site, refusal), full="full" in refusal.why)
        made = self._accepted(job)
        fault = self._faults.take(request.method, path, job.account, replaces=False)
        return fault.onto(made) if fault else made

    def _accepted(self, job: Job) -> Answer:
        shape = shape_of(job.service)
        made = answer(shape.code, shape.create(look(job, "running", self._clock)))
        if "replyUrl" in job.request and self._callbacks.reply(job).early:
            self._book.end(job, job.outcome)
            self._callbacks.deliver(job)
        else:
            self._callbacks.plan(job)
        return made

    def _refuse(self, refusal: Answer, *, full: bool = False) -> Answer:
        with self._lock:
            self.refused += full
            self.refused_other += not full
        return refusal


def _namer(row: Service) -> Any:
    shape = shape_of(row.key)
    return lambda account, number, rng: shape.job_id(row.key, account, number, rng)


def _order(site: Site, verb: str, fields: Mapping[str, Any]) -> Order:
    row = site.kind(verb)
    account = fields.get(row.selector)
    if "replyUrl" in fields and not on_loopback(fields["replyUrl"]):
        raise ValueError("Parameter replyUrl must be an address on this machine: the stand-in calls no other")
    return Order(row, verb, fields, None if account in (None, "") else str(account), _limit(row, fields))


def _limit(row: Service, fields: Mapping[str, Any]) -> int | None:
    value = fields.get(row.max_jobs or "")
    if value is None:
        return None
    low, high = shape_of(row.key).max_jobs
    if isinstance(value, bool) or not str(value).isdecimal() or not low <= int(value) <= high:
        raise ValueError(f"Parameter {row.max_jobs} must be in the range {low}…{high}")
    return int(value)


def _json(request: Request) -> Mapping[str, Any]:
    if not request.body or "json" not in request.headers.get("content-type", "json"):
        return {}
    body = json.loads(request.body)
    if not isinstance(body, dict):
        raise ValueError("The body must be a JSON object")  # noqa: TRY004  # a wrong value, of a client
    return body
