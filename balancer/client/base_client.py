"""What both clients are made of: where jobs are sent, who follows them, what became of them.

Mutable state of a client: its pool's, its :class:`balancer.client.poller.Poller`'s, and that of each job
(:class:`balancer.client.jobs.JobState`). The client itself has none. The poller's thread knows the poller,
the connections and the pool, and no client: one that is dropped is collected, and stops it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Unpack, cast

from balancer import events
from balancer.async_pool import AsyncAccountPool, AsyncLease, for_threads
from balancer.base_pool import BasePool, PoolOptions
from balancer.client.api import Api, Request, trouble
from balancer.client.crew import News, in_thread
from balancer.client.jobs import JobState
from balancer.client.orders import Order, order
from balancer.client.poller import Poll, Poller, polling
from balancer.clock import Clock
from balancer.config import account_id, job_text
from balancer.errors import (
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    JobRefused,
    PoolClosed,
    SourceUnavailable,
)
from balancer.models import Account
from balancer.pool import AccountPool
from balancer.request import AcquireOptions
from balancer.run import detached
from balancer.services.schema import Service
from balancer.useapi import following
from balancer.useapi.api_token import Token
from balancer.useapi.http_response import Answer, read
from balancer.useapi.parsing import job_ids
from balancer.useapi.sources import HttpSource

# A harvest is of one piece with its client.
# ruff: noqa: SLF001

NOT_TAKEN = (JobRefused, AmbiguousOutcome, AttemptsFailed)
"""What is one input's fate, and no reason to stop with the others."""
Put = Callable[[News], None]
_clients: weakref.WeakSet[BaseClient] = weakref.WeakSet()


def _nothing(_: object) -> None:
    pass


class Harvest:
    """The jobs of one ``map``: what to submit next, and which job to yield.

    Args:
        client: Whose jobs they are.
        put: Has news heard by whoever iterates, from any thread.
    """

    def __init__(self, client: BaseClient, endpoint: str, options: dict[str, Any], put: Put) -> None:
        self._client, self._endpoint, self._options, self.put = client, endpoint, dict(options), put
        self._files, self._attempts = self._options.pop("files", None), self._options.pop("attempts", 3)
        self.line_free, self.left = True, 0
        self._running: set[JobState] = set()

    def order(self, fields: Mapping[str, Any]) -> tuple[Order, AcquireOptions]:
        """Return what is to be submitted for the next input."""
        options = cast("AcquireOptions", dict(self._options))
        made = order(self._client._row, self._endpoint, fields, self._files, options)
        self.line_free, self.left = False, self.left + 1
        return made, options

    def hear(self, news: News) -> JobState | None:
        """Take news in; return the job that has ended by them, if one has."""
        if news.error is not None:
            if not isinstance(news.error, NOT_TAKEN):
                raise news.error
            self.left -= 1
            return self._client._not_taken(news.thing[0], news.error)
        state = news.result
        if state is None:
            self.line_free = True
        elif not news.ended:
            self._running.add(state)
            state.watch(lambda: self.put(News(news.thing, state, ended=True)))
        elif not state.done:
            self._client._check_open()
        elif state in self._running:  # a wake may come twice
            self._running.remove(state)
            self.left -= 1
            return cast("JobState", state)
        return None

    async def submit(self, thing: tuple[Order, AcquireOptions], granted: Callable[[], None]) -> JobState:
        """Submit one thing, for a crew."""
        create, options = thing
        return await self._client._submitted(create, self._attempts, options, sending=lambda _: granted())


class BaseClient:
    """The constructor of a client, and what needs no waiting. See :class:`balancer.Client`."""

    def __init__(
        self,
        service: str | Service | None = None,
        *,
        pool: BasePool | None = None,
        poll: Poll | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        # First of all the token is wrapped: should anything below raise, no frame shows it.
        options["token"] = token = Token.of(options.get("token"))
        base_url = options.get("base_url")
        given = service is not None or set(options) - {"token", "base_url"}
        if pool is not None and given:
            raise TypeError("a client over a pool takes no further arguments than token, base_url and poll")
        if pool is not None and not isinstance(pool, AccountPool | AsyncAccountPool):
            raise TypeError(f"pool must be an AccountPool or AsyncAccountPool, not {type(pool).__name__}")
        found = pool if pool is not None else AccountPool(service, **options)
        self._owns_pool = pool is None
        self._threads = for_threads(found) if isinstance(found, AsyncAccountPool) else found
        self._tasks = found if isinstance(found, AsyncAccountPool) else AsyncAccountPool(pool=found)
        try:
            self._start(token, base_url, poll, Clock(options.get("clock")))
        except BaseException:
            if self._owns_pool:
                self._threads.close()
            raise

    def _start(self, token: Token | None, base_url: str | None, poll: Poll | None, clock: Clock) -> None:
        self._row = row = self._threads.service
        if not (row.final and row.status) and not row.inline:
            raise ValueError(
                f"service {row.key!r} does not say how its jobs are followed: give a Service row with "
                "status= and final=, or use an AccountPool"
            )
        if isinstance(source := self._threads.source, HttpSource):
            token, base_url = token or source.token, base_url or source.base_url
        self._api = Api(row, token, base_url)
        release = self._threads.release
        self._poller = Poller(
            self._api,
            row,
            polling(poll, row),
            release=lambda job: release(job_id=job),
            clock=clock,
        )
        weakref.finalize(self, _stop, self._poller, self._api)
        _clients.add(self)

    def __repr__(self) -> str:
        row = getattr(self, "_row", None)  # a traceback with locals may show it half made
        return f"<{type(self).__name__} {row and row.key}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._poller.stopped

    def _close(self) -> None:
        _stop(self._poller, self._api)
        if self._owns_pool:
            self._threads.close()

    def _check_open(self) -> None:
        if self.closed:
            raise PoolClosed(
                f"the client of {self._row.key} is closed; its jobs run on, bound to their slots"
            )

    async def _submitted(
        self,
        create: Order,
        attempts: int,
        options: AcquireOptions,
        *,
        sending: Callable[[AsyncLease], None] = _nothing,
        answered: Callable[[Any], None] = _nothing,
    ) -> JobState:
        """Submit a job by a task. ``sending`` hears of each slot before its call, ``answered`` the answer."""
        sent: list[AsyncLease] = []

        async def call(lease: AsyncLease) -> Any:
            sent.append(lease)
            sending(lease)
            answer = await self._send(create.request(lease.params))
            answered(answer)
            return answer

        answer = await self._tasks.run(call, attempts=attempts, bind=True, **options)
        return self._taken(create, sent[-1], answer)

    async def _send(self, request: Request) -> Any:
        return await in_thread(lambda: self._api.send(request))

    # -- what became of a create ----------------------------------------------------------------------

    def _taken(self, order: Order, lease: Any, answer: Any) -> JobState:
        """Return the job of an accepted create, and have it followed."""
        found = read(answer, whole=True)
        body = None if found is None else found.body
        jobs, account = job_ids(body, self._row), lease.account.id
        said = following.outcome(body, self._row)
        if said == "running" and not jobs:
            raise AmbiguousOutcome(
                f"the job may run on {account} (the answer names none): it was not sent again, and its slot "
                "is kept for it",
                response=detached(answer),
                account=account,
                lease_id=lease.id,
            )
        state = JobState(self._row, jobs[0] if jobs else None, account, order.endpoint, body)
        state.see(said, body)
        self._poller.follow(state)
        for other in jobs[1:]:  # the slot is free when the last of them has ended
            self._poller.follow(JobState(self._row, other, account, order.endpoint))
        return state

    def _not_taken(self, order: Order, error: BalancerError) -> JobState:
        state = JobState(self._row, None, getattr(error, "account", None) or None, order.endpoint)
        state.error = error
        return state

    # -- jobs that run already --------------------------------------------------------------------------

    def _attached(self, job_id: object, account: str | Account | None) -> JobState:
        """Return a job by its id; read once where nobody says on which account it runs. May block."""
        self._check_open()
        id = job_text(job_id)
        if (known := self._poller.state(id)) is not None:
            return known
        state = JobState(self._row, id, None if account is None else account_id("account", account), None)
        if account is None:
            holders = self._threads.holders()
            state.account = next((one.account for one in holders if id in one.job_ids), None)
        if state.account is None:
            try:
                self._read(state)
            except SourceUnavailable:
                pass  # its id may tell as well
            state.account = following.account_in(state.body, self._row, id)
        return state

    def _follow_attached(self, state: JobState, *, adopted: bool) -> None:
        if not adopted and not state.done:
            hint = "give account=, and nobody else is granted the slot that it takes"
            events.emit(
                "warning",
                "job_without_slot",
                service=self._row.key,
                job_id=state.id,
                account=state.account,
                hint=hint,
            )
        self._poller.follow(state, soon=True)

    def _read(self, state: JobState) -> None:
        """Ask for a job once. A status call that fails is an error here, and says nothing of the job."""
        answer = None if state.done else self._poller.ask(state)
        if answer is not None:
            _raise_trouble(answer, state)

    def _cancel(self, state: JobState) -> bool:
        found = following.cancel_request(self._row, state.id or "")
        if found is None:
            raise ValueError(f"jobs of {self._row.key!r} cannot be called off")
        if state.id is None:
            return False
        answer = self._api.call(*found)
        _raise_trouble(answer, state)
        self._poller.follow(state, soon=True)
        return answer.status < 300

    def _watch_end(self, state: JobState, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when a job has ended or the client is closed."""
        state.watch(wake)
        # It may have been submitted before a fork: then nobody follows it in this process.
        self._poller.follow(state)

    def _still_running(self, state: JobState, timeout: float | None) -> None:
        if state.done:
            return
        self._check_open()
        raise TimeoutError(
            f"job {state.id} of {self._row.key} has not ended within {timeout:g} s: it runs on"
        )

    def _settled(self, body: Any, job_id: str | int | None) -> None:
        """Tell those who wait for a job what a callback said of it."""
        job = None if job_id is None else job_text(job_id)
        for id, (how, said) in following.settlement(body, self._row, job).ended.items():
            if (state := self._poller.state(id)) is not None:
                self._poller.end(state, how, said)

    def _after_fork(self) -> None:
        self._poller.after_fork()
        self._api.after_fork()


def _raise_trouble(answer: Answer, state: JobState) -> None:
    if (error := trouble(answer)) is not None:
        error.args = (f"job {state.id}: {error}",)
        raise error


def _stop(poller: Poller, api: Api) -> None:
    poller.stop()
    api.close()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
