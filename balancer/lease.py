"""The lease that users hold.

It is not the record that the ledger holds, and it exists before that is granted: an interruption between
grant and return leaves a lease behind that nobody has, and its finalizer gives the slot back.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

from balancer.config import job_texts, seconds
from balancer.engine.pool_core import PoolCore
from balancer.errors import LeaseLost
from balancer.models import Account
from balancer.rules.records import ENDED, HELD, LeaseRecord
from balancer.useapi.verdicts import Verdict, VerdictDetails, judge
from balancer.waiting.drivers import Flow, Step, drive, result_of


class BaseLease:
    """What the sync and the async lease have in common; what may need I/O is a step.

    It changes nothing itself: what becomes of the lease is written down in its record.
    """

    __slots__ = ("__weakref__", "_core", "_record")

    _core: PoolCore
    _record: LeaseRecord

    @classmethod
    def _of(cls, core: PoolCore, record: LeaseRecord) -> Self:
        """Return the lease of a record that is granted already."""
        lease = cls()
        lease._core, lease._record = core, record
        return lease

    def __repr__(self) -> str:
        record = getattr(self, "_record", None)  # a traceback with locals may show it half made
        if record is None or getattr(record, "account_state", None) is None:
            return f"<{type(self).__name__}, not granted>"
        return f"<{type(self).__name__} {self.id} on {self.account.id}, {self._record.state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease belongs to its process: pass its id on, or its job's")

    def __del__(self) -> None:
        # A collection may run in the middle of anything, so this only leaves a note.
        try:
            record = self._record
            lost = record.state is HELD or record.waiter is not None
        except AttributeError:  # it was not granted, or not even tied to anything
            return
        if lost:
            try:
                if tracemalloc.is_tracing():
                    record.acquired_by = _asked_for_by(self)
            finally:  # a signal or a stack that is used up may come there, and must not cost the slot
                self._core.store.abandon(record)

    @property
    def id(self) -> str:
        """Name of the lease, unique over all processes."""
        return self._record.lease_id or self._core.store.lease_id(self._record.key)

    @property
    def account(self) -> Account:
        """The account to run the job on, as it is configured now."""
        return self._record.account_state.account

    @property
    def job_id(self) -> str | None:
        """The remote job that the slot follows, once bound; of several the first."""
        return self._record.job_id

    @property
    def job_ids(self) -> tuple[str, ...]:
        """All remote jobs that the slot follows, once bound: it is free when the last has ended."""
        return self._record.job_ids

    @property
    def label(self) -> str | None:
        """The caller's own word for what the lease is for."""
        return self._record.label

    @property
    def acquired_at(self) -> datetime:
        """When the lease was granted (UTC)."""
        return self._core.clock.instant(self._record.held_since) or datetime.now(UTC)

    @property
    def params(self) -> Mapping[str, Any]:
        """What to merge into the request, under the service's own names.

        The account; ``replyRef`` with the lease's id where the service lists it back; the capacity
        if ``max_jobs`` replaced it and the service takes it.
        """
        service = self._core.service
        params: dict[str, Any] = {service.selector: self.account.id}
        if service.reply_ref:
            params["replyRef"] = self.id
        if self._record.max_jobs is not None and service.max_jobs is not None:
            params[service.max_jobs] = self._record.max_jobs
        return params

    def _bind(self, job_id: object, ttl: float | None) -> Flow[None]:
        """Tie the slot to the remote job."""
        texts, record = job_texts(job_id), self._record
        life = self._core.options.job_ttl if ttl is None else seconds("ttl", ttl, above=True)
        if record.job_id is not None:
            others = [text for text in texts if text not in record.job_ids]
            if not others:
                return
            raise ValueError(f"job_id {others[0]!r}: the lease is bound to {record.job_id!r} already")
        if record.inherited:
            raise LeaseLost(f"lease {self.id} belongs to another process", lease_id=self.id)
        yield from result_of(self._core.store.bind(record.key, texts, life))

    def _report(self, answer: object) -> Flow[VerdictDetails]:
        """Put what an answer says into effect."""
        core, record = self._core, self._record
        details = core.judge(answer)
        if record.inherited:
            return details
        if details.verdict is Verdict.ACCEPTED and not details.final:
            self._note_accepted(details)
        yield from result_of(core.store.report(record, details))
        if details.refresh:
            core.refresher.expire()
        return details

    def _note_accepted(self, details: VerdictDetails) -> None:
        """Remember the job that was accepted, so that the end of an unbound lease can be warned about."""
        if details.job_id is None and not details.unread:
            return
        record = self._record
        record.accepted_job = details.job_id or ""
        if record.state is ENDED and record.job_id is None:
            self._core.warn_unbound(self.id, record.accepted_job)

    def _keep_ambiguous(self) -> None:
        """Keep the slot although the call was cut off: the job may run."""
        self._core.store.mark_ambiguous(self._record.key)

    def _renew(self, ttl: float | None) -> Flow[None]:
        """Move the lease's end."""
        life = None if ttl is None else seconds("ttl", ttl, above=True)
        alive = self._record.state is not ENDED
        if not (alive and (yield from result_of(self._core.store.renew(self._record.key, None, life)))):
            raise LeaseLost(f"lease {self.id} has ended", lease_id=self.id)

    def _release(self) -> Step[bool]:
        """End the lease, whatever its state."""
        core, record = self._core, self._record
        if record.inherited:
            return False
        if record.accepted_job is not None and record.state is HELD:
            core.warn_unbound(self.id, record.accepted_job)
        return core.store.release(record.key)

    def _leave(self, error: BaseException | None) -> Step[Any]:
        """End the block: the slot is freed unless a job has it, or may have it."""
        record = self._record
        if record.state is not HELD or record.inherited:
            return None
        if error is None or verdict_on(error, self._core) is not Verdict.AMBIGUOUS:
            return self._release()
        core = self._core
        return core.store.report_on_leaving(record, core.judge(error))

    def _enter(self) -> None:
        """Begin the block. Raises LeaseLost."""
        if self._record.state is ENDED or self._record.inherited:
            raise LeaseLost(f"lease {self.id} has ended", lease_id=self.id)


_OURS = f"{Path(__file__).parent}{os.sep}"


def _asked_for_by(lease: BaseLease) -> str | None:
    """Return the line of the program that acquired a lease, if tracemalloc has kept as many frames."""
    frames = tracemalloc.get_object_traceback(lease) or ()
    theirs = (frame for frame in reversed(frames) if not frame.filename.startswith(_OURS))
    return next((f"{frame.filename}:{frame.lineno}" for frame in theirs), None)


def verdict_on(error: BaseException, core: PoolCore) -> Verdict | None:
    """Return the verdict on an exception that a block or a call was left by; None: it says nothing."""
    details = judge(error, core.service, draw=lambda: 0.0, wall=core.clock.time())
    says_something = details.status is not None or details.verdict is not Verdict.REFUSED
    return details.verdict if says_something else None


class Lease(BaseLease):
    """The right to run one job on one account; a context manager.

    Leaving the block frees the slot, unless the lease was bound to a job or an answer left it
    unknown whether the job runs.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        if self._record.state is not HELD:
            self._enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None or not self._core.give_back_blocking(self._record):
            drive(self._leave(error))

    def bind(self, job_id: str | int | Sequence[str | int], ttl: float | None = None) -> None:
        """Have the slot follow the remote job, and no longer the block or this process.

        Args:
            job_id: The job's id, or those of several, for a call that started them all: the slot is free when
                the last has ended. The same again changes nothing.
            ttl: Seconds after which the slot is freed if nobody releases it; default ``job_ttl``.

        Raises:
            LeaseLost: the lease has ended. ValueError: it is bound to another job.
        """
        drive(self._bind(job_id, ttl))

    def report(self, answer: object) -> Verdict:
        """Put what an answer, or an exception, says about the account into effect; the lease goes on."""
        return drive(self._report(answer)).verdict

    def renew(self, ttl: float | None = None) -> None:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now.

        Raises:
            LeaseLost: the lease has ended.
        """
        drive(self._renew(ttl))

    def release(self) -> bool:
        """End the lease, whatever its state, from any thread. True once, then False."""
        return self._core.give_back_blocking(self._record) or drive(self._release())
