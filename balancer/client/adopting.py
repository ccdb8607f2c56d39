"""Registering a job that runs already, until the stores can do so over an account's bound.

A lease is taken on the job's account, where there is room, and bound. Without room the job is followed
without a slot of its own: the server's list counts it as external.
"""

from __future__ import annotations

from balancer.async_pool import AsyncAccountPool
from balancer.errors import AcquireTimeout, NoAccounts
from balancer.pool import AccountPool

# Both to be replaced by ``pool.adopt(job_id, account=…)``, which registers over the bound.


def adopt(pool: AccountPool, job_id: str, account: str) -> bool:
    """Have a job hold a slot of its account. False: it could not be given one."""
    if any(holder.job_id == job_id for holder in pool.holders()):
        return True
    try:
        lease = pool.acquire(account=account, timeout=0)
    except (AcquireTimeout, NoAccounts):
        return False
    try:
        lease.bind(job_id)
    except ValueError:  # another process was faster
        lease.release()
    return True


async def aadopt(pool: AsyncAccountPool, job_id: str, account: str) -> bool:
    """Do as :func:`adopt` for tasks."""
    if any(holder.job_id == job_id for holder in await pool.holders()):
        return True
    try:
        lease = await pool.acquire(account=account, timeout=0)
    except (AcquireTimeout, NoAccounts):
        return False
    try:
        await lease.bind(job_id)
    except ValueError:  # another process was faster
        await lease.release()
    return True
