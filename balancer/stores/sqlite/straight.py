"""The straight road: a slot is taken or given back while nothing else is to be done.

That is the usual case: nothing is due, nothing is paused, and nobody waits. One look at the file tells
whether it is so; then one row is all that changes, and the shelf if the account is full or was. In every
other case nothing was done, and the operation goes the road of everybody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from balancer.rules.records import HELD
from balancer.stores import operations as ops
from balancer.stores.sqlite.books import Books
from balancer.stores.sqlite.glance import replied
from balancer.stores.sqlite.memory import Memory

_STRATEGY = "random"
# Parameters: the pool, the key, now, ourselves. The order of the tables is the order of the look-ups.
_USUAL = """
    FROM pool CROSS JOIN owner CROSS JOIN {rest}
    WHERE pool.id = ?1 AND pool.due > ?3 AND NOT pool.pauses AND NOT pool.anybody_waits
        AND pool.strategy = '{strategy}' AND owner.pool = ?1 AND owner.name = ?4"""
_LOOK = "pool.version, pool.due, pool.loose_since, account.id"
_FREE = f"""
    SELECT {_LOOK}, account.in_flight + account.external + 1 < account.capacity
    {_USUAL.format(strategy=_STRATEGY, rest="account INDEXED BY room")}
        AND account.pool = ?1 AND account.shelf = 0.0 AND account.place IS NOT NULL
        AND account.place = CAST(?5 *
            (SELECT 1 + max(place) FROM account WHERE pool = ?1 AND shelf = 0.0 AND place IS NOT NULL)
            AS INTEGER)
        AND NOT EXISTS (SELECT 1 FROM lease WHERE pool = ?1 AND key = ?2)
        AND NOT EXISTS (SELECT 1 FROM tomb WHERE pool = ?1 AND key = ?2)"""  # noqa: S608  # ours
_GRANT = """
    INSERT INTO lease (pool, key, account, state, since, process, label, scope)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_HELD = f"""
    SELECT {_LOOK}, account.place IS NOT NULL, lease.since, lease.label
    {_USUAL.format(strategy=_STRATEGY, rest="lease CROSS JOIN account")}
        AND lease.pool = ?1 AND lease.key = ?2 AND lease.state = '{HELD}'
        AND account.pool = ?1 AND account.id = lease.account"""
_END = "DELETE FROM lease WHERE pool = ? AND key = ?"


class Straight:
    """The straight road of one owner in one pool."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        books: Books,
        memory: Memory,
        settings: ops.Settings,
        owner: ops.Owner,
    ) -> None:
        self._run = connection.cursor().execute  # no two results are read at once
        self._pool, self._books, self._memory = books.pool, books, memory
        self._name, self._process, self._prefix = owner.name, owner.host_pid, owner.name + "-"
        self.roads: dict[type, Callable[[Any, float], ops.Reply | None]] = {ops.Release: self.end}
        """By type of operation."""
        if settings.strategy == _STRATEGY:
            self.roads[ops.Acquire] = self.take

    def take(self, take: ops.Acquire, now: float) -> ops.Reply | None:
        """Grant a lease; None: something is not as usual, and nothing was done."""
        if (
            take.offered
            or take.else_wants is not None
            or take.then_wants is not None
            or take.accounts is not None
            or take.max_jobs is not None
        ):
            return None
        run, pool, key = self._run, self._pool, take.key
        row = run(_FREE, (pool, key, now, self._name, take.draw)).fetchone()
        if row is None:
            return None
        id, stays = row[3:]
        run(_GRANT, (pool, key, id, HELD, now, self._process, take.label, take.scope))
        if not stays:
            self._refile(id)
        return replied(ops.Granted(id), row[:3], now)

    def end(self, end: ops.Release, now: float) -> ops.Reply | None:
        """End a lease of ours; None: something is not as usual, and nothing was done."""
        key = end.key
        if key is None or end.job_id is not None or not key.startswith(self._prefix):
            return None
        run, pool = self._run, self._pool
        row = run(_HELD, (pool, key, now, self._name)).fetchone()
        if row is None:
            return None
        id, stays, since, label = row[3:]
        run(_END, (pool, key))
        if not stays:
            self._refile(id)
        self._memory.bury(key)
        return replied(ops.EndedLease(key, id, HELD, None, label, now - since), row[:3], now)

    def _refile(self, id: str) -> None:
        self._books.strategy = _STRATEGY  # as was just seen; others may have changed it
        self._books.refile(id)
