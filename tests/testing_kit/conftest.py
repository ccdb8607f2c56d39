"""Fixtures of the tests of the stand-in."""

from __future__ import annotations

from every_store import empty_redis, redis_server, store, world

__all__ = ["empty_redis", "redis_server", "store", "world"]
