"""Fixtures of the tests of clients."""

from __future__ import annotations

from http_sources import naps

__all__ = ["naps"]
