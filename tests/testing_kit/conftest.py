"""Fixtures of the tests of the stand-in."""

from __future__ import annotations

from every_store import empty_redis, store, world

__all__ = ["empty_redis", "store", "world"]
