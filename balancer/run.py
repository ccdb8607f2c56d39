"""The rule of ``run``: which answer is final, which may be tried on another account. Written once.

The job costs money and cannot be repeated safely, so it is sent again only on proof that it was
not accepted. It is a flow (see :mod:`balancer.effect`); its driver makes the call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from balancer.answer import read, safely
from balancer.core import Core
from balancer.effect import Call, Flow
from balancer.errors import (
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    JobRefused,
    NoAccounts,
    SubscriptionRequired,
    Unauthorized,
    foreign,
)
from balancer.lease import Handle, says
from balancer.options import whole
from balancer.parse import final, job_ids
from balancer.transport import linked
from balancer.verdict import Ruling, Verdict
from balancer.wire import dig
from balancer.wish import Wish

Bind = str | Literal[True] | Callable[[Any], str | int]
_SHUN = (Verdict.EXHAUSTED, Verdict.BROKEN)


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of a ``run``."""

    account: str
    verdict: Verdict
    status: int | None
    """HTTP status of the answer; None where there was none."""
    reason: str


Acquire = Callable[[Wish], Flow[Handle]]


def running(core: Core, wish: Wish, attempts: int, bind: Bind | None, acquire: Acquire) -> Flow[Any]:
    """Have the call made until an answer can be returned or an error raised."""
    whole("attempts", attempts, 1, None)
    if not (bind is None or bind is True or isinstance(bind, str) or callable(bind)):
        raise TypeError("bind must be a key of the JSON answer, True, or a callable that takes the answer")
    deadline = None if wish.timeout is None else core.now() + wish.timeout
    tries: list[Try] = []
    while len(tries) < attempts:
        lease = yield from _acquired(core, wish, deadline, tries, acquire)
        answer, ruling = yield from _called(core, lease)
        if ruling.verdict is Verdict.ACCEPTED:
            yield from _settle(core, lease, answer, bind)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        yield from lease.leaving(None)
        if not ruling.verdict.elsewhere:
            raise _error(ruling, lease, answer) from _cause(answer)
        tries.append(Try(lease.account.id, ruling.verdict, ruling.status, ruling.reason))
        if ruling.verdict in _SHUN:
            wish = wish._replace(exclude=wish.exclude | {lease.account.id})
    raise AttemptsFailed(_told(core, tries), tries=tuple(tries))


def _acquired(
    core: Core, wish: Wish, deadline: float | None, tries: list[Try], acquire: Acquire
) -> Flow[Handle]:
    left = None if deadline is None else max(0.0, deadline - core.now())
    try:
        return (yield from acquire(wish._replace(timeout=left, asked=wish.timeout)))
    except NoAccounts as error:
        if not tries:
            raise
        raise AttemptsFailed(f"{_told(core, tries)}; {error}", tries=tuple(tries)) from error


def _called(core: Core, lease: Handle) -> Flow[tuple[Any, Ruling]]:
    """Have the call made, and judge what it returned or raised."""
    try:
        answer = yield Call(lease)
    except Exception as error:
        if says(error, core) is None:
            yield from lease.leaving(None)
            raise
        return error, (yield from lease.judging(error))
    except BaseException:
        # Cut off in the middle of the call: the job may have been accepted.
        lease.keep_in_doubt()
        raise
    # A bare number is no response: that of a job may be 429, and the exit code of a program 137.
    return answer, (yield from lease.judging(None if isinstance(answer, int) else answer))


def _settle(core: Core, lease: Handle, answer: Any, bind: Bind | None) -> Flow[None]:
    """The job was accepted: tie the slot to it, or end the slot with the call."""
    if bind is None:
        yield from lease.leaving(None)
        return
    try:
        job = bind(answer) if callable(bind) else _named(core, lease, answer, bind)
        yield from lease.leaving(None) if job is OVER else lease.binding(job, None)
    except Exception as error:
        lease.keep_in_doubt()
        core.store.note(
            "warning", "job_not_bound", lease=lease.id, account=lease.account.id, error=type(error).__name__
        )
        core.store.flush()
        if callable(bind):
            raise


OVER = object()
"""In place of a job's id: the answer says that it is over already."""


def _named(core: Core, lease: Handle, answer: Any, key: str | Literal[True]) -> Any:
    """Return the id of the job that an accepted answer names, by a key or by the service's row."""
    body = _body(answer)
    if key is not True:
        return answer.get(key) if isinstance(answer, Mapping) else dig(body, key)
    if final(body, core.service):
        return OVER
    jobs = job_ids(body, core.service)
    if len(jobs) > 1:
        core.store.note(
            "warning",
            "first_job_bound",
            lease=lease.id,
            account=lease.account.id,
            job_id=jobs[0],
            jobs=len(jobs),
        )
    return jobs[0] if jobs else None


def _body(answer: Any) -> Any:
    if isinstance(answer, Mapping | list):
        return answer
    found = read(_answer_of(answer), whole=True)
    return None if found is None else found.body


def _answer_of(outcome: Any) -> Any:
    """Return the response that an exception carries, or one of its group; what is none as it is."""
    if not isinstance(outcome, BaseException):
        return outcome
    itself = (one for one, raised in linked(outcome) if raised)
    carried = (safely(partial(getattr, one, "response", None), None) for one in itself)
    return next((response for response in carried if response is not None), None)


def _error(ruling: Ruling, lease: Handle, answer: Any) -> BalancerError:
    account, said = lease.account.id, ruling.reason
    if ruling.verdict is Verdict.TOKEN:
        if ruling.token_error == "subscription":  # noqa: S105  (the kind of error)
            return SubscriptionRequired(f"the subscription behind the token has ended ({said})")
        return Unauthorized(f"the server did not accept the token ({said})")
    facts = {"response": detached(answer), "account": account}
    if ruling.verdict is Verdict.AMBIGUOUS:
        return AmbiguousOutcome(f"the job may run on {account} ({said})", lease_id=lease.id, **facts)
    return JobRefused(f"the job was refused on {account} ({said})", **facts)


def _cause(answer: Any) -> BaseException | None:
    return foreign(answer) if isinstance(answer, BaseException) else None


def _told(core: Core, tries: list[Try]) -> str:
    told = ", ".join(f"{each.account}: {each.verdict.name} ({each.reason})" for each in tries)
    return f"{core.service.key}: {len(tries)} attempts were turned away: {told}"


_TIES = (
    "request",
    "_request",
    "request_info",
    "_request_info",
    "connection",
    "_connection",
    "raw",
    "history",
)


def detached(answer: Any) -> Any:
    """Return a response without its request, which carries the token; an exception's response likewise."""
    answer = _answer_of(answer)
    if answer is None or isinstance(answer, tuple | int):
        return answer
    try:
        twin = copy.copy(answer)
        for name in _TIES:
            if getattr(type(twin), name, None) is None and hasattr(twin, name):
                setattr(twin, name, None)
    except Exception:  # noqa: BLE001  # a response that cannot be copied is told by what was read of it
        found = read(answer)
        return None if found is None else (found.status, dict(found.headers), found.text)
    return twin
