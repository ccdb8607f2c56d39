"""The heart of one pool in one process, shared by its sync and its async face.

Where the state lives: ``store`` knows who holds what and who waits (its ledger is in this process or in a
database), ``refresher`` knows the configuration and its freshness, ``timekeeper`` wakes both while anybody
waits. The rest of the core is what the pool was made with.
"""

from __future__ import annotations

import math
import os
import weakref

from balancer.clock import Clock
from balancer.config import HALF, PoolConfig, account_id, check_text, job_text, seconds
from balancer.engine.refresher import Refresher
from balancer.errors import LeaseLost
from balancer.models import Account
from balancer.request import AcquireRequest
from balancer.rules.freshness import ConfigurationCache, ReconcileSchedule, Schedule
from balancer.rules.ledger import Ledger
from balancer.rules.records import AMBIGUOUS, BOUND, Key, LeaseRecord
from balancer.stores import open_store
from balancer.stores.base import Process
from balancer.stores.memory_fast_path import never
from balancer.useapi import following
from balancer.useapi.sources import describe, lists_jobs
from balancer.useapi.verdicts import VerdictDetails, judge, shortened
from balancer.waiting.drivers import Flow, Step, result_of
from balancer.waiting.timekeeper import Timekeeper

_cores: weakref.WeakSet[PoolCore] = weakref.WeakSet()
_announced: set[str] = set()
"""Retired services that this process has been told about."""
_SHORTEST = 0.05
"""Seconds between two looks at what is due."""


class PoolCore:
    """One pool in one process."""

    def __init__(self, options: PoolConfig) -> None:
        self.options = options
        self.service = options.service
        self.clock: Clock = options.clock
        self.now = options.clock.now
        self.draw = options.draw
        self.spaced = any(options.spacing)
        self.customer = self._customer()
        self.warned: set[str] = set()
        """Warnings that are given once a pool."""
        source, every = options.source, options.reconcile_every
        self.schedule = Schedule(
            ConfigurationCache(options.ttl, options.stale_if_error, self.now, describe(source, jobs=False)),
            ReconcileSchedule(every if lists_jobs(source) else None, describe(source, jobs=True)),
        )
        self.timekeeper = Timekeeper(self.clock, self._on_due)
        self.long_wait_at = math.inf
        """When the first of those who wait is to be woken, as it has to be logged that it waits for long."""
        self.store = open_store(
            options,
            self._new_ledger,
            process=Process(),
            now=self.now,
            service=self.service.key,
            ttls={BOUND: options.job_ttl, AMBIGUOUS: options.ambiguous_ttl},
            schedule=self.schedule,
            on_due_at=self.timekeeper.arm,
            on_abandoned=self.timekeeper.nudge,
        )
        self.refresher = Refresher(options, self.store, self.schedule)
        if self.store.shared:
            self.store.take_over, self.store.start_over = self.refresher.adopt, self.refresher.start_over
        self._open_fast_path()
        _cores.add(self)
        self.clock.watch(self.tick)

    def _open_fast_path(self) -> None:
        """Have slots taken and given back without any detour, where the store has such a way."""
        store = self.store
        self.take, self.give_back = getattr(store, "take", never), getattr(store, "give_back", never)
        self.take_blocking = getattr(store, "take_blocking", self.take)
        """The same, and it may wait for a store that others share."""
        self.give_back_blocking = getattr(store, "give_back_blocking", self.give_back)

    def _customer(self) -> tuple[str, str, str] | None:
        token = self.options.token
        if token is None or not token.fixed:
            return None
        return token.customer(), self.service.key, getattr(self.options.source, "base_url", "")

    def _new_ledger(self) -> Ledger:
        return Ledger(self.options.strategy, self.now, lower_only=self.service.max_jobs is None)

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self.schedule.closed

    # -- leases -------------------------------------------------------------------------------

    def key(self, lease_id: object) -> Key | None:
        """Return the key of a lease given by id, or None if the store cannot have it."""
        if not isinstance(lease_id, str):
            raise TypeError(f"lease_id must be a string, not {type(lease_id).__name__}")
        if self.store.shared:
            return None if HALF.search(lease_id) else lease_id
        return self.store.process.number(lease_id)

    def release(self, lease_id: object, job_id: object) -> Step[bool]:
        """End a lease by its id or by its job's. True if this ended one."""
        if _one_of(lease_id, job_id) == "job_id":
            return self.store.release_job(job_text(job_id))
        key = self.key(lease_id)
        return False if key is None else self.store.release(key)

    def judge(self, answer: object) -> VerdictDetails:
        """Return what an answer means here."""
        details = judge(answer, self.service, draw=self.draw, wall=self.clock.time())
        details = shortened(details, self.options.max_cooldown)
        return details if self.options.learn_limits else details._replace(teaches=False)

    def adopt(self, job_id: object, account: object, ttl: float | None) -> Flow[LeaseRecord]:
        """Register a job that runs already, and return its lease."""
        text, id = job_text(job_id), account_id("account", account)
        life = self.options.job_ttl if ttl is None else seconds("ttl", ttl, above=True)
        record = yield from result_of(self.store.adopt(LeaseRecord(self.store.new_key()), text, id, life))
        if record is None:
            if self.store.table is None:
                raise self.refresher.trouble()
            raise ValueError(f"account {id!r} is not in the configuration")
        return record

    def settle(self, said: object, job_id: object) -> Flow[bool]:
        """End the leases of the jobs that are over by what was said. True: those are all that it names."""
        row = self.service
        if not row.final:
            raise ValueError(
                f"service {row.key!r} names no final words: give the pool a Service row with final={{...}}"
            )
        settlement = following.settlement(said, row, None if job_id is None else job_text(job_id))
        for job in settlement.ended:
            yield from result_of(self.store.release_job(job))
        return settlement.final

    def renew(self, lease_id: object, job_id: object, ttl: float | None) -> Flow[None]:
        """Move the end of a lease. Raises LeaseLost if there is none."""
        life = None if ttl is None else seconds("ttl", ttl, above=True)
        if _one_of(lease_id, job_id) == "job_id":
            key, job = None, job_text(job_id)
        else:
            key, job = self.key(lease_id), None
        known = key is not None or job is not None
        if not (known and (yield from result_of(self.store.renew(key, job, life)))):
            raise LeaseLost(f"no lease {lease_id or job_id!r} is live", lease_id=str(lease_id or ""))

    def cool(self, account: object, length: float, reason: str) -> Flow[None]:
        """Put an account in a cooldown by hand."""
        id, cooldown = account_id("account_id", account), seconds("seconds", length)
        if not (yield from result_of(self.store.cool(id, cooldown, check_text("reason", reason)))):
            raise ValueError(f"account_id {id!r} is not in the configuration")

    def reset(self, account: object) -> Flow[None]:
        """Clear what verdicts made of an account."""
        id = account_id("account_id", account)
        if not (yield from result_of(self.store.reset(id))):
            raise ValueError(f"account_id {id!r} is not in the configuration")

    def check_max_jobs(self, request: AcquireRequest, candidates: list[Account]) -> None:
        """Refuse a figure that the request could not carry to the server."""
        asked = request.max_jobs
        if asked is None or self.service.max_jobs is not None or not candidates:
            return
        most = max(account.capacity for account in candidates)
        if asked > most:
            raise ValueError(
                f"max_jobs must be at most {most}, not {asked}: requests to {self.service.key} "
                "cannot raise an account's capacity"
            )

    # -- time ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look around because the clock was moved: some may have waited long enough."""
        with self.store.lock:
            self.store.wake_all()
            self.refresher.wake_watchers()
        self.store.step()
        self.store.flush()

    def _on_due(self) -> float | None:
        """Do what is due on behalf of those who wait; return when to look again, None if nobody does."""
        if not self.store.wait_queue.waiters:
            return None
        self.refresher.keep_up()
        due = self.store.next_housekeeping_at
        self.store.step()
        if (
            not self.store.shared
        ):  # else it is known once the worker has asked, and armed then if it is earlier
            due = self.store.next_housekeeping_at
        return max(min(due, self._wake_long_waiting()), self.now() + _SHORTEST)

    def _wake_long_waiting(self) -> float:
        """Wake who has waited for so long that it is to be logged; return when the next has."""
        now = self.now()
        if now >= self.long_wait_at:
            self.long_wait_at = math.inf  # first: who comes from here on puts its own time in
            with self.store.lock:
                waiters = list(self.store.wait_queue.waiters)
            self.store.to_wake.extend(waiter for waiter in waiters if waiter.warn_at <= now)
            later = min((waiter.warn_at for waiter in waiters if waiter.warn_at > now), default=math.inf)
            if later < self.long_wait_at:  # noqa: PLR1730  # min would write what others have set meanwhile
                self.long_wait_at = later
            self.store.flush()
        return self.long_wait_at

    # -- what people are told -------------------------------------------------------------------

    def announce(self) -> None:
        """Warn about what is known to be wrong with this pool from the beginning."""
        if self.service.retired is not None and self.service.key not in _announced:
            _announced.add(self.service.key)
            self.store.note("warning", "service_retired", why=self.service.retired)
        if self.has_rival():
            self.store.note(
                "warning",
                "duplicate_memory_pool",
                hint="each would use the whole capacity: share one pool, or a store",
            )
        self.store.flush()

    def has_rival(self) -> bool:
        """Whether another open memory pool of this process counts the same customer's accounts."""
        if self.customer is None or self.store.shared:
            return False
        others = [core for core in list(_cores) if core is not self and not core.closed]
        return any(core.customer == self.customer and not core.store.shared for core in others)

    def describe(self) -> str:
        """Return what a repr says of the pool."""
        state = ", closed" if self.closed else ""
        waiting = self.store.wait_queue.counted
        return f"{self.service.key}: {self.store.describe()}, {waiting} waiting{state}"

    def warn_unbound(self, lease_id: str, job_id: str) -> None:
        """Log once that the slot of an accepted job was freed while the job may still run.

        An empty ``job_id``: the answer's body was not read when it was reported, so nobody can tell.
        """
        kind = "slot_ended_before_job" if job_id else "answer_not_read"
        if kind in self.warned:
            return
        self.warned.add(kind)
        if job_id:
            hint = "bind the lease to the job, and release it when the job is over"
            self.store.note("warning", "slot_ended_before_job", lease=lease_id, job_id=job_id, hint=hint)
        else:
            hint = "read the answer's body before it is reported, or report (status, headers, body)"
            self.store.note("warning", "answer_not_read", lease=lease_id, hint=hint)

    def warn_long_wait(self, request: AcquireRequest, waited: float) -> None:
        """Log that a caller has been waiting for long."""
        self.store.note(
            "warning", "waiting_long", waited_s=waited, label=request.label, account=request.account
        )
        self.store.flush()

    # -- life ---------------------------------------------------------------------------------

    def close(self, *, wait: bool = True) -> None:
        """Refuse new callers and send those who wait away. Leases stay valid.

        ``wait``: for a moment, until what a shared store is still to be told is sent.
        """
        self.timekeeper.close()
        if self.closed:
            return
        self.refresher.close()
        self.store.close(wait=wait)
        close = getattr(self.options.source, "close", None)
        if close is not None and self.options.owns_source:
            close()

    def after_fork(self) -> None:
        """Begin anew in a child: its leases, its callers and its threads are the parent's."""
        self.timekeeper.after_fork()
        self.store.after_fork(Process())
        self._open_fast_path()
        self.refresher.after_fork()


def _after_fork_in_child() -> None:
    for core in list(_cores):
        core.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _one_of(lease_id: object, job_id: object) -> str:
    if (lease_id is None) is (job_id is None):
        raise TypeError("give either lease_id or job_id")
    return "lease_id" if job_id is None else "job_id"
