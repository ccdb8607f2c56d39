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
from balancer.rules import operations as ops
from balancer.rules.fleet_entries import FleetEntries
from balancer.rules.fleet_ledger import FleetLedger
from balancer.stores.sqlite import SqliteBackend
from balancer.stores.sqlite.change_feed import ChangeFeed
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
        backend._pipe.drop()
        backend._database.close()
        self._opened.remove(backend)

    def audit(self):
        """Check that every replica, once it is up to date, is what the file says to whoever reads it anew."""
        with sqlite3.connect(self.path) as file:
            for (namespace,) in file.execute("SELECT namespace FROM pool").fetchall():
                fresh = told(load(file, namespace))
                for backend in self._opened:
                    if backend._feed is not None and backend._settings.namespace == namespace:
                        feed = backend._feed
                        assert feed.catch_up(feed.connection, feed.entries.offset)
                        assert told(backend._feed.fleet) == fresh
            names = "SELECT name FROM entry_1 WHERE substr(value, 1, 1) NOT IN ('-', '~')"
            found = [name for (name,) in file.execute(names)]
            assert len(found) == len(set(found)), "a thing is there twice"
        file.close()

    def close(self):
        """End it, and leave nothing."""
        for backend in self._opened:
            backend.close()
        self._folder.cleanup()


def load(file, namespace, **changes):
    """Return what a file says of a pool to somebody who has never read it."""
    fleet = FleetLedger(settings_for(**changes), own="nobody")
    feed = ChangeFeed(file, ChangeFeed.find(file, namespace), fleet)
    assert feed.catch_up(feed.connection, feed.entries.offset)
    return fleet


def in_file(path):
    """Return what the file of a pool says to somebody who has never read it."""
    file = sqlite3.connect(path)
    try:
        return load(file, settings_for().namespace)
    finally:
        file.close()


def told(fleet):
    """Return all that a replica holds, and what it derives from that."""
    ledger = fleet.ledger
    room = {id for id, account_state in ledger.account_states.items() if account_state.fits()}
    drawn = ledger.selector.pick(0.0)
    assert (drawn is None) == (not room)
    assert drawn is None or drawn.id in room
    derived = {
        id: (len(account_state.held), account_state.left, account_state.external)
        for id, account_state in ledger.account_states.items()
    }
    ends = ledger.timers.next, ledger.detached_since.next, fleet.deadlines.next
    return (
        dict(FleetEntries(fleet).entries()),
        room,
        derived,
        ends,
        {job: row.key for job, row in ledger.jobs.items()},
    )


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
