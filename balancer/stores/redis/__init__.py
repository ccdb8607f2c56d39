"""Leases of many processes on many machines, in Redis or Valkey, standalone, sentinel or cluster.

Each operation is one script, made of files of ``../lua`` as ``scripts.py`` says; ``docs/redis.md`` tells an
operator what the keys hold.
"""

from __future__ import annotations

import inspect
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
        client: A ``redis.Redis`` or ``redis.cluster.RedisCluster``. Its connections serve as a model: calls
            go by connections that the pool makes and keeps, with its class of connection, its address,
            credentials, TLS and timeouts (5 s to read and 2 s to connect where it has none). A cluster's
            client is used as it is.
        async_client: Its twin of ``redis.asyncio``, for event loops. A plain address needs none; without it
            calls from loops go by threads to a cluster or by a sentinel.

    Raises:
        TypeError: one of them is of the other kind, or no client at all.
    """

    client: Any
    async_client: Any = None

    def __post_init__(self) -> None:
        for name, is_async in (("client", False), ("async_client", True)):
            given = getattr(self, name)
            if given is None and is_async:
                continue
            execute = getattr(given, "execute_command", None)
            if execute is None:
                raise TypeError(f"{name} must be a client of redis-py, not {type(given).__name__}")
            if inspect.iscoroutinefunction(execute) is not is_async:
                kind = "redis.asyncio" if is_async else "redis.Redis or redis.RedisCluster"
                where = "client" if is_async else "async_client"
                raise TypeError(
                    f"{name} must be a client of {kind}, not {type(given).__module__}."
                    f"{type(given).__qualname__}: that one belongs in {where}"
                )

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
