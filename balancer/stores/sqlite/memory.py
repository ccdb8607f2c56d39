"""What is over and remembered for a while: ended leases, and jobs that were released."""

from __future__ import annotations

from balancer.rules.ledger import EARLY_RELEASE_TTL, EARLY_RELEASES
from balancer.stores.operations import TOMBSTONE_SECONDS
from balancer.stores.sqlite.books import Books

DONE, EARLY = "done", "early"
_MOST_TOMBS = 100_000
_SWEEP_EVERY = 500
"""After how many tombstones of this process old ones are removed; at most twice as many, so a backlog melts.

Finding them takes a look at all: of very many, only after each twentieth part of them.
"""

_ENDS = """
    SELECT last.number, first.number, first.at FROM
        (SELECT number FROM released WHERE pool = ?1 AND kind = ?2 ORDER BY number DESC LIMIT 1) AS last,
        (SELECT number, at FROM released WHERE pool = ?1 AND kind = ?2 ORDER BY number LIMIT 1) AS first"""
_FORGET = """
    DELETE FROM released INDEXED BY released_order
    WHERE pool = ?1 AND kind = ?2 AND (at <= ?3 OR number <= ?4)
        AND number < 3 + (SELECT min(number) FROM released WHERE pool = ?1 AND kind = ?2)"""
"""Forgets up to three for each new one, so that a backlog melts away."""


class Memory:
    """The memories of one pool. Mutable, besides the file: tombstones made since the last sweep."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._made = self._sweep_after = _SWEEP_EVERY

    # -- ended leases -------------------------------------------------------------------------------

    def bury(self, key: str, *, unheard: bool = False) -> None:
        """Remember that a lease was ended. ``unheard``: its owner does not know."""
        books = self._books
        books.write(
            "INSERT INTO tomb (pool, key, at, unheard) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (pool, key) DO UPDATE SET at = excluded.at",
            (books.pool, key, books.now, 1 if unheard else None),
        )
        self._made += 1
        if self._made >= self._sweep_after:
            self._sweep()
            self._made = 0

    def buried(self, key: str) -> bool:
        """Whether a lease was ended on purpose."""
        mine = (self._books.pool, key, self.horizon)
        found = self._books.run("SELECT 1 FROM tomb WHERE pool = ? AND key = ? AND at > ?", mine)
        return found.fetchone() is not None

    @property
    def horizon(self) -> float:
        """Before when a tombstone is no more."""
        return self._books.now - TOMBSTONE_SECONDS

    def tell(self, owner: str) -> tuple[str, ...]:
        """Return the ended leases that their owner has not heard of, once."""
        mine = (self._books.pool, owner + "-", owner + ".")  # "." comes right after "-"
        where = "pool = ? AND key > ? AND key < ? AND unheard IS NOT NULL"
        keys = tuple(key for (key,) in self._books.run(f"SELECT key FROM tomb WHERE {where}", mine))  # noqa: S608
        if keys:
            self._books.run(f"UPDATE tomb SET unheard = NULL WHERE {where}", mine)  # noqa: S608
        return keys

    def _sweep(self) -> None:
        run, pool = self._books.run, self._books.pool
        horizon = self.horizon
        count = run("SELECT count(*) FROM tomb WHERE pool = ?", (pool,)).fetchone()[0]
        too_many = count - _MOST_TOMBS
        if too_many > 0:
            oldest = "SELECT at FROM tomb WHERE pool = ? ORDER BY at LIMIT 1 OFFSET ?"
            horizon = max(horizon, run(oldest, (pool, too_many)).fetchone()[0])
        run(
            "DELETE FROM tomb WHERE pool = ?1 AND key IN"
            " (SELECT key FROM tomb WHERE pool = ?1 AND at <= ?2 LIMIT ?3)",
            (pool, horizon, 2 * self._made),
        )
        self._sweep_after = max(_SWEEP_EVERY, count // 20)

    # -- released jobs ------------------------------------------------------------------------------

    def add(self, kind: str, job: str) -> None:
        """Remember a job from now on, for 600 s; of each kind at most 10,000."""
        books, mine = self._books, (self._books.pool, kind)
        last, oldest, since = books.run(_ENDS, mine).fetchone() or (0, 0, books.now)
        last += 1
        books.run(
            "INSERT OR REPLACE INTO released (pool, kind, job, number, at) VALUES (?, ?, ?, ?, ?)",
            (*mine, job, last, books.now),
        )
        if since <= self._horizon or oldest <= last - EARLY_RELEASES:
            books.run(_FORGET, (*mine, self._horizon, last - EARLY_RELEASES))

    def has(self, kind: str, job: str) -> bool:
        """Whether a job is remembered."""
        found = self._books.run(
            "SELECT 1 FROM released WHERE pool = ? AND kind = ? AND job = ? AND at > ?",
            (self._books.pool, kind, job, self._horizon),
        )
        return found.fetchone() is not None

    def drop(self, kind: str, job: str) -> None:
        """Forget a job."""
        self._books.run(
            "DELETE FROM released WHERE pool = ? AND kind = ? AND job = ?", (self._books.pool, kind, job)
        )

    def ages(self, kind: str) -> dict[str, float]:
        """Return the jobs that are remembered and their ages in seconds."""
        rows = self._books.run(
            "SELECT job, ?3 - at FROM released WHERE pool = ?1 AND kind = ?2 AND at > ?4",
            (self._books.pool, kind, self._books.now, self._horizon),
        )
        return dict(rows.fetchall())

    @property
    def _horizon(self) -> float:
        return self._books.now - EARLY_RELEASE_TTL
