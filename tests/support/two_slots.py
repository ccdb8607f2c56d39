"""A pool of one account with two slots."""

from __future__ import annotations

import pytest

from balancer import AccountPool


@pytest.fixture
def pool(clock):
    """Return a pool of one account with two slots, always fresh."""
    pool = AccountPool(source={"a": 2}, clock=clock, ttl=1e9)
    pool.refresh()
    return pool


def free(pool):
    """Return how many slots can be had now."""
    return pool.stats().free
