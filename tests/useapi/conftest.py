"""Fixtures of the tests of the API."""

from __future__ import annotations

from http_sources import fake, naps, plain

__all__ = ["fake", "naps", "plain"]
