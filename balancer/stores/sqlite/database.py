"""The file: how it is made, checked and opened, and whose turn it is to change it.

SQLite alone would let writers starve (who finds it locked sleeps and tries again), so they queue on an
``flock`` of a file beside it, which the kernel hands on in order and takes back from the dead.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from balancer.errors import StoreUnavailable, sanitized
from balancer.stores.sqlite import forks
from balancer.stores.sqlite.places import warn_of_network
from balancer.stores.sqlite.rebase import rebase
from balancer.stores.sqlite.schema import APPLICATION_ID, LAYOUT, TABLES
from balancer.stores.sqlite.witness import Witness

A = TypeVar("A")
T = TypeVar("T")
_BUSY = 5.0
"""Seconds to wait for somebody who uses the file but does not queue, such as an operator's shell."""
_PAGE = 1024
"""Bytes: each operation writes a few whole pages, and rows are short."""
_CHECKPOINT = 10_000
"""Pages of the log after which they are moved to the file."""


class Session(NamedTuple):
    """A connection, and what begins and ends its transactions."""

    connection: sqlite3.Connection
    run: Callable[[str], object]

    @staticmethod
    def of(connection: sqlite3.Connection) -> Session:
        """Return a session: one cursor for all of it, as to make one takes as long as to begin."""
        return Session(connection, connection.cursor().execute)


class Database:
    """One connection to the file, for all threads of this process. Mutable: the session.

    Args:
        path: The file; made if it is not there.
        now: The clock that the file's instants are told by.
        boot: Names what ``now`` counts from.
    """

    def __init__(self, path: Path, now: Callable[[], float], boot: str) -> None:
        self.path = str(path)
        self._folder = path.parent
        self._now, self._boot = now, boot
        self._threads = threading.RLock()
        self._busy = False
        self._queue: int | None = None
        self._session: Session | None = None
        self._witness = Witness(self.path)
        forks.register(self)

    def transact(self, act: Callable[[sqlite3.Connection, A], T], about: A) -> T:
        """Wait for our turn, and do something in a transaction. What it did is undone if it raises.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        with self._threads:
            if self._busy:
                raise self._unavailable("a signal handler asks in the middle of an operation")
            self._busy = True
            try:
                return self._first_in_queue(act, about)
            except (sqlite3.Error, OSError) as error:
                self.close()
                raise self._unavailable(str(error)) from sanitized(error)
            finally:
                self._busy = False

    def close(self) -> None:
        """Close the connection; the next turn opens another one."""
        with self._threads:
            with forks.gate:
                self.before_fork()
            queue, self._queue = self._queue, None
            if queue is not None:
                os.close(queue)

    def before_fork(self) -> None:
        """Close the connection (under the gate)."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(sqlite3.Error):
                session.connection.close()
        self._witness.end()

    def in_child(self) -> None:
        """Let go of what is the parent's: locks that its threads held, its place in the queue."""
        self._threads, self._busy = threading.RLock(), False
        queue, self._queue = self._queue, None
        if queue is not None:
            os.close(queue)  # it is the parent's as well, and stays locked if it is

    # -- in turn ------------------------------------------------------------------------------------

    def _first_in_queue(self, act: Callable[[sqlite3.Connection, A], T], about: A) -> T:
        queue = self._queue
        if queue is None:
            queue = self._queue = self._open_queue()
        moved = self._witness.moved()  # before our turn: the others wait while it lasts
        fcntl.flock(queue, fcntl.LOCK_EX)
        try:
            with forks.gate:
                session = self._session
                if session is None or moved:
                    session = self._connect()
                return _in_transaction(session, act, about)
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)

    def _open_queue(self) -> int:
        if not self._folder.is_dir():
            raise self._unavailable("its folder does not exist")
        return os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT, 0o600)

    def _connect(self) -> Session:
        """Open the file that is there now; it is made if there is none."""
        self.before_fork()
        # Looked at before it is opened: closing a file takes away the locks that SQLite has on it.
        if not Path(self.path).exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._witness.begin()
        session = self._session = Session.of(self._open())
        return session

    def _open(self) -> sqlite3.Connection:
        if Path(self.path).is_dir():
            raise self._unavailable("it is a folder")
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise self._unavailable("this user must be allowed to read and to write it")
        warn_of_network(self.path)
        connection = sqlite3.connect(
            f"file:{quote(self.path)}?mode=rw",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,  # the threads of a process take turns
            cached_statements=256,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._check(connection)
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may then cost the last moments, but not the file. Nothing is lost by a killed process.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        _in_transaction(Session.of(connection), self._begin, time.time() - self._now())

    def _begin(self, connection: sqlite3.Connection, offset: float) -> None:
        if not _value(connection, "SELECT count(*) FROM sqlite_master"):
            _create(connection, self._boot, offset)
        rebase(connection, self._boot, offset)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise StoreUnavailable unless the file is empty, or ours and of the present layout."""
        mark, layout = _value(connection, "PRAGMA application_id"), _value(connection, "PRAGMA user_version")
        if mark == 0 and not _value(connection, "SELECT count(*) FROM sqlite_master"):
            return
        if mark != APPLICATION_ID:
            raise self._unavailable("it is a database of something else")
        if layout != LAYOUT:
            raise self._unavailable(
                f"its layout is {layout}, made by another version; this one uses layout {LAYOUT}. "
                f"Delete it once no job is running, or name another file"
            )

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self.path} cannot be used: {why}")


def _in_transaction(session: Session, act: Callable[[sqlite3.Connection, A], T], about: A) -> T:
    """Do something, all or nothing."""
    connection, run = session
    run("BEGIN IMMEDIATE")
    try:
        result = act(connection, about)
        run("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            run("ROLLBACK")
        raise
    return result


def _create(connection: sqlite3.Connection, boot: str, offset: float) -> None:
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO clock VALUES (?, ?)", (boot, offset))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {LAYOUT}")


def _value(connection: sqlite3.Connection, statement: str) -> int:
    value: int = connection.execute(statement).fetchone()[0]
    return value
