"""The backends that the contract of a shared store is tested on, each as a world that can be made anew.

To have one more tested, write a class like :class:`SqliteWorld` and name it in :data:`WORLDS`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from redis_world import RedisWorld

from balancer.models import Account, AccountTable
from balancer.stores import operations as ops
from balancer.stores.sqlite import SqliteBackend
from balancer.stores.sqlite.glance import keep
from balancer.testing import ManualClock


def settings_for(**changes):
    """Return settings of a pool; the usual ttls are told apart from what tests choose by half seconds."""
    usual = {
        "namespace": "customer/service",
        "strategy": "random",
        "lower_only": False,
        "lease_ttl": 60.0,
        "job_ttl": 3600.5,
        "ambiguous_ttl": 600.5,
    }
    return ops.Settings(**{**usual, **changes})


class SqliteWorld:
    """One file, a clock that is moved by hand, and any number of owners in this process."""

    beats = False

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="balancer-")
        self.path = Path(self._folder.name) / "pool.db"
        self.clock = ManualClock()
        self._opened = []

    def open(self, name, **changes):
        """Return the backend of one more owner."""
        backend = SqliteBackend(
            self.path, settings_for(**changes), ops.Owner(name, f"host:{name}"), self.clock
        )
        self._opened.append(backend)
        return backend

    def kill(self, backend):
        """Do what the kernel does when the process of an owner dies."""
        backend._mailbox.drop()
        backend._database.close()

    def audit(self):
        """Check what the file derives from its rows."""
        with sqlite3.connect(self.path) as file:
            assert not file.execute(
                "SELECT id, in_flight, n FROM (SELECT a.id, in_flight, (SELECT count(*) FROM lease"
                " WHERE lease.pool = a.pool AND lease.account = a.id) AS n FROM account a)"
                " WHERE in_flight <> n"
            ).fetchall()
            assert not file.execute(
                "SELECT pool, shelf FROM account WHERE place IS NOT NULL GROUP BY pool, shelf"
                " HAVING min(place) <> 0 OR max(place) <> count(*) - 1 OR count(DISTINCT place) <> count(*)"
            ).fetchall()
            assert not file.execute(
                "SELECT id FROM account AS a WHERE (place IS NOT NULL) <> (NOT broken AND NOT draining"
                " AND in_flight + external < capacity AND NOT EXISTS (SELECT 1 FROM pause WHERE pool = a.pool"
                " AND account = a.id AND (cooling OR probe IS NOT NULL)))"
            ).fetchall()
            assert not file.execute(
                "SELECT a.id FROM account AS a JOIN pool ON pool.id = a.pool WHERE shelf <>"
                " CASE strategy WHEN 'random' THEN 0.0 ELSE CAST(in_flight + external AS REAL) / capacity END"
            ).fetchall()
            kept = "SELECT id, due, loose_since, pauses, anybody_waits FROM pool"
            before = file.execute(kept).fetchall()
            for (pool,) in file.execute("SELECT id FROM pool").fetchall():
                keep(file.execute, pool)
            assert file.execute(kept).fetchall() == before
            file.rollback()
        file.close()

    def close(self):
        """End it, and leave nothing."""
        for backend in self._opened:
            backend.close()
        self._folder.cleanup()


WORLDS = {"redis": RedisWorld, "sqlite": SqliteWorld}


@pytest.fixture(params=sorted(WORLDS))
def world(request):
    """One empty store of each kind."""
    made = WORLDS[request.param]()
    yield made
    made.close()


@pytest.fixture
def backend_factory(world):
    """Return a function that makes the backend of one more owner: ``backend_factory(name, **settings)``."""
    return world.open


def configure(backend, capacities, **broken):
    """Put a table in force, given as id -> capacity; return its version."""
    found = backend.call(ops.ReadTable()).result
    base, old = (found.version, found.table.accounts) if found else (0, {})
    new = {id: Account(id, capacity, broken=broken.get(id)) for id, capacity in capacities.items()}
    put = tuple(account for account in new.values() if old.get(account.id) != account)
    gone = tuple(id for id in old if id not in new)
    claim = backend.call(ops.Claim("fetch", 0, 60)).result
    version = backend.call(ops.Configure(claim.number, base, AccountTable(new), put, gone)).result
    assert version is not None
    return version


def dump(backend):
    """Return everything that the store holds."""
    return backend.call(ops.ReadAll()).result


def rows(backend):
    """Return the live leases by key."""
    return {row.key: row for row in dump(backend).rows}
