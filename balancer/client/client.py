"""Client: from a prompt to its result, for threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from balancer.client.base_client import BaseClient, Harvest
from balancer.client.crew import Crew, LoopThread, News
from balancer.client.jobs import BaseJob, JobState, patience
from balancer.client.orders import File, order
from balancer.lease import Lease
from balancer.models import Account
from balancer.pool import AccountPool
from balancer.request import AcquireOptions

# A job is of one piece with its client, which has no other names for what a job has it do.
# ruff: noqa: SLF001


class RemoteJob(BaseJob):
    """A job that a service has accepted, or has not: then ``id`` is None and ``error`` says why."""

    __slots__ = ()

    def result(self, timeout: float | None = None) -> Any:
        """Return the final body; wait for it. The job's slot is free then.

        Raises:
            JobFailed: it has ended badly or is gone. TimeoutError: it runs on, and so does its slot.
            PoolClosed: the client is closed. Of a job that was not taken: its ``error``. ValueError,
            TypeError: the timeout is no number of seconds.
        """
        left = patience(timeout)
        if not self._state.done:
            self._client._await_end(self._state, left)
        return self._result()

    def refresh(self) -> Self:
        """Ask the service for the job now, once.

        Raises:
            SourceUnavailable, Unauthorized: the service did not tell; the job runs on.
        """
        self._client._read(self._state)
        return self

    def cancel(self) -> bool:
        """Call the job off; what it costs is spent all the same. False: there was nothing to call off.

        Raises:
            ValueError: the service cannot. SourceUnavailable, Unauthorized: it did not say.
        """
        done: bool = self._client._cancel(self._state)
        return done

    def save(self, folder: str | Path) -> list[Path]:
        """Fetch what was made into a folder; return the files. Those that are there are not fetched again.

        Raises:
            SourceUnavailable: one of them cannot be fetched. OSError: the folder cannot be written.
        """
        return self._save(folder)


class Client(BaseClient):
    """From prompt to result: submits jobs on accounts with room, follows them, frees their slots.

    It takes what :class:`balancer.AccountPool` takes, and:

    Args:
        pool: A pool to be used in place of one of its own; ``token`` and ``base_url`` then tell where jobs
            are sent, by default where the pool's accounts are read from.
        poll: Seconds until a new job is first asked for, and at most between two questions; a number or a
            pair. Default ``$BALANCER_POLL``, else the service's own.

    One client for a process; a context manager. :meth:`close` leaves jobs that run bound to their slots.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pool(self) -> AccountPool:
        """The pool whose slots its jobs take."""
        return self._threads

    def submit(
        self,
        endpoint: str,
        fields: Mapping[str, Any] | None = None,
        *,
        files: Mapping[str, File] | None = None,
        attempts: int = 3,
        **acquire_options: Unpack[AcquireOptions],
    ) -> RemoteJob:
        """Wait for a slot, send a job once, bind the slot to it. Nothing is sent twice that could pay twice.

        Args:
            endpoint: Path of the create below the service's: ``"music"``, ``"videos/create"``.
            fields: What the service's page tells of; account, ``replyRef`` and ``maxJobs`` are filled in.
                An asset among them has the job wait for the account that it lives on.
            files: Field -> bytes, path, open binary file, or ``(name, content, type)``: sent as a form.
            attempts: How many accounts may turn it away.
            acquire_options: As for :meth:`balancer.AccountPool.acquire`: ``timeout`` and the like.

        Raises:
            ValueError, TypeError: wrong arguments; nothing was sent. And what
            :meth:`balancer.AccountPool.run` raises.
        """
        self._check_open()
        create = order(self._row, endpoint, fields, files, acquire_options)
        sent: list[Lease] = []

        def call(lease: Lease) -> Any:
            sent.append(lease)
            return self._api.send(create.request(lease.params))

        answer = self._threads.run(call, attempts=attempts, bind=True, **acquire_options)
        return RemoteJob(self, self._taken(create, sent[-1], answer))

    def map(
        self, endpoint: str, inputs: Iterable[Mapping[str, Any]], **submit_options: Any
    ) -> Iterator[RemoteJob]:
        """Submit a job for each of ``inputs`` as slots come free; yield each as it ends, well or badly.

        One that is refused, or of which nobody knows whether it runs, is yielded with ``id`` None and its
        ``error``. It may be left early: what runs goes on, bound. Inputs are read while it is iterated.

        Raises:
            What the pool raises that is no matter of one input: of the token, of a timeout, PoolClosed.
        """
        self._check_open()
        return _mapped(self, endpoint, inputs, submit_options)

    def attach(self, job_id: str | int, account: str | Account | None = None) -> RemoteJob:
        """Take up a job that was started by an earlier process or another tool.

        A job that the pool does not know is given a slot of its account, which is read from the job or its
        id if it is not given; failing that it is followed without one, with a warning.
        """
        state = self._attached(job_id, account)
        adopted = False
        if not state.done and state.account is not None:
            with suppress(ValueError):  # its account is not configured any more
                self._threads.adopt(str(state.id), account=state.account)
                adopted = True
        self._follow_attached(state, adopted=adopted)
        return RemoteJob(self, state)

    def settle(self, body: object, *, job_id: str | int | None = None) -> bool:
        """Take what a webhook was told: free the slots of jobs that are over, and end their wait.

        See :meth:`balancer.AccountPool.settle`.
        """
        final = self._threads.settle(body, job_id=job_id)
        self._settled(body, job_id)
        return final

    def close(self) -> None:
        """Stop following. Jobs run on, bound to their slots; whoever waits for one gets PoolClosed."""
        self._close()

    # -- for jobs ---------------------------------------------------------------------------------------

    def _await_end(self, state: JobState, timeout: float | None) -> None:
        """Wait until a job has ended. See :meth:`RemoteJob.result`."""
        ended = threading.Event()
        self._watch_end(state, ended.set)
        try:
            if (
                self.closed
                or not ended.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
                or not state.done
            ):
                self._still_running(state, timeout or 0.0)
        finally:
            state.unwatch(ended.set)


def _mapped(
    client: Client, endpoint: str, inputs: Iterable[Mapping[str, Any]], options: dict[str, Any]
) -> Iterator[RemoteJob]:
    news, source, exhausted = queue.SimpleQueue[News](), iter(inputs), False
    harvest = Harvest(client, endpoint, options, news.put)
    crew, loop = Crew(harvest.submit, news.put), LoopThread()
    try:
        while True:
            if harvest.line_free and not exhausted:
                try:
                    fields = next(source)
                except StopIteration:
                    exhausted = True
                else:
                    loop.call(crew.start, harvest.order(fields))
            if exhausted and not harvest.left:
                return
            if (ended := harvest.hear(news.get())) is not None:
                yield RemoteJob(client, ended)
    finally:
        loop.call(crew.leave)
        loop.end(crew.finish)
