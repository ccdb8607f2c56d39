"""A program that calls a pool in the middle of another call, at every moment there is.

``python reentrance_worker.py STORE WITHIN ACTION ...``: a profiler strikes at the first, second, third …
function that is entered or left in this thread during WITHIN, and does ACTION there, as a finalizer, a signal
handler or a profiler of the user's may; then the same for the next ACTION. Before each strike its number is
printed; a strike that hangs ends the program with the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import fcntl
import gc
import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

from stepping import until

import balancer
from balancer import AccountPool, AsyncAccountPool, PoolClosed, PoolStats

PACKAGE = str(Path(balancer.__file__).parent)
BUSY = (429, {}, '{"error": "at capacity"}')
EXHAUSTED = (412, {}, '{"error": "Not enough credits"}')
ACCEPTED = (201, {}, '{"jobid": "j1"}')
HANGS = 5.0
"""Seconds after which a strike counts as hung."""
AT_ONCE = 1.5
"""Seconds that a strike may take on a busy machine, and less than those for which a store is asked again."""
SLOTS = 6


class Scene:
    """A pool of six slots, a lease that the strike may use, and what the strike came to."""

    def __init__(self, store):
        self.store, self.shared = store, store != "memory://"
        self.pool = self.first = self.new_pool()
        self.other = self.pool.acquire(account="a")
        self.closed, self.refused = False, "not at all"

    def new_pool(self):
        pool = AccountPool("custom", source={"a": 3, "b": 3}, ttl=1e9, reconcile_every=None, store=self.store)
        pool.refresh()
        return pool

    def holds(self):
        return [holder.id for holder in self.pool.holders()]

    def settle(self, holds):
        """Wait until what was noted is sent, where another thread does that; it is done at once elsewhere."""
        if self.shared:
            until(holds, HANGS)
        return holds()

    def end(self):
        for pool in {self.pool, self.first}:
            pool.close()


# -- what is under way -----------------------------------------------------------------------------


def _pinned(scene):
    return scene.pool.acquire(account="b").release


def _first(scene):
    scene.pool = scene.new_pool()
    worker = scene.pool._core.store.worker  # it may run since the first table was fetched; it is started anew
    if (thread := worker.thread) is not None:
        worker.thread = None
        worker._backend.poke()
        thread.join()
    yield
    lease = scene.pool.acquire(account="b")
    yield
    lease.release()


def _queued(scene):
    queue = scene.pool._core.store.backend._database._queue
    file = os.open(queue._lock, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)

    def let_it_have_its_turn():
        with contextlib.suppress(AssertionError):
            until(lambda: queue._queues, AT_ONCE)
        os.close(file)

    helper = threading.Thread(target=let_it_have_its_turn)
    helper.start()
    yield
    lease = scene.pool.acquire(account="b", timeout=HANGS)
    yield
    helper.join()
    lease.release()


def _plain(scene):
    return scene.pool.acquire().release


def _waits_and_has_it(scene):
    lease = scene.pool.acquire(account="a", timeout=10, label="x", exclude=["b"])
    return lease.release


def _refused(scene):
    held = [scene.pool.acquire() for _ in range(SLOTS - 1)]
    yield
    with contextlib.suppress(balancer.AcquireTimeout):
        scene.pool.acquire(timeout=0).release()
    yield
    for lease in held:
        lease.release()


def _released(scene):
    lease = scene.pool.acquire(account="b")
    yield
    lease.release()


def _handed_over(scene):
    held, got = [scene.pool.acquire() for _ in range(SLOTS - 1)], []

    def wait():
        with contextlib.suppress(PoolClosed):
            got.append(scene.pool.acquire(account=held[0].account, timeout=30))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: scene.pool.stats().waiting)
    yield
    held[0].release()
    yield
    thread.join()
    for lease in (*held, *got):
        lease.release()


def _bound(scene):
    lease = scene.pool.acquire(account="b")
    yield
    lease.bind("job")
    yield
    lease.release()


def _reported(answer):
    def report(scene):
        lease = scene.pool.acquire(account="b")
        yield
        lease.report(answer)
        yield
        lease.release()
        with contextlib.suppress(PoolClosed):
            scene.pool.reset("b")

    return report


def _cooled(scene):
    yield
    scene.pool.cool("b", 60)
    yield
    scene.pool.reset("b")


def _looked(scene):
    yield
    scene.pool.stats()
    scene.pool.holders()
    scene.pool.explain()


def _closed(scene):
    yield
    scene.pool.close()
    scene.closed = True


def _at_once(act):
    def steps(scene):
        yield
        undo = act(scene)
        yield
        undo()

    return steps


WITHIN = {
    "acquire, one account": _at_once(_pinned),
    "first acquire": _first,
    "acquire, over a connection": _at_once(_pinned),
    "acquire, in a file": _at_once(_pinned),
    "acquire, by the queue's thread": _queued,
    "release, in a file": _released,
    "close, in a file": _closed,
    "acquire": _at_once(_plain),
    "acquire, options": _at_once(_waits_and_has_it),
    "refusal": _refused,
    "release": _released,
    "release to one who waits": _handed_over,
    "bind": _bound,
    "report busy": _reported(BUSY),
    "report exhausted": _reported(EXHAUSTED),
    "report accepted": _reported(ACCEPTED),
    "cool": _cooled,
    "looks": _looked,
    "close": _closed,
}

WHERE = {
    "first acquire": (f"{PACKAGE}/stores/worker.py", threading.__file__),
    "acquire, over a connection": (f"{PACKAGE}/stores/redis/connections.py",),
    "acquire, in a file": (f"{PACKAGE}/stores/sqlite/",),
    "acquire, by the queue's thread": (f"{PACKAGE}/stores/sqlite/",),
    "release, in a file": (f"{PACKAGE}/stores/sqlite/",),
    "close, in a file": (f"{PACKAGE}/stores/sqlite/",),
}
"""What is struck in, where that is not all of the package."""
THREAD = {"acquire, by the queue's thread": "balancer-sqlite"}
"""The thread that is struck, where that is not the one that asks."""
EVERYWHERE = [name for name in WITHIN if name not in WHERE]

# -- what strikes -----------------------------------------------------------------------------------


def _leave_a_block(scene):
    scene.other.__exit__(None, None, None)


def _drop(scene):
    scene.other = None


def _collect_a_generator(scene):
    def holding(lease):
        with lease:
            yield

    class Keeps:
        pass

    it = Keeps()
    it.lease, scene.other = scene.other, None
    it.generator = holding(it.lease)
    next(it.generator)
    it.lease, it.me = None, it
    del it
    gc.collect()


def _collect_a_task(scene):
    pool, entered = AsyncAccountPool(pool=scene.pool), asyncio.Event()

    async def hold():
        async with pool.acquire(account="a"):
            entered.set()
            await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it says that a task was destroyed
    task = loop.create_task(hold())
    loop.run_until_complete(entered.wait())
    loop.close()
    scene.cycle = [loop, task]
    scene.cycle.append(scene.cycle)
    return lambda: (setattr(scene, "cycle", None), gc.collect())


def _finalize(scene):
    class Thing:
        pass

    thing = Thing()
    weakref.finalize(thing, scene.other.release)
    thing.me = thing
    del thing
    gc.collect()


def _close(scene):
    scene.pool.close()
    scene.closed = True


def _stats(scene):
    assert isinstance(scene.pool.stats(), PoolStats)


def _refusable(act):
    def strike(scene):
        try:
            act(scene)
        except RuntimeError as error:
            scene.refused = str(error)
        except (PoolClosed, balancer.AcquireTimeout, balancer.LeaseLost):
            pass

    return strike


RELEASES = {
    "release": lambda scene: scene.other.release(),
    "release by id": lambda scene: scene.pool.release(scene.other.id),
    "leave a block": _leave_a_block,
    "drop": _drop,
    "collect a generator": _collect_a_generator,
    "finalize": _finalize,
}
OTHERS = {
    "close": _close,
    "stats": _stats,
    "acquire": _refusable(lambda scene: scene.pool.acquire(timeout=0).release()),
    "acquire, one account": _refusable(lambda scene: scene.pool.acquire(account="a", timeout=0).release()),
    "bind": _refusable(lambda scene: scene.other.bind("other job")),
    "report": _refusable(lambda scene: scene.other.report(ACCEPTED)),
    "renew": _refusable(lambda scene: scene.pool.renew(scene.other.id)),
    "cool": _refusable(lambda scene: scene.pool.cool("a", 0.001)),
    "reset": _refusable(lambda scene: scene.pool.reset("a")),
    "looks": _refusable(lambda scene: (scene.pool.holders(), scene.pool.explain(), repr(scene.pool))),
}
PREPARED = {"collect a task": _collect_a_task}
"""What has to be made ready before; it returns what strikes."""


class Striker:
    """Strikes once, when a function is entered or left for the ``moment``-th time."""

    def __init__(self, moment, strike, events=("call", "return", "c_call", "c_return"), where=(PACKAGE,)):
        self.moment, self.strike, self.events, self.seen, self.where = moment, strike, events, 0, where
        self.thread, self.took, self.ended = None, 0.0, threading.Event()

    def __call__(self, frame, event, argument):
        file = frame.f_code.co_filename
        if event not in self.events or not file.startswith(self.where):
            return
        if self.thread is not None and threading.current_thread().name != self.thread:
            return
        self.seen += 1
        if self.seen == self.moment:
            sys.setprofile(None)
            begun = time.monotonic()
            try:
                self.strike()
            finally:
                self.took = time.monotonic() - begun
                self.ended.set()


def one(store, within, action, moment):
    """Strike at one moment, and see that nothing was lost. False: there is no such moment any more."""
    scene = Scene(store)
    if action in PREPARED:
        scene.other.release()
        strike = PREPARED[action](scene)
    else:
        act = (RELEASES | OTHERS)[action]
        strike = lambda: act(scene)  # noqa: E731  # one of two
    striker = Striker(moment, strike, where=WHERE.get(within, (PACKAGE,)))
    steps = WITHIN[within](scene)
    next(steps)
    striker.thread = THREAD.get(within)
    watch = threading.setprofile if striker.thread else sys.setprofile
    watch(striker)
    try:
        with contextlib.suppress(PoolClosed, StopIteration):
            next(steps)
    finally:
        watch(None)
    if striker.seen >= moment:
        striker.ended.wait(HANGS / 2)  # in the queue's thread it may outlast the operation
    assert striker.took < AT_ONCE, f"moment {moment}: it waited for {striker.took:.1f} s"
    with contextlib.suppress(PoolClosed):
        for _ in steps:
            pass
    assert scene.refused, f"moment {moment}: it does not say why"
    struck = striker.seen >= moment
    if struck and action in (RELEASES | PREPARED):
        assert scene.settle(lambda: scene.holds() == []), f"moment {moment}: {scene.pool.holders()}"
    elif scene.other is not None:
        scene.other.release()
    if not struck and action in PREPARED:
        strike()  # what was prepared holds a slot, and there was no moment left for it
    if scene.closed:
        try:
            scene.pool.acquire(timeout=0)
        except PoolClosed:
            assert scene.settle(lambda: scene.holds() == []), f"moment {moment}: {scene.pool.holders()}"
            scene.end()
            return struck
        raise AssertionError(f"moment {moment}: the pool is still open")
    assert scene.settle(lambda: scene.holds() == []), f"moment {moment}: {scene.pool.holders()}"
    scene.pool.reset("a")
    # A shared store may still offer one to whoever was in line; that passes on within a second or two.
    leases = [scene.pool.acquire(timeout=HANGS / 2 if scene.shared else 0) for _ in range(SLOTS)]
    assert len(leases) == SLOTS
    assert all(lease.release() for lease in leases)
    scene.end()
    return struck


class Interrupted(BaseException):
    """What a signal handler raises."""


def interrupt():
    """Raise it."""
    raise Interrupted


ENDERS = {
    "stats": lambda pool: pool.stats(),
    "acquire": lambda pool: pool.acquire(timeout=0).release(),
    "acquire, one account": lambda pool: pool.acquire(account="b", timeout=0).release(),
    "holders": lambda pool: pool.holders(),
}
"""Calls that end what was abandoned, on the way."""


def interrupted(act, moment):
    """Interrupt the call that ends an abandoned lease. False: there is no such moment any more."""
    pool = AccountPool(source={"a": 1, "b": 1}, ttl=1e9, reconcile_every=None)
    pool.refresh()
    dropped = pool.acquire(account="a")
    del dropped
    striker = Striker(moment, interrupt, events=("call", "c_return"))  # where signals are seen
    sys.setprofile(striker)
    try:
        with contextlib.suppress(Interrupted):
            act(pool)
    finally:
        sys.setprofile(None)
    pool.stats()
    assert pool.stats().free == 2, f"lost by an interruption at moment {moment}"
    return striker.seen >= moment


def strike_at_every_moment(store, within, action):
    """Do it at one moment after the other, as long as there are any."""
    for moment in itertools.count(1):
        print(action, moment, flush=True)  # noqa: T201
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            if within == "interrupted":
                goes_on = interrupted(ENDERS[action], moment)
            else:
                goes_on = one(store, within, action, moment)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if not goes_on:
            break


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    gc.freeze()  # so that to collect what strikes leave behind is quick
    for action in sys.argv[3:]:
        strike_at_every_moment(*sys.argv[1:3], action)
