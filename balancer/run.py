"""The rule of ``run``: which answer is final, which may be tried on another account. Written once.

The job costs money and cannot be repeated safely, so it is sent again only on proof that it was
not accepted. It is a flow (see :mod:`balancer.effect`); its driver makes the call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from balancer.answer import read
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
from balancer.verdict import Ruling, Verdict
from balancer.wish import Wish

Bind = str | Callable[[Any], str | int]
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
    if bind is not None and not isinstance(bind, str) and not callable(bind):
        raise TypeError("bind must be a key of the JSON answer, or a callable that takes the answer")
    deadline = None if wish.timeout is None else core.now() + wish.timeout
    tries: list[Try] = []
    while len(tries) < attempts:
        lease = yield from _acquired(core, wish, deadline, tries, acquire)
        answer, ruling = yield from _called(core, lease)
        if ruling.verdict is Verdict.ACCEPTED:
            yield from _settle(core, lease, answer, bind)
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
    return answer, (yield from lease.judging(answer))


def _settle(core: Core, lease: Handle, answer: Any, bind: Bind | None) -> Flow[None]:
    """The job was accepted: tie the slot to it, or end the slot with the call."""
    if bind is None:
        yield from lease.leaving(None)
        return
    try:
        job = bind(answer) if callable(bind) else _named(answer, bind)
        yield from lease.binding(job, None)
    except Exception as error:
        lease.keep_in_doubt()
        core.store.note(
            "warning", "job_not_bound", lease=lease.id, account=lease.account.id, error=type(error).__name__
        )
        core.store.flush()
        if callable(bind):
            raise


def _named(answer: Any, key: str) -> Any:
    if isinstance(answer, Mapping):
        return answer.get(key)
    found = read(answer)
    return None if found is None else found.at(key)


def _error(ruling: Ruling, lease: Handle, answer: Any) -> BalancerError:
    account, said = lease.account.id, ruling.reason
    if ruling.verdict is Verdict.TOKEN:
        if ruling.token_error == "subscription":  # noqa: S105  (the kind of error)
            return SubscriptionRequired(
                f"the subscription behind the token has ended ({said}): renew it at useapi.net"
            )
        return Unauthorized(f"the server did not accept the token ({said}): check token=, or USEAPI_TOKEN")
    facts = {"response": detached(answer), "account": account}
    if ruling.verdict is Verdict.AMBIGUOUS:
        return AmbiguousOutcome(
            f"the job may run on {account} ({said}): it was not sent again, and its slot is kept for it",
            lease_id=lease.id,
            **facts,
        )
    return JobRefused(f"the job was refused on {account} ({said}); it was not sent elsewhere", **facts)


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
    if isinstance(answer, BaseException):
        answer = getattr(answer, "response", None)
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
