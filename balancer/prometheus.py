"""A pool's numbers for Prometheus. Needs the extra: ``pip install 'balancer[prometheus]'``.

>>> from prometheus_client import REGISTRY
>>> from balancer.prometheus import PoolCollector
>>> REGISTRY.register(PoolCollector(pool))

One collector has all pools of a process. prometheus_client's mode for many processes
(``PROMETHEUS_MULTIPROC_DIR``) knows no collectors: there, let one process that shares the store serve them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from balancer.async_pool import AsyncAccountPool
from balancer.base_pool import BasePool
from balancer.engine import reports as view
from balancer.engine.pool_core import PoolCore
from balancer.errors import BalancerError
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


_POOL = ("service", "customer")
"""Labels of every metric."""


class _Seen(NamedTuple):
    """One pool at the time of a scrape."""

    labels: tuple[str, str]
    stats: PoolStats | None
    """None: its store is away."""
    waits: Sequence[int]
    """Callers by how long they waited."""
    waited: float


class PoolCollector(Collector):
    """Collects the numbers of pools whenever Prometheus asks. A registry takes one collector.

    Args:
        pools: Pools of either kind. Numbers carry the pool's service in the label ``service`` and the number
            of the token's customer in ``customer`` (empty where it is not known).

    Accounts are the label ``account``: they are addresses or numbers, and never secrets. A shared store
    is asked once a pool and scrape; a pool whose store is away has ``balancer_up`` 0, and no other number.

    Raises:
        ValueError: two pools have the same service and customer, and so would the same series.
        TypeError: one is no pool.
    """

    def __init__(self, *pools: AccountPool | AsyncAccountPool) -> None:
        for pool in pools:
            if not isinstance(pool, BasePool):
                raise TypeError(f"pools must be pools, not {type(pool).__name__}")
        cores = {pool._core: _labels(pool._core) for pool in pools}  # noqa: SLF001  # a third face of a pool
        for labels in cores.values():
            if list(cores.values()).count(labels) > 1:
                customer = labels[1] or "not known"
                raise ValueError(
                    f"pools: two of {labels[0]} with the same customer ({customer}) would give the same "
                    "series; share one pool, or give each a service of its own name"
                )
        self._cores = cores

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without numbers: no store is asked, and a second collector is refused."""
        return _metrics(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Never raises because of a store that is away."""
        return _metrics([_look(core, labels) for core, labels in self._cores.items()])


def _labels(core: PoolCore) -> tuple[str, str]:
    return core.service.key, core.customer[0] if core.customer else ""


def _look(core: PoolCore, labels: tuple[str, str]) -> _Seen:
    try:
        stats = drive(view.stats(core, patient=False))
    except BalancerError:
        stats = None
    with core.store.lock:
        totals = core.store.totals
        waits, waited, at_once = list(totals.waits), totals.waited, totals.acquired - sum(totals.waits)
    waits[0] += max(0, at_once)
    return _Seen(labels, stats, waits, waited)


def _metrics(seen: Sequence[_Seen]) -> Iterator[Metric]:
    up = GaugeMetricFamily("balancer_up", "0 while the pool's store is away.", labels=_POOL)
    for pool in seen:
        up.add_metric(pool.labels, float(pool.stats is not None))
    yield up
    there = [(pool.labels, pool.stats) for pool in seen if pool.stats is not None]
    yield from _accounts(there)
    yield from _pools(there)
    yield _waits([pool for pool in seen if pool.stats is not None])


_There = Sequence[tuple[tuple[str, str], PoolStats]]


def _accounts(there: _There) -> Iterator[Metric]:
    for name, text in _SLOTS.items():
        slots = GaugeMetricFamily(f"balancer_account_{name}_slots", text, labels=(*_POOL, "account"))
        for labels, stats in there:
            for account in stats.accounts.values():
                slots.add_metric((*labels, account.id), getattr(account, name))
        yield slots
    limits = GaugeMetricFamily(
        "balancer_account_limit_slots",
        "Jobs that the account has been seen to bear, if fewer than its capacity.",
        labels=(*_POOL, "account"),
    )
    for labels, stats in there:
        for account in stats.accounts.values():
            if account.limit is not None:
                limits.add_metric((*labels, account.id), account.limit)
    yield limits
    states = GaugeMetricFamily(
        "balancer_account_state",
        "1 for the state that the account is in.",
        labels=(*_POOL, "account", "state"),
    )
    for labels, stats in there:
        for account in stats.accounts.values():
            for state in _STATES:
                states.add_metric((*labels, account.id, state), float(account.state == state))
    yield states


def _pools(there: _There) -> Iterator[Metric]:
    for name, text in _TOTALS.items():
        total = CounterMetricFamily(f"balancer_{name}", text, labels=_POOL)
        for labels, stats in there:
            total.add_metric(labels, getattr(stats, name))
        yield total
    waiting = GaugeMetricFamily(
        "balancer_waiting_callers", "Callers of this process that wait for a slot.", labels=_POOL
    )
    age = GaugeMetricFamily(
        "balancer_configuration_age_seconds", "Age of the configuration in force.", labels=_POOL
    )
    stale = GaugeMetricFamily(
        "balancer_configuration_stale", "1 while refreshes of the configuration fail.", labels=_POOL
    )
    for labels, stats in there:
        waiting.add_metric(labels, stats.waiting)
        stale.add_metric(labels, float(stats.stale))
        if stats.age is not None:
            age.add_metric(labels, stats.age)
    yield from (waiting, age, stale)


def _waits(seen: Sequence[_Seen]) -> Metric:
    family = HistogramMetricFamily(
        "balancer_wait_seconds", "How long callers waited for their lease.", labels=_POOL
    )
    bounds = [*map(str, WAITS), "+Inf"]
    for pool in seen:
        buckets = list(zip(bounds, accumulate(pool.waits), strict=True))
        family.add_metric(pool.labels, buckets=buckets, sum_value=pool.waited)
    return family
