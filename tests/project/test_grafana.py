"""The Grafana dashboard: its queries are Prometheus's language, and ask for numbers that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import promql_parser
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from balancer import AccountPool
from balancer.prometheus import PoolCollector

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana" / "balancer.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def metrics():
    """Return the name and labels of every sample that a pool gives."""
    registry = CollectorRegistry()
    with AccountPool(source={"a": 1}) as pool:
        pool.stats()
        registry.register(PoolCollector(pool))
        families = text_string_to_metric_families(generate_latest(registry).decode())
        return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_understood_and_asks_for_what_there_is(query, metrics):
    """Parsed as Prometheus parses it, with names and labels that the collector gives."""
    promql_parser.parse(query.replace("$service", "flowmusic"))
    names = set(re.findall(r"\bbalancer_\w+", query))
    assert names
    assert names <= metrics.keys()
    labels = set(re.findall(r"(\w+)=~?\"", query))
    grouped = set(re.findall(r"by \((\w+)\)", query))
    assert (labels | grouped) <= set.union(*(metrics[name] for name in names))


def test_a_broken_query_would_be_found():
    """The parser refuses what Prometheus would refuse."""
    with pytest.raises(ValueError, match=r"\S"):
        promql_parser.parse("sum by (account (balancer_free")


def test_every_panel_has_a_place_of_its_own():
    """No panel covers another one."""
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
