"""What both faces of a pool are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypedDict

from balancer.core import Core
from balancer.options import Options
from balancer.service import Service
from balancer.source import Token


class Given(TypedDict, total=False):
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
    random: Callable[[], float] | None
    clock: Callable[[], float] | None


class Face:
    """The constructor of a pool.

    Args:
        service: A key of the service table, or a :class:`Service` row of your own. May be left out
            only with ``source``.
        token: API token, or a callable that is asked for it at each fetch. Default ``$USEAPI_TOKEN``.
        base_url: Host root; default ``$USEAPI_BASE_URL``, else ``https://api.useapi.net``.
        source: Replaces the HTTP source: a mapping of account ids to capacities, or an object with
            ``accounts()`` and perhaps ``jobs()``.
        store: Where leases are counted; default ``$BALANCER_STORE``, else ``memory://``.
        ttl: Seconds for which a fetched configuration is fresh; less than 1 counts as 1.
        stale_if_error: Seconds beyond ``ttl`` for which the old one serves while refreshes fail.
        strategy: ``"random"`` (the server's own rule) or ``"least_loaded"``.
        default_capacity: Capacity of accounts that do not state one; default the service's own.
        lease_ttl: Seconds after which the leases of a dead process come back (shared stores).
        job_ttl: Seconds after which a bound lease ends if nobody releases it.
        ambiguous_ttl: Seconds for which a slot is kept whose job may run.
        reconcile_every: Seconds between comparisons with the server's list of jobs; None: never.
        max_waiting: Callers that may wait at once; None: any number.
        random: Returns numbers in [0, 1); default ``random.random``.
        clock: Returns monotonic seconds; default ``time.monotonic``.

    Raises:
        ValueError, TypeError: naming the argument that is wrong.
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
        random: Callable[[], float] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        # First of all the token is wrapped: should anything below raise, no frame shows it.
        token = Token.of(token)
        options = Options.make(
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
            random=random,
            clock=clock,
        )
        self._core = Core(options)
        self._core.announce()

    def __repr__(self) -> str:
        core = getattr(self, "_core", None)  # a traceback with locals may show it half made
        return f"<{type(self).__name__} {'not made yet' if core is None else core.describe()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pool belongs to its process: make one in each, over a store that they share")
