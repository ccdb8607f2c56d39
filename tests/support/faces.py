"""The two faces of a pool behind one manner of speaking, so that a test is written once for both."""

import asyncio

import pytest

from balancer import AccountPool, AsyncAccountPool
from balancer.testing import ManualClock


class ThreadFace:
    """Threads: what is called is done."""

    Pool = AccountPool

    def do(self, value):
        """Return what a method of the pool or of a lease came to."""
        return value

    def work(self, function):
        """Return ``function`` in the form in which this face calls it."""
        return function

    def block(self, acquiring, body=lambda lease: None):
        """Run ``body(lease)`` in the block of a lease."""
        with acquiring as lease:
            return body(lease)


class TaskFace:
    """Tasks: each is run to its end in a loop of its own."""

    Pool = AsyncAccountPool

    def do(self, value):
        """Return what a coroutine, or what can be awaited, came to."""

        async def awaited():
            return await value

        return asyncio.run(awaited())

    def work(self, function):
        """Return ``function`` as a coroutine function."""

        async def coroutine(*args, **kwargs):
            return function(*args, **kwargs)

        return coroutine

    def block(self, acquiring, body=lambda lease: None):
        """Run ``body(lease)`` in the block of a lease."""

        async def entered():
            async with acquiring as lease:
                return body(lease)

        return asyncio.run(entered())


both_faces = pytest.mark.parametrize("face", [ThreadFace(), TaskFace()], ids=["threads", "tasks"])


def pool_for(face, key, accounts, **options):
    """Return a pool of that face for a service, and a sync face to look at it."""
    options = {"clock": ManualClock(), "token": "t", "reconcile_every": None, **options}
    sync = AccountPool(key, source=accounts, **options)
    sync.refresh()
    return (sync if face.Pool is AccountPool else AsyncAccountPool(pool=sync)), sync
