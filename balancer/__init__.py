"""Choose among your own useapi.net accounts: a random one with room, in order, never over its maximum.

>>> from balancer import AccountPool
>>> pool = AccountPool(source={"account-a": 2, "account-b": 1})
>>> with pool.acquire(timeout=120) as lease:
...     lease.account.id in ("account-a", "account-b")
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from balancer.errors import (
    AcquireTimeout,
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    InvalidConfiguration,
    JobRefused,
    LeaseLost,
    NoAccounts,
    PoolClosed,
    SourceError,
    SourceUnavailable,
    StoreUnavailable,
    SubscriptionRequired,
    TooManyWaiting,
    Unauthorized,
)
from balancer.lease import Lease
from balancer.model import Account, AccountStats, Holder, Job, Listing, PoolStats, Reconciled, Table
from balancer.pool import AccountPool
from balancer.run import Try
from balancer.service import CancelEndpoint, Load, Rule, Service, StatusEndpoint
from balancer.services import SERVICES
from balancer.source import HttpSource
from balancer.verdict import Verdict

if TYPE_CHECKING:
    from balancer.aio import AsyncAccountPool, AsyncLease
    from balancer.store.redis import RedisStore

__version__ = "0.1.0"

__all__ = [
    "SERVICES",
    "Account",
    "AccountPool",
    "AccountStats",
    "AcquireTimeout",
    "AmbiguousOutcome",
    "AsyncAccountPool",
    "AsyncLease",
    "AttemptsFailed",
    "BalancerError",
    "CancelEndpoint",
    "Holder",
    "HttpSource",
    "InvalidConfiguration",
    "Job",
    "JobRefused",
    "Lease",
    "LeaseLost",
    "Listing",
    "Load",
    "NoAccounts",
    "PoolClosed",
    "PoolStats",
    "Reconciled",
    "RedisStore",
    "Rule",
    "Service",
    "SourceError",
    "SourceUnavailable",
    "StatusEndpoint",
    "StoreUnavailable",
    "SubscriptionRequired",
    "Table",
    "TooManyWaiting",
    "Try",
    "Unauthorized",
    "Verdict",
    "__version__",
]

_ON_DEMAND = {
    "AsyncAccountPool": "balancer.aio",
    "AsyncLease": "balancer.aio",
    "RedisStore": "balancer.store.redis",
}
"""Names that many programs do without, so that those start faster -> the module that has them."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ON_DEMAND[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
