"""A file that is busy: many processes want it at once, and whoever has the turn is slow."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from sqlite_workers import (
    ACCOUNTS,
    START,
    be_slow,
    connect,
    long_turn,
    look_in_turn,
    stopped_in_its_turn,
    visit,
)

from balancer import AccountPool, AsyncAccountPool, StoreUnavailable
from balancer.rules import operations as ops


@contextlib.contextmanager
def slow_turn(path, seconds, *, writes):
    """Have a process that is slow in its turn."""
    ours, theirs = START.Pipe()
    process = START.Process(
        target=be_slow, args=(path, theirs, seconds), kwargs={"writes": writes}, daemon=True
    )
    process.start()
    assert ours.poll(30)
    ours.recv()
    try:
        yield
    finally:
        process.kill()
        process.join()


def test_a_crowd_is_served_however_long_it_waits_for_its_turn(path):
    """P-22, P-43: 40 processes begin at once behind a slow turn, and each of them is served."""
    with AccountPool("custom", source=ACCOUNTS, store=f"sqlite://{path}", reconcile_every=None) as pool:
        pool.acquire(timeout=30).release()
        answers = START.Queue()
        with slow_turn(path, 7.0, writes=True):
            crowd = [START.Process(target=visit, args=(path, answers, 0.002), daemon=True) for _ in range(40)]
            for process in crowd:
                process.start()
            told = [answers.get(timeout=60) for _ in crowd]
        for process in crowd:
            process.join(60)
    assert set(told) == {"served"}, set(told)


def test_who_has_the_turn_and_computes_is_waited_for(path, backend):
    """A process that would run, but for a machine that is very busy, is not taken to be stuck."""
    with slow_turn(path, 3.2, writes=False):
        assert backend.call(ops.Acquire(key="one-1")).result is not None


@pytest.mark.parametrize("writes", [True, False])
def test_a_busy_file_is_told_from_one_that_is_away(path, backend, writes):
    """Who gave up waiting hears whether others got on meanwhile."""
    with (
        slow_turn(path, 30.0, writes=writes),
        pytest.raises(StoreUnavailable, match="others use it") as caught,
    ):
        backend.call(ops.Acquire(key="one-1"), 0.6)
    assert caught.value._busy
    for stuck in (long_turn, stopped_in_its_turn):
        with stuck(path), pytest.raises(StoreUnavailable, match="does not get on") as caught:
            backend.call(ops.Acquire(key="one-1"), 0.6)
        assert not caught.value._busy


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_caller_waits_for_a_busy_file_no_longer_than_it_would_for_a_slot(path, timeout):
    """P-15: however much the others get on, the caller's own timeout counts."""
    with AccountPool("custom", source=ACCOUNTS, store=f"sqlite://{path}", reconcile_every=None) as pool:
        pool.acquire(timeout=30).release()
        with slow_turn(path, 30.0, writes=True):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                pool.acquire(timeout=timeout)
            assert time.monotonic() - begun < timeout + 2.0
        pool.acquire(timeout=30).release()


def test_tasks_wait_for_a_busy_file_no_longer_than_threads_do(path):
    """P-15: those that stand in line for the same thread hear in time that others get on."""
    accounts = {"a": 40}

    async def ask(pool):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="others use it") as caught:
            await pool.acquire(timeout=0)
        assert caught.value._busy
        return time.monotonic() - begun

    async def main():
        async with AsyncAccountPool(
            "custom", source=accounts, store=f"sqlite://{path}", reconcile_every=None
        ) as pool:
            await (await pool.acquire(timeout=30)).release()
            with slow_turn(path, 30.0, writes=True):
                took = await asyncio.gather(*(ask(pool) for _ in range(40)))
            assert max(took) < 2.5
            patient = await asyncio.gather(*(pool.acquire(timeout=30) for _ in range(40)))
            assert all(await asyncio.gather(*(lease.release() for lease in patient)))

    asyncio.run(main())


def test_a_crowd_of_tasks_is_served_however_long_a_turn_lasts(path):
    """P-22, P-43: whoever has time asks again for as long as others get on."""

    async def main():
        async with AsyncAccountPool(
            "custom", source={"a": 40}, store=f"sqlite://{path}", reconcile_every=None
        ) as pool:
            await (await pool.acquire(timeout=30)).release()
            with slow_turn(path, 7.0, writes=True):
                leases = await asyncio.gather(*(pool.acquire(timeout=30) for _ in range(40)))
            assert all(await asyncio.gather(*(lease.release() for lease in leases)))

    asyncio.run(main())


def test_a_turn_that_wrote_nothing_shows_that_others_get_on(path, backend):
    """Processes that only look, or are refused, change no row; who waits sees their turns even so."""
    other = connect(path, "two")
    other.call(ops.Heartbeat())
    with long_turn(path):
        before = backend._database._queue.changes()
        ours, theirs = START.Pipe()
        asking = START.Process(target=look_in_turn, args=(path, theirs))
        asking.start()
        assert ours.poll(30)
        time.sleep(0.3)
    asking.join(30)
    assert backend._database._queue.changes()[1] != before[1]
    other.close()
