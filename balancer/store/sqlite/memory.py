"""What is over and remembered for a while: ended leases, and jobs that were released."""

from __future__ import annotations

from balancer.ledger import EARLY_RELEASES
from balancer.store.operations import TOMBSTONE_SECONDS
from balancer.store.sqlite.books import Books

TOMB, DONE, EARLY = "tomb", "done", "early"
_MOST = {TOMB: 100_000, DONE: EARLY_RELEASES, EARLY: EARLY_RELEASES}
_ENDS = """
    SELECT last.number, first.number, first.at FROM
        (SELECT number FROM memory WHERE pool = ?1 AND kind = ?2 ORDER BY number DESC LIMIT 1) AS last,
        (SELECT number, at FROM memory WHERE pool = ?1 AND kind = ?2 ORDER BY number LIMIT 1) AS first"""
_SWEEP = """
    DELETE FROM memory INDEXED BY memory_order WHERE pool = ?1 AND kind = ?2 AND (at <= ?3 OR number <= ?4)
        AND number < 3 + (SELECT min(number) FROM memory WHERE pool = ?1 AND kind = ?2)"""
"""Forgets up to three for each new one, so that a backlog melts away."""


class Memory:
    """The three memories of one pool. Each keeps an entry for 600 s, and a number of them at most."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def add(self, kind: str, name: str, *, unheard: bool = False) -> None:
        """Remember a name from now on. ``unheard``: the owner of the lease does not know."""
        books, mine = self._books, (self._books.pool, kind)
        last, oldest, since = books.run(_ENDS, mine).fetchone() or (0, 0, books.now)
        last += 1
        books.run(
            "INSERT OR REPLACE INTO memory (pool, kind, name, number, at, unheard) VALUES (?, ?, ?, ?, ?, ?)",
            (*mine, name, last, books.now, 1 if unheard else None),
        )
        if since <= self._horizon or oldest <= last - _MOST[kind]:
            books.run(_SWEEP, (*mine, self._horizon, last - _MOST[kind]))

    def has(self, kind: str, name: str) -> bool:
        """Whether a name is remembered."""
        found = self._books.run(
            "SELECT 1 FROM memory WHERE pool = ? AND kind = ? AND name = ? AND at > ?",
            (self._books.pool, kind, name, self._horizon),
        )
        return found.fetchone() is not None

    def drop(self, kind: str, name: str) -> None:
        """Forget a name."""
        self._books.run(
            "DELETE FROM memory WHERE pool = ? AND kind = ? AND name = ?", (self._books.pool, kind, name)
        )

    def ages(self, kind: str) -> dict[str, float]:
        """Return the names that are remembered and their ages in seconds."""
        rows = self._books.run(
            "SELECT name, ?3 - at FROM memory WHERE pool = ?1 AND kind = ?2 AND at > ?4",
            (self._books.pool, kind, self._books.now, self._horizon),
        )
        return dict(rows.fetchall())

    def tell(self, owner: str) -> tuple[str, ...]:
        """Return the ended leases that their owner has not heard of, once."""
        mine = (self._books.pool, owner + "-", owner + ".")  # "." comes right after "-"
        where = "pool = ? AND name > ? AND name < ? AND unheard IS NOT NULL"
        names = tuple(name for (name,) in self._books.run(f"SELECT name FROM memory WHERE {where}", mine))  # noqa: S608
        if names:
            self._books.run(f"UPDATE memory SET unheard = NULL WHERE {where}", mine)  # noqa: S608
        return names

    @property
    def _horizon(self) -> float:
        return self._books.now - TOMBSTONE_SECONDS
