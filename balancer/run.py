"""The rule of ``run``: which answer is final, which may be tried on another account. Written once.

The job costs money and cannot be repeated safely, so it is sent again only on proof that it was
not accepted. It is a flow (see :mod:`balancer.waiting.drivers`); its driver makes the call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from balancer.config import check_int
from balancer.engine.pool_core import PoolCore
from balancer.errors import (
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    JobRefused,
    NoAccounts,
    SubscriptionRequired,
    Unauthorized,
    sanitized,
)
from balancer.lease import BaseLease, verdict_on
from balancer.request import AcquireRequest
from balancer.useapi.following import outcome
from balancer.useapi.http_response import read, suppressing
from balancer.useapi.json_access import get_path
from balancer.useapi.parsing import job_ids
from balancer.useapi.transport_errors import linked
from balancer.useapi.verdicts import Verdict, VerdictDetails
from balancer.waiting.drivers import Call, Flow, result_of

Bind = str | Literal[True] | Callable[[Any], str | int]
_SHUN = (Verdict.EXHAUSTED, Verdict.BROKEN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a ``run``."""

    account: str
    verdict: Verdict
    status: int | None
    """HTTP status of the answer; None where there was none."""
    reason: str


Acquire = Callable[[AcquireRequest], Flow[BaseLease]]
# A run is of one piece with the lease: what it does to it has no other name than the lease's own.
# ruff: noqa: SLF001


def running(
    core: PoolCore, request: AcquireRequest, attempts: int, bind: Bind | None, acquire: Acquire
) -> Flow[Any]:
    """Have the call made until an answer can be returned or an error raised."""
    _check(attempts, bind)
    deadline = None if request.timeout is None else core.now() + request.timeout
    tries: list[Attempt] = []
    while len(tries) < attempts:
        lease = yield from _acquired(core, request, deadline, tries, acquire)
        try:
            answer, details = yield from _called(core, lease)
            if details.verdict is Verdict.ACCEPTED:
                yield from _settle(core, lease, answer, bind)
        except BaseException:
            # Cut off before the job was bound: it may run, unless an answer has said that it does not.
            if not lease._record.declined:
                lease._keep_ambiguous()
            raise
        if details.verdict is Verdict.ACCEPTED:
            if isinstance(answer, BaseException):
                raise answer
            return answer
        yield from result_of(lease._leave(None))
        if not details.verdict.elsewhere:
            raise _error(details, lease, answer) from _cause(answer)
        tries.append(Attempt(lease.account.id, details.verdict, details.status, details.reason))
        if details.verdict in _SHUN:
            request = request._replace(exclude=request.exclude | {lease.account.id})
    raise AttemptsFailed(_told(core, tries), tries=tuple(tries))


def _check(attempts: int, bind: Bind | None) -> None:
    if check_int("attempts", attempts, 1, None) is None:
        raise TypeError("attempts must be a whole number, not NoneType")
    if not (bind is None or bind is True or isinstance(bind, str) or callable(bind)):
        raise TypeError("bind must be a key of the JSON answer, True, or a callable that takes the answer")


def _acquired(
    core: PoolCore, request: AcquireRequest, deadline: float | None, tries: list[Attempt], acquire: Acquire
) -> Flow[BaseLease]:
    left = None if deadline is None else max(0.0, deadline - core.now())
    try:
        return (yield from acquire(request._replace(timeout=left, asked=request.timeout)))
    except NoAccounts as error:
        if not tries:
            raise
        raise AttemptsFailed(f"{_told(core, tries)}; {error}", tries=tuple(tries)) from error


def _called(core: PoolCore, lease: BaseLease) -> Flow[tuple[Any, VerdictDetails]]:
    """Have the call made, and judge what it returned or raised."""
    try:
        answer = yield Call(lease)
    except Exception as error:
        if verdict_on(error, core) is None:
            yield from result_of(lease._leave(None))
            raise
        answer = error  # judged below: what fails there must not have it as its context, request and all
    # A bare number is no response: that of a job may be 429, and the exit code of a program 137.
    return answer, (yield from lease._report(None if isinstance(answer, int) else answer))


def _settle(core: PoolCore, lease: BaseLease, answer: Any, bind: Bind | None) -> Flow[None]:
    """The job was accepted: tie the slot to it, or end the slot with the call."""
    if bind is None:
        yield from result_of(lease._leave(None))
        return
    try:
        job = bind(answer) if callable(bind) else _named(core, answer, bind)
        yield from result_of(lease._leave(None) if job is OVER else lease._bind(job, None))
    except Exception as error:
        lease._keep_ambiguous()
        core.store.note(
            "warning", "job_not_bound", lease=lease.id, account=lease.account.id, error=type(error).__name__
        )
        core.store.flush()
        if callable(bind):
            raise


OVER = object()
"""In place of a job's id: the answer says that it is over already."""


def _named(core: PoolCore, answer: Any, key: str | Literal[True]) -> Any:
    """Return the ids of the jobs that an accepted answer names, by a key or by the service's row."""
    body = _body(answer)
    if key is not True:
        return answer.get(key) if isinstance(answer, Mapping) else get_path(body, key)
    if outcome(body, core.service) != "running":
        return OVER
    return job_ids(body, core.service)


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
    carried = (suppressing(partial(getattr, one, "response", None), None) for one in itself)
    return next((response for response in carried if response is not None), None)


def _error(details: VerdictDetails, lease: BaseLease, answer: Any) -> BalancerError:
    account, said = lease.account.id, details.reason
    if details.verdict is Verdict.TOKEN:
        if details.token_error == "subscription":  # noqa: S105  (the kind of error)
            return SubscriptionRequired(
                f"the subscription behind the token has ended ({said}): renew it at useapi.net"
            )
        return Unauthorized(f"the server did not accept the token ({said}): check token=, or USEAPI_TOKEN")
    facts = {"response": detached(answer), "account": account}
    if details.verdict is Verdict.AMBIGUOUS:
        return AmbiguousOutcome(
            f"the job may run on {account} ({said}): it was not sent again, and its slot is kept for it",
            lease_id=lease.id,
            **facts,
        )
    return JobRefused(f"the job was refused on {account} ({said}); it was not sent elsewhere", **facts)


def _cause(answer: Any) -> BaseException | None:
    return sanitized(answer) if isinstance(answer, BaseException) else None


def _told(core: PoolCore, tries: list[Attempt]) -> str:
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
