"""Calls from event loops: on connections of our own for each loop, or through a client.

A loop's connections end with it: an asynchronous generator that was begun in a loop is ended by
``asyncio.run`` before the loop closes.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from balancer.store.redis.packing import Call, pack
from balancer.store.redis.template import Template


class LoopLink:
    """The connections of one event loop. Calls beyond the limit wait for their turn."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._idle: list[Any] = []
        self._turn = asyncio.Semaphore(template.limit)
        self._keeper: AsyncGenerator[None, None] | None = None

    async def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        try:
            return await self.ask(call.packed)
        except NoScriptError:
            return await self.ask(pack(call.long))

    async def ask(self, packed: bytes) -> Any:
        """Send a command and return its answer. Whatever cuts it short costs the connection."""
        if self._keeper is None:
            self._keeper = self._keep()
            await anext(self._keeper)
        async with self._turn:
            connection = self._idle.pop() if self._idle else self._template.make()
            try:
                await connection.send_packed_command((packed,))
                answer = await connection.read_response()
            except ResponseError:
                self._idle.append(connection)
                raise
            except BaseException:
                await _drop(connection)
                raise
            self._idle.append(connection)
            return answer

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections that are not in use just now."""
        while self._idle:
            await _drop(self._idle.pop())


async def _drop(connection: Any) -> None:
    # Not one step of the loop: whoever is being cancelled may be cancelled again.
    await connection.disconnect(nowait=True)


class AsyncLink:
    """A :class:`LoopLink` for each running event loop."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLink] = (
            weakref.WeakKeyDictionary()
        )

    async def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        return await self._here().evaluate(call)

    async def command(self, *command: bytes) -> Any:
        """Carry out one plain command."""
        return await self._here().ask(pack(command))

    def _here(self) -> LoopLink:
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = LoopLink(self._template)
        return link

    def close(self) -> None:
        """Have every loop that still runs close its connections."""
        for loop, link in list(self._links.items()):
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(link.close(), loop)


class AsyncClientLink:
    """A cluster. A call goes on when its caller is cancelled: the client may not bear to be cut short."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._running: set[asyncio.Task[Any]] = set()

    async def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        return await self._shielded(self._evaluate(call))

    async def _evaluate(self, call: Call) -> Any:
        try:
            return await self._client.execute_command(*call.short)
        except NoScriptError:
            return await self._client.execute_command(*call.long)

    async def command(self, *command: bytes) -> Any:
        """Carry out one plain command, on any server of the cluster."""
        node = self._client.get_random_node()
        return await self._shielded(self._client.execute_command(*command, target_nodes=node))

    async def _shielded(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody warns of it

    def close(self) -> None:
        """Leave the client to its owner."""


class ThreadLink:
    """For want of an asynchronous client: calls in a few threads of our own."""

    def __init__(self, evaluate: Callable[[Call], Any], command: Callable[..., Any]) -> None:
        self._evaluate, self._command = evaluate, command
        self._threads: ThreadPoolExecutor | None = None

    async def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        return await self._run(self._evaluate, call)

    async def command(self, *command: bytes) -> Any:
        """Carry out one plain command."""
        return await self._run(self._command, *command)

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(8, "balancer-redis")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def close(self) -> None:
        """End the threads once they are idle."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)
