"""The queue of a process in front of a shared store, against a store that can be made to fail."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from shelves import owner
from stepping import until
from structlog.testing import capture_logs

from balancer import (
    AcquireTimeout,
    AsyncAccountPool,
    Job,
    LeaseLost,
    NoAccounts,
    StoreUnavailable,
)
from balancer.rules import operations as ops
from balancer.rules.fleet_ledger import FleetLedger


def test_pools_over_one_store_share_one_count(pools):
    """Three slots are three, however many pools ask."""
    first, second = pools(), pools()
    leases = [first.acquire(), second.acquire(), first.acquire()]
    with pytest.raises(AcquireTimeout):
        second.acquire(timeout=0)
    assert first.stats().in_flight == second.stats().in_flight == 3
    assert {holder.id for holder in second.holders()} == {lease.id for lease in leases}
    assert [lease.release() for lease in leases] == [True] * 3
    assert [lease.release() for lease in leases] == [False] * 3
    assert second.stats().free == 3


def test_a_slot_released_in_one_pool_goes_to_a_caller_waiting_in_another(pools):
    """The hand-over crosses the store."""
    first, second = pools(source={"a": 1}), pools(source={"a": 1})
    lease = first.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(second.acquire(timeout=10)))
    thread.start()
    until(lambda: second.stats().waiting == 1)
    lease.release()
    thread.join()
    assert got[0].account.id == "a"
    assert first.stats().in_flight == 1


def test_a_lost_message_strands_nobody(pools, shelf):
    """P-28: the process that waits looks by itself when something is due."""
    first, second = pools(source={"a": 1}), pools(source={"a": 1})
    lease = first.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(second.acquire(timeout=30)))
    thread.start()
    until(lambda: second.stats().waiting == 1)
    shelf.lose_messages = True
    lease.release()
    thread.join(20)
    assert got


def test_a_grant_whose_reply_was_lost_is_not_granted_twice_and_not_lost(pools, shelf):
    """P-27: the same key asks again and is told of its grant."""
    pool = pools(source={"a": 1})
    pool.stats()
    shelf.lose_replies = 1
    lease = pool.acquire(timeout=5)
    assert pool.stats().in_flight == 1
    assert lease.release()
    assert pool.stats().in_flight == 0


def test_store_away_is_an_error_and_a_release_is_sent_later(pools, shelf):
    """P-43: nothing is guessed while the store is away, and nothing is lost."""
    pool = pools(source={"a": 1})
    lease = pool.acquire()
    shelf.away = True
    with pytest.raises(StoreUnavailable):
        pool.acquire(timeout=0)
    assert lease.release()
    shelf.away = False
    until(lambda: pool.stats().in_flight == 0)


def test_a_forgetful_store_is_told_again_of_living_leases(pools, shelf):
    """P-26: after its memory is gone the leases of living processes are registered again, once."""
    pool = pools(source={"a": 1}, lease_ttl=0.3)
    lease = pool.acquire()
    shelf.forget()
    other = pools(source={"a": 1}, lease_ttl=0.3)
    other.stats()
    until(lambda: other.stats().in_flight == 1)
    assert [holder.id for holder in other.holders()] == [lease.id]
    assert lease.release()
    assert other.stats().in_flight == 0


def test_a_lease_ended_by_somebody_else_is_not_brought_back(pools, shelf):
    """A tombstone keeps it ended, and its holder learns of it."""
    holder, operator = pools(lease_ttl=0.3), pools(lease_ttl=0.3)
    lease = holder.acquire()
    assert operator.release(lease.id)
    until(lambda: lease._record.state == "ended")
    assert operator.stats().in_flight == 0
    assert not lease.release()


def test_a_lease_lives_as_long_as_its_process_and_a_bound_one_longer(pools, shelf):
    """P-5, P-6: what a process kept ends with it, once; what a job keeps stays."""
    dead, alive = pools(lease_ttl=0.3), pools(lease_ttl=0.3)
    dead.acquire().bind("job-1")
    lost = dead.acquire()
    kept = alive.acquire()
    dead._core.store.held.held.clear()  # its courier stops saying that it lives
    until(lambda: alive.stats().in_flight == 2)
    assert {holder.id for holder in alive.holders()} >= {kept.id}
    assert lost.id not in {holder.id for holder in alive.holders()}
    assert alive.release(job_id="job-1")


def test_a_job_released_before_it_is_bound_frees_the_slot_at_the_bind(pools):
    """P-58: in either order, from another process."""
    first, second = pools(), pools()
    lease = first.acquire()
    assert not second.release(job_id=7)
    lease.bind(7)
    assert second.stats().in_flight == 0
    other = first.acquire()
    other.bind(8)
    assert second.release(job_id=8)


def test_a_cooldown_is_seen_by_the_next_choice_of_another_pool(pools):
    """P-50."""
    first, second = pools(), pools()
    second.stats()
    first.cool("a", 60, "by hand")
    other = second.acquire(timeout=0)
    assert other.account.id == "b"
    first.reset("a")
    assert second.acquire(timeout=0).account.id == "a"


def test_the_configuration_is_fetched_by_one_for_all(pools, shelf):
    """One process asks the source; the others take what it brought."""
    calls = []

    class Source:
        def accounts(self):
            calls.append(1)
            return {"a": 1 + len(calls)}

    one, two = pools(source=Source()), pools(source=Source())
    assert one.stats().capacity == two.stats().capacity == 2
    assert len(calls) == 1
    one.refresh()
    assert len(calls) == 2
    two.acquire(timeout=1).release()
    assert two.stats().capacity == 3


def test_a_failure_is_met_once_by_the_fleet(pools):
    """P-56: the pause after a failed fetch is common."""
    calls = []

    class Source:
        def accounts(self):
            calls.append(1)
            raise OSError("no way")

    one, two = pools(source=Source()), pools(source=Source())
    for pool in (one, two):
        with pytest.raises(Exception, match="OSError"):
            pool.acquire(timeout=1)
    assert len(calls) == 1


def test_waiters_of_one_process_are_served_in_order(pools):
    """First come, first served, and what one process gets goes to its oldest caller."""
    pool, other = pools(source={"a": 1}), pools(source={"a": 1})
    lease = other.acquire()
    order, threads = [], []

    def want(number):
        with pool.acquire(timeout=30):
            order.append(number)

    for number in range(6):
        threads.append(threading.Thread(target=want, args=(number,)))
        threads[-1].start()
        until(lambda n=number: pool.stats().waiting == n + 1)
    lease.release()
    for thread in threads:
        thread.join()
    assert order == list(range(6))
    assert pool.stats().in_flight == 0


def test_no_accounts_is_told_by_what_all_processes_know(pools):
    """An account that another process found exhausted is not worth a wait."""
    first, second = pools(source={"a": 1}), pools(source={"a": 1})
    lease = first.acquire()
    lease.report((412, {}, ""))
    lease.release()
    with pytest.raises(NoAccounts):
        second.acquire(timeout=0)


def test_tasks_share_the_store_with_threads(pools):
    """The async face takes the same way, and a cancelled acquire leaves nothing."""
    threads = pools(source={"a": 1})

    async def main():
        pool = AsyncAccountPool(pool=threads)
        async with pool.acquire() as lease:
            assert lease.account.id == "a"
            task = asyncio.create_task(_acquired(pool))
            while (await pool.stats()).waiting < 1:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await pool.acquire(timeout=5)

    assert asyncio.run(main()).account.id == "a"
    until(lambda: threads.stats().in_flight == 0)


async def _acquired(pool):
    return await pool.acquire(timeout=30)


def test_a_dropped_lease_is_freed_before_the_very_next_try(pools):
    """P-3: the next operation finds its slot free, even one that does not wait."""
    pool = pools(source={"a": 1})
    for _ in range(20):
        lease = pool.acquire(timeout=5)
        del lease
        assert pool.acquire(timeout=0).release()


def test_a_lease_whose_job_is_over_cannot_be_entered(pools):
    """Released by the job's id, by the process that holds the handle."""
    pool = pools()
    lease = pool.acquire()
    lease.bind("job")
    pool.release(job_id="job")
    with pytest.raises(LeaseLost), lease:
        pass
    assert "ended" in repr(lease)


def test_a_lease_learns_of_the_job_that_was_found_for_it(pools):
    """Reconciliation binds it by its reference, and its handle says so."""

    class Source:
        listed = ()

        def accounts(self):
            return {"a": 1}

        def jobs(self):
            return self.listed

    pool = pools(source=Source())
    lease = pool.acquire()
    lease.report((502, {}, ""))
    Source.listed = (Job("found", "a", lease.id),)
    assert pool.reconcile().resolved == (lease.id,)
    assert lease.job_id == "found"


def test_a_mistyped_lease_id_bars_no_later_lease(pools):
    """The id that seems to come next is released, and the next acquire is served all the same."""
    pool = pools(source={"a": 1})
    lease = pool.acquire()
    prefix, _, number = lease.id.rpartition("-")
    lease.release()
    for guess in (f"{prefix}-{int(number, 16) + 1:x}", lease.id + "0", f"{prefix}-2"):
        assert not pool.release(guess)
    assert pool.acquire(timeout=0).release()


def test_the_first_acquire_keeps_to_its_timeout_while_the_store_is_away(pools, shelf, monkeypatch):
    """P-43: also where not even the configuration could be had; nobody sleeps on beyond it."""
    slept, sleep, me = [], time.sleep, threading.get_ident()

    def noted(seconds):
        if threading.get_ident() == me:
            slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("time.sleep", noted)
    shelf.away = True
    pool = pools(source={"a": 1})
    with pytest.raises(StoreUnavailable):
        pool.acquire(timeout=0.2)
    assert sum(slept) <= 0.2


def test_a_store_that_lost_its_memory_is_filled_anew_before_the_next_grant(pools, shelf):
    """P-26: the configuration is read again, and the server's list before anything is granted by it."""
    asked = []

    class Source:
        def accounts(self):
            asked.append("accounts")
            return {"a": 2}

        def jobs(self):
            asked.append("jobs")
            return [Job("ours", "a")] if len(asked) > 2 else []

    pool = pools(source=Source())
    pool.acquire().bind("ours")
    shelf.forget()
    lease = pool.acquire(timeout=0)
    assert asked == ["accounts", "jobs"] * 2
    assert pool.stats().external == 1
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert lease.release()


def test_nobody_is_turned_away_by_a_look_at_a_store_that_others_are_just_filling(pools, shelf, monkeypatch):
    """P-26: a store that was empty when it was looked at, and is no longer, has accounts to wait for."""
    monkeypatch.setattr(FleetLedger, "_hope", lambda *_: None)  # so that it has to be looked at
    one, two = pools(), pools()
    held = [one.acquire(timeout=5) for _ in range(3)]
    two.stats()

    def fill(name, operation):
        if name == owner(two) and isinstance(operation, ops.ReadTable):
            shelf.before = None
            one.refresh()

    def lose(name, operation):
        if name == owner(two) and isinstance(operation, ops.ReadAll):
            shelf.before = fill
            shelf.forget()

    shelf.before = lose
    two._core.store.queue._seen = None
    with pytest.raises(AcquireTimeout):
        two.acquire(account="a", timeout=0)
    assert shelf.before is None
    for lease in held:
        lease.release()


# -- a store that is busy ----------------------------------------------------------------------------


def busy(shelf, kind, times):
    """Have the shelf be used by others for so many asks of a kind."""
    left = [times]

    def before(_, operation):
        if isinstance(operation, kind) and left[0]:
            left[0] -= 1
            error = StoreUnavailable("others use it")
            error._busy = True
            raise error

    shelf.before = before
    return left


def test_a_store_that_others_use_all_the_time_is_waited_for(pools, shelf, hasty):
    """P-43: patience is for a store that is away; one that is slow is asked until it answers."""
    with capture_logs() as logged:
        pool = pools(source={"a": 2})
        left = busy(shelf, ops.Claim, 30)
        lease = pool.acquire(timeout=30)
        assert left == [0]
        for kind, act in (
            (ops.Acquire, lambda: pool.acquire(timeout=30).release()),
            (ops.Bind, lambda: lease.bind("job")),
            (ops.Report, lambda: lease.report(TimeoutError())),
            (ops.ReadAll, pool.stats),
        ):
            left = busy(shelf, kind, 30)
            act()
            assert left == [0], kind
        left = busy(shelf, ops.Release, 30)
        assert pool.release(job_id="job")
        until(lambda: left == [0] and not pool._core.store.outbox.queue)
    assert {"bind_delayed", "store_away", "configuration_failed"}.isdisjoint(line["event"] for line in logged)
