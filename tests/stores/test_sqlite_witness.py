"""A file that is deleted, moved or replaced while it is used: the next operation goes to what is there."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from backends import configure, in_file, rows, settings_for

from balancer import StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores.sqlite import SqliteBackend, file_watch

OPEN_AND_CLOSE = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1])
print(file.execute("SELECT count(*) FROM entry_1 WHERE name LIKE 'lease:%'").fetchone()[0])
file.close()
"""


@pytest.fixture(params=["descriptor", "path"], autouse=True)
def how(request, monkeypatch):
    """Watch the file as Linux can, or as everybody can."""
    if request.param == "path":
        monkeypatch.setattr(file_watch, "_O_PATH", None)
    return request.param


@pytest.fixture
def path(tmp_path):
    """Return where the file will be, with a folder above that may be moved."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "pool.db"


@pytest.fixture
def connect(path):
    """Return a function that makes the backend of one more owner of the file."""
    made = []

    def make(name="one"):
        made.append(SqliteBackend(path, settings_for(), ops.Owner(name, f"host:{name}")))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(connect):
    """Return the backend of an owner that holds ``one-1``."""
    backend = connect()
    configure(backend, {"a": 5})
    assert backend.call(ops.Acquire(key="one-1")).result is not None
    assert set(rows(backend)) == {"one-1"}
    return backend


def descriptors(folder):
    """Return how many files in a folder this process has open."""
    gc.collect()
    found = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    return sum(Path(file).is_relative_to(folder) for file in found)


def without_companions(path):
    """Delete what SQLite keeps beside the file."""
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()


def delete(path):
    """Delete the file alone."""
    path.unlink()


def delete_though_it_has_another_name(path):
    """Delete the file, of which a copy without a copy's cost is kept."""
    os.link(path, path.with_name("kept.db"))
    path.unlink()


def move_away(path):
    """Put the file aside."""
    path.rename(path.with_name("aside.db"))
    without_companions(path)


@pytest.mark.parametrize("vanish", [delete, delete_though_it_has_another_name, move_away])
def test_a_file_that_vanishes_is_made_anew_by_the_very_next_operation(backend, path, vanish):
    """Nothing is granted any more in a file that nobody else can find, and nothing that was held is lost."""
    vanish(path)
    assert backend.call(ops.Acquire(key="one-2")).result is not None
    assert path.exists()
    assert set(rows(backend)) == {"one-1", "one-2"}
    assert set(in_file(path).ledger.records) == {"one-1", "one-2"}


def test_a_change_right_after_another_is_noticed_though_both_bear_the_same_time(backend, path, monkeypatch):
    """Many systems tell the time of a change by a clock that ticks a hundred times a second."""
    usual = os.fstat

    class Coarse:
        """What is told of a file by a clock that stands still."""

        st_ctime_ns = 1

        def __init__(self, file):
            self._state = usual(file)

        def __getattr__(self, name):
            return getattr(self._state, name)

    monkeypatch.setattr(os, "fstat", Coarse)
    monkeypatch.setattr(file_watch, "_TICK", 60.0)
    backend.call(ops.Heartbeat())
    move_away(path)
    assert set(rows(backend)) == {"one-1"}
    assert path.exists()


def test_a_backup_that_is_put_in_place_of_the_file_is_used_at_once(backend, path):
    """What was granted after it was made is not in it, and comes back from whoever holds it."""
    backup = path.with_name("backup.db")
    with sqlite3.connect(path) as file:
        file.execute("VACUUM INTO ?", (str(backup),))
    file.close()
    assert backend.call(ops.Acquire(key="one-2")).result is not None
    without_companions(path)
    backup.replace(path)
    assert set(rows(backend)) == {"one-1", "one-2"}


@pytest.fixture
def often(monkeypatch):
    """Have the path looked at each time."""
    monkeypatch.setattr(file_watch, "_LOOK_EVERY", 0.0)


def test_a_folder_that_is_replaced_is_noticed(often, backend, path):
    """The file itself does not tell of it, so its path is looked at now and then."""
    path.parent.rename(path.parent.with_name("aside"))
    with pytest.raises(StoreUnavailable):
        backend.call(ops.ReadAll())
    shutil.copytree(path.parent.with_name("aside"), path.parent, ignore=shutil.ignore_patterns("pool.db*"))
    assert set(rows(backend)) == {"one-1"}
    assert path.exists()


def test_a_file_that_only_changes_stays_open(backend, path):
    """Checkpoints, permissions and times are no reason to begin anew."""
    session = backend._database._session
    path.chmod(0o640)
    os.utime(path)
    os.link(path, path.with_name("also.db"))
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA wal_checkpoint(PASSIVE)")
    file.close()
    assert set(rows(backend)) == {"one-1"}
    assert backend._database._session is session


def test_watching_takes_no_lock_away(connect, backend, path):
    """One of two that use the file closes, and another process still does not take it for the last."""
    other = connect("two")
    assert set(rows(other)) == {"one-1"}
    other.close()
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_CLOSE, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]
    assert path.with_name("pool.db-wal").exists(), "who closes last removes it"
    assert set(rows(backend)) == {"one-1"}


def test_a_descriptor_is_kept_for_each_connection_and_no_longer(backend, path, how):
    """Closing, and beginning anew, leave nothing open."""
    files = descriptors(path.parent)
    for _ in range(3):
        backend._database.close()
        backend.call(ops.Heartbeat())
    assert descriptors(path.parent) == files
    backend._database.close()
    # The file, its log, its index, the queue; the index is in memory that is mapped.
    assert descriptors(path.parent) == files - 4 - (how == "descriptor")
