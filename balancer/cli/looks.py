"""Commands that look and change nothing: services, accounts, load, holders."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import typer

from balancer import SERVICES, Account, Service
from balancer.cli.compare import compared
from balancer.cli.failures import NOT_THERE
from balancer.cli.options import (
    API,
    BLIND,
    MEMORY,
    AsJson,
    BaseUrl,
    ServiceArgument,
    StoreUrl,
    default_store,
    opened,
    shared_store,
    source,
    without_secrets,
)
from balancer.cli.output import console, plain, print_json, seconds, table, tell


def services(*, as_json: AsJson = False) -> None:
    """List the services that the library knows, and what each calls its accounts."""
    if as_json:
        print_json([_service(row) for row in SERVICES.values()])
        return
    columns = ("service", "path", "account parameter", "server chooses", "running jobs", "state")
    rows = [
        (
            row.key,
            row.path,
            row.selector,
            "no" if row.selector_required else "yes",
            "listed" if row.load else "not listed",
            row.retired or "alive",
        )
        for row in SERVICES.values()
    ]
    console().print(table(f"{len(rows)} services", columns, rows))


def accounts(service: ServiceArgument, *, base_url: BaseUrl = API, as_json: AsJson = False) -> None:
    """Show the accounts that are configured for a service, as the server tells it now.

    Exits with 1 if none of them can be used.
    """
    with source(service, base_url) as api:
        found = list(api.accounts().accounts.values())
    if as_json:
        print_json({"service": service, "accounts": [_account(one) for one in found]})
    else:
        columns = ("account", "runs at once", "state", "why", "fields")
        rows = [
            (one.id, one.capacity, _state(one), one.broken or one.note or "", _fields(one)) for one in found
        ]
        console().print(table(f"{service}: {len(found)} accounts", columns, rows))
    if all(one.broken is not None for one in found):
        raise typer.Exit(NOT_THERE)


def load(
    service: ServiceArgument, *, store: StoreUrl = None, base_url: BaseUrl = API, as_json: AsJson = False
) -> None:
    """Show what the server says is running beside what the store counts.

    "Not listed" are leases bound to jobs that the server does not list, "not leased" are listed jobs that are
    nobody's lease.
    """
    url = store or default_store()
    with source(service, base_url) as api:
        listing = api.jobs() if api.lists_jobs else None
    with opened(service, url, base_url, reconcile_every=None) as pool:
        stats, held = pool.stats(), pool.holders()
    lines = compared(stats, held, listing)
    if as_json:
        print_json({"service": service, "accounts": lines})
        return
    title = f"{service}: the server's list, and leases in {without_secrets(url)}"
    columns = ("account", "runs at once", "listed", "leases", "not listed", "not leased", "state")
    console().print(table(title, columns, [astuple(line) for line in lines]))
    if listing is None:
        tell(f"{service} has no list of running jobs.")
    if url == MEMORY:
        tell(BLIND)


def holders(
    service: ServiceArgument, *, store: StoreUrl = None, base_url: BaseUrl = API, as_json: AsJson = False
) -> None:
    """Show every live lease in the store: who holds what, since when, and until when."""
    url = shared_store(store)
    with opened(service, url, base_url, reconcile_every=None) as pool:
        found = pool.holders()
    if as_json:
        print_json(found)
        return
    columns = ("lease", "account", "state", "job", "label", "owner", "age", "ends in")
    rows = [
        (h.id, h.account, h.state, h.job_id, h.label, h.owner, seconds(h.age), seconds(h.expires_in))
        for h in found
    ]
    console().print(table(f"{service}: {len(rows)} leases in {without_secrets(url)}", columns, rows))
    if not rows:
        tell(f"Nobody holds a slot in {without_secrets(url)}. {BLIND}")


def _service(row: Service) -> dict[str, Any]:
    wanted = ("key", "path", "accounts", "selector", "selector_required", "capacity", "default_capacity")
    return {name: getattr(row, name) for name in wanted} | {
        "lists_jobs": row.load is not None,
        "alive": row.alive,
        "retired": row.retired,
        "docs": row.docs,
    }


def _state(account: Account) -> str:
    return "ready" if account.broken is None else "broken"


def _account(account: Account) -> dict[str, Any]:
    return {**plain(account), "state": _state(account)}


def _fields(account: Account) -> str:
    return ", ".join(f"{name}={value}" for name, value in account.fields.items())
