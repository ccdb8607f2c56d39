"""A store with pools of either kind over it: what the tests of every store run in."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from stepping import until

from balancer import AccountPool, AsyncAccountPool, AsyncLease
from balancer.testing import ManualClock


class World:
    """Pools over one store and one clock. Over memory every pool is the same one."""

    def __init__(self, store, flavour):
        self.store, self.flavour = store, flavour
        self.clock = ManualClock()
        self.accounts = {"a": 2, "b": 1}
        self._opened = []
        self._shared = None
        self._loop = Loop() if flavour == "async" else None

    def pool(self, **options):
        """Open a pool as one more process would."""
        if self.store == "memory://" and self._shared is not None:
            return self._shared
        kind = AccountPool if self._loop is None else AsyncAccountPool
        # The clock leaps, and a process cannot say that it lives in the middle of a leap.
        given = {
            "service": "custom",
            "source": self.accounts,
            "store": self.store,
            "clock": self.clock,
            "lease_ttl": 1e6,
        }
        settings = {**given, **options}
        pool = kind(**settings) if self._loop is None else self._loop.run(_made(kind, settings))
        self._opened.append(pool)
        self._shared = pool if self._loop is None else Blocking(pool, self._loop)
        return self._shared

    def work(self, function):
        """Return ``function`` in the form in which a pool of this kind calls it."""
        if self._loop is None:
            return function

        async def coroutine(*args, **kwargs):
            return function(*args, **kwargs)

        return coroutine

    def close(self):
        """End every lease, so that no thread keeps one alive, and close every pool."""
        if self._shared is not None:
            for holder in self._shared.holders():
                self._shared.release(holder.id)
        for pool in self._opened:
            core = pool._core
            if core.store.shared:  # it would hear of that with its next heartbeat, and listen until then
                core.store.held.on_ended_elsewhere(list(core.store.held.held))
            core.close()
            if core.store.shared:
                core.store.worker.close_when_idle()
                until(lambda worker=core.store.worker: worker.thread is None)
        if self._loop is not None:
            self._loop.close()


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self):
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Blocking:
    """An async pool or lease, used from threads: each coroutine is run on its loop."""

    def __init__(self, thing, loop):
        self._thing, self._loop = thing, loop

    @property
    def _core(self):
        return self._thing._core

    def __getattr__(self, name):
        found = getattr(self._thing, name)
        if not callable(found):
            return found

        def call(*args, **kwargs):
            came = self._loop.run(_awaited(found, args, kwargs))
            return Blocking(came, self._loop) if isinstance(came, AsyncLease) else came

        return call

    def __enter__(self):
        self._loop.run(self._thing.__aenter__())
        return self

    def __exit__(self, *error):
        self._loop.run(self._thing.__aexit__(*error))


async def _made(kind, settings):
    return kind(**settings)


async def _awaited(function, args, kwargs):
    came = function(*args, **kwargs)
    return await came if hasattr(came, "__await__") else came


@contextlib.contextmanager
def waiting(pool, count=1, **options):
    """Have ``count`` callers wait, one after the other; yield the list of (number, lease or error)."""
    got, threads = [], []

    def want(number):
        try:
            got.append((number, pool.acquire(**options)))
        except Exception as error:  # noqa: BLE001  # told to the test
            got.append((number, error))

    for number in range(count):
        before = pool.stats().waiting
        threads.append(threading.Thread(target=want, args=(number,), daemon=True))
        threads[-1].start()
        until(lambda before=before, number=number: pool.stats().waiting > before or len(got) > number)
    yield got
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "a caller waits for ever"
