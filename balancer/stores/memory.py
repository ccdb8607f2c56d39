"""The store of one process: the ledger itself. Each operation is one step of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from balancer.errors import BalancerError, LeaseLost, SourceUnavailable
from balancer.models import AccountTable, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.reconciliation import Plan, Snapshot, reconcile_jobs
from balancer.rules.records import AMBIGUOUS, BOUND, HELD, AccountState, Key, LeaseRecord
from balancer.stores.stepping import Stepping
from balancer.useapi.verdicts import Verdict, VerdictDetails
from balancer.waiting.drivers import instant
from balancer.waiting.queue import Waiter

T = TypeVar("T")


class MemoryStore(Stepping):
    """Leases of one process, gone with it."""

    # -- waiting ------------------------------------------------------------------------------

    @instant
    def attempt(self, waiter: Waiter, _: float) -> bool:
        """Serve the line of ``waiter`` as far as there is room. True: it has got a lease."""

        def act(now: float) -> bool:
            if waiter.line is not None:
                self._serve([waiter.line], now)
            return waiter.served

        return self._step(act)

    @instant
    def hopeless(self, waiter: Waiter) -> bool:
        """Whether waiting cannot help ``waiter``, as far as is known."""
        with self.lock:  # no step of its own: nothing that the straight road changes is looked at
            return not waiter.served and self.ledger.hopeless(waiter.slot_request)

    def withdraw(self, waiter: Waiter) -> None:
        """Take ``waiter`` out of the queue; a lease that it was granted goes to the next."""

        def act(_: float) -> None:
            self.leave(waiter)
            if waiter.record.state is HELD:
                self._release(waiter.record)

        self._step(act)

    # -- leases -------------------------------------------------------------------------------

    @instant
    def release(self, key: Key) -> bool:
        """End the lease ``key``, whatever its state. True once."""
        return self._step(lambda _: self._release(self.ledger.records.get(key)))

    @instant
    def release_job(self, job_id: str) -> bool:
        """End the lease bound to a job; remember the job if there is none yet."""
        return self._step(lambda _: self._release(self.ledger.forget_job(job_id)))

    @instant
    def bind(self, key: Key, job_id: str, ttl: float) -> bool:
        """Tie a lease to its job for ``ttl`` seconds. False: the job was over already, the slot is free.

        Raises:
            LeaseLost: the lease has ended. ValueError: the job is another lease's.
        """

        def act(now: float) -> bool:
            record = self._live(key)
            bound = self.ledger.bind(record, job_id, now + ttl, now)
            self._offer([record.account_state], now)
            return bound

        return self._step(act)

    @instant
    def renew(self, key: Key | None, job_id: str | None, ttl: float | None) -> bool:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""

        def act(now: float) -> bool:
            record = self.ledger.records.get(key) if job_id is None else self.ledger.jobs.get(job_id)
            if record is not None and record.end is not None:
                self.ledger.set_end(record, now + (self.ttls[record.state] if ttl is None else ttl))
            return record is not None

        return self._step(act)

    @instant
    def judge(self, record: LeaseRecord, ruling: VerdictDetails) -> None:
        """Put what an answer said about the account and the lease into effect."""

        def act(now: float) -> None:
            account_state = self.ledger.account_states.get(record.account_state.id)
            if self.ledger.records.get(record.key) is record:
                self._judge(record, ruling, now)
            elif account_state is not None:  # the lease has ended, and its account is known all the same
                self._cool(account_state, ruling, record.scope if ruling.scoped else None, now)

        self._step(act)

    def doubt(self, key: Key) -> None:
        """Keep the slot of a lease whose job may run, without a verdict on its account."""

        def act(now: float) -> None:
            record = self.ledger.records.get(key)
            if record is not None:
                self.ledger.doubt(record, now + self.ttls[AMBIGUOUS], now)

        self._step(act)

    def _judge(self, record: LeaseRecord, ruling: VerdictDetails, now: float) -> None:
        if ruling.verdict is Verdict.ACCEPTED:
            self.ledger.accept(record)
            self._offer([record.account_state], now)
        if ruling.verdict is Verdict.AMBIGUOUS:
            self.ledger.doubt(record, now + self.ttls[AMBIGUOUS], now)
        record.adverse = record.adverse or ruling.verdict.adverse
        self._cool(record.account_state, ruling, record.scope if ruling.scoped else None, now)

    def _live(self, key: Key) -> LeaseRecord:
        record = self.ledger.records.get(key)
        if record is None:
            raise LeaseLost("the lease has ended", lease_id=self.text(key))
        return record

    def _release(self, record: LeaseRecord | None) -> bool:
        if record is None or self.ledger.records.get(record.key) is not record:
            return False
        now = self.now()
        heir = self.wait_queue.sole_first()
        if heir is not None and self.ledger.exchange(record, heir.record, now):
            self.hand_over(heir)
        else:
            self._offer([self.ledger.finish(record, now)], now)
        return True

    # -- accounts -----------------------------------------------------------------------------

    @instant
    def cool(self, account_id: str, seconds: float, reason: str) -> bool:
        """Put an account in a cooldown by hand. False: there is no such account."""

        def act(now: float) -> bool:
            account_state = self.ledger.account_states.get(account_id)
            if account_state is not None:
                self._cool(
                    account_state,
                    VerdictDetails(Verdict.BUSY, seconds=seconds, reason=reason, worth_waiting=True),
                    None,
                    now,
                )
            return account_state is not None

        return self._step(act)

    @instant
    def reset(self, account_id: str) -> bool:
        """Clear what verdicts made of an account. False: there is no such account."""

        def act(now: float) -> bool:
            account_state = self.ledger.account_states.get(account_id)
            if account_state is not None:
                self.ledger.reset(account_state)
                self._offer([account_state], now)
            return account_state is not None

        return self._step(act)

    def configure(self, changes: Changes, table: AccountTable) -> None:
        """Bring the accounts in line with a new table.

        Callers with constraints step aside: what they may use was worked out from the old one, and
        only they themselves can work it out again.
        """

        def act(now: float) -> None:
            changed = self.ledger.configure(changes)
            self.table = table  # only now: should this be cut short, the next table makes it good
            for waiter in [w for w in self.wait_queue.waiters if w.slot_request.accounts is not None]:
                self.wait_queue.step_aside(waiter)
            self._offer(changed, now)
            self.wake_all()

        self._step(act)

    # -- what is asked of the source ------------------------------------------------------------

    def fetch(
        self, ask: Callable[[], AccountTable | BalancerError], _: float
    ) -> tuple[AccountTable | BalancerError, float]:
        """Return the configuration, or why it could not be had, and its age in seconds."""
        return ask(), 0.0

    def survey(
        self,
        ask: Callable[[], JobList | BalancerError],
        wanted: Callable[[], bool],
        interval: float,
        _: float,
    ) -> Plan | BalancerError:
        """Have the server's list read and put it into effect, unless it is no longer ``wanted`` by then."""
        before = self._step(lambda now: Snapshot.of(self.ledger, now))
        listing = ask()
        if isinstance(listing, BalancerError):
            return listing

        def act(now: float) -> Plan | BalancerError:
            if not wanted():
                return SourceUnavailable("the list of jobs came too late")
            plan = reconcile_jobs(listing, before, self.ledger, interval, self.text)
            self._apply(plan, now)
            return plan

        return self._step(act)

    def _apply(self, plan: Plan, now: float) -> None:
        changed = self.ledger.set_external(plan.external)
        for record, job_id in plan.bind:
            self.ledger.bind(record, job_id, now + self.ttls[BOUND], now)
        for record in plan.prolong:
            self.ledger.prolong(record, now + self.ttls[BOUND])
        for record in (*plan.reclaim, *plan.resolve):
            changed.append(self.ledger.end(record))
        self.totals.reclaimed += len(plan.reclaim) + len(plan.resolve)
        for record in plan.reclaim:
            self.note("warning", "lease_reclaimed", **{**self.facts(record), "state": BOUND})
        self._offer(changed, now)

    def _cool(
        self, account_state: AccountState, ruling: VerdictDetails, scope: str | None, now: float
    ) -> None:
        if ruling.seconds is None or ruling.pool_wide:
            return
        self.ledger.cool(account_state, scope, now + ruling.seconds, ruling.reason, ruling.worth_waiting)
        self.note(
            "info",
            "account_cooling",
            account=account_state.id,
            scope=scope,
            seconds=ruling.seconds,
            reason=ruling.reason,
        )
        if not ruling.worth_waiting:
            self.wake_all()

    # -- reading ------------------------------------------------------------------------------

    @instant
    def inspect(self, look: Callable[[Ledger], T], *, patient: bool = True) -> T:  # noqa: ARG002
        """Return what ``look`` reads from the ledger, at one moment."""
        return self._step(lambda _: look(self.ledger))

    @property
    def oldest_detached_since(self) -> float:
        """Since when the oldest bound or ambiguous lease has been so; infinity: none is (under the lock)."""
        return self.ledger.detached_since.next
