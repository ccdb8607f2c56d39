"""Fixtures of the tests of several processes."""

from __future__ import annotations

from fleet_processes import pool, worker

__all__ = ["pool", "worker"]
