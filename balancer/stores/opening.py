"""How a store is opened that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from balancer.config import PoolConfig
from balancer.rules.ledger import Ledger
from balancer.rules.operations import Backend, Owner, Settings
from balancer.services import GENERIC
from balancer.stores.base import Process
from balancer.stores.shared import SharedStore
from balancer.useapi.sources import DEFAULT_BASE_URL

_PORTS = {"http": 80, "https": 443}


def open_shared(
    options: PoolConfig, new_ledger: Callable[[], Ledger], process: Process, **state: Any
) -> SharedStore:
    """Open the shared store that the options name.

    Raises:
        ValueError: its URL names no store. StoreUnavailable: it cannot be used.
        ImportError: it needs an extra that is not installed; the message names it.
    """
    if options.service is GENERIC:
        raise ValueError(
            "a pool with a source of its own needs a name on a shared store, so that it counts nobody else's "
            'accounts: AccountPool("any-word", source=…, store=…)'
        )
    owner = Owner(process.name, process.host_pid)
    now = options.clock.now if options.clock.given else None
    backend = _backend(options.store, _settings(options), owner, now)
    return SharedStore(
        backend,
        new_ledger,
        options.draw,
        options.lease_ttl,
        spaced=any(options.spacing),
        process=process,
        **state,
    )


def _backend(store: Any, settings: Settings, owner: Owner, now: Callable[[], float] | None) -> Backend:
    scheme, _, rest = store.partition("://") if isinstance(store, str) else ("", "", "")
    if scheme == "sqlite":
        from balancer.stores.sqlite import SqliteBackend

        return SqliteBackend(_path(rest), settings, owner, now)
    if scheme in ("redis", "rediss", "unix"):
        from balancer.stores.redis import open_backend

        return open_backend(store, settings, owner, now=now)
    if callable(getattr(store, "open", None)):
        backend: Backend = store.open(settings, owner, now)
        return backend
    raise ValueError("store must be 'memory://', 'sqlite:///path', 'redis://…' or a RedisStore")


def _path(rest: str) -> Path:
    """Return the file that a URL names after its ``sqlite://``: what cannot be meant is refused."""
    if "?" in rest or "#" in rest:
        raise ValueError(
            "store: sqlite:// takes no options after '?' or '#'; write %3F or %23 if a path has one"
        )
    path = unquote(rest)
    if path.lstrip("/") == ":memory:":
        raise ValueError("store: sqlite:// is for a file that processes share; in one process use memory://")
    if path.lstrip("/").startswith("~"):
        user, _, inside = path.lstrip("/").partition("/")
        if user != "~" or not inside:
            raise ValueError("store: of '~' only sqlite://~/path/to/file is meant, in your own home folder")
        return Path.home() / inside
    if not path.startswith("/") or not path.strip("/") or path.endswith("/"):
        raise ValueError("store must name a file by its absolute path: sqlite:///path/to/file")
    if path.count("/") == 1:
        raise ValueError(
            f"store: sqlite://{path} is the file {path} in the root folder, and relative paths cannot be told"
            f" from it; write the whole path, or sqlite:////{path[1:]} if that is what you mean"
        )
    return Path("/" + path.lstrip("/"))  # some write four slashes


def _settings(options: PoolConfig) -> Settings:
    return Settings(
        namespace=_namespace(options),
        strategy=options.strategy,
        lower_only=options.service.max_jobs is None,
        lease_ttl=options.lease_ttl,
        job_ttl=options.job_ttl,
        ambiguous_ttl=options.ambiguous_ttl,
        spaced=any(options.spacing),
    )


def _namespace(options: PoolConfig) -> str:
    """Name whose accounts are counted: customer and service, and the host if it is not useapi.net's."""
    customer = "own" if options.token is None else options.token.customer()
    parts = [customer, options.service.key]
    server = _server(getattr(options.source, "base_url", DEFAULT_BASE_URL))
    if server != _server(DEFAULT_BASE_URL):
        parts.append(server)
    return "/".join(parts)


def _server(url: str) -> str:
    """Return host and port of a URL, written the same way for the same server."""
    split = urlsplit(url)
    host, port = (split.hostname or "").rstrip("."), split.port or _PORTS.get(split.scheme.lower())
    return host if port in (None, 443) else f"{host}:{port}"
