"""Owners: who lives, who waits, and to whom a free slot is offered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from balancer.rules.records import HELD
from balancer.stores.operations import OFFER_SECONDS, Owner, Wanted
from balancer.stores.sqlite import mailbox
from balancer.stores.sqlite.books import OFFERED, Books, LeaseRow
from balancer.stores.sqlite.choice import Choice

_NEXT = """
    SELECT name, wants_any FROM owner
    WHERE pool = ?1 AND place IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM lease WHERE pool = ?1 AND key = owner.name || '-offer')
        AND (wants_any OR EXISTS (
            SELECT 1 FROM want JOIN account ON account.pool = ?1 AND account.id = want.account
            WHERE want.pool = ?1 AND want.owner = owner.name AND account.place IS NOT NULL))
    ORDER BY place LIMIT 1"""
_ROOM = "SELECT 1 FROM account WHERE pool = ? AND place IS NOT NULL LIMIT 1"


Message = tuple[str, str]
"""An owner, and the account to name to it."""
Messages = Sequence[Message]


class Line:
    """The owners of one pool. Mutable, besides the file: the messages to be sent once all is written.

    Args:
        books: Their leases.
        choice: Chooses what to offer.
        owner: Ourselves.
        folder: Where the mailboxes are.
        lease_ttl: Seconds between two looks at whether an owner lives.
    """

    def __init__(self, books: Books, choice: Choice, owner: Owner, folder: Path, lease_ttl: float) -> None:
        self._books, self._choice = books, choice
        self._owner, self._folder, self._lease_ttl = owner, folder, lease_ttl
        self.messages: list[Message] = []

    # -- life ---------------------------------------------------------------------------------------

    def join(self, *, forgotten: bool) -> None:
        """Become known, or heard of again. ``forgotten``: we were known before, and the file has lost it."""
        self._books.stale = True
        self._books.run(
            "INSERT INTO owner (pool, name, process, look_at, forgotten) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (pool, name) DO UPDATE"
            " SET look_at = excluded.look_at, forgotten = excluded.forgotten",
            (self._books.pool, self._owner.name, self._owner.host_pid, self._next_look, forgotten),
        )

    def known(self) -> bool:
        """Whether we were known all the time."""
        mine = (self._books.pool, self._owner.name)
        row = self._books.run("SELECT forgotten FROM owner WHERE pool = ? AND name = ?", mine).fetchone()
        return row is not None and not row[0]

    def bury_dead(self) -> list[LeaseRow]:
        """Ask after every owner who is due for it; forget the dead. Return the leases that they held."""
        run, pool, gone = self._books.run, self._books.pool, []
        due = run(
            "SELECT name FROM owner WHERE pool = ? AND look_at <= ?", (pool, self._books.now)
        ).fetchall()
        for (name,) in due:
            if self.lives(name):
                run("UPDATE owner SET look_at = ? WHERE pool = ? AND name = ?", (self._next_look, pool, name))
            else:
                gone += self.bury(name)
        return gone

    def lives(self, name: str) -> bool:
        """Whether an owner lives, as the kernel knows."""
        return name == self._owner.name or mailbox.lives(self._folder, name)

    def bury(self, name: str) -> list[LeaseRow]:
        """Forget an owner who is dead. Return the leases that it held, which end."""
        books = self._books
        self.leave(name)
        books.run("DELETE FROM owner WHERE pool = ? AND name = ?", (books.pool, name))
        books.run(
            "UPDATE claim SET owner = NULL, void_at = NULL WHERE pool = ? AND owner = ?", (books.pool, name)
        )
        held = self._held_by(name)
        for lease in held:
            books.end(lease)
        mailbox.clear(self._folder, name)
        return held

    def _held_by(self, name: str) -> list[LeaseRow]:
        # "." comes right after "-"
        return self._books.leases("key > ? AND key < ? AND state = ?", name + "-", name + ".", HELD)

    def forget_us(self) -> bool:
        """Be forgotten, unless we hold leases. True: we are."""
        if self._held_by(self._owner.name):
            return False
        self.bury(self._owner.name)
        return True

    @property
    def _next_look(self) -> float:
        return self._books.now + self._lease_ttl

    # -- waiting ------------------------------------------------------------------------------------

    def wait(self, wants: Wanted, *, at_the_back: bool = False) -> None:
        """Have us wait for some accounts, or for any; our place stays unless we go to the back."""
        self._books.stale = True
        run, mine = self._books.run, (self._books.pool, self._owner.name)
        run("UPDATE owner SET wants_any = ? WHERE pool = ? AND name = ?", (not wants, *mine))
        run("DELETE FROM want WHERE pool = ? AND owner = ?", mine)
        for id in dict.fromkeys(wants):
            run("INSERT INTO want (pool, owner, account) VALUES (?, ?, ?)", (*mine, id))
        self._to_the_back(self._owner.name, only_new=not at_the_back)

    def leave(self, name: str | None = None) -> None:
        """Take an owner, or ourselves, out of the line; what is reserved for it is free."""
        self._books.stale = True
        name = name or self._owner.name
        self.end_offer(name)
        self._books.run("UPDATE owner SET place = NULL WHERE pool = ? AND name = ?", (self._books.pool, name))
        self._books.run("DELETE FROM want WHERE pool = ? AND owner = ?", (self._books.pool, name))

    def _to_the_back(self, name: str, *, only_new: bool = False) -> None:
        self._books.run(
            "UPDATE owner SET place = 1 + coalesce("
            " (SELECT max(place) FROM owner WHERE pool = ?1 AND place IS NOT NULL), 0)"
            " WHERE pool = ?1 AND name = ?2 AND (place IS NULL OR NOT ?3)",
            (self._books.pool, name, only_new),
        )

    # -- offers -------------------------------------------------------------------------------------

    def end_offer(self, name: str | None = None) -> None:
        """Give back what is reserved for an owner, or for ourselves. It says nothing about the account."""
        offer = self._books.lease(f"{name or self._owner.name}-offer")
        if offer is not None:
            self._books.end(offer, well=False)

    def lapse(self) -> None:
        """Give back what was offered and not taken in time; who let it lapse goes to the back."""
        for offer in self._books.leases(
            "ends <= ? AND state = ? ORDER BY ends, key", self._books.now, OFFERED
        ):
            self._books.end(offer, well=False)
            self._to_the_back(offer.key.removesuffix("-offer"))

    def offer(self) -> list[LeaseRow] | None:
        """Offer free slots to those who wait, the oldest first.

        Return what the dead among them held; None: nothing was changed.
        """
        run, pool = self._books.run, self._books.pool
        gone: list[LeaseRow] | None = None
        while run(_ROOM, (pool,)).fetchone() and (found := run(_NEXT, (pool,)).fetchone()):
            gone = gone or []
            name, wants_any = found
            if self.lives(name):
                id = self._choose(name, any_will_do=wants_any)
                self._reserve(name, id)
                self.messages.append((name, id))
            else:
                gone += self.bury(name)
        return gone

    def _choose(self, name: str, *, any_will_do: bool) -> str:
        """Return what to offer; there is something, as this owner is the next."""
        if any_will_do and (chosen := self._choice.choose(random.random())) is not None:
            return chosen.id
        mine = (self._books.pool, name)
        wanted = self._books.run("SELECT account FROM want WHERE pool = ? AND owner = ?", mine).fetchall()
        return random.choice([str(id) for (id,) in wanted if self._choice.has_room(id)])

    def _reserve(self, name: str, id: str) -> None:
        now = self._books.now
        self._books.enter(LeaseRow(f"{name}-offer", id, OFFERED, now, "", ends=now + OFFER_SECONDS))
