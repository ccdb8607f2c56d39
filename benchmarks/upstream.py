"""A stand-in for the server: accounts that refuse a job when they are full, and a count of what happened."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable


class RefusedError(Exception):
    """The answer 429: the account, or every account, is full."""


class Upstream:
    """Counts the jobs of each account. Mutable: ``running``, ``refused``, ``done``, ``most``."""

    def __init__(self, accounts: int, slots: int) -> None:
        self.slots = slots
        self.running = {f"account-{n}": 0 for n in range(accounts)}
        self.refused = self.done = self.most = 0
        self.lock = threading.Lock()

    def run(self, job: Callable[[], object], account: str | None = None) -> None:
        """Run a job on an account; on a random one with room if none is named.

        Raises:
            RefusedError: it is full, or all are.
        """
        taken = self._take(account)
        try:
            job()
        finally:
            with self.lock:
                self.running[taken] -= 1
                self.done += 1

    def _take(self, account: str | None) -> str:
        with self.lock:
            candidates = [account] if account else list(self.running)
            free = [name for name in candidates if self.running[name] < self.slots]
            if not free:
                self.refused += 1
                raise RefusedError
            taken = random.choice(free)
            self.running[taken] += 1
            self.most = max(self.most, self.running[taken])
            return taken
