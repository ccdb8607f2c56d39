"""Pools to measure, with every feature on."""

from __future__ import annotations

from typing import Any

from balancer import AccountPool


def accounts(number: int, capacity: int = 6) -> dict[str, int]:
    """Return so many accounts of one capacity."""
    return {f"account-{n}": capacity for n in range(number)}


def open_pool(number: int, capacity: int = 6, **options: Any) -> AccountPool:
    """Open a pool that has read its configuration, and has no need to read it again while measured."""
    usual: dict[str, Any] = {"service": "custom", "ttl": 3600.0, "store": "memory://"}
    pool = AccountPool(source=accounts(number, capacity), **{**usual, **options})
    pool.acquire(timeout=60).release()
    return pool
