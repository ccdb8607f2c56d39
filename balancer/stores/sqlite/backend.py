"""The backend: one process's way to the file."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from balancer.errors import StoreUnavailable, sanitized
from balancer.rules.fleet_ledger import FleetLedger
from balancer.rules.operations import Inspect, Operation, Owner, Reply, Settings
from balancer.stores.in_threads import InThreads, NotBegun
from balancer.stores.sqlite import notify_pipe
from balancer.stores.sqlite.change_feed import ChangeFeed
from balancer.stores.sqlite.database import Database, Session, here
from balancer.stores.sqlite.file_system import boot_id, machine_now, process_lives
from balancer.stores.sqlite.notify_pipe import NotifyPipe
from balancer.stores.sqlite.write_queue import MOST, NoTurn

_SAME_START = 5.0
"""Seconds by which what connects the machine's clock and the time of day may differ within one start."""
_GIVEN = "given"
"""Name of the start of a clock that the caller brought."""
_AWAY = 0.5
"""Seconds after which so much may have changed that it is read before our turn comes."""


class SqliteBackend:
    """Carries out each operation in one transaction; see :class:`balancer.rules.operations.Backend`.

    Args:
        path: The file; it is made at the first operation, for all who may use its folder.
        settings: What to count for.
        owner: Whose operations these are.
        now: Seconds, the same for all processes that use the file, instead of the machine's uptime.
    """

    beats = False
    roll_calls = 0
    """The kernel tells who lives."""
    replica = True
    here = here

    def __init__(
        self, path: str | Path, settings: Settings, owner: Owner, now: Callable[[], float] | None = None
    ) -> None:
        # Resolved, so that all who mean the same file queue at the same place; "//x" is "/x".
        self._path = Path("/" + os.path.realpath(path).lstrip("/"))
        self._settings = settings
        self._now = now or time.monotonic
        self._machine_now = now or machine_now
        self._boot = boot_id() if now is None else _GIVEN
        self._database = Database(self._path)
        self._folder = Path(f"{self._path}-owners")
        self._open(owner)

    def _open(self, owner: Owner) -> None:
        self._owner = owner
        self._pipe = NotifyPipe(self._folder, owner.name)
        self._in_thread = InThreads(1, "balancer-sqlite")
        self._feed: ChangeFeed | None = None
        self._identity: object = None
        """Of the file that the replica follows."""
        self._lost: FleetLedger | None = None
        """What was in a file that is no longer there, until it is written to the one that is."""
        self._met = False
        self._show_life_at = self._read_at = -math.inf

    def __repr__(self) -> str:
        return f"SqliteBackend({str(self._path)!r}, namespace={self._settings.namespace!r})"

    # -- operations ---------------------------------------------------------------------------------

    def call(self, operation: Operation, limit: float | None = None) -> Reply:
        """Carry out one operation. Raises StoreUnavailable, within ``limit`` seconds if there is one.

        In the middle of another operation of the same thread nothing is done but a look: ReentrantCall.
        """
        if isinstance(operation, Inspect) and self.here.inside:
            return self._look_aside(operation.look)
        database, now = self._database, time.monotonic()
        end = now + (MOST if limit is None or limit > MOST else limit)
        if self._feed is None or now >= self._read_at + _AWAY:
            database.read(self._read_ahead, end)
        if isinstance(operation, Inspect):
            return database.alone(self._inspect, operation.look, end)
        reply: Reply = database.alone(database.in_turn, (self._carry_out, operation), end)
        self._met = True
        if (feed := self._feed) is not None and feed.fleet.messages:
            self._tell(feed.fleet)
        return reply

    def _carry_out(self, session: Session, operation: Operation | None) -> Any:
        """Do something all or nothing: a replica that knows of what is undone is done with as well.

        What is done is an operation, or None: the farewell, which says whether we are forgotten.
        """
        connection, run = session
        run("BEGIN IMMEDIATE")
        try:
            now = self._now()
            ahead = self._machine_now() - now
            if now >= self._show_life_at:
                self._show_life(now)
            feed = self._feed
            if feed is None or not feed.checked or not feed.catch_up(connection, ahead):
                feed = self._followed(connection)
            if operation is None:
                said: Any = feed.fleet.say_goodbye(self._owner, now, random.random)
            else:
                said = feed.fleet.carry_out(self._owner, operation, now, random.random, met=self._met)
            feed.write()
            run("COMMIT")
        except BaseException:
            self._feed = None
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            raise
        self._read_at = time.monotonic()
        return said

    def _inspect(self, look: Callable[[Any], Any]) -> Reply:
        """Have something read from the replica, once it is up to date; others go on meanwhile."""
        reply: Reply = self._database.in_turn((self._carry_out, _LOOK))
        feed = self._feed
        if feed is None:
            raise StoreUnavailable(f"the store {self._path} cannot be used: the process was forked")
        try:
            return reply._replace(result=feed.fleet.inspect(look))
        except BaseException:
            self._feed = None  # an interruption may have come in its middle
            raise

    def _look_aside(self, look: Callable[[Any], Any]) -> Reply:
        """Have something read as the file has it: our own replica is in the middle of something."""
        fleet, ahead = self._new_fleet(), self._ahead()

        def take_over(connection: sqlite3.Connection) -> None:
            number = ChangeFeed.find(connection, self._settings.namespace)
            if number is not None:
                ChangeFeed(connection, number, fleet, ahead).catch_up(connection, ahead)

        self._database.aside(take_over)
        reply = fleet.carry_out(self._owner, _LOOK, self._now(), random.random)
        return reply._replace(
            result=fleet.inspect(look), expired=()
        )  # which is for the next operation to tell

    def _tell(self, fleet: FleetLedger) -> None:
        messages, fleet.messages = fleet.messages, []
        for name, account in messages:
            notify_pipe.post(self._folder, name, account)

    async def acall(self, operation: Operation, limit: float | None = None) -> Reply:
        """Carry out one operation without blocking the running event loop. Raises as :meth:`call`.

        The limit counts from here: tasks that stand in line for the thread are told in time as well.
        """
        begun, seen = time.monotonic(), self._database.changes()
        end = begun + (MOST if limit is None or limit > MOST else limit)
        try:
            return await self._in_thread.run(lambda: self.call(operation, end - time.monotonic()), end)
        except NotBegun:
            raise self._database.no_turn(seen, busy=self._read_at > begun) from None
        except StoreUnavailable as error:
            # One that began late has seen too little of the others to tell whether they get on.
            if isinstance(error.__context__, NoTurn) and time.monotonic() >= end:
                raise self._database.no_turn(seen, busy=self._read_at > begun) from None
            raise

    # -- the replica --------------------------------------------------------------------------------

    def _read_ahead(self, connection: sqlite3.Connection) -> None:
        """Bring the replica up to date before our turn comes, so that the others need not wait for it."""
        number = ChangeFeed.find(connection, self._settings.namespace)
        if number is not None:
            self._follow(connection, number)

    def _followed(self, connection: sqlite3.Connection) -> ChangeFeed:
        """Return the feed in our turn: up to date, and nothing is missing in the file that we know of."""
        number = ChangeFeed.find(connection, self._settings.namespace)
        feed = self._follow(connection, number or ChangeFeed.make(connection, self._settings.namespace))
        if not feed.checked:
            self._check(feed)
        return feed

    def _follow(self, connection: sqlite3.Connection, number: int) -> ChangeFeed:
        """Return a feed whose replica is up to date."""
        feed, ahead = self._feed, self._ahead()
        if feed is not None:
            if feed.catch_up(connection, ahead):
                return feed
            same = self._identity == self._database.identity
            if same and feed.resume(connection) and feed.catch_up(connection, ahead):
                return feed
        self._feed = new = ChangeFeed(connection, number, self._new_fleet(), ahead)
        new.catch_up(connection, ahead)
        if feed is not None:
            new.fleet.remember(feed.fleet)
            if self._identity != self._database.identity:
                self._lost = feed.fleet
        self._identity = self._database.identity
        return new

    def _ahead(self) -> float:
        """Return by how much the clock that the file goes by is ahead of ours."""
        return 0.0 if self._machine_now is self._now else self._machine_now() - self._now()

    def _check(self, feed: ChangeFeed) -> None:
        """See to it that the file holds what we know, by the clock of this start of the machine."""
        lost, self._lost = self._lost, None
        if lost is not None:
            self._bring_back(feed, lost)
        self._set_clock(feed)
        feed.checked = True

    def _bring_back(self, feed: ChangeFeed, lost: FleetLedger) -> None:
        """Write what was in a file that is gone: all, if nobody has begun anew; our own leases, if so."""
        if not feed.last:
            feed.replace(lost)
        else:
            feed.fleet.take_back(self._owner, lost, self._now())
            feed.write()

    def _set_clock(self, feed: ChangeFeed) -> None:
        fleet, wall_offset = feed.fleet, time.time() - self._now()
        if fleet.boot is None or self._boot == fleet.boot:
            fleet.set_clock(self._boot, wall_offset)
        elif not self._same_start(fleet, wall_offset):
            fleet.restart(self._boot, wall_offset, self._now())
            feed.write_all()

    def _same_start(self, fleet: FleetLedger, wall_offset: float) -> bool:
        """Whether a file is of this start of the machine, though that is named differently in here.

        Containers of one machine may have names of their own for it. But locks of the kernel are common, and
        so is the clock that nobody can set.
        """
        with suppress(PermissionError):
            if any(notify_pipe.lives(self._folder, name) for name in fleet.processes):
                return True
        return abs(fleet.wall_offset - wall_offset) < _SAME_START and fleet.last_seen <= self._now()

    def _new_fleet(self) -> FleetLedger:
        return FleetLedger(
            self._settings,
            lives=self._lives,
            own=self._owner.name,
            above=int(time.time() * 1000),
        )

    def _lives(self, name: str) -> bool:
        """Whether a process lives, as the kernel knows."""
        if name == self._owner.name:
            return True
        try:
            lives = notify_pipe.lives(self._folder, name)
        except PermissionError:
            return self._lives_by_its_id(name) is not False
        return bool(self._lives_by_its_id(name) if lives is None else lives)

    def _lives_by_its_id(self, name: str) -> bool | None:
        if self._feed is None or name not in self._feed.fleet.processes:
            return None
        host_pid = self._feed.fleet.processes[name].host_pid
        return process_lives(host_pid, self._owner.host_pid.rpartition(":")[0])

    # -- life ---------------------------------------------------------------------------------------

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Wait for offers to this process. Raises StoreUnavailable."""
        try:
            return self._pipe.wait(seconds)
        except OSError as error:
            raise StoreUnavailable(f"the store {self._path} cannot be used: {error}") from sanitized(error)

    def poke(self) -> None:
        """Have :meth:`listen` return."""
        self._pipe.poke()

    def leave_loops(self) -> None:
        """Do nothing: the file is no loop's."""

    def after_fork(self, owner: Owner) -> None:
        """Let go of what is the parent's."""
        self._pipe.drop()
        self._open(owner)

    def close(self) -> None:
        """Close the connection; a later call opens another one.

        The pipe stays while leases are out: it is what shows that their process lives. In the middle of an
        operation of this thread another thread closes, which waits until that is over.
        """
        if self.here.inside:
            with suppress(RuntimeError):  # no thread is to be had: the process ends
                threading.Thread(target=self.close, name="balancer-sqlite-close", daemon=True).start()
            return
        try:
            about, end = (self._carry_out, None), time.monotonic() + MOST
            if self._met and self._database.alone(self._database.in_turn, about, end):
                self._pipe.remove()
                self._met, self._show_life_at = False, -math.inf
            if self._feed is not None:
                self._tell(self._feed.fleet)
        except StoreUnavailable:
            pass  # others will find us dead, or alive with leases, as it is
        self._in_thread.close()
        self._feed = None
        with suppress(StoreUnavailable):  # it is in use, and whoever uses it does not get on
            self._database.close()

    def _show_life(self, now: float) -> None:
        """Be seen to live, before anything is written that depends on it."""
        self._pipe.open()
        self._pipe.keep()
        self._show_life_at = now + self._settings.lease_ttl / 2
        if self._feed is not None:
            self._feed.checked = False  # the time of day may have been set


_LOOK = Inspect(lambda _: None)
"""Carried out as an operation: settle, offer, and answer nothing."""
