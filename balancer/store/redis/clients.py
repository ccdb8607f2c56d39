"""From what a user passes, a URL or clients of redis-py, to the links that calls go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from balancer.store.redis.aio import AsyncClientLink, AsyncLink, ThreadLink
from balancer.store.redis.link import ClientLink, Link
from balancer.store.redis.template import Template, is_plain, template


@dataclass(frozen=True, slots=True)
class Links:
    """The ways to one store."""

    sync: Link | ClientLink
    aio: AsyncLink | AsyncClientLink | ThreadLink
    ears: Callable[[], Template]
    """Makes the template of the connection that offers are heard on."""
    where: str
    """The server, for people."""
    secrets: tuple[str, ...] = field(repr=False)


def links(client: Any, async_client: Any = None) -> Links:
    """Return the links for a URL, or for a client and perhaps an asynchronous one.

    Raises:
        ValueError: the URL is none, and is not shown as it may hold a password.
        TypeError: the client is none of redis-py's.
    """
    if isinstance(client, str):
        return _from_url(client)
    if is_plain(client):
        made = template(client.connection_pool, _no_retry())
        sync: Link | ClientLink = Link(made)
        return Links(sync, _aio(async_client, sync), lambda: made, _where(made), made.secrets)
    if not hasattr(client, "get_default_node"):
        raise TypeError(f"client must be a client of redis-py or a URL, not {type(client).__name__}")

    def node() -> Template:
        return template(client.get_default_node().redis_connection.connection_pool, _no_retry())

    sync = ClientLink(client)
    made = node()
    return Links(sync, _aio(async_client, sync), node, f"cluster at {_where(made)}", made.secrets)


def _from_url(url: str) -> Links:
    try:
        sync = template(redis.ConnectionPool.from_url(url), _no_retry())
        aio = template(redis.asyncio.ConnectionPool.from_url(url), _no_async_retry())
    except ValueError:
        raise ValueError("store must be a URL such as redis://host:6379/0 or rediss://…") from None
    return Links(Link(sync), AsyncLink(aio), lambda: sync, _where(sync), sync.secrets)


def _aio(client: Any, sync: Link | ClientLink) -> AsyncLink | AsyncClientLink | ThreadLink:
    if client is None:
        return ThreadLink(sync.evaluate, sync.command)
    if is_plain(client):
        return AsyncLink(template(client.connection_pool, _no_async_retry()))
    return AsyncClientLink(client)


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


def _no_async_retry() -> AsyncRetry:
    return AsyncRetry(NoBackoff(), 0)


def _where(made: Template) -> str:
    kwargs = made.kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    if "host" in kwargs or "port" in kwargs:
        return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return str(getattr(kwargs.get("connection_pool"), "service_name", "localhost:6379"))
