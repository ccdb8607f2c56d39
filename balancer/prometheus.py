"""A pool's numbers for Prometheus. Needs the extra: ``pip install 'balancer[prometheus]'``.

>>> from prometheus_client import REGISTRY
>>> from balancer.prometheus import PoolCollector
>>> REGISTRY.register(PoolCollector(pool))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from balancer.async_pool import AsyncAccountPool
from balancer.engine import reports as view
from balancer.engine.pool_core import PoolCore
from balancer.models import PoolStats
from balancer.pool import AccountPool
from balancer.stores.base import WAITS
from balancer.waiting.drivers import drive

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as missing:  # pragma: no cover  # what is not installed cannot be covered
    raise ImportError("the collector needs an extra: pip install 'balancer[prometheus]'") from missing

_SLOTS = {
    "capacity": "Jobs that the account runs at once.",
    "in_flight": "Live leases on the account, those of other processes included.",
    "external": "Jobs that the server lists on the account and that are nobody's lease.",
    "free": "Jobs that the account would take now.",
}
_STATES = ("ready", "full", "cooldown", "broken", "draining")
_TOTALS = {
    "acquired": "Leases granted to this process.",
    "released": "Leases that were released.",
    "expired": "Leases that ended by themselves.",
    "reclaimed": "Leases that the server's list of jobs ended.",
    "timeouts": "Callers who got no slot in time.",
    "refreshes": "Configurations fetched.",
    "refresh_failures": "Fetches of the configuration that failed.",
}


class PoolCollector(Collector):
    """Collects the numbers of pools whenever Prometheus asks.

    Args:
        pools: Pools of either kind. Each service's numbers carry its name in the label ``service``.

    Accounts are the label ``account``: they are addresses or numbers, and never secrets. A shared store
    is asked once a pool and scrape.
    """

    def __init__(self, *pools: AccountPool | AsyncAccountPool) -> None:
        self._cores = tuple(pool._core for pool in pools)  # noqa: SLF001  # a third face of the same pool

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not ask a store."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric.

        Raises:
            StoreUnavailable: the store is away.
        """
        seen = [(core, drive(view.stats(core))) for core in self._cores]
        every = [stats for _, stats in seen]
        yield from _accounts(every)
        yield from _pools(every)
        yield _waits([core for core, _ in seen])


def _accounts(every: list[PoolStats]) -> Iterator[Metric]:
    for name, text in _SLOTS.items():
        slots = GaugeMetricFamily(f"balancer_account_{name}_slots", text, labels=("service", "account"))
        for stats in every:
            for account in stats.accounts.values():
                slots.add_metric((stats.service, account.id), getattr(account, name))
        yield slots
    states = GaugeMetricFamily(
        "balancer_account_state",
        "1 for the state that the account is in.",
        labels=("service", "account", "state"),
    )
    for stats in every:
        for account in stats.accounts.values():
            for state in _STATES:
                states.add_metric((stats.service, account.id, state), float(account.state == state))
    yield states


def _pools(every: list[PoolStats]) -> Iterator[Metric]:
    for name, text in _TOTALS.items():
        total = CounterMetricFamily(f"balancer_{name}", text, labels=("service",))
        for stats in every:
            total.add_metric((stats.service,), getattr(stats, name))
        yield total
    waiting = GaugeMetricFamily(
        "balancer_waiting_callers", "Callers of this process that wait for a slot.", labels=("service",)
    )
    age = GaugeMetricFamily(
        "balancer_configuration_age_seconds", "Age of the configuration in force.", labels=("service",)
    )
    stale = GaugeMetricFamily(
        "balancer_configuration_stale", "1 while refreshes of the configuration fail.", labels=("service",)
    )
    for stats in every:
        waiting.add_metric((stats.service,), stats.waiting)
        stale.add_metric((stats.service,), float(stats.stale))
        if stats.age is not None:
            age.add_metric((stats.service,), stats.age)
    yield from (waiting, age, stale)


def _waits(cores: list[PoolCore]) -> Metric:
    family = HistogramMetricFamily(
        "balancer_wait_seconds", "How long callers waited for their lease.", labels=("service",)
    )
    for core in cores:
        with core.store.lock:
            totals = core.store.totals
            counts, waited, at_once = list(totals.waits), totals.waited, totals.acquired - sum(totals.waits)
        counts[0] += max(0, at_once)
        bounds = [*map(str, WAITS), "+Inf"]
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        family.add_metric((core.service.key,), buckets=buckets, sum_value=waited)
    return family
