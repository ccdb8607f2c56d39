"""The entries of one pool in the file, and a process's replica that follows them.

Each thing is one row, under the number of its last change. So whoever knows the number of the last change
that it took over reads what is above it, and nothing is ever replayed. What is over stays as a row for as
long as somebody may not have read it: who is further behind than that reads all rows once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from balancer.rules.fleet_entries import OVER, REMEMBERED, FleetEntries
from balancer.rules.fleet_ledger import FleetLedger
from balancer.rules.operations import TOMBSTONE_SECONDS

_LEAP = 0.05
"""Seconds by which two clocks go apart if the machine was suspended."""
_ENDS = (OVER, REMEMBERED)
KEPT = 20_000
"""Numbers for which what is over stays readable."""
_SWEEP_EVERY, _SWEEP = 256, 1024
"""After so many changes of this process the next so many rows are looked through for what may go."""


class ChangeFeed:
    """One pool's rows, as one process follows them. Mutable: the last number, those of the live leases.

    Args:
        connection: To the file.
        number: Of the pool.
        fleet: The replica; it holds nothing yet.
        offset: By how much the file's clock is ahead of the replica's.
    """

    def __init__(
        self, connection: sqlite3.Connection, number: int, fleet: FleetLedger, offset: float = 0.0
    ) -> None:
        self.connection, self.number, self.fleet = connection, number, fleet
        self.entries = FleetEntries(fleet, offset)
        self.run = connection.cursor().execute
        self.last = 0
        """Number of the last change that the replica has taken over."""
        self._last_name = ""
        self._leases: dict[str, int] = {}
        """Numbers of the live leases, by name."""
        self._made, self._hand = 0, 0
        self.checked = False
        """It was seen in our turn that the file is of this start of the machine, and lacks nothing."""
        table = f"entry_{number}"
        # Names are those of tables of ours.
        self._read = f"SELECT seq, name, value FROM {table} WHERE seq > ? ORDER BY seq"  # noqa: S608
        self._insert = f"INSERT INTO {table} (seq, name, value) VALUES (?, ?, ?)"  # noqa: S608
        self._replace = f"INSERT OR REPLACE INTO {table} (seq, name, value) VALUES (?, ?, ?)"  # noqa: S608
        self._move = f"UPDATE {table} SET seq = ?, value = ? WHERE seq = ?"  # noqa: S608
        self._name = f"SELECT name FROM {table} WHERE seq = ?"  # noqa: S608
        self._clear = f"DELETE FROM {table}"  # noqa: S608
        self._sweep_to = (
            f"SELECT max(seq) FROM (SELECT seq FROM {table} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?)"  # noqa: S608
        )
        self._sweep_out = (
            f"DELETE FROM {table} WHERE seq > ? AND seq <= ?"  # noqa: S608
            f" AND (substr(value, 1, 1) = '{OVER}'"
            f" OR (substr(value, 1, 1) = '{REMEMBERED}' AND CAST(substr(value, 2) AS REAL) < ?))"
        )

    def resume(self, connection: sqlite3.Connection) -> bool:
        """Go on over another connection. False: the file does not end where it was left."""
        row = connection.execute(self._name, (self.last,)).fetchone()
        if row is None or row[0] != self._last_name:
            return False
        self.connection, self.run = connection, connection.cursor().execute
        return True

    @staticmethod
    def find(connection: sqlite3.Connection, namespace: str) -> int | None:
        """Return the number of a pool, or None if the file has none of that name."""
        row = connection.execute("SELECT number FROM pool WHERE namespace = ?", (namespace,)).fetchone()
        return row and int(row[0])

    @staticmethod
    def make(connection: sqlite3.Connection, namespace: str) -> int:
        """Make a pool, and return its number.

        Live leases have no index of their names: each process knows their numbers, and every grant and every
        end would pay for it.
        """
        number = connection.execute("INSERT INTO pool (namespace) VALUES (?)", (namespace,)).lastrowid
        connection.execute(
            f"CREATE TABLE entry_{number} (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, value TEXT NOT NULL)"
        )
        connection.execute(
            f"CREATE UNIQUE INDEX entry_{number}_name ON entry_{number} (name)"
            " WHERE name < 'lease:' OR name >= 'lease;'"
        )
        return int(number or 0)

    def catch_up(self, connection: sqlite3.Connection, ahead: float) -> bool:
        """Take over what others have changed.

        False: all has to be read anew, as the connection is another one, or the clock of the file is not as
        far ``ahead`` of ours as it was, or too much is gone.
        """
        if connection is not self.connection or abs(ahead - self.entries.offset) > _LEAP:
            return False
        found = self.run(self._read, (self.last,))
        if not self.last:
            self._take_over(found)  # one by one: a list of all would have the garbage collector go over it
        elif rows := found.fetchall():
            if rows[-1][0] - self.last > KEPT:
                return False
            self._take_over(rows)
        return True

    def _take_over(self, rows: Iterable[tuple[int, str, str]]) -> None:
        apply, leases, number, name = self.entries.apply, self._leases, self.last, self._last_name
        for number, name, value in rows:
            if name.startswith("lease:"):
                if value[:1] in _ENDS:
                    leases.pop(name, None)
                else:
                    leases[name] = number
            apply(name, value)
        self.last, self._last_name = number, name

    def write(self, entries: Iterable[tuple[str, str]] | None = None) -> None:
        """Write entries under new numbers: what the replica has changed, or those that are given."""
        leases, run = self._leases, self.run
        for name, value in self.entries.changes() if entries is None else entries:
            self.last = number = self.last + 1
            self._last_name = name
            self._made += 1
            if not name.startswith("lease:"):
                run(self._replace, (number, name, value))
                continue
            before = leases.pop(name, None)
            if value[:1] not in _ENDS:
                leases[name] = number
            if before is None:
                run(self._insert, (number, name, value))
            else:
                run(self._move, (number, value, before))
        if self._made >= _SWEEP_EVERY:
            self._made = 0
            self._sweep()

    def replace(self, fleet: FleetLedger) -> None:
        """Have another replica instead, all of which is written."""
        self.fleet, self.entries = fleet, FleetEntries(fleet, self.entries.offset)
        self.write_all()

    def write_all(self) -> None:
        """Write all that the replica holds, and nothing else."""
        self.entries.changes()
        self.run(self._clear)
        self._leases.clear()
        self.write((*self.entries.memories(), *self.entries.entries()))

    def _sweep(self) -> None:
        """Look through some more rows, and remove what is over and has been read by all who follow."""
        until = self.last - KEPT
        (end,) = self.run(self._sweep_to, (self._hand, until, _SWEEP)).fetchone()
        if end is None:
            self._hand = 0
            return
        horizon = self.fleet.now + self.entries.offset - TOMBSTONE_SECONDS
        self.run(self._sweep_out, (self._hand, end, horizon))
        self._hand = end
