"""Everything that can go wrong, as one tree.

::

    BalancerError
    ├── Unauthorized            401: the API token was not accepted
    ├── SubscriptionRequired    402: the subscription behind the token has ended
    ├── SourceError             the account configuration could not be had
    │   ├── SourceUnavailable       network, timeout, 5xx: may work later
    │   └── InvalidConfiguration    an answer that is no account configuration
    ├── NoAccounts              waiting cannot help: no account may be used
    ├── AcquireTimeout          no slot within the caller's timeout (also a TimeoutError)
    ├── TooManyWaiting          the queue is at ``max_waiting``
    ├── PoolClosed              the pool was closed
    ├── LeaseLost               the lease was ended by somebody else
    ├── StoreUnavailable        the store that counts the leases is away
    ├── JobFailed               a job that was accepted has ended badly, or is gone
    ├── JobRefused              the server refused the job; no other account would take it
    ├── AmbiguousOutcome        the job may or may not run; it is never sent again
    └── AttemptsFailed          every attempt of a ``run`` was turned away

Facts are attributes, so that a program never has to read a message. No error carries a token, a
cookie, a request or a response body: what caused it is chained by type and text alone.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from balancer.redaction import clean


class BalancerError(Exception):
    """Root of every error that this library raises on purpose."""

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)

    def copy_for_raise(self) -> BalancerError:
        """Return an equal error without a traceback, for one more caller to raise.

        One failure is often told to many callers. An exception object gathers the frames of
        everybody who raises it, so each caller gets its own.
        """
        twin = copy.copy(self)
        twin.__cause__, twin.__suppress_context__ = self.__cause__, True
        return twin.with_traceback(None)


class Unauthorized(BalancerError):
    """The API token was not accepted (401). Leases that are out stay valid."""


class SubscriptionRequired(BalancerError):
    """The subscription behind the API token has ended (402). Leases that are out stay valid."""


class SourceError(BalancerError):
    """The account configuration could not be had."""

    retry_after: float | None = None
    """Seconds that the server asked to wait before the next request, if it did."""


class SourceUnavailable(SourceError):
    """The source did not answer usefully: network, timeout or a 5xx. It may later."""


class InvalidConfiguration(SourceError):
    """The source answered with something that is no account configuration."""


class NoAccounts(BalancerError):
    """Waiting cannot help: no account that fits is ready, full, or in a short pause."""

    reasons: Mapping[str, str] = {}
    """Account id -> why it may not be used."""
    retry_at: datetime | None = None
    """When the first of them may be usable again (UTC), if that is known."""


class AcquireTimeout(BalancerError, TimeoutError):
    """No slot came free within the caller's timeout."""

    service: str = ""
    """Key of the pool's service."""
    timeout: float = 0.0
    """The caller's own number, in seconds."""
    accounts: Mapping[str, str] = {}
    """Account id -> its state, for at most 20 accounts."""
    kept: int = 0
    """Slots held by bound or ambiguous jobs rather than by code."""
    kept_since: datetime | None = None
    """Since when the oldest of these is held (UTC); None if there is none."""
    retry_at: datetime | None = None
    """When something is known to change (UTC), if anything is."""


class TooManyWaiting(BalancerError):
    """As many callers wait already as ``max_waiting`` allows."""


class PoolClosed(BalancerError):
    """The pool was closed. Leases that are out stay valid and can be released."""


class LeaseLost(BalancerError):
    """The lease is over: released, expired, or ended on purpose by somebody else."""

    lease_id: str = ""


class StoreUnavailable(BalancerError):
    """The store that counts the leases cannot be reached or used. Nothing was guessed."""

    _busy = False
    """It is there, and nothing was done: others used it all the time, and our turn did not come."""


class JobFailed(BalancerError):
    """A job that was accepted has ended badly, or the service does not have it any more."""

    job_id: str = ""
    account: str | None = None
    status: str | None = None
    """The service's own word; None for a job that is gone."""
    body: Any = None
    """What the service said at last."""


class JobRefused(BalancerError):
    """The server refused the job for what it is; it was not sent elsewhere.

    ``response`` is the answer as the caller's own client gave it, its request cut off.
    """

    response: Any = None
    account: str = ""


class AmbiguousOutcome(BalancerError):
    """The job may or may not have been accepted; it was not sent again.

    Its slot stays taken until reconciliation or ``ambiguous_ttl`` ends it.
    """

    response: Any = None
    account: str = ""
    lease_id: str = ""


class AttemptsFailed(BalancerError):
    """Every attempt was turned away by an account that could not take it."""

    tries: Sequence[Any] = ()
    """One :class:`balancer.Attempt` an attempt: account, verdict and what was answered."""


def sanitized(error: BaseException, hidden: Collection[str] = ()) -> BaseException:
    """Return a stand-in for ``error`` that is safe to chain, log and pickle.

    HTTP clients hang the request (with its Authorization header) and the body on their errors,
    and the frames of a traceback hold both as locals. The stand-in keeps the type's name and the
    text; tokens of a known form and the strings ``hidden`` are cut out.
    """
    return ForeignError(clean(f"{type(error).__module__}.{type(error).__qualname__}: {error}", hidden))


class ForeignError(Exception):
    """What another library raised, reduced to its type and text."""
