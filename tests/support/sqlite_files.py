"""A SQLite file, and one owner's backend over it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from backends import configure
from sqlite_workers import connect

from balancer.rules import operations as ops


@pytest.fixture
def open_folder():
    """Return a folder that every user may enter.

    It is none of pytest's own: each session that begins there takes the rights of others away again.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def path(tmp_path):
    """Return where the file will be."""
    return tmp_path / "pool.db"


@pytest.fixture
def backend(path):
    """Return the backend of one owner, with two slots on one account."""
    made = connect(path, "one")
    configure(made, {"a": 2})
    yield made
    made.close()


def take(backend, key, **options):
    """Take a lease; return its account or None."""
    granted = backend.call(ops.Acquire(key=key, draw=0.5, **options)).result
    return granted and granted.account
