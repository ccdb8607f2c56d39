"""Every store there is, and a place for pools of either kind over it."""

from __future__ import annotations

import pytest
from redis_server import RedisServer
from store_world import World


@pytest.fixture(scope="module")
def redis_server():
    """Start a Redis for this module."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    """Return the URL of an empty store of each kind."""
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/slots.db"
    return request.getfixturevalue("empty_redis")


@pytest.fixture
def empty_redis(redis_server):
    """Return the URL of a Redis that holds nothing."""
    redis_server.empty()
    return redis_server.url


@pytest.fixture(params=["sync", "async"])
def world(request, store):
    """Return a place for pools of either kind."""
    world = World(store, request.param)
    yield world
    world.close()
