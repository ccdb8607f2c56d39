"""Fixtures of the tests of what every store promises, and each one's own."""

from __future__ import annotations

from every_store import empty_redis, store, world
from fleet_processes import pool, worker
from shelves import hasty, never_by_itself, often, pools, shelf
from sqlite_files import backend, open_folder, path

__all__ = [
    "backend",
    "empty_redis",
    "hasty",
    "never_by_itself",
    "often",
    "open_folder",
    "path",
    "pool",
    "pools",
    "shelf",
    "store",
    "worker",
    "world",
]
