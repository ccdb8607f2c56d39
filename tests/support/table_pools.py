"""Pools over tables that a test may change."""

from __future__ import annotations

import pytest

from balancer import AccountPool


@pytest.fixture
def pool_of(clock):
    """Return what makes a pool of accounts that a test may change, closed at the end."""
    pools = []

    def make(table, **options):
        pool = AccountPool(source=table, clock=clock, **options)
        pools.append(pool)
        pool.refresh()
        return pool

    yield make
    for pool in pools:
        pool.close()
