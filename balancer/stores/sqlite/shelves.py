"""The accounts, and those with room on shelves: kept so that one is drawn at the same cost however many."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

CONCERNS = "(?3 IS NULL OR scope = '' OR scope = ?3)"
"""Whether a pause concerns a job of the scope that is the third parameter, or any."""
_ACCOUNT = f"""
    SELECT id, capacity, broken OR draining, draining, external, in_flight, shelf, place,
        EXISTS (SELECT 1 FROM pause
            WHERE pool = ?1 AND account = ?2 AND (cooling OR probe IS NOT NULL) AND {CONCERNS})
    FROM account WHERE pool = ?1 AND id = ?2"""  # noqa: S608  # ours


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


def marked(scope: str | None) -> str | None:
    """Return a scope as it is kept in a pause, where it may be an empty text; None: any."""
    return None if scope is None else "=" + scope


class Shelves:
    """The accounts of one pool. Mutable, besides the file: by which ``strategy`` they are shelved."""

    def __init__(self, connection: sqlite3.Connection, pool: int, strategy: str) -> None:
        self.run = connection.execute
        self.write = connection.cursor().execute
        """The same for what returns nothing, without making a cursor for it."""
        self.pool = pool
        self.strategy = strategy

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
