"""Leases of many processes on many machines, in Redis or Valkey, standalone, sentinel or cluster.

One file of ``../lua`` for each operation; ``docs/redis.md`` tells an operator what the keys hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever needs no store of this kind starts faster
    from balancer.rules.operations import Owner, Settings
    from balancer.stores.redis.backend import RedisBackend


@dataclass(frozen=True, slots=True)
class RedisStore:
    """A store by clients of redis-py that you have made: sentinels, clusters, TLS, your own timeouts.

    Args:
        client: A ``redis.Redis`` or ``redis.cluster.RedisCluster``. Its connections serve as a model:
            calls, from event loops too, go by connections of our own, with its address, credentials,
            TLS and timeouts (5 s to read and 2 s to connect where it has none). A cluster's client
            is used as it is.
        async_client: A ``redis.asyncio.cluster.RedisCluster``, for event loops. Without it their calls
            go to a cluster by threads.
    """

    client: Any
    async_client: Any = None

    def __repr__(self) -> str:
        return f"RedisStore({type(self.client).__name__})"

    def open(self, settings: Settings, owner: Owner, now: Callable[[], float] | None = None) -> RedisBackend:
        """Return the store of one pool.

        Raises:
            ImportError: redis-py is not installed.
        """
        return open_backend(self.client, settings, owner, self.async_client, now)


def open_backend(
    client: Any,
    settings: Settings,
    owner: Owner,
    async_client: Any = None,
    now: Callable[[], float] | None = None,
) -> RedisBackend:
    """Return a :class:`RedisBackend` for a URL or a client.

    Raises:
        ImportError: redis-py is not installed.
    """
    try:
        from balancer.stores.redis.backend import RedisBackend
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise ImportError("a Redis store needs redis-py: pip install 'balancer[redis]'") from None
    return RedisBackend(client, settings, owner, async_client, now)
