"""An event loop that is stepped by hand, and a source whose answers land when a test says so."""

import asyncio
import time

from balancer import AccountPool, AsyncAccountPool


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still and that does one round of callbacks at a time."""

    now = 0.0

    def time(self):
        return self.now

    def tick(self, rounds=1):
        for _ in range(rounds):
            self.call_soon(self.stop)
            self.run_forever()

    def run_on(self, seconds, rounds=8):
        self.now += seconds
        self.tick(rounds)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class HeldSource:
    """Accounts, and perhaps jobs, that are read only when the test lets a request land."""

    def __init__(self, **accounts):
        self.table = accounts
        self.running = []
        self.trouble = None
        self.asked = []

    def hold(self, pool):
        """Have the pool's requests wait here, in place of threads of their own."""
        pool._core.refresher._send = lambda errand, *_: self.asked.append(errand)
        return pool

    def land(self):
        """Let the oldest request land."""
        self.asked.pop(0)()

    def accounts(self):
        if self.trouble is not None:
            raise self.trouble
        return self.table

    def jobs(self):
        if self.trouble is not None:
            raise self.trouble
        return self.running


def at_once(coroutine):
    """Return what a coroutine returns that never suspends; fail if it does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError(f"{coroutine!r} suspended")


def until(holds, patience=30.0):
    """Wait until ``holds()``, which another thread or process brings about; return what it returned."""
    end = time.monotonic() + patience
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"{holds} did not come to hold in time")
        time.sleep(0.001)
    return found


def full_pool(**options):
    """Return a pool with one slot, both its faces, and the lease that has the slot."""
    source = HeldSource(a=1)
    sync = AccountPool("custom", source=source, reconcile_every=None, **options)
    sync.refresh()
    return sync, AsyncAccountPool(pool=sync), sync.acquire(timeout=0)


def in_flight(pool):
    """Return how many leases are live, whatever else is wrong with the pool."""
    return len(pool.holders())


def two_faces(**accounts):
    """Return both faces of one pool whose first table is read."""
    sync = AccountPool("custom", source=accounts, reconcile_every=None)
    sync.refresh()
    return sync, AsyncAccountPool(pool=sync)
