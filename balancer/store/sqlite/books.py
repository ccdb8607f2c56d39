"""Accounts, leases and cooldowns in tables: the rules of :class:`balancer.ledger.Ledger`.

Every method is called inside a transaction, in which ``now`` was set and what is due was settled.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from balancer.tally import AMBIGUOUS, BOUND, HELD

OFFERED = "offered"
"""State of the lease that stands for a slot reserved for a waiting process."""

_BLOCKING = "(cooling OR probe IS NOT NULL)"
_CONCERNS = "(?3 IS NULL OR scope = '' OR scope = ?3)"
_ACCOUNT = f"""
    SELECT id, capacity, broken OR draining, draining, external, in_flight, shelf, place,
        EXISTS (SELECT 1 FROM pause WHERE pool = ?1 AND account = ?2 AND {_BLOCKING} AND {_CONCERNS})
    FROM account WHERE pool = ?1 AND id = ?2"""  # noqa: S608  # ours
_PROBE = f"UPDATE pause SET probe = ?4 WHERE pool = ?1 AND account = ?2 AND {_CONCERNS}"  # noqa: S608
_LEASE = "key, account, state, since, process, label, scope, job, state_since, ends, adverse, missed"
_FIND = f"""
    SELECT {_LEASE}, (SELECT place IS NOT NULL FROM account WHERE pool = lease.pool AND id = lease.account)
    FROM lease WHERE pool = ? AND """  # noqa: S608
_FIND_KEY, _FIND_JOB = _FIND + "key = ?", _FIND + "job = ?"
_ENTER = f"INSERT INTO lease (pool, {_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class AccountRow(NamedTuple):
    """An account, and whether a pause keeps jobs of the scope that was asked for away from it."""

    id: str
    capacity: int
    out: bool
    """Broken or draining."""
    draining: bool
    external: int
    in_flight: int
    shelf: float | None
    place: int | None
    blocked: bool

    def fits(self, capacity: int) -> bool:
        """Whether one more job may be granted."""
        return not (self.out or self.blocked) and self.in_flight + self.external < capacity

    def shelf_for(self, strategy: str) -> float:
        """Return the shelf it stands on while it has room; the lowest is taken from first."""
        return (self.in_flight + self.external) / self.capacity if strategy == "least_loaded" else 0.0


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


def marked(scope: str | None) -> str | None:
    """Return a scope as it is kept in a pause, where it may be an empty text; None: any."""
    return None if scope is None else "=" + scope


class Books:
    """The accounts and leases of one pool. Mutable, besides the file: ``now`` and ``pauses``."""

    def __init__(self, connection: sqlite3.Connection, pool: int, strategy: str) -> None:
        self.run = connection.execute
        self.pool = pool
        self.strategy = strategy
        """How the accounts with room are shelved."""
        self.now = 0.0
        self.pauses = True
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
        if self.pauses and probes:
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
        return bool(lease.has_room) and not self.pauses and self.strategy == "random"

    def conclude(self, lease: LeaseRow, *, well: bool) -> None:
        """If a lease tries its account out, that is over; a pause that is not cooling goes if all is well."""
        if self.pauses:
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
        if self.pauses:
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
        self.pauses = True
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

    # -- accounts -----------------------------------------------------------------------------------

    def account(self, id: str, scope: str | None = None) -> AccountRow | None:
        """Return an account as a job of ``scope`` meets it; a job without scope meets every pause."""
        row = self.run(_ACCOUNT, (self.pool, id, marked(scope))).fetchone()
        return AccountRow._make(row) if row else None

    def refile(self, id: str) -> None:
        """Have an account stand on the right shelf exactly if it has room."""
        account = self.account(id)
        if account is None:
            return
        shelf = account.shelf_for(self.strategy) if account.fits(account.capacity) else None
        if shelf != account.shelf:
            self._take_off(account)
            if shelf is not None:
                self._put_on(id, shelf)
        if account.draining and not account.in_flight:
            self._drop(id)

    def refile_all(self) -> None:
        """Shelve every account anew."""
        self.run("UPDATE account SET shelf = NULL, place = NULL WHERE pool = ?", (self.pool,))
        for (id,) in self.run("SELECT id FROM account WHERE pool = ?", (self.pool,)).fetchall():
            self.refile(id)

    def _take_off(self, account: AccountRow) -> None:
        """Close the gap that an account leaves with the last one of its shelf."""
        if account.place is None:
            return
        self._set_place(account.id, None, None)
        last = self.run(
            "SELECT id, place FROM account WHERE pool = ? AND shelf = ? AND place IS NOT NULL"
            " ORDER BY place DESC LIMIT 1",
            (self.pool, account.shelf),
        ).fetchone()
        if last and last[1] > account.place:
            self._set_place(last[0], account.shelf, account.place)

    def _put_on(self, id: str, shelf: float) -> None:
        row = self.run(
            "SELECT max(place) FROM account WHERE pool = ? AND shelf = ? AND place IS NOT NULL",
            (self.pool, shelf),
        ).fetchone()
        self._set_place(id, shelf, 0 if row[0] is None else row[0] + 1)

    def _set_place(self, id: str, shelf: float | None, place: int | None) -> None:
        self.run(
            "UPDATE account SET shelf = ?, place = ? WHERE pool = ? AND id = ?", (shelf, place, self.pool, id)
        )

    def _drop(self, id: str) -> None:
        """Forget an account that is gone, unless it cools still."""
        mine = (self.pool, id)
        if self.run(
            "SELECT 1 FROM pause WHERE pool = ? AND account = ? AND cooling LIMIT 1", mine
        ).fetchone():
            return
        self.run("DELETE FROM pause WHERE pool = ? AND account = ?", mine)
        self.run("DELETE FROM account WHERE pool = ? AND id = ?", mine)
