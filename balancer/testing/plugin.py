"""Fixtures for pytest: put ``pytest_plugins = ["balancer.testing.plugin"]`` into a ``conftest.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from balancer.testing.server import FakeUseapi
from balancer.testing.timing import ManualClock


@pytest.fixture
def manual_clock() -> ManualClock:
    """Return a clock that stands at 0 until it is moved."""
    return ManualClock()


@pytest.fixture
def fake_useapi() -> Iterator[Callable[..., FakeUseapi]]:
    """Return what starts a :class:`FakeUseapi` with the arguments given; the test's end closes it."""
    with ExitStack() as running:

        def start(*args: Any, **options: Any) -> FakeUseapi:
            return running.enter_context(FakeUseapi(*args, **options))

        yield start
