"""Callers who wait in a process that shares a store: nobody is stranded, nothing is held up."""

from __future__ import annotations

import asyncio
import time

import pytest
from crew import start
from shelves import Gate, owner, waiting
from stepping import until

from balancer import AcquireTimeout, AsyncAccountPool, NoAccounts, PoolClosed
from balancer.rules import operations as ops
from balancer.stores.process_queue import ProcessQueue
from balancer.waiting.queue import WaitQueue

ONE = {"a": 1}


def got(future):
    """Return what a caller got."""
    return future.result(10)


def test_a_caller_behind_one_who_only_tries_is_served(pools, shelf, never_by_itself):
    """P-12, P-28: whoever leads the line may leave it without having told the store of the others."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    pool.stats()
    gate = Gate(shelf, ops.Acquire, pool)
    trying = start(pool.acquire, timeout=0)
    assert gate.reached.wait(10)
    patient = waiting(pool, timeout=60)
    gate.open.set()
    with pytest.raises(AcquireTimeout):
        got(trying)
    lease.release()
    assert got(patient).account.id == "a"


def test_who_speaks_last_does_not_speak_for_those_who_came_since(pools, shelf, never_by_itself):
    """P-28: an operation that was held up says of the process what is no longer so."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    pool.stats()
    gate = Gate(shelf, ops.Acquire, pool)
    trying = start(pool.acquire, timeout=0)
    assert gate.reached.wait(10)
    pinned = waiting(pool, account="a", timeout=60)  # it stands in a line of its own
    gate.open.set()
    with pytest.raises(AcquireTimeout):
        got(trying)
    until(lambda: shelf.line.get(owner(pool)) == ("a",))
    lease.release()
    assert got(pinned).account.id == "a"


def test_who_comes_while_somebody_less_urgent_is_asked_for_is_served_before(pools, shelf, never_by_itself):
    """P-12: the question is on its way for long, and a slot is freed once the urgent one waits."""
    pool = pools(source=ONE)
    lease = pool.acquire()
    low = waiting(pool, timeout=60)
    gate = Gate(shelf, ops.Acquire, pool)
    pool._core.store.outbox.request_poll()
    assert gate.reached.wait(10)
    high = start(pool.acquire, timeout=60, priority=5)
    time.sleep(0.1)  # it has asked for itself meanwhile
    if pool.stats().waiting == 2:  # whom to serve is settled
        lease.release()
    gate.open.set()
    until(lambda: pool.stats().waiting == 2 or high.done() or low.done())
    lease.release()
    got(high).release()
    got(low).release()


def test_a_granted_caller_does_not_take_the_others_out_of_line(pools, shelf, never_by_itself):
    """P-28: who is served in the moment that another begins to wait has not told of it."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    pool.stats()
    gate = Gate(shelf, ops.Acquire, pool)
    lucky = start(pool.acquire, timeout=60)
    assert gate.reached.wait(10)
    pinned = waiting(pool, account="a", timeout=60)
    with shelf.lock:
        shelf.forget_who_waits()  # as if its message had come a moment later
    lease.release()
    gate.open.set()
    got(lucky).release()
    got(pinned).release()


def test_a_grant_that_was_never_heard_of_is_given_back(pools, shelf, never_by_itself):
    """P-1, P-27: the reply to what the worker took is lost, and then its caller goes."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    caller = waiting(pool, timeout=60)

    def lose(name, operation):
        if name == owner(pool) and isinstance(operation, ops.Acquire) and operation.offered:
            shelf.lose_replies, shelf.before = 1, None

    shelf.before = lose
    lease.release()
    until(lambda: shelf.before is None and not shelf.lose_replies)
    pool.close()
    with pytest.raises(PoolClosed):
        got(caller)
    until(lambda: other.stats().in_flight == 0)
    assert other.acquire(timeout=0).account.id == "a"


def test_a_cancelled_caller_whose_grant_is_in_doubt_leaves_nothing(pools, shelf):
    """P-7, P-15: cancelled before and after the store has granted, the slot comes back."""
    threads = pools(source=ONE)
    threads.stats()

    async def cancelled_after(steps):
        pool = AsyncAccountPool(pool=threads)
        task = asyncio.ensure_future(pool.acquire(timeout=60))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for steps in range(3):
        asyncio.run(cancelled_after(steps))
        until(lambda: threads.stats().free == 1)


def test_many_pinned_callers_are_each_told_of_their_account(pools, never_by_itself):
    """P-34: the last of a dozen accounts is as good as the first."""
    accounts = {f"account-{n:02}": 1 for n in range(12)}
    other, pool = pools(source=accounts), pools(source=accounts)
    leases = {lease.account.id: lease for lease in (other.acquire(timeout=0) for _ in accounts)}
    pinned = {id: waiting(pool, account=id, timeout=60) for id in accounts}
    leases["account-11"].release()
    assert got(pinned["account-11"]).account.id == "account-11"
    for id in sorted(accounts)[:-1]:
        leases[id].release()
        assert got(pinned[id]).account.id == id


def test_more_accounts_than_can_be_told_are_served_even_so(pools, often):
    """P-34: beyond a number the store offers any, and what is of no use is let go."""
    accounts = {f"account-{n:02}": 1 for n in range(40)}
    other, pool = pools(source=accounts), pools(source=accounts)
    leases = {lease.account.id: lease for lease in (other.acquire(timeout=0) for _ in accounts)}
    pinned = {id: waiting(pool, account=id, timeout=60) for id in sorted(accounts)[:36]}
    leases["account-39"].release()  # nobody's
    leases["account-35"].release()
    assert got(pinned["account-35"]).account.id == "account-35"
    until(lambda: other.stats().free == 1)
    for id, future in pinned.items():
        leases[id].release()
        assert got(future).account.id == id


def test_an_offer_that_is_of_no_use_is_not_kept_from_others(pools):
    """The store offers by the account's own capacity; who wants to stay below it cannot use that."""
    other, pool = pools(source={"a": 2}), pools(source={"a": 2})
    lease = other.acquire()
    modest = waiting(pool, max_jobs=1, timeout=60)
    until(lambda: other.stats().free == 1)
    other.acquire(timeout=0).release()
    lease.release()
    assert got(modest).account.id == "a"


def test_stats_tell_what_an_acquire_would_find(pools, shelf):
    """A slot that is reserved for somebody who waits is not free."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    gate = Gate(shelf, ops.ReadAll, pool)  # not in the way yet
    gate.open.set()
    caller = waiting(pool, timeout=60)
    held = Gate(shelf, ops.Acquire, pool)
    lease.release()
    assert held.reached.wait(10)
    assert other.stats().free == 0
    with pytest.raises(AcquireTimeout):
        other.acquire(timeout=0)
    held.open.set()
    got(caller).release()
    until(lambda: other.stats().free == 1)
    assert other.acquire(timeout=0)


def test_a_caller_is_sent_away_when_another_process_dooms_it(pools, often):
    """P-53: the account that it waits for was found exhausted, elsewhere."""
    other, pool = pools(source=ONE, ttl=600), pools(source=ONE, ttl=600)
    lease = other.acquire()
    caller = waiting(pool, timeout=60)
    lease.report((412, {}, ""))
    with pytest.raises(NoAccounts) as caught:
        got(caller)
    assert list(caught.value.reasons) == ["a"]


def test_no_accounts_is_told_by_what_is_so_now(pools):
    """P-53: it was hopeless a moment ago, and is no longer."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    lease.report((412, {}, ""))
    with pytest.raises(NoAccounts):
        pool.acquire(timeout=0)
    other.reset("a")
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)


@pytest.mark.parametrize(
    "request_", [{}, {"account": "a"}, {"where": lambda account: True}], ids=["any", "account", "where"]
)
def test_nobody_is_sent_away_by_a_look_at_a_store_that_was_empty_for_a_moment(pools, monkeypatch, request_):
    """P-52: it had lost its memory, and has its accounts again before the caller is told why."""
    other, pool = pools(source=ONE), pools(source=ONE)
    lease = other.acquire()
    pool.stats()
    looks, look = [], ProcessQueue.hopeless

    def empty_at_first(queue, waiter, patience):
        hopeless = yield from look(queue, waiter, patience)
        looks.append(hopeless)
        return hopeless or len(looks) == 1

    monkeypatch.setattr(ProcessQueue, "hopeless", empty_at_first)
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0.3, **request_)
    assert looks
    lease.release()
    pool.acquire(timeout=10, **request_).release()


def test_a_waiting_caller_hears_of_a_table_that_another_process_fetched(pools, often):
    """P-33: what it may use was worked out from the old one."""
    accounts = {"a": 1, "b": 1}
    other, pool = pools(source=accounts, ttl=600), pools(source=accounts, ttl=600)
    leases = [other.acquire() for _ in range(2)]
    caller = waiting(pool, exclude={"a"}, timeout=60)
    accounts["c"] = 1
    other.refresh()
    assert got(caller).account.id == "c"
    assert leases


def test_what_is_due_is_looked_at_by_a_worker_that_sleeps_already(pools, never_by_itself):
    """P-33: a cooldown ends while nothing happens and nobody tells."""
    pool = pools(source=ONE)
    pool.acquire().release()
    pool.cool("a", 0.2)
    assert got(start(pool.acquire, timeout=60)).account.id == "a"


def test_an_interrupted_hand_over_leaves_no_slot(pools, monkeypatch):
    """P-1: after the grant and before the caller has it, whichever way it went."""
    pool = pools(source=ONE)
    pool.acquire().release()
    store = pool._core.store
    queue, queued = store.queue, {"exclude": ["b"]}
    for target, name, wish in [
        (store, "_account_state", {}),
        (store.held, "add", {}),
        (queue, "_account_state", queued),
        (store.held, "add", queued),
        (WaitQueue, "leave", queued),
        (queue, "_hand_over", queued),
        (queue, "_end_asking", queued),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, _interrupted(target, name))
            with pytest.raises(KeyboardInterrupt):
                pool.acquire(timeout=0, **wish)
        until(lambda: pool.stats().free == 1)
        assert not store.held.held
        assert not store.wait_queue.waiters


def _interrupted(target, name):
    state = iter([KeyboardInterrupt])
    usual = getattr(target, name)

    def once(*args, **options):
        error = next(state, None)
        if error is not None:
            raise error
        return usual(*args, **options)

    return once


def test_a_process_that_only_waits_asks_hardly_ever(pools, shelf, never_by_itself):
    """Nothing is due: it sleeps until it is told, and no thread of it goes round."""
    pool = pools(source={"a": 1}, reconcile_every=None)
    lease = pool.acquire()
    caller = waiting(pool, timeout=30)
    time.sleep(0.3)  # it may have looked around as it began
    before = len(shelf.calls)
    time.sleep(0.6)
    assert len(shelf.calls) - before <= 2
    lease.release()
    caller.result(10).release()
