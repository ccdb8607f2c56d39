"""Leases and cooldowns in tables: the rules of :class:`balancer.rules.ledger.Ledger`.

Every method is called inside a transaction, in which ``now`` was set and what is due was settled.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from balancer.rules.records import AMBIGUOUS, BOUND, HELD
from balancer.stores.sqlite.shelves import CONCERNS, Shelves, marked

OFFERED = "offered"
"""State of the lease that stands for a slot reserved for a waiting process."""

_PROBE = f"UPDATE pause SET probe = ?4 WHERE pool = ?1 AND account = ?2 AND {CONCERNS}"  # noqa: S608
_LEASE = "key, account, state, since, process, label, scope, job, state_since, ends, adverse, missed"
_FIND = f"""
    SELECT {_LEASE}, (SELECT place IS NOT NULL FROM account WHERE pool = lease.pool AND id = lease.account)
    FROM lease WHERE pool = ? AND """  # noqa: S608
_FIND_KEY, _FIND_JOB = _FIND + "key = ?", _FIND + "job = ?"
_ENTER = f"INSERT INTO lease (pool, {_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class LeaseRow(NamedTuple):
    """A lease."""

    key: str
    account: str
    state: str
    since: float
    process: str
    label: str | None = None
    scope: str | None = None
    job: str | None = None
    state_since: float | None = None
    ends: float | None = None
    adverse: int = 0
    missed: int = 0
    has_room: int = 0
    """Its account had room for more when it was read."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A cooldown that begins."""

    scope: str | None
    until: float
    reason: str
    worth_waiting: bool


class Books(Shelves):
    """The leases of one pool, and its accounts. Mutable, besides the file: what is said below."""

    def __init__(self, connection: sqlite3.Connection, pool: int, strategy: str) -> None:
        super().__init__(connection, pool, strategy)
        self.now = 0.0
        self.cooldowns = True
        """Whether any account may have a pause; False saves looking for them."""
        self.stale = True
        """Whether what ends by itself, or who waits, may have changed since it was looked up."""

    # -- leases -------------------------------------------------------------------------------------

    def lease(self, key: str) -> LeaseRow | None:
        """Return a live lease by its key."""
        row = self.run(_FIND_KEY, (self.pool, key)).fetchone()
        return LeaseRow._make(row) if row else None

    def lease_of(self, job: str) -> LeaseRow | None:
        """Return the lease that is bound to a job."""
        row = self.run(_FIND_JOB, (self.pool, job)).fetchone()
        return LeaseRow._make(row) if row else None

    def leases(self, where: str, *values: object) -> list[LeaseRow]:
        """Return the leases that a condition selects."""
        return [LeaseRow._make(row) for row in self.run(_FIND + where, (self.pool, *values))]

    def enter(self, lease: LeaseRow, *, probes: bool = True) -> None:
        """Write down a new lease; it tries its account out if that is just out of a cooldown.

        If it is known that its account has room for one more, ``lease.has_room`` saves looking.
        """
        self.stale = self.stale or lease.ends is not None
        self.run(_ENTER, (self.pool, *lease[:-1]))
        if self.cooldowns and probes:
            self.run(_PROBE, (self.pool, lease.account, marked(lease.scope), lease.key))
        if not self._same_shelf(lease):
            self.refile(lease.account)

    def end(self, lease: LeaseRow, *, well: bool | None = None) -> None:
        """End a live lease. ``well``: it proves its account well; None: unless it was told adverse."""
        self.stale = self.stale or lease.ends is not None
        self.run("DELETE FROM lease WHERE pool = ? AND key = ?", (self.pool, lease.key))
        if not self._same_shelf(lease):
            self.conclude(lease, well=not lease.adverse if well is None else well)

    def _same_shelf(self, lease: LeaseRow) -> bool:
        """Whether an account certainly stands where it stood before it had one job more or less."""
        return bool(lease.has_room) and not self.cooldowns and self.strategy == "random"

    def conclude(self, lease: LeaseRow, *, well: bool) -> None:
        """If a lease tries its account out, that is over; a pause that is not cooling goes if all is well."""
        if self.cooldowns:
            self.stale = True
            mine = (self.pool, lease.account, lease.key)
            if well:
                self.run(
                    "DELETE FROM pause WHERE pool = ? AND account = ? AND probe = ? AND NOT cooling", mine
                )
            self.run("UPDATE pause SET probe = NULL WHERE pool = ? AND account = ? AND probe = ?", mine)
        self.refile(lease.account)

    def loosen(self, lease: LeaseRow, state: str, job: str | None, ends: float) -> None:
        """Make a lease bound or ambiguous: its process no longer keeps it."""
        self.run(
            "UPDATE lease SET state = ?, job = ?, state_since = ?, ends = ? WHERE pool = ? AND key = ?",
            (state, job, self.now, ends, self.pool, lease.key),
        )

    def bind(self, lease: LeaseRow, job: str, ends: float) -> None:
        """Tie a lease to its job."""
        self.loosen(lease, BOUND, job, ends)
        self.set_missed(lease.key, 0)
        self.accept(lease)

    def accept(self, lease: LeaseRow) -> None:
        """The account took the job: if this lease tries it out, that is over."""
        if self.cooldowns:
            self.conclude(lease, well=True)

    def doubt(self, lease: LeaseRow, ends: float) -> None:
        """Keep the slot of a lease of which nobody knows whether its job runs."""
        if lease.state != BOUND:
            self.loosen(lease, AMBIGUOUS, None, ends)

    def set_end(self, lease: LeaseRow, ends: float) -> None:
        """Have a bound or ambiguous lease end by itself at ``ends``."""
        if lease.state != HELD:
            self.run("UPDATE lease SET ends = ? WHERE pool = ? AND key = ?", (ends, self.pool, lease.key))

    def set_adverse(self, key: str) -> None:
        """Have the end of a lease not prove its account well."""
        self.run("UPDATE lease SET adverse = 1 WHERE pool = ? AND key = ?", (self.pool, key))

    def set_missed(self, key: str, lists: int) -> None:
        """Say how many lists in a row the job of a lease was missing from."""
        self.run("UPDATE lease SET missed = ? WHERE pool = ? AND key = ?", (lists, self.pool, key))

    # -- cooldowns ----------------------------------------------------------------------------------

    def cool(self, id: str, cooldown: Cooldown) -> None:
        """Put an account, or a scope of it, in a cooldown. A longer one wins over a shorter."""
        scope = marked(cooldown.scope) or ""
        found = self.run(
            "SELECT 1 FROM pause WHERE pool = ? AND account = ? AND scope = ? AND cooling AND until >= ?",
            (self.pool, id, scope, cooldown.until),
        )
        if found.fetchone():
            return
        self.cooldowns = True
        self.run(
            "INSERT OR REPLACE INTO pause (pool, account, scope, cooling, until, reason, worth_waiting)"
            " VALUES (?, ?, ?, 1, ?, ?, ?)",
            (self.pool, id, scope, cooldown.until, cooldown.reason, cooldown.worth_waiting),
        )
        self.refile(id)

    def reset(self, id: str) -> None:
        """Clear what verdicts made of an account."""
        self.run("DELETE FROM pause WHERE pool = ? AND account = ?", (self.pool, id))
        self.refile(id)

    def warm(self, id: str, scope: str | None = None) -> None:
        """End the cooling of an account, or of one pause of it (as kept); the probing is left."""
        self.run(
            "UPDATE pause SET cooling = 0 WHERE pool = ?1 AND account = ?2 AND (?3 IS NULL OR scope = ?3)",
            (self.pool, id, scope),
        )
        self.refile(id)
