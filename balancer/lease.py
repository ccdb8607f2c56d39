"""The handle on a lease that users hold.

It is not the row that the ledger holds, and it exists before it: an interruption between grant and
return leaves a handle behind that nobody has, and its finalizer gives the slot back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from balancer.config import job_text, seconds
from balancer.errors import LeaseLost
from balancer.models import Account
from balancer.rules.records import ENDED, HELD, LeaseRecord
from balancer.useapi.verdicts import Verdict, VerdictDetails, judge
from balancer.waiting.drivers import Flow, drive

if TYPE_CHECKING:
    from balancer.engine.pool_core import PoolCore
    from balancer.stores.origin import Origin


class BaseLease:
    """What the sync and the async lease have in common; what may need I/O is a flow.

    Mutable: ``_job_id`` once bound, ``_accepted_job`` once a job was accepted, empty if it has no known name.
    """

    __slots__ = ("__dict__", "_origin", "_record")

    _origin: Origin
    _record: LeaseRecord
    _job_id: str | None = None
    _max_jobs: int | None = None
    _accepted_job: str | None = None

    def tie(self, origin: Origin, record: LeaseRecord, max_jobs: int | None) -> None:
        """Give the handle its row, before anything is granted."""
        self._origin, self._record = origin, record
        if max_jobs is not None:
            self._max_jobs = max_jobs

    def __repr__(self) -> str:
        record = getattr(self, "_record", None)  # a traceback with locals may show it half made
        if getattr(record, "account_state", None) is None:
            return f"<{type(self).__name__}, not granted>"
        return f"<{type(self).__name__} {self.id} on {self.account.id}, {self._record.state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease belongs to its process: pass its id on, or its job's")

    def __del__(self) -> None:
        # A collection may run in the middle of anything, so this only leaves a note.
        try:
            held = self._record.state is HELD
        except AttributeError:  # it was not granted, or not even tied to anything
            return
        if held:
            self._origin.core.store.drop(self._record)

    @property
    def _core(self) -> PoolCore:
        return self._origin.core

    @property
    def id(self) -> str:
        """Name of the lease, unique over all processes."""
        return self._origin.text(self._record.key)

    @property
    def account(self) -> Account:
        """The account to run the job on, as it is configured now."""
        return self._record.account_state.account

    @property
    def job_id(self) -> str | None:
        """The remote job that the slot follows, once bound."""
        return self._job_id if self._job_id is not None else self._record.job_id

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
        if self._max_jobs is not None and service.max_jobs is not None:
            params[service.max_jobs] = self._max_jobs
        return params

    @property
    def _foreign(self) -> bool:
        """Whether the lease belongs to the process that this one was forked from."""
        return self._origin.prefix != self._core.origin.prefix

    def binding(self, job_id: object, ttl: float | None) -> Flow[None]:
        """Tie the slot to the remote job."""
        text = job_text(job_id)
        life = self._core.options.job_ttl if ttl is None else seconds("ttl", ttl, above=True)
        if self._job_id is not None:
            if self._job_id == text:
                return
            raise ValueError(f"job_id {text!r}: the lease is bound to {self._job_id!r} already")
        if self._foreign:
            raise LeaseLost(f"lease {self.id} belongs to another process", lease_id=self.id)
        yield from self._core.store.bind(self._record.key, text, life)
        self._job_id = text

    def judging(self, answer: object) -> Flow[VerdictDetails]:
        """Put what an answer says into effect."""
        core = self._core
        ruling = judge(answer, core.service, draw=core.draw, wall=core.clock.time())
        if self._foreign:
            return ruling
        if ruling.verdict is Verdict.ACCEPTED and not ruling.final:
            self._note_accepted(ruling)
        yield from core.store.judge(self._record, ruling)
        if ruling.refresh:
            core.refresher.expire()
        return ruling

    def _note_accepted(self, ruling: VerdictDetails) -> None:
        """Remember the job that was accepted, so that the end of an unbound lease can be warned about."""
        if ruling.job_id is None and not ruling.unread:
            return
        self._accepted_job, self._origin = ruling.job_id or "", self._core.origin.detour()
        if self._record.state is ENDED and self.job_id is None:
            self._core.warn_unbound(self.id, self._accepted_job)

    def keep_ambiguous(self) -> None:
        """Keep the slot although the call was cut off: the job may run."""
        self._core.store.doubt(self._record.key)

    def renewing(self, ttl: float | None) -> Flow[None]:
        """Move the lease's end."""
        life = None if ttl is None else seconds("ttl", ttl, above=True)
        alive = self._record.state is not ENDED and not self._foreign
        if not (alive and (yield from self._core.store.renew(self._record.key, None, life))):
            raise LeaseLost(f"lease {self.id} has ended", lease_id=self.id)

    def releasing(self) -> Flow[bool]:
        """End the lease, whatever its state."""
        if self._foreign:
            return False
        if self._accepted_job is not None and self._record.state is HELD:
            self._core.warn_unbound(self.id, self._accepted_job)
        return (yield from self._core.store.release(self._record.key))

    def leaving(self, error: BaseException | None) -> Flow[None]:
        """End the block: the slot is freed unless a job has it, or may have it."""
        if self._record.state is not HELD or self._foreign:
            return
        if error is not None and self._doubtful(error):
            yield from self.judging(error)
        else:
            yield from self.releasing()

    def entering(self) -> None:
        """Begin the block. Raises LeaseLost."""
        if self._record.state is ENDED or self._foreign:
            raise LeaseLost(f"lease {self.id} has ended", lease_id=self.id)

    def _doubtful(self, error: BaseException) -> bool:
        return verdict_on(error, self._core) is Verdict.AMBIGUOUS


def verdict_on(error: BaseException, core: PoolCore) -> Verdict | None:
    """Return the verdict on an exception that a block or a call was left by; None: it says nothing."""
    ruling = judge(error, core.service, draw=lambda: 0.0, wall=core.clock.time())
    says_something = ruling.status is not None or ruling.verdict is not Verdict.REFUSED
    return ruling.verdict if says_something else None


class Lease(BaseLease):
    """The right to run one job on one account; a context manager.

    Leaving the block frees the slot, unless the lease was bound to a job or an answer left it
    unknown whether the job runs.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        if self._record.state is not HELD:
            self.entering()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None or not self._origin.give_back_blocking(self._record):
            drive(self.leaving(error))

    def bind(self, job_id: str | int, ttl: float | None = None) -> None:
        """Have the slot follow the remote job, and no longer the block or this process.

        Args:
            job_id: The job's id. The same again changes nothing.
            ttl: Seconds after which the slot is freed if nobody releases it; default ``job_ttl``.

        Raises:
            LeaseLost: the lease has ended. ValueError: it is bound to another job.
        """
        drive(self.binding(job_id, ttl))

    def report(self, answer: object) -> Verdict:
        """Put what an answer, or an exception, says about the account into effect; the lease goes on."""
        return drive(self.judging(answer)).verdict

    def renew(self, ttl: float | None = None) -> None:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now.

        Raises:
            LeaseLost: the lease has ended.
        """
        drive(self.renewing(ttl))

    def release(self) -> bool:
        """End the lease, whatever its state, from any thread. True once, then False."""
        return self._origin.give_back_blocking(self._record) or drive(self.releasing())
