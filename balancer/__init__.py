"""Choose among your own useapi.net accounts: a random one with room, in order, never over its maximum.

>>> from balancer import AccountPool
>>> pool = AccountPool(source={"account-a": 2, "account-b": 1})
>>> with pool.acquire(timeout=120) as lease:
...     lease.account.id in ("account-a", "account-b")
True
"""

from balancer.aio import AsyncAccountPool, AsyncLease
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
from balancer.service import Load, Rule, Service
from balancer.services import SERVICES
from balancer.source import HttpSource
from balancer.store.redis import RedisStore
from balancer.verdict import Verdict

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
    "StoreUnavailable",
    "SubscriptionRequired",
    "Table",
    "TooManyWaiting",
    "Try",
    "Unauthorized",
    "Verdict",
    "__version__",
]
