"""A SQLite store among other users, other programs, stopped processes and containers."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest
from backends import configure, in_file, rows
from sqlite_files import take
from sqlite_workers import START, connect, long_turn, operators_transaction, stopped_in_its_turn, until

from balancer import AccountPool, StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores.sqlite.file_system import mounted_alone

NOBODY = 65534


# -- users --------------------------------------------------------------------------------------------


def work_as(user, path, name, pipe):
    """Be a process of another user that takes and gives back one lease for each word it hears."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    backend = connect(path, name, lease_ttl=0.2)
    number = 0
    while pipe.recv():
        number += 1
        try:
            granted = take(backend, f"{name}-{number}")
            backend.call(ops.Release(key=f"{name}-{number}"))
            pipe.send(granted)
        except StoreUnavailable as error:
            pipe.send(str(error))


@pytest.fixture
def path(open_folder):
    """Return where the file will be: other users find it too."""
    return open_folder / "pool.db"


@pytest.fixture
def other_user(path):
    """Return a function that starts a process of another user."""
    if os.geteuid() != 0:
        pytest.skip("only the superuser can become another one")
    started = []

    def start(user, name):
        ours, theirs = START.Pipe()
        process = START.Process(target=work_as, args=(user, path, name, theirs), daemon=True)
        process.start()
        started.append(process)

        def ask():
            ours.send(True)
            assert ours.poll(30)
            return ours.recv()

        return ask

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize("superuser_first", [False, True])
def test_an_operator_as_superuser_keeps_the_application_in(other_user, path, superuser_first):
    """What root makes in the application's folder is the application's, so that it can go on (P-22)."""
    os.chown(path.parent, NOBODY, NOBODY)
    path.parent.chmod(0o755)
    root = connect(path, "root", lease_ttl=0.2)
    if superuser_first:
        configure(root, {"a": 2})
    ask = other_user(NOBODY, "app")
    said = ask()
    if not superuser_first:
        assert said is None, "no account is there yet"
        configure(root, {"a": 2})
    assert ask() == "a"
    assert take(root, "root-1", else_wants=()) == "a"
    time.sleep(0.3)  # now it is looked after whether root's process lives
    assert ask() == "a"
    root._pipe.drop()  # as if it had been killed
    root._database.close()
    time.sleep(0.3)
    assert ask() == "a"
    assert set(in_file(path).ledger.records) == set(), "what root held is free"


def test_users_who_may_use_the_folder_share_the_file(other_user, path):
    """Two users of one folder count together, whatever their umask."""
    path.parent.chmod(0o777)
    backend = connect(path, "root")
    configure(backend, {"a": 1})
    ask = [other_user(user, f"user{user}") for user in (NOBODY, NOBODY - 1)]
    assert [one() for one in ask] == ["a", "a"]
    assert take(backend, "root-1") == "a"
    assert [one() for one in ask] == [None, None]
    backend.close()


def test_a_pipe_that_cannot_be_opened_stops_nobody(other_user, path, backend):
    """Whether its process lives is not known then; all others go on."""
    path.parent.chmod(0o777)
    for file in path.parent.glob("pool.db*"):
        file.chmod(0o777 if file.is_dir() else 0o666)
    assert take(backend, "one-1") == "a"
    (path.parent / "pool.db-owners" / "one").chmod(0o600)
    ask = other_user(NOBODY, "app")
    for _ in range(3):
        assert ask() == "a"
        time.sleep(0.15)


# -- files that go ------------------------------------------------------------------------------------


def test_holders_live_though_the_folder_of_their_pipes_is_gone(path, backend):
    """Somebody tidied up: whoever lives is still known by its process id, and makes its pipe again."""
    host = os.uname().nodename
    backend._owner = ops.Owner("one", f"{host}:{os.getpid()}")
    other = connect(path, "two", lease_ttl=0.01)
    other._owner = ops.Owner("two", f"{host}:{os.getpid()}")
    for one in (backend, other):
        with contextlib.suppress(KeyError):
            one._met = False
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM entry_1 WHERE name LIKE 'process:%'")
    file.close()
    backend._feed = None
    assert take(backend, "one-1") == "a"
    shutil.rmtree(path.parent / "pool.db-owners")
    for _ in range(3):
        time.sleep(0.02)
        assert not other.call(ops.SetWanted(None)).expired
    assert set(rows(other)) == {"one-1"}
    other.close()


def test_a_file_that_went_alone_is_made_anew_while_an_idle_process_has_the_old_one(path, backend):
    """The log of the old file stays with who has it open, and is not taken for the new one's."""
    idle, other = connect(path, "idle"), connect(path, "two")
    assert take(idle, "idle-1") == "a"
    assert take(other, "two-1") == "a"
    path.unlink()
    assert take(other, "two-2") is None
    assert take(backend, "one-1") is None
    assert set(rows(idle)) == {"idle-1", "two-1"}
    for one in (idle, other):
        one.close()


def test_everything_gone_is_made_anew_and_nobody_is_over(path, backend):
    """Files, lock and pipes deleted under processes that go on: what is held counts."""
    other = connect(path, "two")
    assert take(backend, "one-1") == "a"
    assert take(other, "two-1") == "a"
    for file in path.parent.glob("pool.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert take(other, "two-2") is None
    assert take(backend, "one-2") is None
    assert set(rows(backend)) == {"one-1", "two-1"}
    other.close()


# -- locks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_the_way", [operators_transaction, stopped_in_its_turn, long_turn])
def test_an_answer_comes_within_the_limit_or_none_does(path, in_the_way):
    """P-15: threads that share a connection wait for each other and their turn, no longer than asked."""
    backend = connect(path, "one")
    configure(backend, {"a": 3})
    with in_the_way(path):
        took = []

        def ask(number):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                backend.call(ops.Acquire(key=f"one-{number:x}"), 0.6)
            took.append(time.monotonic() - begun)

        callers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(took) == 4
    assert max(took) < 1.0
    assert backend.call(ops.Acquire(key="one-9"), 0.6).result is not None
    backend.close()


@pytest.mark.parametrize("in_the_way", [operators_transaction, stopped_in_its_turn])
def test_who_has_the_lock_holds_nobody_up_for_longer_than_they_would_wait(path, in_the_way):
    """P-15, P-43: callers wait for their timeout, hear who it is, and all goes on when it is over."""
    with AccountPool("flowmusic", source={"a": 3}, store=f"sqlite://{path}") as pool:
        pool.acquire(timeout=30).release()
        with in_the_way(path) as pid:
            said, took = [], []

            def ask():
                begun = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    pool.acquire(timeout=1)
                took.append(time.monotonic() - begun)
                said.append(str(caught.value))

            callers = [threading.Thread(target=ask) for _ in range(8)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            assert max(took) < 5.0, took
            assert len(said) == 8
            assert any(f"process {pid}" in text for text in said)
        pool.acquire(timeout=30).release()


def test_a_turn_that_was_given_up_is_not_taken_later(path, backend):
    """What nobody waits for any more is not done once the lock is free."""
    with stopped_in_its_turn(path), pytest.raises(StoreUnavailable):
        backend.call(ops.Acquire(key="one-1"))
    time.sleep(0.1)
    assert rows(backend) == {}
    assert take(backend, "one-2") == "a"


# -- containers ---------------------------------------------------------------------------------------


def test_a_file_that_is_mounted_by_itself_is_refused(path, tmp_path):
    """Its lock and its log would be another container's own: nobody would see anybody."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"41 40 0:56 /x {path} rw - ext4 /dev/vdb rw\n")
    assert mounted_alone(str(path), mounts)
    assert not mounted_alone(str(path.parent), mounts)
    path.touch()
    source = tmp_path / "source.db"
    source.touch()
    mounted = subprocess.run(["mount", "--bind", source, path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with pytest.raises(StoreUnavailable, match="mounted by itself"):
            connect(path, "one").call(ops.ReadAll())
    finally:
        subprocess.run(["umount", path], check=True)


# -- what is left behind ------------------------------------------------------------------------------


def test_a_pool_that_is_dropped_leaves_no_descriptor(path):
    """Whoever forgets to close leaves nothing open once its pool is collected."""

    def use_and_drop():
        pool = AccountPool("flowmusic", source={"a": 1}, store=f"sqlite://{path}")
        pool.acquire(timeout=30).release()
        pool.stats()
        assert open_files(path)

    for _ in range(3):
        use_and_drop()
    until(lambda: not open_files(path))


def open_files(path):
    """Return the open files of a store."""
    gc.collect()
    found = [Path(os.path.realpath(file)).name for file in Path("/proc/self/fd").iterdir()]
    return [name for name in found if name.startswith(path.name)]


def test_the_log_gives_back_what_a_long_reader_made_it_grow(path, backend):
    """A backup or a shell that reads for long holds up the log, which is small again afterwards."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entry_1").fetchone()
    log = path.with_name("pool.db-wal")
    label, number = "x" * 60_000, 0
    while log.stat().st_size < 30 << 20:
        number += 1
        backend.call(ops.Acquire(key=f"one-{number}", label=label))
        backend.call(ops.Release(key=f"one-{number}"))
    reader.close()

    def small():
        nonlocal number
        number += 1
        backend.call(ops.Acquire(key=f"one-{number}", label=label))
        backend.call(ops.Release(key=f"one-{number}"))
        return log.stat().st_size <= 17 << 20

    until(small)
