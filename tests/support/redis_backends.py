"""What the tests of the Redis backend share: servers, backends with accounts, and what a server was asked."""

from __future__ import annotations

import itertools

import pytest
from redis_server import BINARIES, RedisServer

from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.stores.redis import open_backend
from balancer.stores.redis.scripts import KEYS, base_of

_serial = itertools.count(1)


@pytest.fixture(scope="module", params=sorted(BINARIES))
def server(request):
    """One server of each binary that there is."""
    with RedisServer(binary=BINARIES[request.param]) as running:
        running.empty()
        yield running


@pytest.fixture
def backends(server):
    """Return a function that makes backends; each test has a namespace of its own."""
    made = []
    namespace = f"user:{next(_serial)}/test"

    def make(client=None, name=None, *, now=None, async_client=None, namespace=namespace, **changes):
        settings = ops.Settings(
            **{
                "namespace": namespace,
                "strategy": "random",
                "lower_only": False,
                "lease_ttl": 60.0,
                "job_ttl": 3600.0,
                "ambiguous_ttl": 600.0,
                **changes,
            }
        )
        owner = ops.Owner(name or f"owner{next(_serial)}", "host:1")
        made.append(open_backend(client or server.url, settings, owner, async_client, now))
        made[-1].owner, made[-1].base = owner, base_of(namespace)
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def configure(backend, capacities):
    """Put a table in force, given as id -> capacity."""
    found = backend.call(ops.ReadTable()).result
    base, old = (found.version, found.table.accounts) if found else (0, {})
    new = {id: Account(id, capacity) for id, capacity in capacities.items()}
    put = tuple(account for account in new.values() if old.get(account.id) != account)
    gone = tuple(id for id in old if id not in new)
    claim = backend.call(ops.Claim("fetch", 0, 60)).result
    version = backend.call(ops.Configure(claim.number, base, AccountTable(new), put, gone)).result
    assert version is not None
    return version


def take(backend, number=None, **options):
    """Take a lease; return its key and the answer."""
    key = f"{backend.owner.name}-{next(_serial) if number is None else number:x}"
    return key, backend.call(ops.Acquire(key=key, **options)).result


def granted(backend, **options):
    """Take a lease that there must be room for; return its key."""
    key, answer = take(backend, **options)
    assert answer is not None
    return key


def rows(backend):
    """Return the live leases by key."""
    return {row.key: row for row in backend.call(ops.ReadAll()).result.rows}


def name_of(backend, key):
    """Return the full name of one of the backend's keys."""
    assert key in KEYS
    return backend.base + key


def commands(client):
    """Return how often each command was executed, those inside scripts included."""
    return {name: stats["calls"] for name, stats in client.info("commandstats").items()}


def spent(client, work):
    """Return the commands that ``work()`` made the server execute."""
    before = commands(client)
    work()
    after = commands(client)
    counts = {name: calls - before.get(name, 0) for name, calls in after.items()}
    return {name: calls for name, calls in counts.items() if calls and name != "cmdstat_info"}
