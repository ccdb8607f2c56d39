"""Leases in a shared store: kept while their process lives, ended once, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections import deque

import pytest
from crew import start
from shelves import Gate, owner, waiting
from stepping import until
from structlog.testing import capture_logs

from balancer import AcquireTimeout, AsyncAccountPool, PoolClosed, StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores import worker as worker_module
from balancer.testing import at_rest

ONE = {"a": 1}
TTL = 60.0


def states(pool):
    """Return the live leases and their states, as the store knows them."""
    return {holder.id: holder.state for holder in pool.holders()}


def workers():
    """Return how many workers run."""
    return sum(thread.name == "balancer-worker" for thread in threading.enumerate())


# -- the store away ----------------------------------------------------------------------------------


def test_a_job_outlives_an_outage_twice_as_long_as_its_lease(pools, shelf, hasty):
    """P-36: it goes on, is warned of once, is registered again over capacity, and then nobody is let in."""
    other, pool = pools(source=ONE, lease_ttl=TTL), pools(source=ONE, lease_ttl=TTL)
    lease = pool.acquire()
    with capture_logs() as logs:
        shelf.cut.add(owner(pool))
        pool._core.store.outbox.request_heartbeat()
        until(lambda: any(entry["event"] == "store_away" for entry in logs))
        shelf.leap += 2 * TTL
        taken = other.acquire(timeout=0)  # its process was taken for dead
        shelf.cut.clear()
        until(lambda: set(states(other)) == {lease.id, taken.id})
        until(lambda: any(entry["event"] == "store_back" for entry in logs))
    events = [entry["event"] for entry in logs]
    assert [events.count(e) for e in ("store_away", "leases_registered_again", "store_back")] == [1, 1, 1]
    assert taken.release()
    with pytest.raises(AcquireTimeout):
        other.acquire(timeout=0)
    assert lease.release()
    assert other.stats().free == 1


def test_a_late_beat_does_not_end_the_leases_of_its_own_process(pools, shelf):
    """P-36: the process that finds itself dead is alive."""
    pool = pools(source=ONE, lease_ttl=TTL)
    lease = pool.acquire()
    until(lambda: any(isinstance(operation, ops.Heartbeat) for _, operation in shelf.calls))
    shelf.leap += 2 * TTL
    pool._core.store.outbox.request_heartbeat()
    until(lambda: any(isinstance(operation, ops.Register) for _, operation in shelf.calls))
    assert states(pool) == {lease.id: "held"}
    assert lease.release()


@pytest.mark.parametrize("report", [False, True], ids=["bind", "in doubt"])
def test_what_was_said_during_an_outage_holds_after_it(pools, shelf, hasty, report):
    """P-36: the lease is brought back first if the store has forgotten it by then."""
    other, pool = pools(source=ONE, lease_ttl=TTL), pools(source=ONE, lease_ttl=TTL)
    with pool.acquire() as lease:
        shelf.cut.add(owner(pool))
        if report:
            lease.report(TimeoutError())
        else:
            lease.bind("job", ttl=1e6)
        shelf.leap += 2 * TTL
        assert states(other) == {}
        shelf.cut.clear()
    until(lambda: states(other) == {lease.id: "ambiguous" if report else "bound"})
    assert other.release(lease.id) if report else other.release(job_id="job")


def test_a_bind_brings_back_all_that_the_store_forgot(pools, shelf):
    """P-26: once a process has registered it counts as known, so it must not leave anything out."""
    pool = pools(lease_ttl=1e6)
    bound, held = pool.acquire(), pool.acquire()
    shelf.forget()
    bound.bind("job")
    assert states(pool) == {bound.id: "bound", held.id: "held"}


def test_a_lease_that_the_store_forgot_is_not_lost(pools, shelf):
    """P-26: only who ends it on purpose ends it; renewing it says so."""
    pool = pools(lease_ttl=1e6)
    lease = pool.acquire()
    shelf.forget()
    lease.renew()
    assert states(pool) == {lease.id: "held"}


def test_a_slot_is_released_once_while_the_store_is_away(pools, shelf):
    """P-10, P-43: the first release is sent later; the second is none."""
    pool = pools()
    lease, bound = pool.acquire(), pool.acquire()
    bound.bind("job")
    shelf.away = True
    assert [lease.release(), lease.release()] == [True, False]
    assert [pool.release(job_id="job"), pool.release(job_id="job")] == [True, False]
    assert pool._core.store.released == 2
    shelf.away = False
    until(lambda: states(pool) == {})
    assert not lease.release()


def test_an_acquire_gives_up_on_a_store_that_stays_away(pools, shelf):
    """P-43: at once if it does not wait, within its timeout if it does, and it leaves nothing behind."""
    pool = pools(source=ONE)
    pool.stats()
    shelf.away = True
    for timeout in (0, 0.1):
        with pytest.raises(StoreUnavailable):
            pool.acquire(timeout=timeout)
    shelf.away = False
    until(lambda: pool.stats().free == 1)
    assert at_rest(pool, callers=0)


def test_an_acquire_outlasts_a_short_outage(pools, shelf):
    """P-43: it tries again within its timeout, before the first table and after it."""
    pool = pools(source=ONE)
    for _ in range(2):
        shelf.away, shelf.refused = True, 0
        caller = start(pool.acquire, timeout=30)
        until(lambda: shelf.refused)
        shelf.away = False
        caller.result(20).release()


# -- cancelled, interrupted, dropped -------------------------------------------------------------------


def test_a_cancelled_release_is_a_release(pools):
    """P-2: the slot comes back once, nothing is said to be abandoned, and no thread keeps it alive."""
    threads = pools(source=ONE)

    async def main():
        lease = await AsyncAccountPool(pool=threads).acquire()
        task = asyncio.create_task(lease.release())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture_logs() as logs:
        asyncio.run(main())
        gc.collect()
        assert not threads._core.store.held.held
        until(lambda: threads.stats().free == 1)
    assert not [entry for entry in logs if entry["event"] == "lease_abandoned"]
    assert threads.stats().released == 1


def test_a_cancelled_bind_is_a_bind(pools):
    """P-2: the job runs, so leaving the block does not free its slot."""
    threads = pools(source=ONE)

    async def main():
        async with AsyncAccountPool(pool=threads).acquire() as lease:
            task = asyncio.create_task(lease.bind("job"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return lease.id

    id = asyncio.run(main())
    until(lambda: states(threads) == {id: "bound"})
    assert threads.release(job_id="job")


def test_two_threads_may_look_for_dropped_leases_at_once(pools):
    """P-18: one of them finds that the other was quicker."""
    pool = pools(source=ONE)

    class Emptied(deque):
        def __bool__(self):
            return next(answers)

    answers = iter([True, False])
    pool._core.store.held.abandoned = Emptied()
    pool._core.store.collect()


def test_a_dropped_lease_is_found_by_a_worker_that_has_nothing_else_to_do(pools, monkeypatch):
    """P-3, P-19: its finalizer calls nobody, and nobody else comes by."""
    monkeypatch.setattr(worker_module, "_LINGER", 0.05)
    pool, other = pools(source=ONE), pools(source=ONE)
    pool.acquire()
    gc.collect()
    until(lambda: other.stats().free == 1)


@pytest.mark.parametrize("beats", [True, False])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_lease_that_is_dropped_after_its_pool_was_closed_is_ended_soon(pools, monkeypatch, beats, face):
    """P-3, P-20: no operation comes any more that would end it, and whether we live is no question."""
    pool, other = pools(source=ONE), pools(source=ONE)
    monkeypatch.setattr(pool._core.store.backend, "beats", beats)
    lease = pool.acquire()
    until(lambda: beats or pool._core.store.worker.thread is None)
    if face == "sync":
        pool.close()
    else:
        asyncio.run(AsyncAccountPool(pool=pool).close())
    assert other.stats().free == 0
    with capture_logs() as logs:
        del lease
        gc.collect()
        until(lambda: other.stats().free == 1, patience=3)
    assert [log["event"] for log in logs] == ["lease_abandoned"]
    until(lambda: pool._core.store.backend.closed and pool._core.store.worker.thread is None)


# -- the thread and its life -----------------------------------------------------------------------------


def test_a_lease_is_kept_alive_by_a_worker_that_was_about_to_sleep_on(pools, shelf):
    """P-35, P-37: it lingers for seconds, and a lease may live for less."""
    pool, other = pools(lease_ttl=0.3), pools(lease_ttl=0.3)
    pool.acquire().release()  # the worker has nothing to do now
    lease = pool.acquire()
    beats = len([1 for name, operation in shelf.calls if isinstance(operation, ops.Heartbeat)])
    until(lambda: len([1 for _, o in shelf.calls if isinstance(o, ops.Heartbeat)]) > beats + 4)
    assert states(other) == {lease.id: "held"}


def test_a_worker_that_was_about_to_end_sees_who_came(pools, monkeypatch):
    """P-28: between its look and its end somebody may have found it still there."""
    pool, other = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    found = pool._core.store.worker
    usual, calls = found._needed, []

    def needed():
        calls.append(usual())
        if len(calls) == 1:
            lease_wanted.append(start(pool.acquire, timeout=30))
            until(lambda: pool._core.store.wait_queue.counted)
            return False  # as it looked a moment ago
        return usual()

    lease_wanted = []
    pool.stats()
    monkeypatch.setattr(found, "_needed", needed)
    pool._core.store.worker._start()
    until(lambda: lease_wanted and pool._core.store.wait_queue.counted)
    lease.release()
    assert lease_wanted[0].result(4).account.id == "a"


def test_an_interrupted_start_leaves_no_worker_that_does_not_run(pools, monkeypatch):
    """P-1: the next one who needs it starts another."""
    pool = pools(source=ONE)
    lease = pool.acquire()
    store = pool._core.store
    lease.release()
    pool.close()
    until(lambda: store.worker.thread is None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.outbox.send(ops.Release("somebody-1"))
    pool.stats()
    until(lambda: not store.outbox.queue)


def _raise_interrupt(_):
    raise KeyboardInterrupt


def test_closing_keeps_leases_alive_and_closes_connections_after_the_last(pools, shelf):
    """P-37: the worker goes on for those that are out, and then ends."""
    pool, other = pools(lease_ttl=0.3), pools(lease_ttl=0.3)
    lease, backend = pool.acquire(), pool._core.store.backend
    pool.close()
    before = len(shelf.calls)
    until(lambda: sum(isinstance(o, ops.Heartbeat) for _, o in list(shelf.calls)[before:]) > 4)
    assert states(other) == {lease.id: "held"}
    assert not backend.closed
    assert lease.release()
    until(lambda: backend.closed and pool._core.store.worker.thread is None)


def test_closing_sends_what_is_still_to_be_sent_and_ends_the_thread(pools, shelf):
    """P-2: a release that could not be sent yet is not left behind, and nobody lingers after it."""
    pool, other = pools(source=ONE), pools(source=ONE)
    lease = pool.acquire()
    shelf.cut.add(owner(pool))
    assert lease.release()
    pool.close()
    shelf.cut.clear()
    until(lambda: other.stats().free == 1)
    until(lambda: pool._core.store.worker.thread is None, patience=3)
    assert pool._core.store.backend.closed


def test_closing_does_not_stop_a_loop_whose_tasks_wait(pools, monkeypatch):
    """P-16: they can only leave once the loop goes on, so nobody waits for them to."""
    threads, other = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    joined = []
    monkeypatch.setattr(threading.Thread, "join", lambda _, timeout=None: joined.append(timeout))

    async def main():
        pool = AsyncAccountPool(pool=threads)
        task = asyncio.ensure_future(pool.acquire())
        await at_rest(pool, callers=1)
        await pool.close()
        with pytest.raises(Exception, match="closed"):
            await task

    asyncio.run(main())
    assert joined == []
    assert lease.release()


def test_a_closed_pool_takes_no_slot_for_callers_that_are_still_on_their_way_out(pools, shelf):
    """P-20: their loop stands still, so a slot that was taken for them would be missing elsewhere."""
    threads, other = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()

    async def main():
        pool = AsyncAccountPool(pool=threads)
        task = asyncio.ensure_future(pool.acquire())
        await at_rest(pool, callers=1)
        threads._core.close(wait=False)
        until(lambda: not shelf.fleet.waiting)
        lease.release()
        other.acquire(timeout=0).release()
        with pytest.raises(PoolClosed):
            await task

    asyncio.run(main())


def test_a_child_has_nothing_to_say_for_its_parent(pools, shelf):
    """P-45, P-46: a fork while the worker speaks leaves the child neither its lock nor its words."""
    pool = pools(source=ONE)
    lease = pool.acquire()
    gate = Gate(shelf, ops.Release, pool)
    store = pool._core.store
    store.outbox.send(ops.Release(lease.id))
    assert gate.reached.wait(10)
    said = len(shelf.calls)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        shelf.before = None
        worker_module._send_last_words()
        kept = not store.held.held and not lease.release() and len(shelf.calls) == said
        caller = (
            pool.acquire(timeout=0) if kept and shelf.fleet.ledger.account_states["a"].held == {} else None
        )
        os._exit(0 if kept and caller is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    gate.open.set()
    until(lambda: states(pool) == {})


def test_a_process_that_ends_sends_its_last_words(pools, shelf):
    """P-2: what is queued when the interpreter ends is sent, and a store that is away holds nobody up."""
    pool = pools(source=ONE)
    lease = pool.acquire()
    store = pool._core.store
    store.outbox.put(ops.Release(lease.id))
    shelf.away = True
    worker_module._send_last_words()
    shelf.away = False
    worker_module._send_last_words()
    assert states(pool) == {}


def test_callers_who_wait_during_an_outage_are_served_after_it(pools, shelf, never_by_itself):
    """P-28: nobody who stands in line has to stand there for longer because the store was away."""
    pool, other = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    callers = [waiting(pool, timeout=60) for _ in range(3)]
    shelf.away = True
    assert lease.release()
    pool._core.store.step()  # it looks around, in vain
    until(lambda: pool._core.store.worker._heart._away)
    shelf.away = False
    for caller in callers:
        caller.result(20).release()


def test_callers_are_served_though_nobody_can_listen(pools, shelf, monkeypatch):
    """P-28: the messages may be cut off while the store itself can be asked."""
    monkeypatch.setattr(worker_module, "_REST", 0.05)
    pool, other = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()

    def listen(_):
        raise StoreUnavailable("nobody may subscribe")

    monkeypatch.setattr(pool._core.store.backend, "listen", listen)
    caller = waiting(pool, timeout=60)
    lease.release()
    assert caller.result(4).account.id == "a"
