"""Ways to share accounts, each of them a class that does one job after another."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from balancer import AccountPool
from benchmarks.upstream import RefusedError, Upstream

Job = Callable[[], object]


class Client(ABC):
    """Gets jobs done; one for all threads. ``minute`` is how many real seconds a minute takes."""

    def __init__(self, upstream: Upstream, minute: float) -> None:
        self.upstream = upstream
        self.second = minute / 60
        self.accounts = list(upstream.running)
        self.open()

    def open(self) -> None:  # noqa: B027  # some need nothing
        """Make what is needed."""

    @abstractmethod
    def do(self, job: Job) -> None:
        """Run a job to its end, whatever it takes."""

    def close(self) -> None:  # noqa: B027  # some need nothing
        """Let go of it."""


class Pool(Client):
    """The balancer."""

    def open(self) -> None:
        """Open a pool over the upstream's accounts."""
        self.pool = AccountPool(
            "custom", source=dict.fromkeys(self.accounts, self.upstream.slots), store="memory://"
        )
        self.pool.refresh()

    def do(self, job: Job) -> None:
        """Run it on the account of a lease."""
        with self.pool.acquire() as lease:
            self.upstream.run(job, lease.account.id)

    def close(self) -> None:
        """Close the pool."""
        self.pool.close()


class SemaphoreAndRandom(Client):
    """One semaphore for all slots, then random accounts until one has room."""

    def open(self) -> None:
        """Make the semaphore."""
        self.semaphore = threading.BoundedSemaphore(len(self.accounts) * self.upstream.slots)

    def do(self, job: Job) -> None:
        """Run it on the first random account that takes it."""
        with self.semaphore:
            while True:
                try:
                    return self.upstream.run(job, random.choice(self.accounts))
                except RefusedError:
                    continue


class SemaphoreEach(Client):
    """A semaphore for each account."""

    def open(self) -> None:
        """Make the semaphores."""
        self.semaphores = {id: threading.BoundedSemaphore(self.upstream.slots) for id in self.accounts}

    def do(self, job: Job) -> None:
        """Run it on a random account, once that has room."""
        account = random.choice(self.accounts)
        with self.semaphores[account]:
            self.upstream.run(job, account)


class VendorsLoop(Client):
    """The documented remedy: leave the choice to the server, and ask again later."""

    def do(self, job: Job) -> None:
        """Ask until the server takes it."""
        while True:
            try:
                return self.upstream.run(job)
            except RefusedError:
                time.sleep(random.uniform(10, 30) * self.second)


class BlindRetry(Client):
    """Random accounts, and patience that doubles."""

    def do(self, job: Job) -> None:
        """Ask until an account takes it."""
        pause = 1.0
        while True:
            try:
                return self.upstream.run(job, random.choice(self.accounts))
            except RefusedError:
                time.sleep(pause * random.uniform(0.5, 1.0) * self.second)
                pause = min(30.0, pause * 2)


CLIENTS: dict[str, type[Client]] = {
    "pool": Pool,
    "semaphore + random": SemaphoreAndRandom,
    "semaphore each": SemaphoreEach,
    "vendor's loop": VendorsLoop,
    "blind retry": BlindRetry,
}
