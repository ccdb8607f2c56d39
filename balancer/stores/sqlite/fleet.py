"""What one process does for all: claims, and the table that they bring."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from balancer.models import Account
from balancer.stores import operations as ops
from balancer.stores.sqlite.books import Books
from balancer.stores.sqlite.line import Line

_CLAIM = "number, owner, void_at, done_at, retry_at, kind, text"


class _Claim(NamedTuple):
    number: int = 0
    owner: str | None = None
    void_at: float | None = None
    done_at: float | None = None
    retry_at: float | None = None
    kind: str | None = None
    text: str | None = None


class Fleet:
    """The claims and the configuration of one pool."""

    def __init__(self, books: Books, line: Line, settings: ops.Settings, owner: ops.Owner) -> None:
        self._books, self._line = books, line
        self._settings, self._owner = settings, owner

    # -- claims -------------------------------------------------------------------------------------

    def claim(self, claim: ops.Claim) -> ops.Claimed:
        """Grant the right to fetch or to reconcile, or say why not."""
        now, old = self._books.now, self._read(claim.what)
        age = None if old.done_at is None else now - old.done_at
        if age is not None and age < claim.max_age:
            return ops.Claimed(False, age=age)
        if (
            old.owner not in (None, self._owner.name)  # ours, if it is: its reply was lost
            and old.void_at is not None
            and now < old.void_at
            and self._line.lives(old.owner)
        ):
            return ops.Claimed(False, retry_in=old.void_at - now, age=age)
        if old.retry_at is not None and now < old.retry_at and claim.max_age > 0:
            trouble = (old.kind or "", old.text or "")
            return ops.Claimed(False, retry_in=old.retry_at - now, age=age, trouble=trouble)
        number = higher(old.number)
        self._write(claim.what, _Claim(number, self._owner.name, now + claim.hold, old.done_at))
        return ops.Claimed(True, number, age=age)

    def fail(self, fail: ops.Fail) -> None:
        """Give a claim back without success."""
        if self.holds(fail.what, fail.number):
            old, retry_at = self._read(fail.what), self._books.now + fail.pause
            self._write(
                fail.what, _Claim(old.number, None, None, old.done_at, retry_at, fail.kind, fail.text)
            )

    def done(self, what: str) -> None:
        """Give a claim back: it was done."""
        self._write(what, _Claim(self._read(what).number, done_at=self._books.now))

    def holds(self, what: str, number: int) -> bool:
        """Whether a claim is not void."""
        claim = self._read(what)
        return claim.number == number and claim.void_at is not None and self._books.now < claim.void_at

    def _read(self, what: str) -> _Claim:
        row = self._books.run(
            f"SELECT {_CLAIM} FROM claim WHERE pool = ? AND what = ?",  # noqa: S608  # ours
            (self._books.pool, what),
        ).fetchone()
        return _Claim._make(row) if row else _Claim()

    def _write(self, what: str, claim: _Claim) -> None:
        self._books.run(
            f"INSERT OR REPLACE INTO claim (pool, what, {_CLAIM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (self._books.pool, what, *claim),
        )

    # -- the configuration --------------------------------------------------------------------------

    def configure(self, new: ops.Configure) -> int | None:
        """Put a table in force. Return its version, or None if it came too late."""
        run, pool = self._books.run, self._books.pool
        version: int = run("SELECT version FROM pool WHERE id = ?", (pool,)).fetchone()[0]
        if not self.holds("fetch", new.number) or new.base != version:
            return None
        for account in new.put:
            self._put(account)
        for id in new.gone:
            self._remove(id)
        if new.put or new.gone or not version:
            version = higher(version)
        self._adopt_strategy()
        run("UPDATE pool SET version = ?, fetched_at = ? WHERE id = ?", (version, self._books.now, pool))
        self.done("fetch")
        return version

    def _put(self, account: Account) -> None:
        run, mine = self._books.run, (self._books.pool, account.id)
        row = run("SELECT broken FROM account WHERE pool = ? AND id = ?", mine).fetchone()
        if row is None:
            self._insert(account, draining=False)
        run(
            "UPDATE account SET capacity = ?, broken = ?, draining = 0, entry = ? WHERE pool = ? AND id = ?",
            (account.capacity, account.broken is not None, entry(account), *mine),
        )
        if row is not None and row[0] and account.broken is None:
            self._books.warm(account.id)
        self._books.refile(account.id)

    def _remove(self, id: str) -> None:
        self._books.run("UPDATE account SET draining = 1 WHERE pool = ? AND id = ?", (self._books.pool, id))
        self._books.refile(id)

    def _insert(self, account: Account, *, draining: bool) -> None:
        self._books.run(
            "INSERT INTO account (pool, id, capacity, draining, entry, external) VALUES (?1, ?2, ?3, ?4, ?5,"
            " coalesce((SELECT jobs FROM external WHERE pool = ?1 AND account = ?2), 0))",
            (self._books.pool, account.id, account.capacity, draining, entry(account)),
        )

    def make_sure_of(self, id: str) -> None:
        """Have an account that leases run on: one that no table names is draining."""
        if self._books.account(id) is None:
            self._insert(Account(id), draining=True)

    def _adopt_strategy(self) -> None:
        """Shelve the accounts by the strategy of the process that configures; others look at everybody."""
        books, strategy = self._books, self._settings.strategy
        if books.strategy != strategy:
            books.run("UPDATE pool SET strategy = ? WHERE id = ?", (strategy, books.pool))
            books.strategy = strategy
            books.refile_all()


def higher(last: int) -> int:
    """Return a number above ``last``, and above those of a file that was deleted since."""
    return max(last + 1, int(time.time() * 1000))


def entry(account: Account) -> str:
    """Return what the file keeps of an account beside its numbers."""
    return json.dumps({"fields": dict(account.fields), "broken": account.broken, "note": account.note})
