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
    JobFailed,
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
from balancer.models import (
    Account,
    AccountStats,
    AccountTable,
    Holder,
    Job,
    JobList,
    PoolStats,
    ReconcileResult,
)
from balancer.pool import AccountPool
from balancer.run import Attempt
from balancer.services import SERVICES
from balancer.services.schema import CancelEndpoint, JobsEndpoint, Service, StatusEndpoint, VerdictRule
from balancer.useapi.sources import HttpSource
from balancer.useapi.verdicts import Verdict

if TYPE_CHECKING:
    from balancer.async_pool import AsyncAccountPool, AsyncLease
    from balancer.client.async_client import AsyncClient, AsyncRemoteJob
    from balancer.client.client import Client, RemoteJob
    from balancer.stores.redis import RedisStore

__version__ = "0.1.0"

__all__ = [
    "SERVICES",
    "Account",
    "AccountPool",
    "AccountStats",
    "AccountTable",
    "AcquireTimeout",
    "AmbiguousOutcome",
    "AsyncAccountPool",
    "AsyncClient",
    "AsyncLease",
    "AsyncRemoteJob",
    "Attempt",
    "AttemptsFailed",
    "BalancerError",
    "CancelEndpoint",
    "Client",
    "Holder",
    "HttpSource",
    "InvalidConfiguration",
    "Job",
    "JobFailed",
    "JobList",
    "JobRefused",
    "JobsEndpoint",
    "Lease",
    "LeaseLost",
    "NoAccounts",
    "PoolClosed",
    "PoolStats",
    "ReconcileResult",
    "RedisStore",
    "RemoteJob",
    "Service",
    "SourceError",
    "SourceUnavailable",
    "StatusEndpoint",
    "StoreUnavailable",
    "SubscriptionRequired",
    "TooManyWaiting",
    "Unauthorized",
    "Verdict",
    "VerdictRule",
    "__version__",
]

_ON_DEMAND = {
    "AsyncAccountPool": "balancer.async_pool",
    "AsyncClient": "balancer.client.async_client",
    "AsyncLease": "balancer.async_pool",
    "AsyncRemoteJob": "balancer.client.async_client",
    "Client": "balancer.client.client",
    "RedisStore": "balancer.stores.redis",
    "RemoteJob": "balancer.client.client",
}
"""Names that many programs do without, so that those start faster -> the module that has them."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ON_DEMAND[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
