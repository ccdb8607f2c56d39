"""A SQLite file, one owner's backend over it, and what keeps others from their turn at it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import pytest
from backends import configure
from sqlite_workers import START, connect, hold_the_turn, until

from balancer.rules import operations as ops


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


@contextlib.contextmanager
def stopped_in_its_turn(path):
    """Have a process stopped while it is its turn, as by a debugger."""
    ours, theirs = START.Pipe()
    process = START.Process(target=hold_the_turn, args=(path, theirs))
    process.start()
    pid = ours.recv()
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield pid
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def long_turn(path):
    """Have somebody take long over his turn."""
    queue = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    try:
        yield os.getpid()
    finally:
        os.close(queue)
