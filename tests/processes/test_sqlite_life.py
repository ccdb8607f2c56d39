"""Forks, threads, event loops and deaths beside a SQLite store."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import threading
import time

import pytest
from backends import configure, in_file, rows
from sqlite_files import take
from sqlite_workers import START, connect, crash_at, keep_the_queue, take_in_child, until

from balancer import StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores.sqlite import forks


def mailboxes(path):
    """Return the names of the owners that have a mailbox."""
    return {file.name for file in (path.parent / f"{path.name}-owners").iterdir()}


def in_child(work):
    """Fork; return what ``work()`` returned in the child, as text, once the child has ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001  # nothing of the child may reach pytest
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_child_uses_the_store_as_an_owner_of_its_own(backend, path):
    """After a fork both sides go on, and count together."""

    def work():
        backend.after_fork(ops.Owner("child", "host:2"))
        return (
            take(backend, "child-1"),
            take(backend, "child-2"),
            backend.call(ops.Release(key="child-1")).result,
        )

    assert take(backend, "one-1") == "a"
    said = in_child(work)
    assert said.startswith("('a', None, EndedLease(key='child-1'")
    assert set(rows(backend)) == {"one-1"}
    assert take(backend, "one-2") == "a"


def test_child_that_ends_leaves_the_parent_alive(backend, path):
    """P-46: what a child lets go of is its own: the parent is seen to live, and hears of offers."""
    assert take(backend, "one-1") == "a"
    in_child(lambda: backend.after_fork(ops.Owner("child", "host:2")))
    other = connect(path, "two", lease_ttl=0.001)
    for _ in range(3):
        other.call(ops.Heartbeat())
        assert set(rows(other)) == {"one-1"}
    assert take(other, "two-1") == "a"
    assert take(backend, "one-2", else_wants=()) is None
    other.call(ops.Release(key="two-1"))
    assert backend.listen(5) == ("a",)
    other.close()


def test_parent_that_dies_is_dead_though_its_child_lives(path):
    """A child keeps no lock and no mailbox of its parent's, so that the parent's leases come back."""
    watcher = connect(path, "watcher", lease_ttl=0.05)
    configure(watcher, {"a": 1})
    ours, theirs = START.Pipe()
    parent = START.Process(target=take_in_child, args=(path, theirs))
    parent.start()
    child = ours.recv()
    try:
        parent.kill()
        parent.join()
        until(lambda: take(watcher, "watcher-1") == "a")
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
    watcher.close()


def test_fork_waits_for_threads_in_the_middle_of_an_operation(backend):
    """P-45: whatever other threads do at the fork, the child can use the store, and the parent goes on."""
    stop, failures = threading.Event(), []

    def hammer(number):
        count = 0
        while not stop.is_set():
            count += 1
            key = f"one-{number}{count:x}"
            try:
                backend.call(ops.Acquire(key=key, draw=0.5))
                backend.call(ops.Release(key=key))
            except StoreUnavailable as error:
                failures.append(error)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()

    def work():
        backend.after_fork(ops.Owner(f"child{os.getpid()}", "host:2"))
        key = f"child{os.getpid()}-1"
        backend.call(ops.Acquire(key=key, draw=0.5))
        backend.call(ops.Release(key=key))
        return "done"

    said = [in_child(work) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    assert said == ["'done'"] * 20
    assert not failures
    assert not rows(backend)
    assert forks.gate.acquire(blocking=False)
    forks.gate.release()


def test_threads_of_a_process_share_a_backend(backend):
    """Sixteen threads at once: every operation is whole, and no slot is granted twice."""
    configure(backend, {"a": 2, "b": 1})
    most, live, guard = 0, 0, threading.Lock()

    def work(number):
        nonlocal most, live
        for count in range(15):
            key = f"one-{number:x}{count:02x}"
            if take(backend, key) is not None:
                with guard:
                    live += 1
                    most = max(most, live)
                with guard:
                    live -= 1
                backend.call(ops.Release(key=key))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3
    assert not rows(backend)


def test_event_loop_is_not_blocked_by_somebody_elses_turn(backend, path):
    """While another process keeps the queue, coroutines of this one go on."""
    lock = os.open(f"{path}-lock", os.O_RDWR)

    async def main():
        fcntl.flock(lock, fcntl.LOCK_EX)
        asking = asyncio.create_task(backend.acall(ops.Acquire(key="one-1")))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not asking.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        return (await asking).result

    assert asyncio.run(main()) == ops.Granted("a")
    os.close(lock)


def test_cancelled_calls_cost_nothing(backend):
    """P-9: after a thousand cancelled calls, undone by key, the next one is served."""

    async def main():
        for number in range(1000):
            task = asyncio.create_task(backend.acall(ops.Acquire(key=f"one-{number:x}")))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        for number in range(1000):
            await backend.acall(ops.Release(key=f"one-{number:x}"))
        return (await backend.acall(ops.Acquire(key="one-last"))).result

    assert asyncio.run(main()) == ops.Granted("a")
    assert set(rows(backend)) == {"one-last"}


def test_one_backend_serves_several_event_loops(backend):
    """P-16: loops one after the other, and at once in threads."""

    async def pair(key):
        granted = (await backend.acall(ops.Acquire(key=key))).result
        return granted is not None and (await backend.acall(ops.Release(key=key))).result is not None

    assert asyncio.run(pair("one-1"))
    done = []
    threads = [
        threading.Thread(target=lambda n=n: done.append(asyncio.run(pair(f"one-1{n}")))) for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True, True]


def test_signal_handler_in_the_middle_of_an_operation_is_refused(backend):
    """P-18: code that interrupts an operation and asks for another gets an error, not a deadlock."""
    said = []

    def interrupt():
        try:
            backend.call(ops.ReadAll())
        except RuntimeError as error:
            said.append(str(error))
        return 50.0

    backend._now, now = interrupt, backend._now
    backend.call(ops.ReadAll())
    backend._now = now
    assert len(said) >= 1
    assert all("signal handler" in text for text in said)
    assert take(backend, "one-1") == "a"


def test_close_leaves_no_owner_and_no_mailbox(backend, path):
    """A process that closes with nothing out is forgotten at once; its place in line passes on."""
    other = connect(path, "two")
    assert take(other, "two-1", else_wants=()) == "a"
    assert take(other, "two-2", else_wants=()) == "a"
    assert take(backend, "one-1", else_wants=()) is None
    backend.close()
    backend.close()
    assert mailboxes(path) == {"two"}
    assert list(in_file(path).processes) == ["two"]
    other.close()
    assert mailboxes(path) == {"two"}, "its leases are out: it has to be seen to live"


def test_leases_can_be_ended_after_close(backend):
    """Closing keeps what is out, and a later call connects anew."""
    assert take(backend, "one-1") == "a"
    backend.close()
    assert backend.call(ops.Release(key="one-1")).result is not None
    assert not rows(backend)


def test_closed_owner_with_leases_is_not_taken_for_dead(backend, path):
    """After close a held lease stays for as long as its process lives."""
    assert take(backend, "one-1") == "a"
    backend.close()
    other = connect(path, "two", lease_ttl=0.001)
    for _ in range(3):
        other.call(ops.Heartbeat())
    assert set(rows(other)) == {"one-1"}
    other.close()


def test_mailbox_that_somebody_deleted_is_put_back(backend, path):
    """Those who clean up temporary folders make nobody dead who asks anything within lease_ttl."""
    slow = connect(path, "slow", lease_ttl=0.002)
    assert take(slow, "slow-1") == "a"
    (path.parent / f"{path.name}-owners" / "slow").unlink()
    time.sleep(0.01)
    slow.call(ops.Heartbeat())
    assert "slow" in mailboxes(path)
    other = connect(path, "two", lease_ttl=0.002)
    other.call(ops.Heartbeat())
    assert set(rows(other)) == {"slow-1"}
    for one in (slow, other):
        one.close()


def test_poke_before_and_during_listen_returns_at_once(backend):
    """A poke is never lost, whether it comes before anybody listens or while they do."""
    fresh = connect(backend._path, "fresh")
    fresh.poke()
    assert fresh.listen(60) == ()
    threading.Timer(0.05, fresh.poke).start()
    assert fresh.listen(60) == ()
    assert fresh.listen(0) == ()
    fresh.close()


def test_crash_at_any_statement_leaves_all_or_nothing(path):
    """P-27: killed before any statement of a grant, an owner has its lease or not, and the count is right."""
    watcher = connect(path, "watcher", lease_ttl=0.05)
    configure(watcher, {"a": 1})
    for last in range(40):
        options = {"offered": True, "else_wants": ()}
        process = START.Process(target=crash_at, args=(path, f"crash{last}", last), kwargs=options)
        process.start()
        process.join()
        assert len(in_file(path).ledger.records) <= 1
        key = f"watcher-{last:x}"
        until(lambda key=key: take(watcher, key) == "a")
        assert take(watcher, "watcher-other") is None
        watcher.call(ops.Release(key=key))
        if process.exitcode == 0:
            break
    else:
        raise AssertionError("the last statement was never reached")
    assert last > 4
    watcher.close()


def test_crash_at_any_statement_of_a_plain_grant_leaves_all_or_nothing(path):
    """P-27: killed in a usual grant, an owner has its lease until it is found dead, or not."""
    watcher = connect(path, "watcher", lease_ttl=0.05)
    configure(watcher, {"a": 100})
    for last in range(10):
        process = START.Process(target=crash_at, args=(path, f"crash{last}", last))
        process.start()
        process.join()
        assert len(in_file(path).ledger.records) <= 1
        until(lambda: not watcher.call(ops.ReadAll()).result.rows)
        if process.exitcode == 0:
            break
    else:
        raise AssertionError("the last statement was never reached")
    assert last > 3
    watcher.close()


def test_first_operation_that_is_undone_takes_nothing_along(path):
    """What an owner enters with its first operation is undone if that fails, and entered by the next."""
    backend = connect(path, "one")
    with pytest.raises(KeyError):
        backend.call("no operation")
    configure(backend, {"a": 1})
    assert take(backend, "one-1") == "a"
    backend.close()


def test_queue_is_handed_on_when_its_holder_is_killed(path, backend):
    """A process that dies in its turn holds up nobody."""
    ours, theirs = START.Pipe()
    holder = START.Process(target=keep_the_queue, args=(path, theirs))
    holder.start()
    assert ours.recv() == "mine"
    got = []
    thread = threading.Thread(target=lambda: got.append(take(backend, "one-1")))
    thread.start()
    thread.join(0.05)
    assert not got
    holder.kill()
    thread.join(30)
    assert got == ["a"]
    holder.join()
