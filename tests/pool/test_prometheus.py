"""What Prometheus is told of a pool, read back by its own parser."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis_server import RedisServer

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.prometheus import PoolCollector

pytest_plugins = ["balancer.testing.plugin"]


@pytest.fixture
def pool(manual_clock):
    """Two accounts, three slots."""
    with AccountPool(source={"a": 2, "b": {"maxJobs": 1, "error": "gone"}}, clock=manual_clock) as pool:
        yield pool


def samples(*pools):
    """Return every sample as Prometheus reads it: (name, labels without the service) -> value."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(*pools))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (
            one.name,
            *(value for key, value in sorted(one.labels.items()) if key not in ("service", "customer")),
        ): one.value
        for family in families
        for one in family.samples
    }


def test_slots_and_states_are_told_per_account(pool):
    """Each account's numbers and the one state that it is in."""
    pool.acquire(account="a").bind("job")
    found = samples(pool)
    assert found["balancer_up",] == 1
    assert found["balancer_account_capacity_slots", "a"] == 2
    assert found["balancer_account_in_flight_slots", "a"] == 1
    assert found["balancer_account_free_slots", "a"] == 1
    assert found["balancer_account_state", "a", "ready"] == 1
    assert found["balancer_account_state", "b", "broken"] == 1
    assert found["balancer_account_state", "b", "ready"] == 0


def test_totals_age_and_waiting_are_told_per_pool(pool, manual_clock):
    """Counters end in _total; ages are seconds by the pool's clock."""
    leases = [pool.acquire(), pool.acquire()]
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    leases[0].release()
    manual_clock.advance(7)
    found = samples(pool)
    assert found["balancer_acquired_total",] == 2
    assert found["balancer_released_total",] == 1
    assert found["balancer_timeouts_total",] == 1
    assert found["balancer_waiting_callers",] == 0
    assert found["balancer_configuration_age_seconds",] == 7
    assert found["balancer_configuration_stale",] == 0


def test_waiting_times_are_a_histogram(pool, manual_clock):
    """Who was served at once is in the first class, who waited 20 seconds in the one up to 30."""
    leases = [pool.acquire(), pool.acquire()]
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(timeout=100)))
    thread.start()
    while pool.stats().waiting < 1:
        pass
    manual_clock.advance(20)
    leases[0].release()
    thread.join()
    found = samples(pool)
    assert found["balancer_wait_seconds_count",] == 3
    assert found["balancer_wait_seconds_bucket", "0.01"] == 2
    assert found["balancer_wait_seconds_bucket", "15.0"] == 2
    assert found["balancer_wait_seconds_bucket", "30.0"] == 3
    assert found["balancer_wait_seconds_sum",] == pytest.approx(20)


def test_an_async_pool_tells_the_same(pool):
    """A collector needs no event loop."""
    assert samples(AsyncAccountPool(pool=pool)).keys() == samples(pool).keys()


def scraped(registry):
    """Return every sample of a scrape, in the order in which it came."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [
        (one.name, tuple(sorted(one.labels.items())), one.value)
        for family in families
        for one in family.samples
    ]


def test_a_pool_whose_store_is_away_is_left_out_and_the_others_are_told(pool):
    """One store that is down must not blind whoever looks at all others, nor hold the scrape up."""
    with RedisServer() as server:
        away = AccountPool("flowmusic", source={"x": 1}, store=f"redis://127.0.0.1:{server.port}/0")
        away.stats()
    registry = CollectorRegistry()
    registry.register(PoolCollector(away, pool))
    began = time.monotonic()
    told = scraped(registry)
    assert time.monotonic() - began < 3
    of_away = [(name, value) for name, labels, value in told if ("service", "flowmusic") in labels]
    assert of_away == [("balancer_up", 0)]
    assert ("balancer_acquired_total", (("customer", ""), ("service", "custom")), 0) in told
    away.close()


def test_pools_of_two_customers_have_series_of_their_own():
    """Same service, two tokens: the number in the token tells them apart, and the token is not shown."""
    options = {"base_url": "http://127.0.0.1:9"}
    pools = [AccountPool("flowmusic", token=f"user:{number}-secret", **options) for number in (7, 8)]
    registry = CollectorRegistry()
    registry.register(PoolCollector(*pools))
    told = scraped(registry)
    assert len({(name, labels) for name, labels, _ in told}) == len(told)
    assert {dict(labels)["customer"] for _, labels, _ in told} == {"user:7", "user:8"}
    assert "secret" not in repr(told)


def test_what_is_no_pool_is_refused_by_name(pool):
    """As a list of pools is."""
    with pytest.raises(TypeError, match="pools must be pools, not list"):
        PoolCollector([pool])


def test_two_pools_with_the_same_series_are_refused():
    """Prometheus would drop one of the two, or the whole scrape."""
    pools = [AccountPool(source={"a": 1}), AccountPool(source={"b": 1})]
    with pytest.raises(ValueError, match=r"two of custom .* would give the same series"):
        PoolCollector(*pools)


def test_two_faces_of_one_pool_are_one(pool):
    """Whoever names both has named the pool twice."""
    assert samples(pool, AsyncAccountPool(pool=pool)) == samples(pool)


def test_a_registry_takes_one_collector(pool):
    """A second would give every series twice: the registry itself refuses it, and no store was asked."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(pool))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(PoolCollector(AccountPool("flowmusic", source={"a": 1})))


def test_the_documentation_lists_every_metric(pool):
    """No name is missing, none is invented."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    with pool.acquire(), pool.acquire() as lease:
        lease.report((429, {}, ""))
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name, *_ in samples(pool)}
    assert told == names
