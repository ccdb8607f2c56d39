"""The file: how it is made, checked and opened, and how it is changed."""

from __future__ import annotations

import math
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from balancer.errors import StoreUnavailable, sanitized
from balancer.stores.base import ReentrantCall
from balancer.stores.sqlite import forks
from balancer.stores.sqlite.file_system import holders, make, mounted_alone, warn_of_network
from balancer.stores.sqlite.file_watch import FileWatch
from balancer.stores.sqlite.write_queue import Carrier, NoTurn, WriteQueue

A = TypeVar("A")
T = TypeVar("T")
APPLICATION_ID = 0x62616C61
"""Marks a file as ours ("bala")."""
LAYOUT = 4
"""Of the tables; kept as ``user_version``."""
_BUSY, _BUSY_AGAIN = 0.5, 0.02
"""Seconds to wait for somebody who uses the file but does not queue, such as an operator's shell (less than
any caller is ready to wait); and while that is known to be in the way."""
_PAGE = 2048
"""Bytes: each operation writes a few whole pages, and rows are short."""
_CHECKPOINT = 10_000
"""Pages of the log after which they are moved to the file."""
_MOST_LOG = 16 << 20
"""Bytes that the log keeps once it was moved, however long somebody's reading had held that up."""
_TABLES = (
    "CREATE TABLE pool (number INTEGER PRIMARY KEY, namespace TEXT NOT NULL UNIQUE)",
    "CREATE TABLE file (name TEXT NOT NULL)",  # tells it from others that were, or will be, at its path
)


class _Here(threading.local):
    def __init__(self) -> None:
        self.inside = isinstance(threading.current_thread(), Carrier)


here = _Here()
"""``inside``: this thread is in the middle of an operation. What it is made to ask by a finalizer, a signal
handler or a tracer cannot wait for that; nor can it on another file, as whoever uses that may wait for the
gate."""


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
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._folder = path.parent
        self.threads = threading.RLock()
        self._queue = WriteQueue(path)
        self._session: Session | None = None
        self._ahead = False
        """No turn of ours has shown yet that the connection is to the file at the path."""
        self._waits = _BUSY
        self.identity: object = None
        """Names the file that was opened last, among all that were at its path."""
        self._watch = FileWatch(self.path)
        forks.register(self)

    def read(self, act: Callable[[sqlite3.Connection], T], end: float) -> T:
        """Read something in one piece, out of turn: others go on meanwhile. Raises StoreUnavailable."""
        return self.alone(self._read, act, end)

    def alone(self, act: Callable[[A], T], about: A, end: float) -> T:
        """Do something while no other thread of this process uses the connection.

        Args:
            act: What to do.
            about: What it is given.
            end: When to give up waiting, for the other threads and then for our turn.

        Raises:
            StoreUnavailable: it could not be done, or not in time. ReentrantCall: this thread is in the
            middle of something of the kind.
        """
        threads = self.threads
        if here.inside:
            raise ReentrantCall
        here.inside = True  # first: whoever strikes from here on must not wait for this very thread
        try:
            try:
                if not threads.acquire(blocking=False):
                    self._queue.wait(lambda seconds: threads.acquire(timeout=seconds), end)
                self._queue.end = end
                return act(about)
            except NoTurn as error:
                raise self._no_turn(error) from None
            except (sqlite3.Error, OSError) as error:
                if getattr(error, "sqlite_errorcode", 0) in _IN_USE:
                    self._queue.stand_still()
                    raise self._unavailable(self._who_is_in_the_way()) from sanitized(error)
                self._close()
                raise self._unavailable(str(error)) from sanitized(error)
            finally:
                try:
                    threads.release()
                except RuntimeError:  # it was not had: an interruption, or the others, came before
                    pass
        finally:
            here.inside = False  # with no call on the way, after which an interruption may come

    def aside(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """Read something over a connection of its own, whatever this thread is in the middle of.

        Nothing is done if there is no file yet. Raises StoreUnavailable.
        """
        try:
            with forks.gate, closing(self._open(self._check)) as connection:
                act(connection)
        except _NotMade:
            pass
        except (sqlite3.Error, OSError) as error:
            if Path(self.path).exists():
                raise self._unavailable(str(error)) from sanitized(error)

    def changes(self) -> object:
        """Return what is another whenever somebody has changed something."""
        return self._queue.changes()

    def no_turn(self, seen: object, *, busy: bool) -> StoreUnavailable:
        """Return what to tell whoever has not come to ask in time.

        Args:
            seen: The :meth:`changes` when they began to wait.
            busy: Somebody has got on since, whatever these say.
        """
        return self._no_turn(NoTurn(busy=busy or self._queue.got_on(seen)))

    def _no_turn(self, error: NoTurn) -> StoreUnavailable:
        if error.busy:
            return self._unavailable("others use it all the time, and our turn has not come", _busy=True)
        return self._unavailable(self._who_is_in_the_way())

    def _who_is_in_the_way(self) -> str:
        who = holders(self.path, f"{self.path}-shm", f"{self.path}-lock")
        return f"{who or 'another process'} has it locked, and does not get on"

    def close(self) -> None:
        """Close the connection; the next turn opens another one. Raises as :meth:`alone`."""
        self.alone(lambda _: self._close(), None, math.inf)

    def _close(self) -> None:
        with forks.gate:
            self.before_fork()
        self._queue.close()

    def before_fork(self) -> None:
        """Close the connection (under the gate)."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(sqlite3.Error):
                session.connection.close()
        self._watch.end()

    def in_child(self) -> None:
        """Let go of what is the parent's: locks that its threads held, its place in the queue."""
        self.threads, here.inside = threading.RLock(), False
        self._queue.in_child()

    # -- in turn ------------------------------------------------------------------------------------

    def in_turn(self, what: tuple[Callable[[Session, A], T], A]) -> T:
        """Do something, about something, in our turn, alone.

        Raises NoTurn, OSError, sqlite3.Error, StoreUnavailable.
        """
        if self._session is None or self._watch.moved():
            self._open_ahead()
        for _ in range(3):
            try:
                return self._queue.in_turn(self._turn, *what)
            except _WrongQueue:
                self._queue.close()  # the next turn is waited for at the lock that is there then
        raise NoTurn(busy=False)

    def _open_ahead(self) -> None:
        """Open a file that is ready before our turn, as the others wait while that lasts."""
        self._look_at_folder()
        with forks.gate:
            self.before_fork()
            self._ahead = True
            try:
                if Path(self.path).exists():
                    self._attach(self._check)
            except (_NotMade, FileNotFoundError, sqlite3.OperationalError):
                self.before_fork()  # our turn shows what it is

    def _look_at_folder(self) -> None:
        """Raise StoreUnavailable if no file can be used there. It takes as long as many turns."""
        if not self._folder.is_dir():
            raise self._unavailable("its folder does not exist")
        if mounted_alone(self.path):
            raise self._unavailable(
                "it is mounted by itself, so that its lock and its log are not shared: mount its folder"
            )
        warn_of_network(self.path)

    def _turn(self, act: Callable[[Session, A], T], about: A) -> T:
        with forks.gate:
            session = self._session
            if session is None or self._ahead:
                session = self._connect()
            if self._waits != _BUSY or self._queue.stuck_at is not None:
                self._mind_others(session)
            return act(session, about)

    def _mind_others(self, session: Session) -> None:
        """Wait less for who uses the file without queueing, if it was in the way before, and is still."""
        busy = _BUSY_AGAIN if self._queue.stands_still() else _BUSY
        if busy != self._waits:
            session.run(f"PRAGMA busy_timeout = {round(1000 * busy)}")
            self._waits = busy

    def _read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        if self._session is None or self._watch.moved():
            self._open_ahead()
            if self._session is None:
                self.in_turn((lambda *_: None, None))
        with forks.gate:
            session = self._session
            if session is None:
                raise self._unavailable("the process was forked meanwhile")
            session.run("BEGIN")
            try:
                return act(session.connection)
            finally:
                session.run("COMMIT")

    def _connect(self) -> Session:
        """Open the file that is there now, unless that was done ahead; it is made if there is none."""
        if not self._queue.is_at_its_path():
            raise _WrongQueue
        self._ahead, session = False, self._session
        if session is not None and not self._watch.moved():
            return session
        self.before_fork()
        # Looked at before it is opened: closing a file takes away the locks that SQLite has on it.
        if not Path(self.path).exists():
            for rest in ("-wal", "-shm"):  # of a file that was here, and that somebody may still have open
                Path(self.path + rest).unlink(missing_ok=True)
            os.close(make(Path(self.path), exclusive=True))
        return self._attach(self._make)

    def _attach(self, check: Callable[[sqlite3.Connection], None]) -> Session:
        self._watch.begin()
        self._waits = _BUSY
        session = self._session = Session.of(self._open(check))
        name = session.connection.execute("SELECT name FROM file").fetchone()
        self.identity = name, self._watch.identity
        return session

    def _open(self, check: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        if Path(self.path).is_dir():
            raise self._unavailable("it is a folder")
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise self._unavailable("this user must be allowed to read and to write it")
        connection = sqlite3.connect(
            f"file:{quote(self.path)}?mode=rw",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,  # the threads of a process take turns
            cached_statements=256,
        )
        try:
            check(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may then cost the last moments, but not the file. A killed process loses nothing.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            connection.execute(f"PRAGMA journal_size_limit = {_MOST_LOG}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        """Have the tables made if they are not there (in our turn)."""
        try:
            self._check(connection)
        except _NotMade:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute("PRAGMA journal_mode = WAL")
            _create(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise StoreUnavailable unless the file is of our present layout, _NotMade if it is empty."""
        mark, layout = _value(connection, "PRAGMA application_id"), _value(connection, "PRAGMA user_version")
        if mark == 0 and not _value(connection, "SELECT count(*) FROM sqlite_master"):
            raise _NotMade
        if mark != APPLICATION_ID:
            raise self._unavailable("it is a database of something else")
        if layout != LAYOUT:
            raise self._unavailable(
                f"its layout is {layout}, made by another version; this one uses layout {LAYOUT}. "
                f"Delete it once no job is running, or name another file"
            )

    def _unavailable(self, why: str, **facts: bool) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self.path} cannot be used: {why}", **facts)


class _NotMade(Exception):
    """The file is empty."""


class _WrongQueue(Exception):
    """The lock that we queued at is no longer the one that others queue at."""


_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, all or none; closing the connection undoes what was cut short."""
    connection.execute("BEGIN IMMEDIATE")
    if not _value(connection, "SELECT count(*) FROM sqlite_master"):  # else somebody was quicker
        for table in _TABLES:
            connection.execute(table)
        connection.execute("INSERT INTO file VALUES (?)", (secrets.token_hex(8),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {LAYOUT}")
    connection.execute("COMMIT")


def _value(connection: sqlite3.Connection, question: str) -> int:
    value: int = connection.execute(question).fetchone()[0]
    return value
