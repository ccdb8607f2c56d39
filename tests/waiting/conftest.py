"""Fixtures of the tests of who waits."""

from __future__ import annotations

from table_pools import pool_of

__all__ = ["pool_of"]
