"""Pools whose configuration comes from a stand-in, or when a test says so."""

from __future__ import annotations

import threading

import pytest
import requests
from crew import Played
from stepping import until

from balancer import AccountPool, HttpSource

ACCOUNTS = "GET /v1/flowmusic/accounts"


@pytest.fixture
def over_http(fake_useapi, clock):
    """Return what starts a stand-in and a pool that reads from it, without retries of its own."""
    sessions = []

    def make(accounts, **options):
        fake = fake_useapi({"flowmusic": accounts})
        sessions.append(requests.Session())
        source = HttpSource("flowmusic", token=fake.token, base_url=fake.url, session=sessions[-1])
        return fake, AccountPool(source=source, clock=clock, **{"reconcile_every": None, **options})

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def play(clock):
    """Return what makes a played source and a pool that reads from it."""
    sources = []

    def make(source=None, **options):
        sources.append(source or Played(a=1))
        return sources[-1], AccountPool(source=sources[-1], clock=clock, reconcile_every=None, **options)

    yield make
    for source in sources:
        source.detached()
    until(lambda: not any(thread.name == "balancer-fetch" for thread in threading.enumerate()))


def fetches(fake):
    """Return how many times the accounts were asked for."""
    return fake.audit().requests.get(ACCOUNTS, 0)
