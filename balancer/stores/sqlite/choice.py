"""Which account gets a job: the ledger's choice, by index, at a cost that hardly depends on their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from balancer.stores.sqlite.books import Books
from balancer.stores.sqlite.shelves import CONCERNS, AccountRow, marked

_LOWEST = "(SELECT min(shelf) FROM account WHERE pool = ?1 AND place IS NOT NULL)"
_FIRST_SHELF = f"""
    SELECT shelf, 1 + max(place) FROM account
    WHERE pool = ?1 AND shelf = {_LOWEST} AND place IS NOT NULL"""  # noqa: S608  # ours
_DRAWN = f"""
    SELECT id, in_flight + external + 1 < capacity FROM account INDEXED BY room
    WHERE pool = ?1 AND place IS NOT NULL AND shelf = {_LOWEST} AND place = CAST(?2 *
        (SELECT 1 + max(place) FROM account WHERE pool = ?1 AND place IS NOT NULL AND shelf = {_LOWEST})
        AS INTEGER)"""  # noqa: S608
_AT = "SELECT id FROM account WHERE pool = ? AND shelf = ? AND place = ? AND place IS NOT NULL"
_PAUSED = "SELECT DISTINCT account FROM pause WHERE pool = ?"
_ALL = f"""
    SELECT id, CASE ?4 WHEN 'least_loaded' THEN 1.0 * (in_flight + external) / capacity ELSE 0.0 END
    FROM account WHERE pool = ?1 AND NOT broken AND NOT draining
        AND in_flight + external < CASE WHEN ?2 IS NULL THEN capacity
            WHEN ?5 THEN min(capacity, ?2) ELSE ?2 END
        AND NOT EXISTS (SELECT 1 FROM pause
            WHERE pool = ?1 AND account = account.id AND (cooling OR probe IS NOT NULL) AND {CONCERNS})"""  # noqa: S608


class Chosen(NamedTuple):
    """An account that gets a job."""

    id: str
    leaves_room: int = 0
    """It is known to have room for one more, pauses apart."""


class Choice:
    """Chooses among the accounts of one pool."""

    def __init__(self, books: Books, strategy: str, *, lower_only: bool) -> None:
        self._books = books
        self._strategy = strategy
        self._lower_only = lower_only

    def choose(
        self,
        draw: float,
        accounts: tuple[str, ...] | None = None,
        max_jobs: int | None = None,
        scope: str | None = None,
    ) -> Chosen | None:
        """Return the account for ``draw`` in [0, 1), or None if none fits."""
        if accounts is not None:
            id = self._first(self._fitting(accounts, max_jobs, scope))
        elif max_jobs is not None or self._strategy != self._books.strategy:
            id = self._among_all(draw, max_jobs, scope)
        elif scope is not None and self._books.cooldowns:
            id = self._with_paused(draw, scope)
        else:
            return self._drawn(draw)
        return None if id is None else Chosen(id)

    def _drawn(self, draw: float) -> Chosen | None:
        row = self._books.run(_DRAWN, (self._books.pool, draw)).fetchone()
        return row and Chosen(*row)

    def has_room(self, id: str) -> bool:
        """Whether any job could run on an account."""
        account = self._books.account(id)
        return account is not None and account.place is not None

    def _with_paused(self, draw: float, scope: str) -> str | None:
        """Draw from the lowest shelf, and from those that only other scopes keep off it."""
        run, pool = self._books.run, self._books.pool
        shelf, size = run(_FIRST_SHELF, (pool,)).fetchone()
        paused = [account for account in self._fitting(self._paused(), None, scope) if account.place is None]
        loads = [account.shelf_for(self._strategy) for account in paused]
        least = min([*loads, *([] if shelf is None else [shelf])], default=0.0)
        others = [account.id for account, load in zip(paused, loads, strict=True) if load == least]
        size = size if shelf == least else 0
        index = int(draw * (size + len(others)))
        if index >= size:
            return others[index - size] if others else None
        id: str = run(_AT, (pool, shelf, index)).fetchone()[0]
        return id

    def _paused(self) -> list[str]:
        return [id for (id,) in self._books.run(_PAUSED, (self._books.pool,))]

    def _among_all(self, draw: float, max_jobs: int | None, scope: str | None) -> str | None:
        """Look at everybody: another capacity than its own may fit where an account is full."""
        asked = (self._books.pool, max_jobs, marked(scope), self._strategy, self._lower_only)
        fitting = self._books.run(_ALL, asked).fetchall()
        least = min((load for _, load in fitting), default=0.0)
        best = [str(id) for id, load in fitting if load == least]
        return best[int(draw * len(best))] if best else None

    def _fitting(self, ids: Iterable[str], max_jobs: int | None, scope: str | None) -> Iterable[AccountRow]:
        for id in ids:
            account = self._books.account(id, scope)
            if account is not None and account.fits(self._capacity(account, max_jobs)):
                yield account

    def _capacity(self, account: AccountRow, max_jobs: int | None) -> int:
        if max_jobs is None:
            return account.capacity
        return min(max_jobs, account.capacity) if self._lower_only else max_jobs

    def _first(self, fitting: Iterable[AccountRow]) -> str | None:
        """Return the first that fits, or the first of the least loaded."""
        if self._strategy != "least_loaded":
            return next((account.id for account in fitting), None)
        best = min(fitting, key=lambda account: account.shelf_for(self._strategy), default=None)
        return best.id if best else None
