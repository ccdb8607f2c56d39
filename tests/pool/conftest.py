"""Fixtures of the tests of pools."""

from __future__ import annotations

from fetching import over_http, play
from table_pools import pool_of
from two_slots import pool

__all__ = ["over_http", "play", "pool", "pool_of"]
