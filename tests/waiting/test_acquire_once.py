"""What people do with what ``acquire`` returns, and what they see of a lease."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref

import pytest

from balancer import AccountPool, AsyncAccountPool, AsyncLease, Lease
from balancer.testing import ManualClock


@pytest.mark.parametrize("wish", [{}, {"account": "a"}, {"timeout": 20}], ids=["any", "pinned", "timeout"])
def test_one_acquire_that_several_tasks_enter_admits_no_more_than_there_are_slots(wish):
    """As one does with a semaphore: each has a lease of its own, or the second is refused by name."""
    seen = {"inside": 0, "most": 0, "refused": 0}

    async def program():
        async with AsyncAccountPool(source={"a": 2}, reconcile_every=None) as pool:
            await pool.refresh()
            one = pool.acquire(**wish)

            async def enter():
                try:
                    async with one as lease:
                        seen["inside"] += 1
                        seen["most"] = max(seen["most"], seen["inside"])
                        await asyncio.sleep(0.01)
                        seen["inside"] -= 1
                        assert any(lease.id == holder.id for holder in await pool.holders())
                except RuntimeError as error:
                    assert "acquire" in str(error)  # noqa: PT017  # either will do
                    seen["refused"] += 1

            await asyncio.wait_for(asyncio.gather(*(enter() for _ in range(6))), 30)
            assert (await pool.stats()).free == 2

    asyncio.run(program())
    assert seen["most"] <= 2
    assert seen["refused"] in (0, 5)


def test_an_acquire_that_is_awaited_again_ends_nobody_elses_lease():
    """Entered after it was awaited, it gives another lease, or refuses."""

    async def program():
        async with AsyncAccountPool(source={"a": 2}, reconcile_every=None) as pool:
            await pool.refresh()
            one = pool.acquire()
            lease = await one
            with contextlib.suppress(RuntimeError):
                async with one as other:
                    assert other.id != lease.id
            assert [holder.id for holder in await pool.holders()] == [lease.id]
            assert await lease.release()

    asyncio.run(program())


class Source:
    """Accounts that are read only when the test lets a request land."""

    def __init__(self, **accounts):
        self.table, self.may_land = accounts, threading.Event()

    def accounts(self):
        self.may_land.wait(30)
        return self.table


@pytest.fixture
def source():
    """Return a source whose requests land at the end of the test at the latest."""
    source = Source(a=1_000)
    yield source
    source.may_land.set()


@pytest.mark.parametrize("wish", [{}, {"account": "a"}, {"timeout": 5}, {"timeout": 0}, {"label": "x"}])
def test_a_sync_pool_on_a_loops_thread_gives_what_is_free_though_a_refresh_is_due(source, wish):
    """With a table in hand and a free slot there is nothing to wait for, however long a fetch takes."""
    clock = ManualClock()
    pool = AccountPool(source=source, clock=clock, ttl=60, reconcile_every=None)
    source.may_land.set()
    pool.refresh()
    source.may_land.clear()

    async def program():
        clock.advance(61)
        for _ in range(10):
            pool.acquire(**wish).release()

    asyncio.run(program())
    assert pool.stats().in_flight == 0


def test_before_the_first_load_a_sync_pool_on_a_loops_thread_offers_a_way_that_works(source):
    """What the error advises can be done, and after it the sync pool serves the loop's thread."""
    pool = AccountPool(source=source, reconcile_every=None)

    async def program():
        for options in ({}, {"timeout": 5}, {"timeout": 0}):
            with pytest.raises(RuntimeError, match="AsyncAccountPool") as refused:
                pool.acquire(**options)
            assert "timeout=0" not in str(refused.value)
        source.may_land.set()
        async with AsyncAccountPool(pool=pool).acquire(timeout=10):
            pool.acquire(timeout=0).release()

    asyncio.run(program())


PUBLIC = {"account", "acquired_at", "bind", "id", "job_id", "job_ids", "label", "params", "release"}
PUBLIC |= {"renew", "report"}


@pytest.mark.parametrize("lease", [Lease, AsyncLease])
def test_a_lease_shows_only_what_it_promises(lease):
    """What completion offers does something: the steps behind it do not appear."""
    assert {name for name in dir(lease) if not name.startswith("_")} <= PUBLIC


def test_a_lease_can_be_weakly_referenced():
    """As keys of weak dictionaries and in finalizers; the reference ends with the lease."""
    pool = AccountPool(source={"a": 2}, reconcile_every=None)
    lease = pool.acquire(timeout=10)
    seen, ref = weakref.WeakKeyDictionary({lease: "x"}), weakref.ref(lease)
    assert (ref() is lease, seen[lease]) == (True, "x")
    lease.release()
    del lease
    assert ref() is None
    assert not seen
