"""Fixtures of the tests of services."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from service_world import ROWS, World


@pytest.fixture(params=ROWS)
def row(request):
    """Each row of the table in turn, and one that is not in it."""
    return ROWS[request.param]


@pytest.fixture
def world(row):
    """The service of ``row``, and all that belongs to it."""
    with ExitStack() as stack:
        yield World(row, stack)
