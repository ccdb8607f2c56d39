"""Fixtures of the tests of several processes."""

from __future__ import annotations

from every_store import empty_redis
from fleet_processes import pool, worker
from sqlite_files import backend, open_folder, path

__all__ = ["backend", "empty_redis", "open_folder", "path", "pool", "worker"]
