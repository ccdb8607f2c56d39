"""Commands that change something in the store: release, cool, reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from balancer import AccountPool, Holder
from balancer.cli.failures import NOT_THERE
from balancer.cli.options import API, BaseUrl, ServiceOption, StoreUrl, opened, shared_store, without_secrets
from balancer.cli.output import seconds, tell

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.", show_default=False)]


def release(
    lease: Annotated[str | None, typer.Argument(help="Id of the lease.", show_default=False)] = None,
    *,
    job: Annotated[str | None, typer.Option(help="Id of the job that the lease is bound to.")] = None,
    service: ServiceOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """End a lease: its slot is free at once. Asks first.

    If its job still runs, the next one may be one too many for the account. A lease of several jobs ends with
    the last of them if they are named one by one with --job.
    """
    if (lease is None) == (job is None):
        raise typer.BadParameter("name either a lease or, with --job, a job")
    url = shared_store(store)
    with opened(service, url, base_url, reconcile_every=None) as pool:
        found = [one for one in pool.holders() if (one.id == lease if job is None else job in one.job_ids)]
        if not found:
            tell(f"{service} has no live lease with {_name(lease, job)} in {without_secrets(url)}.")
            raise typer.Exit(NOT_THERE)
        if not yes:
            typer.confirm(f"Release {_described(found[0])}?", abort=True, err=True)
        if not pool.release(found[0].id if job is None else None, job_id=job):
            _tell_why_not(pool, found[0])
            return
    tell(f"Released: {found[0].account} has the slot back.")


def cool(
    account: AccountId,
    length: Annotated[float, typer.Argument(metavar="SECONDS", min=0, help="How long.", show_default=False)],
    *,
    service: ServiceOption,
    reason: Annotated[str, typer.Option(help="What others are to read.")] = "by hand",
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """Give an account no jobs for some time. A longer pause that runs already stays."""
    with opened(service, shared_store(store), base_url, reconcile_every=None) as pool:
        _on_account(pool, lambda: pool.cool(account, length, reason))
    tell(f"{account} pauses for {seconds(length)}.")


def reset(
    account: AccountId, *, service: ServiceOption, store: StoreUrl = None, base_url: BaseUrl = API
) -> None:
    """End an account's pause. What the configuration says of it stays."""
    with opened(service, shared_store(store), base_url, reconcile_every=None) as pool:
        _on_account(pool, lambda: pool.reset(account))
    tell(f"{account} is as its configuration says.")


def _on_account(pool: AccountPool, act: Callable[[], None]) -> None:
    """Act on an account; read the configuration only if the store does not know it.

    At three in the morning the store may be all that works.
    """
    try:
        act()
    except ValueError:
        pool.refresh()
        try:
            act()
        except ValueError as error:
            tell(f"balancer: {error}")
            raise typer.Exit(NOT_THERE) from None


def _tell_why_not(pool: AccountPool, holder: Holder) -> None:
    if all(one.id != holder.id for one in pool.holders()):
        tell("It has just ended by itself.")
        raise typer.Exit(NOT_THERE)
    tell(f"That job is over: {holder.account} has the slot back once the lease's other jobs are.")


def _name(lease: str | None, job: str | None) -> str:
    return f"the id {lease}" if job is None else f"the job {job}"


def _described(holder: Holder) -> str:
    job = f" for job {', '.join(holder.job_ids)}" if holder.job_ids else ""
    return (
        f"{holder.state} lease {holder.id} on {holder.account}{job}, "
        f"{seconds(holder.age)} old, of {holder.label or holder.owner}"
    )
