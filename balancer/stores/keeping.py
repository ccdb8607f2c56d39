"""What becomes of leases whose rows are in a shared store: ended, bound, renewed, judged.

While the store is away nothing is refused that cannot be made up for later: what its user said is
noted here at once, and the courier tells the store when it is back.
"""

from __future__ import annotations

from random import getrandbits
from typing import Any

from balancer.errors import LeaseLost, StoreUnavailable
from balancer.rules.operations import Bind, Cool, EndedLease, Release, Renew, Report, Reset
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, LeaseRecord
from balancer.stores.asking import PATIENCE, Asking
from balancer.useapi.verdicts import Verdict, VerdictDetails
from balancer.waiting.drivers import Flow

_FIRST = 0x10000
"""Before the first number of a key: those of one length are in order as texts, and a file adds at its end."""


class Keeping(Asking):
    """The leases of one process in a shared store."""

    def new_key(self) -> str:
        """Return a key for a lease, never given twice by any process.

        Its last four digits are drawn: ending a key that is not there yet bars it, and a slip of the finger
        must not hit the next one.
        """
        return f"{self.process.name}-{_FIRST + self.serial():x}{getrandbits(16):04x}"

    # -- the end ------------------------------------------------------------------------------

    def release(self, key: Any) -> Flow[bool]:
        """End the lease ``key``. True: this ended it, or will as soon as the store is back."""
        return self._end(Release(key))

    def release_job(self, job_id: str) -> Flow[bool]:
        """End the lease bound to a job; remember the job if there is none yet."""
        return self._end(Release(job_id=job_id))

    def _end(self, end: Release) -> Flow[bool]:
        try:
            if end.key is not None:
                with self.lock:  # first: what is being ended is neither kept alive nor registered again
                    self._forget(end.key)
            gone = yield from self.ask(end)
        except StoreUnavailable:
            return self._end_later(end)
        except BaseException:
            self._end_later(end)
            raise
        return self.ended(end, gone)

    def ended(self, end: Release, gone: EndedLease | None) -> bool:
        """Take in the answer to an End. True: it ended a lease."""
        if gone is None:
            return False
        with self.lock:
            if gone.key != end.key:
                self._forget(gone.key)
            self._released += 1
            self.barred = False
        self.courier.retire()
        return True

    def _end_later(self, end: Release) -> bool:
        with self.lock:
            new = self.courier.put_once(end)
            self._released += new
        self.courier.go()
        return new

    # -- jobs ---------------------------------------------------------------------------------

    def bind(self, key: Any, job_id: str, ttl: float) -> Flow[bool]:
        """Tie a lease to its job for ``ttl`` seconds; the store is told later if it stays away."""
        bind, held = Bind(key, job_id, ttl), self.mine.get(key)
        try:
            said = yield from self.ask_for_sure(bind, held, PATIENCE)
        except StoreUnavailable:
            self.note("warning", "bind_delayed", lease=key, job_id=job_id)
            self._bind_later(bind, held)
            return True
        except BaseException:
            self._bind_later(bind, held)
            raise
        if said == "taken":
            raise ValueError(f"job_id {job_id!r} is bound to another lease already")
        self._bound(bind, BOUND if said == "bound" else ENDED)
        if said == "lost":
            raise LeaseLost("the lease has ended", lease_id=key)
        self._released += said == "over"
        return bool(said == "bound")

    def _bind_later(self, bind: Bind, held: LeaseRecord | None) -> None:
        self.later(bind, held)
        self._bound(bind, BOUND)

    def _bound(self, bind: Bind, state: str) -> None:
        with self.lock:
            record = self.mine.pop(bind.key, None) or self.detached.pop(bind.key, None)
            if record is not None:
                record.job_id, record.state = bind.job_id, state
                if state is BOUND:
                    self.detached[bind.key] = record
        self.flush()
        self.courier.retire()

    def renew(self, key: Any, job_id: str | None, ttl: float | None) -> Flow[bool]:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now. False: there is none."""
        return bool((yield from self.ask_for_sure(Renew(key, job_id, ttl), self.mine.get(key), PATIENCE)))

    # -- verdicts -----------------------------------------------------------------------------

    def report(self, record: LeaseRecord, ruling: VerdictDetails) -> Flow[None]:
        """Put what an answer said about the account and the lease into effect."""
        judge = Report(
            key=self.lease_id(record.key),
            accepted=ruling.verdict is Verdict.ACCEPTED,
            doubt=ruling.verdict is Verdict.AMBIGUOUS,
            adverse=ruling.verdict.adverse,
            seconds=None if ruling.pool_wide else ruling.seconds,
            scope=record.scope if ruling.scoped else None,
            reason=ruling.reason,
            worth_waiting=ruling.worth_waiting,
        )
        record.adverse = record.adverse or judge.adverse
        held = self.mine.get(judge.key)
        self.look_afresh()
        if judge.doubt:
            self._put_in_doubt(judge.key)
        try:
            live = yield from self.ask_for_sure(judge, held, PATIENCE)
            if not live and judge.seconds is not None:
                yield from self.ask(_of_the_account(record, judge), PATIENCE)
        except StoreUnavailable:
            self.later(judge, held)
        except BaseException:
            self.later(judge, held)
            raise
        if judge.seconds is not None:
            self._tell_cooling(record.account_state.id, judge)

    def mark_ambiguous(self, key: Any) -> None:
        """Keep the slot of a lease whose job may run; the store is told by the courier."""
        held = self.mine.get(key)
        self._put_in_doubt(key)
        self.later(Report(key=key, doubt=True), held)

    def _put_in_doubt(self, key: Any) -> None:
        # Before the store is asked: whatever becomes of that, leaving the block must not free the slot.
        with self.lock:
            record = self.mine.pop(key, None)
            if record is not None:
                record.state, record.state_since = AMBIGUOUS, self.now()
                self.detached[key] = record

    def _tell_cooling(self, account: str, cause: Report | Cool) -> None:
        self.note(
            "info",
            "account_cooling",
            account=account,
            scope=cause.scope,
            seconds=cause.seconds,
            reason=cause.reason,
        )
        if not cause.worth_waiting:
            with self.lock:
                self.wake_all()  # for some there may be nothing left to wait for
        self.flush()

    # -- by hand ------------------------------------------------------------------------------

    def cool(self, account_id: str, seconds: float, reason: str) -> Flow[bool]:
        """Put an account in a cooldown by hand. False: there is no such account."""
        self.look_afresh()
        cool = Cool(account=account_id, seconds=seconds, reason=reason)
        known = bool((yield from self.ask(cool, PATIENCE)))
        if known:
            self._tell_cooling(account_id, cool)
        return known

    def reset(self, account_id: str) -> Flow[bool]:
        """Clear what verdicts made of an account. False: there is no such account."""
        self.look_afresh()
        return bool((yield from self.ask(Reset(account_id), PATIENCE)))


def _of_the_account(record: LeaseRecord, judge: Report) -> Cool:
    """Return what is left to do for a lease that has ended: its account is known all the same."""
    return Cool(
        account=record.account_state.id,
        seconds=judge.seconds or 0.0,
        scope=judge.scope,
        reason=judge.reason,
        worth_waiting=judge.worth_waiting,
    )
