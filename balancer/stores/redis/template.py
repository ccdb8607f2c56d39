"""How to make connections like those of a client, our own way.

Calls travel on connections of our own instead of the client's pool: they are prepared once, never
repeated behind our back, and a cancelled call costs its connection and nothing else. Clients that
are no plain pool of connections (clusters) are used as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_TIMEOUT, READ_TIMEOUT = 2.0, 5.0
"""Seconds, where the client has no timeouts of its own."""
_MOST = 64
"""Connections of one process, where the client allows more."""
_DROPPED = ("maint_", "oss_", "orig_", "maintenance_", "cache", "retry_on_")


@dataclass(frozen=True, slots=True)
class Template:
    """The class of a client's connections and what they are made with."""

    kind: Any
    kwargs: Mapping[str, Any]
    limit: int

    def __repr__(self) -> str:
        return f"Template({self.kind.__name__})"

    def make(self) -> Any:
        """Return a new connection, not connected yet."""
        return self.kind(**self.kwargs)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown."""
        return tuple(str(value) for name, value in self.kwargs.items() if value and name in _SECRET)


_SECRET = ("password", "ssl_password")


def template(pool: Any) -> Template:
    """Return the template of a redis-py connection pool."""
    kwargs = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_DROPPED)}
    kwargs.update(protocol=2, decode_responses=False, retry=Retry(NoBackoff(), 0))
    if kwargs.get("socket_timeout") is None:
        kwargs["socket_timeout"] = READ_TIMEOUT
    if kwargs.get("socket_connect_timeout") is None:
        kwargs["socket_connect_timeout"] = CONNECT_TIMEOUT
    return Template(pool.connection_class, kwargs, min(pool.max_connections, _MOST))


def is_plain(client: Any) -> bool:
    """Whether the client is a pool of connections to one server, or to what a sentinel names."""
    pool = getattr(client, "connection_pool", None)
    return hasattr(pool, "connection_kwargs") and hasattr(pool, "connection_class")
