"""Code that runs in the middle of a call: finalizers, signal handlers, profilers, log processors.

From there a release, the end of a block, a close, a look at the stats and a dropped lease are done, or
noted and done on the way out; anything else is done or refused. Nothing hangs and nothing is lost. What may
hang runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import structlog
from places import SUPPORT
from reentrance_worker import ENDERS, EVERYWHERE, OTHERS, PREPARED, RELEASES

from balancer import AccountPool, PoolClosed

HERE = SUPPORT
BOUND = 100.0
"""Seconds that a program may take; one that hangs is killed, and most of them end themselves before."""


def ran(*command):
    """Run a program of the tests to its end, and return what it printed; its hang or failure is ours."""
    try:
        child = subprocess.run(
            [sys.executable, *command], cwd=HERE, capture_output=True, text=True, check=False, timeout=BOUND
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it hung: {error.stdout!r} {error.stderr!r}") from None
    assert child.returncode == 0, f"at {child.stdout[-200:]!r}: {child.stderr[-3000:]}"
    return child.stdout


def program(text):
    """Run a program that stands in a test; it ends by itself, with the stacks, if it takes 25 s."""
    head = "import faulthandler; faulthandler.dump_traceback_later(25, exit=True)\n"
    return ran("-c", head + textwrap.dedent(text))


@pytest.mark.parametrize("within", ["acquire, one account", "release to one who waits"])
def test_whatever_is_done_in_the_middle_of_a_call_neither_hangs_nor_is_lost(within):
    """At each moment of an acquire and a hand-over, each thing that people do is done, noted or refused."""
    ran("reentrance_worker.py", "memory://", within, *RELEASES, *PREPARED, *OTHERS)


@pytest.mark.parametrize("within", [name for name in EVERYWHERE if name != "acquire, one account"])
def test_no_call_has_a_moment_in_which_a_release_or_a_close_hangs(within):
    """Every call there is can be struck at every moment."""
    ran("reentrance_worker.py", "memory://", within, "release", "close", "stats", "acquire, one account")


@pytest.mark.parametrize(
    ("within", "actions"),
    [
        ("acquire, one account", ("release", "drop")),
        ("acquire, over a connection", ("close", "stats", "bind", "cool", "release by id")),
        ("first acquire", ("close", "release by id", "stats")),
    ],
)
def test_a_call_to_redis_can_be_struck_at_every_moment(empty_redis, within, actions):
    """Who comes in the middle has a connection of its own, and waits for the start of no thread."""
    ran("reentrance_worker.py", empty_redis, within, *actions)


GARBAGE = {
    "generators": """
        def holding():
            with pool.acquire(account="a", timeout=5):
                yield
        class Keeps: pass
        def make():
            it = Keeps()
            it.generator = holding()
            next(it.generator)
            it.me = it
    """,
    "finalizers": """
        import weakref
        class Thing: pass
        def make():
            thing = Thing()
            weakref.finalize(thing, pool.acquire(account="a", timeout=5).release)
            thing.me = thing
    """,
    "tasks on a closed loop": """
        import asyncio
        from balancer import AsyncAccountPool
        tasks = AsyncAccountPool(pool=pool)
        async def hold():
            async with tasks.acquire(account="a", timeout=5):
                await asyncio.get_running_loop().create_future()
        def make():
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(lambda *_: None)
            cycle = [loop, loop.create_task(hold())]
            cycle.append(cycle)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    """,
    "leases in cycles": """
        def make():
            cycle = [pool.acquire(account="a", timeout=5)]
            cycle.append(cycle)
    """,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_that_holds_leases_is_collected_whenever_the_interpreter_likes(kind):
    """With the collector's own settings, thousands of times: the pool goes on, and no slot is lost."""
    program(
        f"""
import gc, logging, warnings
from balancer import AccountPool
warnings.simplefilter("ignore")
pool = AccountPool(source={{"a": 1000, "b": 4}}, ttl=1e9, reconcile_every=None)
pool.refresh()
{textwrap.dedent(GARBAGE[kind])}
kept = []
for number in range(5000):
    if number % 5 == 0:
        make()
    lease = pool.acquire(account="b", timeout=5)
    kept.append([number])
    lease.release()
gc.collect()
gc.collect()
assert pool.stats().in_flight == 0, pool.stats()
assert pool.stats().free == 1004
"""
    )


HANDLERS = {
    "release": "leases and leases.pop().release()",
    "release by id": "leases and pool.release(leases.pop().id)",
    "bind": "leases and leases[-1].bind(f'job-{struck}') or (leases and leases.pop().release())",
    "cool": "pool.cool('a', 0.001)",
    "stats": "pool.stats()",
    "holders": "pool.holders()",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_signal_handler_may_use_the_pool_that_its_process_is_busy_with(handler):
    """A thousand signals in the middle of pinned acquires: what a handler does is done, noted or refused."""
    program(
        f"""
import signal, time
from balancer import AccountPool, LeaseLost
pool = AccountPool(source={{"a": 4, "b": 4}}, ttl=1e9, reconcile_every=None)
pool.refresh()
leases, struck = [], 0
def handle(*_):
    global struck
    struck += 1
    try:
        {HANDLERS[handler]}
    except RuntimeError as error:
        assert str(error)
    except ValueError as error:  # it was struck again before the lease of the last time was ended
        assert "bound" in str(error)
    except LeaseLost:  # it was struck again, and that time released the lease
        pass
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
end = time.monotonic() + 8
while struck < 1000 and time.monotonic() < end:
    if not leases:
        leases.append(pool.acquire(account="b", timeout=5))
    with pool.acquire(account="b", timeout=5):
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert struck > 50
while leases:
    leases.pop().release()
time.sleep(0.01)
assert pool.stats().in_flight == 0
pool.reset("a")
assert pool.stats().free == 8
"""
    )


def test_a_signal_handler_may_close_the_pool_that_its_process_is_busy_with():
    """As a server does that is told to stop: whoever comes then hears that the pool is closed."""
    program(
        """
import random, signal, time
from balancer import AccountPool, PoolClosed
signal.signal(signal.SIGALRM, lambda *_: pool.close())
for _ in range(400):
    pool = AccountPool(source={"a": 4}, ttl=1e9, reconcile_every=None)
    pool.refresh()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
    try:
        while True:
            with pool.acquire(account="a", timeout=5):
                pass
    except PoolClosed:
        pass
    assert pool.stats().in_flight == 0
"""
    )


def test_an_acquire_while_the_interpreter_ends_does_not_hang():
    """In a ``__del__`` at the very end no thread can be started any more: it is served, or told so."""
    program(
        """
from balancer import AccountPool
class Last:
    def __init__(self, pool, **options):
        self.pool, self.options = pool, options
    def __del__(self):
        try:
            self.pool.acquire(**self.options).release()
        except Exception as error:
            assert str(error)
def stale():
    pool = AccountPool(source={"a": 1}, ttl=1.0, reconcile_every=None)
    pool.refresh()
    return pool
new, old = AccountPool(source={"a": 1}), stale()
import time; time.sleep(1.1)
last = [Last(new, timeout=3), Last(old, timeout=3), Last(old, account="a", timeout=3)]
last.append(last)
import builtins
builtins.last = last
"""
    )


RUNS_SHORT = """
import gc, sys
from balancer import AccountPool, AcquireTimeout
pool = AccountPool(source={{"a": 6}}, ttl=1e9, reconcile_every=None)
pool.refresh()
def deep(left, act):
    return deep(left - 1, act) if left else act()
gc.freeze()  # so that to collect what a call leaves behind is quick
errors = 0
for margin in range(2, 160):
    held = [pool.acquire(timeout=5) for _ in range({held})]
    try:
        deep(sys.getrecursionlimit() - margin, lambda: {act})
    except RecursionError:
        errors += 1
    except AcquireTimeout:
        pass
    while held:
        held.pop().release()
    gc.collect()
    free = pool.stats().free
    assert free == 6, f"with {{margin}} calls left, {{6 - free}} slots were lost"
assert errors
"""


@pytest.mark.parametrize(
    ("held", "act"),
    [
        (6, "pool.acquire(timeout=0.001)"),
        (6, "pool.acquire(account='a', timeout=0.001)"),
        (3, "pool.acquire(account='a', timeout=5).release()"),
        (3, "pool.acquire(timeout=5).release()"),
        (6, "held[-1].release()"),
        (6, "held[-1].__exit__(None, None, None)"),
    ],
    ids=["in line", "in line, one account", "one account", "any", "release", "leave a block"],
)
def test_a_call_that_runs_out_of_stack_leaves_nobody_in_line_and_no_slot_behind(held, act):
    """However few calls are left, a RecursionError takes nothing with it."""
    program(RUNS_SHORT.format(held=held, act=act))


def test_an_abandoned_lease_survives_the_interruption_of_the_call_that_ends_it():
    """Whenever a signal handler's exception comes, the slot is free after the next call, or the one after."""
    ran("reentrance_worker.py", "memory://", "interrupted", *ENDERS)


def test_a_log_processor_may_use_the_pool_that_logs():
    """It looks at the pool, gives a slot back and closes it, from within what the pool has to tell."""
    program(
        """
import structlog
from balancer import AccountPool, PoolClosed
pool = AccountPool(source={"a": 2, "b": 2}, ttl=1e9, reconcile_every=None)
pool.refresh()
seen, spare = [], [pool.acquire(account="a")]
def process(logger, name, event):
    seen.append(event["event"])
    pool.stats()
    if spare:
        spare.pop().release()
    if event["event"] == "lease_abandoned":
        pool.acquire(account="a", timeout=0).release()
        pool.close()
    raise structlog.DropEvent
structlog.configure(processors=[process], cache_logger_on_first_use=False)
lease = pool.acquire(account="b")
lease.report((429, {}, ""))
assert not spare
del lease
pool.stats()
assert seen == ["account_cooling", "lease_abandoned"], seen
try:
    pool.acquire(timeout=0)
except PoolClosed:
    pass
else:
    raise AssertionError("it is open")
assert pool.stats().in_flight == 0
"""
    )


def test_a_processor_that_a_pool_closes_does_not_keep_it_from_closing():
    """A pool that is closed while it logs is closed for everybody."""
    pool = AccountPool(source={"a": 1}, ttl=1e9, reconcile_every=None)
    pool.refresh()

    def close(logger, name, event):
        pool.close()
        raise structlog.DropEvent

    structlog.configure(processors=[close])
    pool.cool("a", 60)
    with pytest.raises(PoolClosed):
        pool.acquire(timeout=0)
