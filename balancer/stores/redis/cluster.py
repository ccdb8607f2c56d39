"""Clusters, which only their own client knows its way in: calls go by that client, as it is."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import NoScriptError

from balancer.stores.in_threads import InThreads
from balancer.stores.redis.codec import Call
from balancer.stores.redis.connections import IN_THREADS


class ClusterConnections:
    """Calls through a cluster's client, and from event loops through its asynchronous one.

    Without the latter they are made in threads. A call goes on when its caller is cancelled: a client
    may not bear to be cut short. How long an answer is waited for is for the client's own timeouts to say.
    """

    def __init__(self, client: Any, async_client: Any) -> None:
        self._client, self._async_client = client, async_client
        self._in_threads = InThreads(IN_THREADS, "balancer-redis")
        self._running: set[asyncio.Future[Any]] = set()

    def evaluate(self, call: Call, _: float | None = None) -> Any:
        """Carry out a script call."""
        try:
            return self._client.execute_command(*call.short)
        except NoScriptError:
            return self._client.execute_command(*call.long)

    def command(self, *command: str, limit: float | None = None) -> Any:  # noqa: ARG002  # as above
        """Carry out one plain command, on any server of the cluster."""
        node = self._client.get_random_node()
        return self._client.execute_command(*command, target_nodes=node)

    async def aevaluate(self, call: Call, _: float | None = None) -> Any:
        """Carry out a script call."""
        if self._async_client is None:
            return await self._in_threads.run(lambda: self.evaluate(call))
        task = asyncio.ensure_future(self._evaluate(call))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def acommand(self, *command: str, limit: float | None = None) -> Any:  # noqa: ARG002
        """Carry out one plain command, on any server of the cluster."""
        return await self._in_threads.run(lambda: self.command(*command))

    async def _evaluate(self, call: Call) -> Any:
        try:
            return await self._async_client.execute_command(*call.short)
        except NoScriptError:
            return await self._async_client.execute_command(*call.long)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody warns of it

    def leave_loops(self) -> None:
        """Leave the clients to their owner."""

    def close(self) -> None:
        """Leave the clients to their owner."""
        self._in_threads.close()
