"""The straight road: a slot is taken or given back while nothing else is to be done.

That is the usual case: nothing is due, nothing is paused, nobody waits, and the account keeps its place on
the shelf. One look at the file tells whether it is so; then one row is all that changes. In every other
case nothing was done, and the operation goes the road of everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from balancer.store import operations as ops
from balancer.store.sqlite.books import Books
from balancer.store.sqlite.glance import replied
from balancer.store.sqlite.memory import Memory
from balancer.tally import HELD

# Parameters: the pool, the key, now, ourselves. The order of the tables is the order of the look-ups.
_USUAL = """
    FROM pool CROSS JOIN owner CROSS JOIN {rest}
    WHERE pool.id = ?1 AND pool.due > ?3 AND NOT pool.pauses AND NOT pool.anybody_waits
        AND pool.strategy = 'random' AND owner.pool = ?1 AND owner.name = ?4"""
_LOOK = "pool.version, pool.due, pool.loose_since, account.id"
_FREE = f"""
    SELECT {_LOOK} {_USUAL.format(rest="account INDEXED BY room")}
        AND account.pool = ?1 AND account.shelf = 0.0 AND account.place IS NOT NULL
        AND account.place = CAST(?5 *
            (SELECT 1 + max(place) FROM account WHERE pool = ?1 AND shelf = 0.0 AND place IS NOT NULL)
            AS INTEGER)
        AND account.in_flight + account.external + 1 < account.capacity
        AND NOT EXISTS (SELECT 1 FROM lease WHERE pool = ?1 AND key = ?2)
        AND NOT EXISTS (SELECT 1 FROM tomb WHERE pool = ?1 AND key = ?2)"""  # noqa: S608  # ours
_GRANT = """
    INSERT INTO lease (pool, key, account, state, since, process, label, scope)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_HELD = f"""
    SELECT {_LOOK}, lease.since, lease.label {_USUAL.format(rest="lease CROSS JOIN account")}
        AND lease.pool = ?1 AND lease.key = ?2 AND lease.state = '{HELD}'
        AND account.pool = ?1 AND account.id = lease.account AND account.place IS NOT NULL"""
_NOTHING = (None,) * 4
_END = "DELETE FROM lease WHERE pool = ? AND key = ?"


class Straight:
    """The straight road of one owner in one pool."""

    def __init__(self, books: Books, memory: Memory, settings: ops.Settings, owner: ops.Owner) -> None:
        self._books, self._memory, self._owner = books, memory, owner
        self._prefix = owner.name + "-"
        self._do: dict[type, Callable[[Any], ops.Reply | None]] = {ops.End: self._end}
        if settings.strategy == "random":
            self._do[ops.Take] = self._take

    def carry_out(self, operation: ops.Operation) -> ops.Reply | None:
        """Carry out an operation that is usual in every respect; None: it is not, and nothing was done."""
        do = self._do.get(type(operation))
        return do and do(operation)

    def _take(self, take: ops.Take) -> ops.Reply | None:
        wants = (take.accounts, take.max_jobs, take.then_wants, take.else_wants)
        if take.offered or wants != _NOTHING:
            return None
        books, owner, key = self._books, self._owner, take.key
        pool, now = books.pool, books.now
        row = books.run(_FREE, (pool, key, now, owner.name, take.draw)).fetchone()
        if row is None:
            return None
        *kept, id = row
        books.run(_GRANT, (pool, key, id, HELD, now, owner.host_pid, take.label, take.scope))
        return replied(ops.Granted(id), kept, now)

    def _end(self, end: ops.End) -> ops.Reply | None:
        books, key = self._books, end.key
        if key is None or end.job_id is not None or not key.startswith(self._prefix):
            return None
        pool, now = books.pool, books.now
        row = books.run(_HELD, (pool, key, now, self._owner.name)).fetchone()
        if row is None:
            return None
        books.run(_END, (pool, key))
        self._memory.bury(key)
        *kept, id, since, label = row
        return replied(ops.Gone(key, id, HELD, None, label, now - since), kept, now)
