"""Ends that come from outside: a deadline, a closed coroutine, an interruption."""

import asyncio
import itertools
import random
import sys
import traceback

import pytest
from stepping import HeldSource, SteppedLoop, at_once

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool
from balancer.testing import ManualClock

PACKAGE = "/balancer/"
SWALLOWED = (
    "__del__",
    "<genexpr>",
)  # what is raised in a finalizer, or in a generator that is closed, is lost


def full_pool(**options):
    """Return a pool with one slot, both its faces, and the lease that has the slot."""
    source = HeldSource(a=1)
    sync = AccountPool(source=source, reconcile_every=None, **options)
    sync.refresh()
    return sync, AsyncAccountPool(pool=sync), sync.acquire(timeout=0)


def in_flight(pool):
    """Return how many leases are live, whatever else is wrong with the pool."""
    return len(pool._core.store.ledger.rows)


MOMENTS = list(itertools.product((0, 1, 2, 3), (0, 1, 2, 3), (True, False)))


@pytest.mark.parametrize(("timed_out", "released", "timeout_first"), MOMENTS)
def test_wait_for_gives_a_lease_or_an_error_and_never_both(timed_out, released, timeout_first):
    """P-15: whenever the time is up, it is up; a slot handed over in that moment is not lost."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())

        async def bounded():
            return await asyncio.wait_for(pool.acquire(), 5.0)

        task = loop.create_task(bounded())
        loop.tick()
        for tick in range(8):
            strikes = [holder.release] if tick == released else []
            if tick == timed_out:
                strikes.insert(0 if timeout_first else len(strikes), lambda: setattr(loop, "now", 6.0))
            for strike in strikes:
                strike()
            loop.tick()
        assert task.done()
        got = None if task.exception() else task.result()
        assert isinstance(task.exception(), TimeoutError | None)
        assert in_flight(sync) == (got is not None)
        assert not sync._core.store.lines.waiters
        if got is not None:
            at_once(got.release())
        assert sync.acquire(timeout=0).release()


def test_a_timeout_that_strikes_while_nothing_is_released_is_never_outlasted():
    """P-15: neither ``wait_for`` nor ``timeout=`` waits a round longer than its time."""
    with SteppedLoop() as loop:
        _, pool, _holder = full_pool(clock=lambda: loop.now)
        tasks = [
            loop.create_task(asyncio.wait_for(pool.acquire(label=None)._slowly(), 5.0)),
            loop.create_task(pool.acquire(timeout=5.0)._slowly()),
        ]
        loop.tick(2)
        loop.run_on(4.9)
        assert not any(task.done() for task in tasks)
        loop.run_on(0.2)
        assert isinstance(tasks[0].exception(), TimeoutError)
        assert isinstance(tasks[1].exception(), AcquireTimeout)


def test_a_cancellation_of_who_waits_for_wait_for_surfaces():
    """P-15: a cancelled task with a bounded acquire in it is cancelled, not served."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())
        task = loop.create_task(asyncio.wait_for(pool.acquire()._slowly(), 5.0))
        loop.tick(2)
        task.cancel()
        holder.release()  # the hand-over comes while the cancellation is on its way
        loop.tick(6)
        assert task.cancelled()
        assert in_flight(sync) == 0


@pytest.mark.parametrize("served", [False, True])
def test_a_coroutine_that_is_closed_while_it_waits_leaves_the_queue(served):
    """P-1: the end of a loop closes what still waits in it; its place, or its slot, goes on."""
    with SteppedLoop() as loop:
        sync, pool, holder = full_pool(clock=ManualClock())
        waiting = pool.acquire()._slowly()
        loop.call_soon(waiting.send, None)
        loop.tick()
        if served:
            holder.release()
        waiting.close()
        assert not sync._core.store.lines.waiters
        assert in_flight(sync) == (0 if served else 1)
        holder.release()
        assert sync.acquire(timeout=0).release()


def test_a_waiter_whose_loop_was_closed_passes_the_slot_on():
    """P-7, P-16: a slot handed to a task of a loop that is gone goes to the next in line."""
    sync, pool, holder = full_pool(clock=ManualClock())
    with SteppedLoop() as dead:
        lost = pool.acquire()._slowly()
        dead.call_soon(lost.send, None)
        dead.tick()
    with SteppedLoop() as loop:
        task = loop.create_task(pool.acquire()._slowly())
        loop.tick(2)
        holder.release()
        loop.tick(3)
        assert at_once(task.result().release())
    lost.close()
    assert in_flight(sync) == 0


class Interrupter:
    """Raises KeyboardInterrupt at the n-th moment of the package at which the interpreter looks for signals.

    These are the entry of a function and the return of a built-in one.
    """

    def __init__(self, moment):
        self.left = moment

    def __call__(self, frame, event, arg):
        code = frame.f_code
        ours = PACKAGE in code.co_filename and "testing" not in code.co_filename
        if ours and event in ("call", "c_return") and code.co_name not in SWALLOWED:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


def get_plainly(pool):
    """Take a free slot."""
    return pool.acquire()


def get_pinned(pool):
    """Take a free slot by the way of those who may have to wait."""
    return pool.acquire(account="a", timeout=5)


def get_as_task(pool):
    """Take a free slot as a task would."""
    return at_once(AsyncAccountPool(pool=pool).acquire().__await__())


def use(pool):
    """Take a slot and give it back."""
    with pool.acquire(timeout=0):
        pass


def use_as_task(pool):
    """Take a slot and give it back as a task would."""

    async def block():
        async with AsyncAccountPool(pool=pool).acquire():
            pass

    at_once(block())


@pytest.mark.parametrize("get", [get_plainly, get_pinned, get_as_task, use, use_as_task])
def test_an_interruption_at_any_moment_leaves_no_slot_taken(get):
    """P-1, P-8: KeyboardInterrupt at each moment between call and return."""
    struck = 0
    for moment in itertools.count(1):
        pool = AccountPool(source={"a": 1})
        pool.refresh()
        lease = None
        try:
            with Interrupter(moment):
                lease = get(pool)
        except KeyboardInterrupt:
            struck += 1
        else:
            break  # it got through: there are no more moments
        assert lease is None
        pool.stats()  # whatever was left behind is swept up by the next operation
        assert in_flight(pool) == 0, f"moment {moment}"
        assert pool.acquire(timeout=0).release()
    assert struck > 5


def waiting(pool, loop, count=2):
    """Return tasks that wait in line, by turns for any account and for a certain one."""
    options = ({}, {"account": "a"})
    tasks = [loop.create_task(pool.acquire(**options[i % 2])._slowly()) for i in range(count)]
    loop.tick(2)
    return tasks


def strike(moment, act):
    """Act with an interruption at that moment; return whether it came."""
    try:
        with Interrupter(moment):
            act()
    except KeyboardInterrupt:
        return True
    return False


def test_an_interrupted_release_strands_nobody_who_waits():
    """P-1, P-7: the slot goes to the first in line, and then to the second, at the next operation."""
    for moment in itertools.count(1):
        with SteppedLoop() as loop:
            sync, pool, holder = full_pool(clock=ManualClock())
            first, second = waiting(pool, loop)
            came = strike(moment, holder.release)
            del holder
            sync.stats()
            loop.tick(3)
            assert first.done(), f"moment {moment}"
            assert not second.done()
            at_once(first.result().release())
            loop.tick(3)
            at_once(second.result().release())
            assert in_flight(sync) == 0
            assert not sync._core.store.lines.waiters
            assert sync._core.store.lines.keeper is None
        if not came:
            break
    assert moment > 10


@pytest.mark.parametrize("handed", [True, False])
def test_a_waiter_that_is_interrupted_leaves_its_place_and_its_slot_to_the_next(handed):
    """P-1, P-12: whether it was just being served or was just joining the queue."""
    for moment in itertools.count(1):
        with SteppedLoop() as loop:
            sync, pool, holder = full_pool(clock=ManualClock())
            tasks = [loop.create_task(pool.acquire()._slowly())]
            if handed:
                loop.tick(2)
                holder.release()
            came = strike(moment, lambda: loop.tick(3))
            tasks += waiting(pool, loop)
            holder.release()
            del holder
            if came:
                error = tasks.pop(0).exception()
                assert isinstance(error, KeyboardInterrupt)
                traceback.clear_frames(error.__traceback__)  # they hold what it had been granted
            for task in tasks:
                sync.stats()
                loop.tick(3)
                assert task.done(), f"moment {moment}"
                at_once(task.result().release())
            assert in_flight(sync) == 0
            assert not sync._core.store.lines.waiters
        if not came:
            break
    assert moment > 5


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_that_is_cancelled_at_random_loses_no_slot(seed):
    """P-7, P-12, P-13: thousands of races of cancel, timeout and release on three slots."""
    rng = random.Random(seed)
    with SteppedLoop() as loop:
        clock = ManualClock()
        sync = AccountPool(source={"a": 2, "b": 1}, clock=clock, reconcile_every=None, ttl=1e9)
        sync.refresh()
        pool, tasks, leases = AsyncAccountPool(pool=sync), [], []

        def begin():
            options = rng.choice([{}, {"account": "a"}, {"timeout": 1.0}, {"exclude": ["a"]}])
            tasks.append(loop.create_task(pool.acquire(**options)._slowly()))

        def cancel():
            if tasks:
                rng.choice(tasks).cancel()

        def release():
            if leases:
                assert leases.pop(rng.randrange(len(leases))).release()

        acts = [begin, begin, cancel, release, release, lambda: clock.advance(0.3), loop.tick, loop.tick]
        for _ in range(2_000):
            rng.choice(acts)()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                if not task.cancelled() and task.exception() is None:
                    leases.append(SyncLease(task.result()))
            handed = [waiting for waiting in tasks if not waiting.done()]
            assert len(leases) <= in_flight(sync) <= min(3, len(leases) + len(handed))
        for task in tasks:
            task.cancel()
        loop.tick(4)
        leases += [
            SyncLease(task.result()) for task in tasks if not task.cancelled() and not task.exception()
        ]
        assert all(lease.release() for lease in leases)
        assert in_flight(sync) == 0
        assert not sync._core.store.lines.waiters
        assert len([sync.acquire(timeout=0) for _ in range(3)]) == 3


class SyncLease:
    """A task's lease whose release is carried out at once."""

    def __init__(self, lease):
        self.lease = lease

    def release(self):
        return at_once(self.lease.release())
