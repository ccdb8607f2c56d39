"""Every store there is, and a place for pools of either kind over it."""

from __future__ import annotations

import pytest
from redis_server import the_server
from store_world import World


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    """Return the URL of an empty store of each kind."""
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/slots.db"
    return request.getfixturevalue("empty_redis")


@pytest.fixture
def empty_redis():
    """Return the URL of a Redis that holds nothing."""
    the_server().empty()
    return the_server().url


@pytest.fixture(params=["sync", "async"])
def world(request, store):
    """Return a place for pools of either kind."""
    world = World(store, request.param)
    yield world
    world.close()
