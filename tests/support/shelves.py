"""Pools over one shelf, each as a process of its own would have it, and their callers."""

from __future__ import annotations

import threading

import pytest
from crew import start
from ledger_backend import Shelf
from stepping import until

from balancer import AccountPool
from balancer.stores import backend_client, offers, shared

PATIENCE = 20.0


@pytest.fixture
def shelf():
    """Return an empty store."""
    return Shelf()


@pytest.fixture
def pools(shelf):
    """Return a function that opens one more pool, as another process would."""
    opened = []

    def open_pool(kind=AccountPool, source=None, **options):
        pool = kind("custom", source=source or {"a": 2, "b": 1}, store=shelf, **options)
        opened.append(pool)
        return pool

    yield open_pool
    shelf.away, shelf.before = False, None
    shelf.cut.clear()
    for pool in opened:
        pool._core.store.held.held.clear()
        pool._core.close()


@pytest.fixture
def never_by_itself(monkeypatch):
    """Let no process look around because time goes by: only a message helps."""
    monkeypatch.setattr(offers, "_LOOK_AGAIN", 600.0)
    monkeypatch.setattr(offers, "_LOOK_OFTEN", 600.0)


@pytest.fixture
def often(monkeypatch):
    """Let processes look around by themselves so often that a test need not wait."""
    monkeypatch.setattr(offers, "_LOOK_AGAIN", 0.05)


@pytest.fixture
def hasty(monkeypatch):
    """Let nobody have much patience with a store that is away."""
    for module in (backend_client, shared):
        monkeypatch.setattr(module, "PATIENCE", 0.05)


def waiting(pool, **options):
    """Have one more caller wait in line; return its future."""
    before = pool.stats().waiting
    future = start(pool.acquire, **options)
    until(lambda: pool.stats().waiting == before + 1 or future.done())
    return future


def owner(pool):
    """Return the name by which the store knows the process of a pool."""
    return pool._core.store.process.name


class Gate:
    """Holds back the operations of a kind until it is opened."""

    def __init__(self, shelf, kind, of):
        self._kind, self._name = kind, owner(of)
        self.reached, self.open = threading.Event(), threading.Event()
        self._once = threading.Lock()
        shelf.before = self

    def __call__(self, name, operation):
        if name == self._name and isinstance(operation, self._kind) and self._once.acquire(blocking=False):
            self.reached.set()
            assert self.open.wait(PATIENCE)
