"""What became of each line, in a file: written before its call is sent, and after it was answered.

Mutable: the file, and ``entries``, which follow it. A batch is one process at a time: the file is locked as
long as its journal is open, and the kernel opens the lock of a process that was killed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from balancer.batch.lines import WrongInputError

WAITING, SENDING, RUNNING = "waiting", "sending", "running"
COMPLETED, FAILED, REFUSED, UNKNOWN = "completed", "failed", "refused", "unknown"
ENDED = (COMPLETED, FAILED, REFUSED, UNKNOWN)
_LAYOUT = "balancer batch 1"
_TABLES = """
    CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS line (
        number INTEGER PRIMARY KEY, state TEXT NOT NULL, lease TEXT, account TEXT, job_id TEXT,
        sent_wall REAL, sent_monotonic REAL, absent REAL, life REAL, body TEXT, error TEXT
    );
    CREATE TABLE IF NOT EXISTS reserve (space BLOB);
"""
_RESERVE = 64 * 1024


class JournalError(Exception):
    """The journal cannot be written: nothing more may be sent."""


class Entry(NamedTuple):
    """What is known of one line."""

    state: str = WAITING
    lease: str | None = None
    account: str | None = None
    job_id: str | None = None
    sent_wall: float | None = None
    sent_monotonic: float | None = None
    """When its call was sent, by the clock of the wall and by that of the machine."""
    absent: float | None = None
    """Seconds after its call at which the service's list did not have it, though it should."""
    life: float | None = None
    """Seconds for which its job was seen to run at least, now that it has ended."""

    def age(self) -> tuple[float, float]:
        """Return how many seconds ago it was sent at least, and at most: a clock may have been set."""
        ages = time.time() - (self.sent_wall or 0.0), time.monotonic() - (self.sent_monotonic or 0.0)
        return min(ages), max(ages)


class Journal:
    """The journal of a batch, beside its output.

    Raises:
        WrongInputError: there is one already and ``resume`` is false; it is of another batch, or no journal;
            another process is at work on it; there is no folder for it.
        JournalError: it cannot be written.
    """

    def __init__(self, output: Path, about: Mapping[str, str], *, resume: bool) -> None:
        self.path, self.output = output.with_name(output.name + ".journal"), output
        self.entries: dict[int, Entry] = {}
        self._full = ""
        """Why it could not be written once."""
        if not output.parent.is_dir():
            raise WrongInputError(f"{output.parent} is no folder: make it, or choose another -o")
        if not self.path.exists() and output.exists() and output.stat().st_size:
            raise WrongInputError(f"{output} is there already, and no journal beside it: choose another -o")
        try:
            self._file = sqlite3.connect(self.path, isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path} cannot be written: {error}") from None
        try:
            self._open({"layout": _LAYOUT, **about}, resume=resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # a full disk: what was committed is read again by the next run
            self._file.close()

    def _open(self, about: Mapping[str, str], *, resume: bool) -> None:
        try:
            self._file.executescript("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;")
            self._file.executescript(f"PRAGMA synchronous=FULL; BEGIN IMMEDIATE; {_TABLES}")
            known = dict(self._file.execute("SELECT name, value FROM about"))
            self._check(known, about, resume=resume)
            self._file.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())
            self._file.execute("COMMIT")
            self._reserve()
            rows = self._file.execute(f"SELECT number, {', '.join(Entry._fields)} FROM line")  # noqa: S608
            self.entries = {number: Entry(*fields) for number, *fields in rows}
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise WrongInputError(f"another process is at work on {self.path}") from None
            if "not a database" in str(error):
                raise WrongInputError(f"{self.path} is no journal") from None
            raise JournalError(f"{self.path} cannot be written: {error}") from None

    def _reserve(self) -> None:
        """Have room for the answers to calls that are under way when a disk fills up."""
        self._file.execute("INSERT INTO reserve VALUES (zeroblob(?))", (_RESERVE,))
        self._file.execute("DELETE FROM reserve")
        self._file.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _check(self, known: Mapping[str, str], about: Mapping[str, str], *, resume: bool) -> None:
        if not known:
            return
        if not resume:
            raise WrongInputError(f"{self.path} is there already: go on with --resume, or choose another -o")
        for name, value in about.items():
            if known.get(name) != value:
                raise WrongInputError(f"{self.path} is of another batch: its {name} is not the one given")

    # -- what happens to a line ---------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Entry:
        return self.entries.get(number) or Entry()

    def sending(self, number: int, lease: str, account: str) -> None:
        """Note that a line's call leaves now."""
        self._put(number, Entry(SENDING, lease, account, None, time.time(), time.monotonic()))

    def running(self, number: int, job_id: str) -> None:
        """Note which job a line has become."""
        self._put(number, self[number]._replace(state=RUNNING, job_id=job_id))

    def waiting(self, number: int) -> None:
        """Note that a line's call was surely not accepted: it may be sent."""
        self._put(number, Entry())

    def absent(self, number: int, age: float) -> None:
        """Note that the service's list did not have a line so many seconds after its call."""
        self._put(number, self[number]._replace(absent=age))

    def ended(
        self, number: int, state: str, body: Any, error: str | None, *, life: float | None = None
    ) -> None:
        """Note how a line has ended."""
        self._put(number, self[number]._replace(state=state, life=life), body, error)

    def _put(self, number: int, entry: Entry, body: Any = None, error: str | None = None) -> None:
        values = (number, *entry, None if body is None else json.dumps(body, ensure_ascii=False), error)
        if self._full and entry.state == SENDING:
            raise JournalError(f"{self.path} cannot be written: {self._full}")
        try:
            self._write(values)
        except sqlite3.Error as failed:
            # From now on the reserve is for what has happened: no call may be sent any more.
            self._full = str(failed)
            if entry.state == SENDING or not self._written_in_reserve(values):
                raise JournalError(f"{self.path} cannot be written: {failed}") from None
        self.entries[number] = entry

    def _write(self, values: tuple[Any, ...]) -> None:
        self._file.execute("INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _written_in_reserve(self, values: tuple[Any, ...]) -> bool:
        with suppress(sqlite3.Error):
            self._file.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            self._write(values)
            return True
        return False

    # -- the output ---------------------------------------------------------------------------------------

    def body(self, number: int) -> Any:
        """Return what the service said of a line at last."""
        [(text,)] = self._file.execute("SELECT body FROM line WHERE number = ?", (number,))
        return None if text is None else json.loads(text)

    def write_output(self) -> None:
        """Make the output anew, whole, in the order of the lines. Raises OSError."""
        part = self.output.with_name(self.output.name + ".part")
        try:
            with part.open("w", encoding="utf-8") as file:
                file.writelines(self._records(""))
            part.replace(self.output)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()

    def append_output(self, number: int) -> None:
        """Add one line that has ended. Raises OSError; the output is made anew at the end all the same."""
        with self.output.open("a", encoding="utf-8") as file:
            file.writelines(self._records(f"AND number = {int(number)}"))

    def _records(self, which: str) -> Iterator[str]:
        rows = self._file.execute(
            "SELECT number, job_id, account, state, body, error FROM line "  # noqa: S608  # a number of ours
            f"WHERE state IN {ENDED} {which} ORDER BY number"
        )
        for number, job_id, account, state, body, error in rows:
            record: dict[str, Any] = {"line": number, "job_id": job_id, "account": account, "status": state}
            if error is None:
                record["body"] = None if body is None else json.loads(body)
            else:
                record["error"] = error
            yield json.dumps(record, ensure_ascii=False) + "\n"
