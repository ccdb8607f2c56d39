"""A Redis server, or a cluster of them, as the store of one pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import RedisError

from balancer import events
from balancer.errors import ForeignError, StoreUnavailable
from balancer.redaction import clean
from balancer.rules.operations import Operation, Owner, Reply, Settings
from balancer.stores.redis.cluster import ClusterConnections
from balancer.stores.redis.codec import Packer, reply, text
from balancer.stores.redis.connections import ConnectionModel, Connections
from balancer.stores.redis.scripts import channel_of, roll_of
from balancer.stores.redis.subscriber import Subscriber


class RedisBackend:
    """Carries out each operation in one script call; see :class:`balancer.rules.operations.Backend`.

    Args:
        client: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of redis-py.
        settings: What to count for.
        owner: Whose operations these are.
        async_client: Its asynchronous twin, for :meth:`acall`; a plain address needs none.
        now: Seconds, instead of the server's time.
    """

    beats = True

    def __init__(
        self,
        client: Any,
        settings: Settings,
        owner: Owner,
        async_client: Any = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._source = client, async_client
        self._settings, self._now = settings, now
        self._checked = False
        self._of_parents: list[Any] = []
        """Connections that stay open in a forked child: to forget them would have them say farewell."""
        self._open(owner)

    def _open(self, owner: Owner) -> None:
        self._packer = Packer(self._settings, owner, self._now)
        client, async_client = self._source
        if hasattr(client, "get_default_node"):
            self._open_cluster(client, async_client)
        else:
            self._open_server(_pool_of(client), async_client)
        own, roll = channel_of(self._settings.namespace, owner.name), roll_of(self._settings.namespace)
        self._subscriber = Subscriber(lambda: self._heard_by(roll), own, roll)

    def _open_server(self, pool: Any, async_client: Any) -> None:
        model = ConnectionModel.of(pool)
        twin = model.twin(getattr(async_client, "connection_pool", None))
        self._connections: Connections | ClusterConnections = Connections(model, twin, self._packer.greeting)
        self._heard_by: Callable[[str], ConnectionModel] = lambda _: model
        self._where, self._secrets = model.where, model.secrets

    def _open_cluster(self, client: Any, async_client: Any) -> None:
        def of_slot(channel: str) -> ConnectionModel:
            # Any node would do to hear; but a script can count only those who listen where it runs.
            node = client.get_node_from_key(channel)
            return ConnectionModel.of(client.get_redis_connection(node).connection_pool)

        model = ConnectionModel.of(client.get_default_node().redis_connection.connection_pool)
        self._connections = ClusterConnections(client, async_client)
        self._heard_by = of_slot
        self._where, self._secrets = f"cluster at {model.where}", model.secrets

    def __repr__(self) -> str:
        return f"RedisBackend({self._where!r}, namespace={self._settings.namespace!r})"

    def call(self, operation: Operation, limit: float | None = None) -> Reply:
        """Carry out one operation. Raises StoreUnavailable, within ``limit`` seconds if there is one."""
        try:
            answer = self._connections.evaluate(self._packer.call(operation), limit)
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        else:
            if not self._checked:
                self._check_once(limit)
            return self._reply(operation, answer)
        raise problem

    async def acall(self, operation: Operation, limit: float | None = None) -> Reply:
        """Likewise, without blocking the running event loop."""
        try:
            answer = await self._connections.aevaluate(self._packer.call(operation), limit)
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        else:
            if not self._checked:
                await self._acheck_once(limit)
            return self._reply(operation, answer)
        raise problem

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Wait for offers to this process. Raises StoreUnavailable if it cannot even connect."""
        try:
            return self._subscriber.listen(seconds)
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        if self._subscriber.was_connected:
            return ()
        raise problem

    @property
    def roll_calls(self) -> int:
        """How often the store may have forgotten what its owner holds."""
        return self._subscriber.roll_calls

    def poke(self) -> None:
        """Have :meth:`listen` return."""
        self._subscriber.poke()

    def after_fork(self, owner: Owner) -> None:
        """Let go of the parent's connections, without a word on them; go on as ``owner``."""
        self._of_parents.append(self._connections)
        self._open(owner)

    def leave_loops(self) -> None:
        """Have event loops close what they do not use just now."""
        self._connections.leave_loops()

    def close(self) -> None:
        """Close connections; a later call connects anew."""
        self._subscriber.close()
        self._connections.close()

    def _reply(self, operation: Operation, answer: Any) -> Reply:
        said, now = reply(operation, answer)
        self._packer.answered(now)
        return said

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        said = clean(str(error), self._secrets)
        problem = StoreUnavailable(f"redis at {self._where}: {type(error).__name__}: {said}")
        problem.__cause__ = ForeignError(f"{name}: {said}")
        return problem

    # -- a server that may throw leases away ------------------------------------------------------

    def _check_once(self, limit: float | None) -> None:
        self._checked = True
        try:
            memory = self._connections.command("INFO", "memory", limit=limit)
        except (RedisError, OSError):  # it may not be asked, and the operation was done
            return
        self._warn(memory)

    async def _acheck_once(self, limit: float | None) -> None:
        self._checked = True
        try:
            memory = await self._connections.acommand("INFO", "memory", limit=limit)
        except (RedisError, OSError):
            return
        self._warn(memory)

    def _warn(self, memory: Any) -> None:
        policy = memory.get("maxmemory_policy", "") if isinstance(memory, dict) else _policy(text(memory))
        if policy not in ("", "noeviction"):
            events.emit("warning", "redis_may_evict", policy=policy)


def _policy(memory: str) -> str:
    _, _, rest = memory.partition("maxmemory_policy:")
    return rest.split(maxsplit=1)[0] if rest else ""


def _pool_of(client: Any) -> Any:
    """Return the connection pool of a client or a URL.

    Raises:
        ValueError: the URL is none, and is not shown as it may hold a password.
        TypeError: the client is none of redis-py's.
    """
    if isinstance(client, str):
        try:
            return redis.ConnectionPool.from_url(client)
        except ValueError:
            raise ValueError("store must be a URL such as redis://host:6379/0 or rediss://…") from None
    pool = getattr(client, "connection_pool", None)
    if not (hasattr(pool, "connection_kwargs") and hasattr(pool, "connection_class")):
        raise TypeError(f"client must be a client of redis-py or a URL, not {type(client).__name__}")
    return pool
