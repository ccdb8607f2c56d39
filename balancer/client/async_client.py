"""AsyncClient: from a prompt to its result, for tasks. Jobs are followed as by a :class:`balancer.Client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from balancer.async_pool import AsyncAccountPool
from balancer.client.api import Request
from balancer.client.base_client import BaseClient, Harvest
from balancer.client.crew import Crew, News, in_thread
from balancer.client.jobs import BaseJob, JobState, patience
from balancer.client.orders import File, order
from balancer.models import Account
from balancer.request import AcquireOptions

# A job is of one piece with its client, which has no other names for what a job has it do.
# ruff: noqa: SLF001


class AsyncRemoteJob(BaseJob):
    """A job that a service has accepted, or has not. See :class:`balancer.RemoteJob`."""

    __slots__ = ()

    async def result(self, timeout: float | None = None) -> Any:
        """Return the final body; wait for it. See :meth:`balancer.RemoteJob.result`."""
        left = patience(timeout)
        if not self._state.done:
            await self._client._await_end(self._state, left)
        return self._result()

    async def refresh(self) -> Self:
        """Ask the service for the job now, once. See :meth:`balancer.RemoteJob.refresh`."""
        await in_thread(lambda: self._client._read(self._state))
        return self

    async def cancel(self) -> bool:
        """Call the job off; what it costs is spent all the same. See :meth:`balancer.RemoteJob.cancel`."""
        return await in_thread(lambda: bool(self._client._cancel(self._state)))

    async def save(self, folder: str | Path) -> list[Path]:
        """Fetch what was made into a folder. See :meth:`balancer.RemoteJob.save`."""
        return await in_thread(lambda: self._save(folder))


class AsyncClient(BaseClient):
    """A :class:`balancer.Client` for asyncio: same constructor, same names, coroutines.

    It needs the extra ``[httpx]``. One client serves several event loops.
    """

    def __init__(self, service: Any = None, **options: Any) -> None:
        try:
            import httpx  # noqa: F401  # asked for here, so that no slot is taken in vain
        except ImportError as error:
            raise ImportError("AsyncClient needs an extra: pip install 'balancer[httpx]'") from error
        super().__init__(service, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pool(self) -> AsyncAccountPool:
        """The pool whose slots its jobs take."""
        return self._tasks

    async def submit(
        self,
        endpoint: str,
        fields: Mapping[str, Any] | None = None,
        *,
        files: Mapping[str, File] | None = None,
        attempts: int = 3,
        **acquire_options: Unpack[AcquireOptions],
    ) -> AsyncRemoteJob:
        """Wait for a slot, send a job once, bind the slot to it. See :meth:`balancer.Client.submit`.

        Cancelled in the middle of the call, the slot is kept as for an answer that was lost.
        """
        self._check_open()
        create = order(self._row, endpoint, fields, files, acquire_options)
        return AsyncRemoteJob(self, await self._submitted(create, attempts, acquire_options))

    def map(
        self,
        endpoint: str,
        inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        **submit_options: Any,
    ) -> AsyncIterator[AsyncRemoteJob]:
        """Submit a job for each input; yield each as it ends. See :meth:`balancer.Client.map`."""
        self._check_open()
        return self._mapped(endpoint, inputs, submit_options)

    async def _mapped(
        self, endpoint: str, inputs: Any, options: dict[str, Any]
    ) -> AsyncIterator[AsyncRemoteJob]:
        loop, news = asyncio.get_running_loop(), asyncio.Queue[News]()
        source = aiter(inputs) if hasattr(inputs, "__aiter__") else _each(inputs)
        harvest = Harvest(self, endpoint, options, lambda told: _put(loop, news, told))
        crew, exhausted = Crew(harvest.submit, news.put_nowait), False
        try:
            while True:
                if harvest.line_free and not exhausted:
                    try:
                        fields = await anext(source)
                    except StopAsyncIteration:
                        exhausted = True
                    else:
                        crew.start(harvest.order(fields))
                if exhausted and not harvest.left:
                    return
                if (ended := harvest.hear(await news.get())) is not None:
                    yield AsyncRemoteJob(self, ended)
        finally:
            crew.leave()

    async def attach(self, job_id: str | int, account: str | Account | None = None) -> AsyncRemoteJob:
        """Take up a job that was started by an earlier process. See :meth:`balancer.Client.attach`."""
        state = await in_thread(lambda: self._attached(job_id, account))
        adopted = False
        if not state.done and state.account is not None:
            with suppress(ValueError):  # as in Client.attach
                await self._tasks.adopt(str(state.id), account=state.account)
                adopted = True
        self._follow_attached(state, adopted=adopted)
        return AsyncRemoteJob(self, state)

    async def settle(self, body: object, *, job_id: str | int | None = None) -> bool:
        """Take what a webhook was told. See :meth:`balancer.Client.settle`."""
        final = await self._tasks.settle(body, job_id=job_id)
        self._settled(body, job_id)
        return final

    async def close(self) -> None:
        """Stop following. See :meth:`balancer.Client.close`."""
        self._close()

    async def _await_end(self, state: JobState, timeout: float | None) -> None:
        """Wait until a job has ended. See :meth:`AsyncRemoteJob.result`."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            _soon(loop, ended.set)

        self._watch_end(state, wake)
        try:
            if not self.closed:
                async with asyncio.timeout(timeout):
                    await ended.wait()
        except TimeoutError:
            pass
        finally:
            state.unwatch(wake)
        self._still_running(state, timeout or 0.0)

    async def _send(self, request: Request) -> Any:
        return await self._api.asend(request)


def _soon(loop: asyncio.AbstractEventLoop, act: Any, *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(act, *args)
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass


def _put(loop: asyncio.AbstractEventLoop, news: asyncio.Queue[News], told: News) -> None:
    _soon(loop, news.put_nowait, told)


async def _each(inputs: Iterable[Any]) -> AsyncIterator[Any]:
    for fields in inputs:
        yield fields
