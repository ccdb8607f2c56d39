"""What each operation does, inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balancer.rules.records import HELD
from balancer.stores import operations as ops
from balancer.stores.snapshot import only
from balancer.stores.sqlite.books import OFFERED, Books, LeaseRow
from balancer.stores.sqlite.fleet import Fleet
from balancer.stores.sqlite.glance import Glance, keep, read, replied
from balancer.stores.sqlite.leases import Leases
from balancer.stores.sqlite.line import Line, Message, Messages
from balancer.stores.sqlite.memory import Memory
from balancer.stores.sqlite.reading import dump, read_table
from balancer.stores.sqlite.straight import Straight
from balancer.stores.sqlite.survey import Survey

_QUIET = frozenset({ops.Acquire, ops.Release})
_BEFORE_KNOWN = frozenset({ops.Heartbeat, ops.Register})
"""What an owner asks that has been forgotten, without becoming known by it."""


class Acts:
    """The operations of one owner in one pool.

    Args:
        connection: To the file.
        settings: Of the pool.
        owner: Whose operations these are.
        folder: Where the mailboxes are.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: ops.Settings,
        owner: ops.Owner,
        folder: Path,
    ) -> None:
        self.connection = connection
        pool, strategy = _pool(connection, settings)
        self._owner = owner
        self._books = Books(connection, pool, strategy)
        self._memory = Memory(self._books)
        self._straight = Straight(connection, self._books, self._memory, settings, owner).roads
        self._leases = Leases(self._books, self._memory, settings, owner)
        self.line = Line(self._books, self._leases.choice, owner, folder, settings.lease_ttl)
        self._fleet = Fleet(self._books, self.line, settings, owner)
        survey = Survey(self._books, self._leases, self._fleet, settings.job_ttl)
        self._glance: Glance
        self._do: dict[type, Callable[[Any], Any]] = {
            ops.Acquire: self._take,
            ops.Release: self._leases.end,
            ops.Bind: self._leases.bind,
            ops.Renew: self._leases.renew,
            ops.Report: self._leases.judge,
            ops.Cool: self._leases.cool,
            ops.Reset: self._leases.reset,
            ops.Claim: self._fleet.claim,
            ops.Fail: self._fleet.fail,
            ops.Configure: self._fleet.configure,
            ops.ReadTable: lambda _: read_table(self._books),
            ops.Apply: survey.apply,
            ops.ReadAll: lambda _: dump(self._books, self._memory),
            ops.ReadSome: lambda some: only(dump(self._books, self._memory), some.accounts),
            ops.Heartbeat: self._beat,
            ops.Register: self._register,
            ops.SetWanted: self._wait,
        }

    def carry_out(self, operation: ops.Operation, now: float, *, met: bool) -> tuple[ops.Reply, Messages]:
        """Settle what is due, do what the operation says, offer what is free.

        Return the answer, and what is to be sent once it is written. ``met``: we were known before.
        """
        books = self._books
        books.now, kind = now, type(operation)
        straight = self._straight.get(kind)
        if straight is not None and (reply := straight(operation, now)) is not None:
            return reply, ()
        messages: list[Message] = []
        self.line.messages = messages
        glance = self._look()
        # Those that are asked most change none of it in the usual case; whoever does says so.
        books.stale = kind not in _QUIET
        if not glance.known and kind not in _BEFORE_KNOWN:
            self.line.join(forgotten=met)
        expired = self._settle() if glance.due <= now else []
        result = self._do[kind](operation)
        if books.stale:
            glance = self._look_again()
        if glance.anybody_waits and (offered := self.line.offer()) is not None:
            expired += map(self._leases.gone, offered)
            glance = self._look_again()
        told = glance.version, glance.due, glance.loose_since
        return replied(result, told, now, tuple(expired)), messages

    def say_goodbye(self, now: float) -> tuple[bool, Messages]:
        """Be forgotten, unless we hold leases. Return whether we are, and what is to be sent."""
        self._books.now = now
        messages: list[Message] = []
        self.line.messages = messages
        self._look()
        forgotten = self.line.forget_us()
        self.line.offer()
        self._look_again()
        return forgotten, messages

    def _look(self) -> Glance:
        books = self._books
        glance = self._glance = read(books.run, books.pool, self._owner.name)
        books.cooldowns, books.strategy = glance.cooldowns, glance.strategy
        return glance

    def _look_again(self) -> Glance:
        keep(self._books.run, self._books.pool)
        return self._look()

    # -- settling -----------------------------------------------------------------------------------

    def _settle(self) -> list[ops.EndedLease]:
        books = self._books
        books.stale = True
        leases = books.leases("ends <= ? AND state <> ?", books.now, OFFERED)
        cooldowns = books.run(
            "SELECT account, scope, until FROM pause WHERE pool = ? AND cooling AND until <= ?",
            (books.pool, books.now),
        ).fetchall()
        ends: list[tuple[float, Callable[[], None]]] = []
        ends += [(lease.ends or 0.0, lambda lease=lease: books.end(lease)) for lease in leases]  # type: ignore[misc]
        ends += [(until, lambda id=id, scope=scope: books.warm(id, scope)) for id, scope, until in cooldowns]  # type: ignore[misc]
        for _, end in sorted(ends, key=lambda one: one[0]):
            end()
        gone = leases + self.line.bury_dead()
        self.line.lapse()
        return [self._leases.gone(lease) for lease in gone]

    # -- who asks -----------------------------------------------------------------------------------

    def _take(self, take: ops.Acquire) -> ops.Granted | None:
        if take.offered:
            self.line.end_offer()
        id = self._leases.grant(take)
        wants = take.else_wants if id is None else take.then_wants
        if wants is not None:
            self.line.wait(wants, at_the_back=id is not None)
        elif self._glance.waiting:
            self.line.leave()
        return None if id is None else ops.Granted(id)

    def _beat(self, _: ops.Heartbeat) -> ops.HeartbeatReply:
        known = self.line.known()
        if known:
            self.line.join(forgotten=False)
        return ops.HeartbeatReply(known, self._memory.tell(self._owner.name))

    def _register(self, register: ops.Register) -> tuple[str, ...]:
        self.line.join(forgotten=False)
        books, ended = self._books, []
        for row in register.rows:
            if self._memory.buried(row.key):
                ended.append(row.key)
            elif books.lease(row.key) is None:
                self._fleet.make_sure_of(row.account)
                lease = LeaseRow(
                    row.key,
                    row.account,
                    HELD,
                    books.now - row.age,
                    self._owner.host_pid,
                    row.label,
                    row.scope,
                )
                books.enter(lease._replace(adverse=row.adverse), probes=False)
        return tuple(ended)

    def _wait(self, wait: ops.SetWanted) -> None:
        if wait.wants is None:
            self.line.leave()
        else:
            self.line.wait(wait.wants)


def _pool(connection: sqlite3.Connection, settings: ops.Settings) -> tuple[int, str]:
    """Return the number of the pool and how its accounts are shelved; a new pool is made."""
    connection.execute(
        "INSERT OR IGNORE INTO pool (namespace, strategy) VALUES (?, ?)",
        (settings.namespace, settings.strategy),
    )
    row = connection.execute("SELECT id, strategy FROM pool WHERE namespace = ?", (settings.namespace,))
    number, strategy = row.fetchone()
    return number, strategy
