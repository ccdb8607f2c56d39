"""The file of a SQLite store: made for its user alone, and left alone if it is not ours."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from backends import configure, dump, rows, settings_for
from sqlite_workers import START, ask_as_nobody
from structlog.testing import capture_logs

from balancer import StoreUnavailable
from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.stores.sqlite import SqliteBackend
from balancer.stores.sqlite.database import APPLICATION_ID, LAYOUT
from balancer.stores.sqlite.file_system import file_system, warn_of_network
from balancer.testing import ManualClock


@pytest.fixture
def connect(path):
    """Return a function that makes the backend of one more owner."""
    made = []

    def make(name="one", at=None, now=None, **changes):
        backend = SqliteBackend(at or path, settings_for(**changes), ops.Owner(name, f"host:{name}"), now)
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


def refusal(backend):
    """Return what a store says that cannot be used."""
    with pytest.raises(StoreUnavailable) as caught:
        backend.call(ops.ReadAll())
    assert str(backend._path) in str(caught.value)
    return str(caught.value)


def test_file_and_companions_are_for_their_user_alone(connect, path):
    """Nobody else may read whose jobs run where, whatever the umask."""
    before = os.umask(0)
    try:
        configure(connect(), {"a": 1})
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    folder = modes.pop("pool.db-owners")
    assert folder == 0o700
    assert modes.keys() == {"pool.db", "pool.db-wal", "pool.db-shm", "pool.db-lock"}
    assert set(modes.values()) == {0o600}
    assert [stat.S_IMODE(file.stat().st_mode) for file in (path.parent / "pool.db-owners").iterdir()] == [
        0o600
    ]


def test_path_may_hold_any_character(connect, tmp_path):
    """Blanks, question marks and per cent signs in a path name a file, not an option."""
    folder = tmp_path / "a b?mode=ro#c%20é"
    folder.mkdir()
    configure(connect(at=folder / "p?x=1.db"), {"a": 1})
    assert (folder / "p?x=1.db").is_file()


def test_missing_folder_is_named(connect, tmp_path):
    """The error says what is wrong, and nothing is made."""
    assert "folder does not exist" in refusal(connect(at=tmp_path / "missing" / "pool.db"))
    assert not list(tmp_path.iterdir())


def test_folder_in_place_of_the_file_is_named(connect, path):
    """A path that names a folder is refused."""
    path.mkdir()
    assert "folder" in refusal(connect())


@pytest.mark.parametrize("content", [b"no database at all" * 300, b"SQLite format 3\0" + b"\xff" * 5000])
def test_corrupt_file_is_left_alone(connect, path, content):
    """What is no database is refused, byte by byte as it was."""
    path.write_bytes(content)
    refusal(connect())
    assert path.read_bytes() == content


def test_damaged_file_of_ours_is_refused(connect, path):
    """Damage in the middle is an error each time, never a guess."""
    backend = connect()
    configure(backend, {f"account{n}": 2 for n in range(500)})
    backend.close()
    whole = path.read_bytes()
    damaged = whole[:4096] + b"\x5a" * (len(whole) - 4096)
    path.write_bytes(damaged)
    refusal(connect("two"))
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("mark", [0, 42])
def test_database_of_something_else_is_left_alone(connect, path, mark):
    """A database that another program made is refused by name, and keeps its content."""
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE precious (x)")
        file.execute(f"PRAGMA application_id = {mark}")
    file.close()
    before = path.read_bytes()
    assert "something else" in refusal(connect())
    assert path.read_bytes() == before


def test_empty_file_is_taken(connect, path):
    """A file that was made beforehand, for its owner or mode, is as good as none."""
    path.touch(0o640)
    configure(connect(), {"a": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_other_layout_is_refused_by_name(connect, path):
    """A file of another version is told from this one's, and left as it is."""
    configure(connect(), {"a": 1})
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert file.execute("PRAGMA user_version").fetchone() == (LAYOUT,)
        file.execute(f"PRAGMA user_version = {LAYOUT + 6}")
    file.close()
    text = refusal(connect("two"))
    assert re.search(rf"layout is {LAYOUT + 6}\b.*layout {LAYOUT}\b", text)


def test_file_that_may_not_be_written_is_left_alone(connect, open_folder):
    """Somebody without the right to write is told so, and changes nothing."""
    path = open_folder / "pool.db"
    configure(connect(at=path), {"a": 1})
    connect(at=path).close()
    path.chmod(0o444)
    for part in ("-lock", "-owners"):
        Path(f"{path}{part}").chmod(0o777)
    before = path.read_bytes()
    ours, theirs = START.Pipe()
    process = START.Process(target=ask_as_nobody, args=(path, theirs))  # as root may write everything
    process.start()
    theirs.close()
    said = ours.recv()
    process.join()
    assert str(path) in said
    assert "must be allowed to read and to write" in said
    assert path.read_bytes() == before


ON_A_FULL_DISK = """
import resource, sys
from balancer import StoreUnavailable
from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.stores.sqlite import SqliteBackend
backend = SqliteBackend(sys.argv[1], ops.Settings("n", "random", False, 60, 60, 60), ops.Owner("x", "h:1"))
claim = backend.call(ops.Claim("fetch", 0, 60)).result
few = Account("a", 100_000)
assert backend.call(ops.Configure(claim.number, 0, AccountTable({"a": few}), (few,), ())).result
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
granted = 0
try:
    while True:
        granted += backend.call(ops.Acquire(key=f"x-{granted:x}", label="l" * 500)).result is not None
except StoreUnavailable as error:
    print(granted, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(len(backend.call(ops.ReadAll()).result.rows))
print(backend.call(ops.Acquire(key="x-more")).result)
"""


def test_full_disk_is_an_error_and_passes(path):
    """What could not be written was not done; once there is room, all goes on from what was."""
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, str(path), str(300_000)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    refused, live, after = done.stdout.splitlines()
    granted = int(refused.split()[0])
    assert granted > 10
    assert str(path) in refused
    assert int(live) == granted
    assert after == "Granted(account='a')"


def test_deleted_file_is_made_anew_and_nothing_is_lost(connect, path):
    """Whoever comes first writes what it knows of all: nobody is granted what somebody holds."""
    backend, other = connect(), connect("two")
    configure(backend, {"a": 1, "b": 1})
    assert backend.call(ops.Acquire(key="one-1", accounts=("a",))).result is not None
    assert other.call(ops.Acquire(key="two-1")).result.account == "b"
    other.call(ops.Bind("two-1", ("job",), 60.0))
    path.unlink()
    assert other.call(ops.Acquire(key="two-2")).result is None
    assert backend.call(ops.Acquire(key="one-2")).result is None
    assert set(rows(backend)) == {"one-1", "two-1"}
    assert backend.call(ops.Heartbeat()).result.known
    assert other.call(ops.Release(job_id="job")).result.key == "two-1"


def test_each_process_brings_back_its_own_to_a_file_that_others_began(connect, path):
    """A process that knew nothing of the others made the file anew: who comes later adds what it holds."""
    backend, other = connect(), connect("two")
    configure(backend, {"a": 2})
    other.call(ops.ReadAll())
    assert backend.call(ops.Acquire(key="one-1")).result is not None
    assert backend.call(ops.Acquire(key="one-2")).result is not None
    path.unlink()
    assert other.call(ops.Acquire(key="two-1")).result is not None, "it could not know"
    assert backend.call(ops.Acquire(key="one-3")).result is None
    assert set(rows(other)) == {"one-1", "one-2", "two-1"}
    backend.call(ops.Release(key="one-1"))
    assert backend.call(ops.Acquire(key="one-3")).result is None, "two of two still"


def test_lease_that_comes_back_before_the_table_counts_once_it_is_there(connect):
    """An account that no table names yet is kept for the leases on it."""
    backend = connect()
    backend.call(ops.Register((ops.LeaseState(key="one-1", account="a", state="held", age=1.0),)))
    assert [account.id for account in dump(backend).draining] == ["a"]
    configure(backend, {"a": 1})
    assert backend.call(ops.Acquire(key="one-2")).result is None
    backend.call(ops.Release(key="one-1"))
    assert backend.call(ops.Acquire(key="one-2")).result is not None


def test_pools_in_one_file_do_not_meet(connect):
    """Customers and services share a file, and nothing else."""
    kling, riffusion = connect(namespace="user:1/kling"), connect("two", namespace="user:1/riffusion")
    configure(kling, {"a": 1})
    configure(riffusion, {"a": 1, "b": 1})
    assert kling.call(ops.Acquire(key="one-1")).result is not None
    kling.call(ops.Release(job_id="job"))
    assert len(rows(riffusion)) == 0
    assert set(dump(kling).table.accounts) == {"a"}
    assert riffusion.call(ops.Acquire(key="two-1")).result is not None
    assert riffusion.call(ops.Bind("two-1", ("job",), 60)).result == "bound", (
        "released in the other pool only"
    )


def test_accounts_come_back_as_they_were_put(connect):
    """Every kind of field, reasons and notes survive the file."""
    account = Account("é\n\x00 ", 7, {"b": True, "i": 2**40, "f": 1.5, "s": "ü\"'"}, "why not", "note")
    backend = connect()
    claim = backend.call(ops.Claim("fetch", 0, 60)).result
    backend.call(ops.Configure(claim.number, 0, AccountTable({account.id: account}), (account,), ()))
    assert connect("two").call(ops.ReadTable()).result.table.accounts == {account.id: account}


class Machine:
    """A machine that is started again: its uptime, the time of day, and what its owner has it say of that."""

    def __init__(self, connect, monkeypatch):
        self._connect = connect
        self.clock, self.wall = ManualClock(50_000.0), 1_000_000.0
        self.starts = 0
        monkeypatch.setattr("time.time", lambda: self.wall)

    def open(self, name):
        backend = self._connect(name, now=self.clock)
        backend._boot = f"start {self.starts}"
        return backend

    def later(self, seconds):
        self.clock.advance(seconds)
        self.wall += seconds

    def restart(self, backend, *, off, wrong=0.0):
        """Be off for some seconds; then the clock is ahead of the time of day by ``wrong``."""
        backend._pipe.drop()
        backend._database.close()
        self.starts += 1
        self.clock = ManualClock(20.0)
        self.wall += off + 20.0 + wrong


@pytest.fixture
def machine(connect, monkeypatch):
    """Return a machine that can be started again."""
    return Machine(connect, monkeypatch)


def held_bound_cooling(machine):
    """Return a backend with a lease that is bound for 1000 s, one that is held, and a cooldown of 500 s."""
    backend = machine.open("one")
    configure(backend, {"a": 1, "b": 1, "c": 1})
    for number, id in enumerate("abc"):
        assert (
            backend.call(ops.Acquire(key=f"one-{number}", accounts=(id,), else_wants=())).result is not None
        )
    backend.call(ops.Bind("one-0", ("job",), 1000.0))
    backend.call(ops.Cool(account="b", seconds=500.0))
    return backend


def test_another_start_of_the_machine_keeps_jobs_and_drops_what_processes_held(machine):
    """After a reboot bound leases end when they would have by the time of day; held ones are free."""
    machine.restart(held_bound_cooling(machine), off=100.0)
    after = machine.open("later")
    state = dump(after)
    assert {row.key: row.expires_in for row in state.rows} == {"one-0": pytest.approx(880.0)}
    assert {pause.account: pause.left for pause in state.cooldowns} == {"b": pytest.approx(380.0)}
    assert after.call(ops.Acquire(key="later-1")).result.account == "c"
    assert after.call(ops.Acquire(key="later-2")).result is None


def test_a_listed_job_of_a_process_that_went_with_the_machine_keeps_its_slot(machine):
    """It runs on elsewhere: its lease is in doubt, as of any process that was killed, and ends in time."""
    backend = held_bound_cooling(machine)
    number = backend.call(ops.Claim("survey", 0, 60)).result.number
    backend.call(ops.Apply(number=number, external={}, listed=(("new", "c", "one-2"),)))
    machine.restart(backend, off=100.0)
    after = machine.open("later")
    assert {key: row.state for key, row in rows(after).items()} == {"one-0": "bound", "one-2": "ambiguous"}
    assert rows(after)["one-2"].expires_in <= after._settings.ambiguous_ttl
    assert after.call(ops.Acquire(key="later-1", accounts=("c",))).result is None


@pytest.mark.parametrize("wrong", [-365 * 86_400.0, -7200.0, -150.0])
def test_a_clock_that_is_behind_after_a_start_keeps_nothing_longer_than_it_was_given(machine, wrong):
    """No time is taken to have gone backward, and all is right again when the clock is."""
    machine.restart(held_bound_cooling(machine), off=100.0, wrong=wrong)
    after = machine.open("later")
    state = dump(after)
    assert state.rows[0].expires_in <= 1000.0
    assert state.cooldowns[0].left <= 500.0
    machine.wall -= wrong
    assert dump(machine.open("third")).rows[0].expires_in == pytest.approx(880.0)


def test_a_clock_that_is_ahead_after_a_start_ends_nothing_at_once(machine):
    """A wrong clock is set right soon after a start: until then jobs keep their slots."""
    machine.restart(held_bound_cooling(machine), off=100.0, wrong=7200.0)
    after = machine.open("later")
    assert dump(after).rows[0].expires_in == pytest.approx(600.0)
    machine.later(60.0)
    machine.wall -= 7200.0
    after.call(ops.SetWanted(None))
    assert dump(machine.open("third")).rows[0].expires_in == pytest.approx(820.0)


def test_a_machine_that_was_off_for_long_frees_what_has_ended(machine):
    """If the clock says so still after a while, it is believed."""
    machine.restart(held_bound_cooling(machine), off=7200.0)
    after = machine.open("later")
    assert after.call(ops.Acquire(key="later-1", accounts=("a",))).result is None
    machine.later(601.0)
    assert after.call(ops.Acquire(key="later-2", accounts=("a",))).result is not None


def test_processes_that_name_the_start_of_the_machine_differently_share_what_they_hold(connect):
    """Containers of one kernel have boot ids of their own: a living process tells that there was no start."""
    one, two = connect(), connect("two")
    two._boot = "another name"
    configure(one, {"a": 2})
    assert one.call(ops.Acquire(key="one-1")).result is not None
    assert set(rows(two)) == {"one-1"}
    assert two.call(ops.Acquire(key="two-1")).result is not None
    assert one.call(ops.Acquire(key="one-2")).result is None
    third = connect("three")
    assert set(rows(third)) == {"one-1", "two-1"}


def test_wall_clock_has_no_part_in_anything(connect, monkeypatch):
    """P-39: a time of day that jumps by a century ends nothing, and cools nothing longer."""
    backend = connect()
    configure(backend, {"a": 1, "b": 1})
    assert backend.call(ops.Acquire(key="one-1", accounts=("a",))).result is not None
    backend.call(ops.Bind("one-1", ("job",), 100.0))
    backend.call(ops.Cool(account="b", seconds=100.0))
    for wall in (0.0, 4e9):
        monkeypatch.setattr("time.time", lambda wall=wall: wall)
        other = connect(f"at{wall}")
        state = dump(other)
        assert 90 < state.rows[0].expires_in <= 100
        assert 90 < state.cooldowns[0].left <= 100


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:55 / /mnt/share rw shared:7 - nfs4 host:/x rw
41 40 0:56 / /mnt/share/local\\040disk rw - xfs /dev/vdb rw
"""


def test_network_file_system_is_warned_about_once(tmp_path):
    """Locks of network file systems cannot be relied on: the log says so, once for each file."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system("/mnt/share/pool.db", mounts) == "nfs4"
    assert file_system("/mnt/shared/pool.db", mounts) == "ext4"
    assert file_system("/mnt/share/local disk/pool.db", mounts) == "xfs"
    assert file_system("/x", tmp_path / "missing") == ""
    with capture_logs() as logged:
        for _ in range(2):
            warn_of_network("/mnt/share/pool.db", mounts)
        warn_of_network("/mnt/share/local disk/pool.db", mounts)
    assert logged == [
        {
            "event": "sqlite_network_filesystem",
            "log_level": "warning",
            "path": "/mnt/share/pool.db",
            "filesystem": "nfs4",
        }
    ]


def test_file_holds_plain_values_for_an_operator(connect, path):
    """What runs where is readable with any SQLite shell."""
    backend = connect()
    configure(backend, {"a": 1})
    backend.call(ops.Acquire(key="one-1", label="nightly"))
    with sqlite3.connect(path) as file:
        entries = dict(file.execute("SELECT name, value FROM entry_1").fetchall())
    file.close()
    state, account, _, process, label = entries["lease:one-1"].split("\t")
    assert (state, account, process, label) == ("held", "a", "host:one", "nightly")
    assert entries["account:a"].split("\t")[0] == "1"
