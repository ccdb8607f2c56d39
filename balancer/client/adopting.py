"""Registering a job that runs already, where its account is still configured."""

from __future__ import annotations

from balancer.async_pool import AsyncAccountPool
from balancer.pool import AccountPool


def adopt(pool: AccountPool, job_id: str, account: str) -> bool:
    """Have a job hold a slot of its account. False: the account is not in the configuration any more."""
    try:
        pool.adopt(job_id, account=account)
    except ValueError:
        return False
    return True


async def aadopt(pool: AsyncAccountPool, job_id: str, account: str) -> bool:
    """Do as :func:`adopt` for tasks."""
    try:
        await pool.adopt(job_id, account=account)
    except ValueError:
        return False
    return True
