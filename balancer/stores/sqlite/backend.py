"""The backend: one owner's way to the file."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from balancer.errors import StoreUnavailable, sanitized
from balancer.stores.operations import Operation, Owner, Reply, Settings
from balancer.stores.sqlite.acts import Acts
from balancer.stores.sqlite.database import Database
from balancer.stores.sqlite.line import Messages
from balancer.stores.sqlite.mailbox import Mailbox, post
from balancer.stores.sqlite.uptime import boot_id, machine_now

_GIVEN = "given"
"""Name of the start of a clock that the caller brought."""


class SqliteBackend:
    """Carries out each operation in one transaction; see :class:`balancer.stores.operations.Backend`.

    Args:
        path: The file; it is made at the first operation, for its user alone (mode 0600).
        settings: What to count for.
        owner: Whose operations these are.
        now: Seconds, the same for all processes that use the file, instead of the machine's uptime.
    """

    beats = False
    roll_calls = 0
    """The kernel tells who lives."""

    def __init__(
        self, path: str | Path, settings: Settings, owner: Owner, now: Callable[[], float] | None = None
    ) -> None:
        # Resolved, so that all who mean the same file queue at the same place; "//x" is "/x".
        self._path = Path("/" + os.path.realpath(path).lstrip("/"))
        self._settings = settings
        self._now = now or machine_now
        self._database = Database(self._path, self._now, boot_id() if now is None else _GIVEN)
        self._folder = Path(f"{self._path}-owners")
        self._open(owner)

    def _open(self, owner: Owner) -> None:
        self._owner = owner
        self._mailbox = Mailbox(self._folder, owner.name)
        self._executor: ThreadPoolExecutor | None = None
        self._acts: Acts | None = None
        self._met = False
        self._show_life_at = -math.inf

    def __repr__(self) -> str:
        return f"SqliteBackend({str(self._path)!r}, namespace={self._settings.namespace!r})"

    def call(self, operation: Operation, _: float | None = None) -> Reply:
        """Carry out one operation. Raises StoreUnavailable."""
        try:
            reply, messages = self._database.transact(self._carry_out, operation)
        except BaseException:
            self._acts = None  # the pool that they know may have been undone with the rest
            raise
        self._met = True
        for name, account in messages:
            post(self._folder, name, account)
        return reply

    def _carry_out(self, connection: sqlite3.Connection, operation: Operation) -> tuple[Reply, Messages]:
        now = self._now()
        if now >= self._show_life_at:
            self._show_life(now)
        acts = self._acts
        if acts is None or acts.connection is not connection:
            acts = self._acts_on(connection)
        return acts.carry_out(operation, now, met=self._met)

    async def acall(self, operation: Operation, _: float | None = None) -> Reply:
        """Carry out one operation without blocking the running event loop. Raises StoreUnavailable."""
        executor = self._executor
        if executor is None:  # our own: the loop's default one may be full of those who wait for us
            executor = self._executor = ThreadPoolExecutor(1, "balancer-sqlite")
        return await asyncio.get_running_loop().run_in_executor(executor, self.call, operation)

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Wait for offers to this process. Raises StoreUnavailable."""
        try:
            return self._mailbox.wait(seconds)
        except OSError as error:
            raise StoreUnavailable(f"the store {self._path} cannot be used: {error}") from sanitized(error)

    def poke(self) -> None:
        """Have :meth:`listen` return."""
        self._mailbox.poke()

    def leave_loops(self) -> None:
        """Do nothing: the file is no loop's."""

    def after_fork(self, owner: Owner) -> None:
        """Let go of what is the parent's."""
        self._mailbox.drop()
        self._open(owner)

    def close(self) -> None:
        """Close the connection; a later call opens another one.

        The mailbox stays while leases are out: it is what shows that their process lives.
        """
        try:
            if self._met:
                self._leave()
        except StoreUnavailable:
            pass  # others will find us dead, or alive with leases, as it is
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self._acts = None
        self._database.close()

    def _leave(self) -> None:
        """Have the file forget us, unless we hold leases."""
        forgotten, messages = self._database.transact(
            lambda connection, now: self._acts_on(connection).say_goodbye(now), self._now()
        )
        for name, account in messages:
            post(self._folder, name, account)
        if forgotten:
            self._mailbox.remove()
            self._met, self._show_life_at = False, -math.inf

    def _acts_on(self, connection: sqlite3.Connection) -> Acts:
        acts = self._acts = Acts(connection, self._settings, self._owner, self._folder)
        return acts

    def _show_life(self, now: float) -> None:
        """Be seen to live, before anything is written that depends on it."""
        self._mailbox.open()
        self._mailbox.keep()
        self._show_life_at = now + self._settings.lease_ttl / 2
