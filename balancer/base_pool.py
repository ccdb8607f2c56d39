"""What both faces of a pool are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypedDict

from balancer.config import PoolConfig
from balancer.engine.pool_core import PoolCore
from balancer.services.schema import Service
from balancer.useapi.sources import Token


class PoolOptions(TypedDict, total=False):
    """The keyword arguments of the constructor, for faces that pass them on."""

    token: str | Callable[[], str] | Token | None
    base_url: str | None
    source: Any
    store: Any
    ttl: float
    stale_if_error: float
    strategy: str
    default_capacity: int | None
    lease_ttl: float
    job_ttl: float
    ambiguous_ttl: float
    reconcile_every: float | None
    max_waiting: int | None
    learn_limits: bool
    spacing: float | tuple[float, float]
    max_cooldown: float
    random: Callable[[], float] | None
    clock: Callable[[], float] | None


class BasePool:
    """The constructor of a pool.

    :class:`balancer.AccountPool` tells its arguments and what it raises.
    """

    def __init__(
        self,
        service: str | Service | None = None,
        *,
        token: str | Callable[[], str] | Token | None = None,
        base_url: str | None = None,
        source: Any = None,
        store: Any = None,
        ttl: float = 60.0,
        stale_if_error: float = 3600.0,
        strategy: str = "random",
        default_capacity: int | None = None,
        lease_ttl: float = 60.0,
        job_ttl: float = 3600.0,
        ambiguous_ttl: float = 600.0,
        reconcile_every: float | None = 30.0,
        max_waiting: int | None = None,
        learn_limits: bool = True,
        spacing: float | tuple[float, float] = 0.0,
        max_cooldown: float = 31 * 86400.0,
        random: Callable[[], float] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        # First of all the token is wrapped: should anything below raise, no frame shows it.
        token = Token.of(token)
        options = PoolConfig.make(
            service,
            token=token,
            base_url=base_url,
            source=source,
            store=store,
            ttl=ttl,
            stale_if_error=stale_if_error,
            strategy=strategy,
            default_capacity=default_capacity,
            lease_ttl=lease_ttl,
            job_ttl=job_ttl,
            ambiguous_ttl=ambiguous_ttl,
            reconcile_every=reconcile_every,
            max_waiting=max_waiting,
            learn_limits=learn_limits,
            spacing=spacing,
            max_cooldown=max_cooldown,
            random=random,
            clock=clock,
        )
        self._core = PoolCore(options)
        self._core.announce()

    @property
    def service(self) -> Service:
        """The row that the pool goes by."""
        return self._core.service

    @property
    def source(self) -> Any:
        """What the accounts are read from: the HttpSource that the pool made, or what it was given."""
        return self._core.options.source

    def __repr__(self) -> str:
        core = getattr(self, "_core", None)  # a traceback with locals may show it half made
        return f"<{type(self).__name__} {'not made yet' if core is None else core.describe()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pool belongs to its process: make one in each, over a store that they share")
