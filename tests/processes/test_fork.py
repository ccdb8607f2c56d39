"""What a forked child may do with the pool of its parent, and what it must not."""

from __future__ import annotations

import gc
import logging
import os
import threading

import pytest
from crew import Played, in_line, start
from forks import in_child
from stepping import until

from balancer import AccountPool, LeaseLost, events
from balancer.testing import at_rest

pytest_plugins = ["balancer.testing.plugin"]

# A process with threads may fork all the same: that it can is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def test_a_child_can_use_the_pool_while_another_thread_is_inside_it():
    """P-45: whatever lock some thread holds at the moment of the fork, the child does not hang."""
    pool = AccountPool(source={"a": 3}, ttl=1e9)
    pool.refresh()
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with pool.acquire(account="a"), pool.acquire(timeout=5):
                pool.stats()

    worker = start(churn)

    def use():
        leases = [pool.acquire(timeout=5) for _ in range(3)]
        return [lease.release() for lease in leases]

    try:
        for _ in range(15):
            assert in_child(use) == [True, True, True]
    finally:
        stop.set()
    worker.result(30)


def test_a_child_can_use_a_pool_whose_lock_was_held_at_the_fork():
    """P-45: the lock that nobody in the child would ever let go of is replaced."""
    pool = AccountPool(source={"a": 1}, ttl=1e9)
    pool.refresh()
    with pool._core.store.lock:
        assert in_child(lambda: pool.acquire(timeout=5).account.id) == "a"
    assert pool.stats().in_flight == 0


def test_a_child_starts_with_an_empty_ledger_and_the_parents_table():
    """The parent's leases and callers are not its own; the accounts need not be fetched again."""
    source = Played(a=2, b=1)
    pool = AccountPool(source=source, ttl=1e9)
    leases = [pool.acquire() for _ in range(3)]
    in_line(pool, 2)

    def look():
        stats = pool.stats()
        return [stats.in_flight, stats.waiting, stats.free, len(pool.holders()), source.calls]

    assert in_child(look) == [0, 0, 3, 0, 1]
    assert pool.stats().in_flight == 3
    assert pool.stats().waiting == 2
    pool.close()
    assert all(lease.release() for lease in leases)


def test_a_child_cannot_end_a_lease_of_its_parent():
    """P-46: release, the block's end, the finalizer and the id do nothing there."""
    pool = AccountPool(source={"a": 3}, ttl=1e9)
    leases = [pool.acquire(label="parent") for _ in range(3)]
    ids = [lease.id for lease in leases]
    leases[2].bind("job")

    def meddle():
        done = [leases[0].release(), pool.release(ids[1]), pool.release(job_id="job")]
        leases[1].__exit__(None, None, None)
        leases[1].__exit__(ValueError, ValueError(), None)
        leases.clear()
        gc.collect()
        return [*done, pool.stats().released]

    assert in_child(meddle) == [False, False, False, 0]
    assert [holder.id for holder in pool.holders()] == ids
    assert [lease.release() for lease in leases] == [True, True, True]


def test_a_lease_of_the_parent_is_no_lease_in_the_child():
    """P-46: it can be neither entered, bound nor renewed there."""
    pool = AccountPool(source={"a": 1}, ttl=1e9)
    lease = pool.acquire()

    def try_all():
        refused = []
        for use in (lease.__enter__, lambda: lease.bind("job"), lease.renew):
            try:
                use()
            except LeaseLost:
                refused.append(True)
        return refused

    assert in_child(try_all) == [True, True, True]
    lease.bind("job")
    assert pool.release(job_id="job")


def test_a_parent_is_not_touched_by_what_its_child_takes():
    """The child counts for itself: over memory each process has the whole capacity, as documented."""
    pool = AccountPool(source={"a": 2}, ttl=1e9)
    pool.refresh()
    assert in_child(lambda: len([pool.acquire(timeout=0) for _ in range(2)])) == 2
    assert pool.stats().free == 2


def test_a_fork_during_a_fetch_does_not_block_the_childs_own():
    """P-55: the thread that fetched stayed behind in the parent."""
    source = Played(a=1)
    source.hold()
    pool = AccountPool(source=source)
    caller = start(pool.acquire)
    until(lambda: source.calls == 1)
    at_rest(pool, callers=1, landed=False)

    def use():
        source.detached()
        return pool.acquire(timeout=5).account.id

    assert in_child(use) == "a"
    source.detached()
    assert caller.result(20).account.id == "a"


def test_a_child_reads_over_connections_of_its_own(fake_useapi):
    """Two processes on one connection would read each other's answers."""
    fake = fake_useapi({"flowmusic": {"a": 1}})
    pool = AccountPool("flowmusic", token=fake.token, base_url=fake.url)
    pool.refresh()

    def read():
        pool.refresh()
        return sorted(pool.stats().accounts)

    assert [in_child(read) for _ in range(3)] == [["a"]] * 3
    pool.refresh()
    assert fake.audit().requests["GET /v1/flowmusic/accounts"] == 5
    pool.close()


def test_ids_and_draws_differ_between_children():
    """P-47: no two processes give out the same id, nor choose in the same order."""
    pool = AccountPool(source={f"account-{n}": 1 for n in range(200)}, ttl=1e9)
    pool.refresh()

    def draw():
        leases = [pool.acquire() for _ in range(20)]
        return [[lease.account.id for lease in leases], [lease.id for lease in leases]]

    drawn = [draw(), *(in_child(draw) for _ in range(8))]
    assert len({tuple(accounts) for accounts, _ in drawn}) == 9
    assert len({id for _, ids in drawn for id in ids}) == 180


def test_a_child_of_a_child_starts_anew_as_well():
    """P-46: each fork is a process of its own, whose owner the holders name."""
    pool = AccountPool(source={"a": 1}, ttl=1e9)
    lease = pool.acquire()

    def child():
        own = pool.acquire(timeout=5)
        grandchild = in_child(lambda: [own.release(), lease.release(), pool.acquire(timeout=5).account.id])
        (holder,) = pool.holders()
        return [grandchild, holder.owner.endswith(f":{os.getpid()}"), own.release()]

    assert in_child(child) == [[False, False, "a"], True, True]
    assert lease.release()


def test_an_event_logged_at_the_fork_does_not_block_the_child(capfd, monkeypatch):
    """P-45: writing to stderr takes no lock that another thread could have held."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program that has not set it up
    pool = AccountPool(source={"a": 1}, ttl=1e9)
    pool.refresh()
    stop = threading.Event()

    def chatter():
        while not stop.is_set():
            pool._core.store.note("warning", "chatter")
            pool._core.store.flush()

    worker = start(chatter)

    def complain():
        pool.acquire()
        return len(pool.holders())

    try:
        assert [in_child(complain) for _ in range(10)] == [0] * 10
    finally:
        stop.set()
    worker.result(30)
    assert "lease_abandoned" in capfd.readouterr().err


def test_a_handler_that_hangs_is_waited_for_once(monkeypatch):
    """P-45: the first fork gives it a second; it shall not cost the others one each."""
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record):
            hangs.set()
            goes_on.wait(60)

    handler = Hanging()
    logging.getLogger("balancer").addHandler(handler)
    try:
        writer = start(events.emit, "warning", "stuck")
        assert hangs.wait(10)
        monkeypatch.setattr(events, "_PATIENCE", 0.01)
        assert in_child(lambda: "first") == "first"
        monkeypatch.setattr(events, "_PATIENCE", 600.0)
        assert in_child(lambda: "second") == "second"
    finally:
        goes_on.set()
        logging.getLogger("balancer").removeHandler(handler)
    writer.result(10)
