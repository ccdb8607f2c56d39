"""From what a user passes, a URL or clients of redis-py, to the link that calls go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from balancer.stores.redis.cluster import ClusterLink
from balancer.stores.redis.link import Link
from balancer.stores.redis.template import Template, is_plain, template


@dataclass(frozen=True, slots=True)
class Road:
    """The way to one store."""

    link: Link | ClusterLink
    ears: Callable[[str], Template]
    """Makes the template of the connection that a channel is heard on."""
    where: str
    """The server, for people."""
    secrets: tuple[str, ...] = field(repr=False)


def road(client: Any, async_client: Any = None) -> Road:
    """Return the way to a URL, or by a client.

    Raises:
        ValueError: the URL is none, and is not shown as it may hold a password.
        TypeError: the client is none of redis-py's.
    """
    if isinstance(client, str):
        return _plain(_pool(client))
    if is_plain(client):
        return _plain(client.connection_pool)
    if not hasattr(client, "get_default_node"):
        raise TypeError(f"client must be a client of redis-py or a URL, not {type(client).__name__}")

    def node(channel: str) -> Template:
        # Any node would do to hear, but only of those who listen where it runs can a script tell how many.
        of_slot = client.get_node_from_key(channel)
        return template(client.get_redis_connection(of_slot).connection_pool)

    made = template(client.get_default_node().redis_connection.connection_pool)
    return Road(ClusterLink(client, async_client), node, f"cluster at {_where(made)}", made.secrets)


def _plain(pool: Any) -> Road:
    made = template(pool)
    return Road(Link(made), lambda _: made, _where(made), made.secrets)


def _pool(url: str) -> Any:
    try:
        return redis.ConnectionPool.from_url(url)
    except ValueError:
        raise ValueError("store must be a URL such as redis://host:6379/0 or rediss://…") from None


def _where(made: Template) -> str:
    kwargs = made.kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    if "host" in kwargs or "port" in kwargs:
        return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return str(getattr(kwargs.get("connection_pool"), "service_name", "localhost:6379"))
