"""Commands that look and change nothing: services, accounts, load, holders."""

from __future__ import annotations

from dataclasses import astuple
from typing import Annotated, Any

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


def services(
    *,
    check: Annotated[
        str | None, typer.Option(metavar="SERVICE", help="Hold this row against what the server answers.")
    ] = None,
    create: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="With --check and --yes: create one job too, and pay for it."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field", metavar="NAME=VALUE", help="A field of that create; may be given many times."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really create the job.")] = False,
    base_url: BaseUrl = API,
    as_json: AsJson = False,
) -> None:
    """List the services that the library knows, and what each calls its accounts.

    With --check: compare the account list and the job list of the server with what the row says, and tell
    what of them it does not understand. Exits with 1 if there is any. Values of entries are not shown.
    """
    if check is not None:
        _check(check, create, fields or [], base_url, yes=yes, as_json=as_json)
        return
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
        job_list = api.jobs() if api.lists_jobs else None
    with opened(service, url, base_url, reconcile_every=None) as pool:
        stats, held = pool.stats(), pool.holders()
    lines = compared(stats, held, job_list)
    if as_json:
        print_json({"service": service, "accounts": lines})
        return
    title = f"{service}: the server's list, and leases in {without_secrets(url)}"
    columns = ("account", "runs at once", "listed", "leases", "not listed", "not leased", "state")
    console().print(table(title, columns, [astuple(line) for line in lines]))
    if job_list is None:
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
        (
            h.id,
            h.account,
            h.state,
            ", ".join(h.job_ids) or None,
            h.label,
            h.owner,
            seconds(h.age),
            seconds(h.expires_in),
        )
        for h in found
    ]
    console().print(table(f"{service}: {len(rows)} leases in {without_secrets(url)}", columns, rows))
    if not rows:
        tell(f"Nobody holds a slot in {without_secrets(url)}. {BLIND}")


def _check(
    service: str, create: str | None, given: list[str], base_url: str, *, yes: bool, as_json: bool
) -> None:
    from balancer.cli.check import looked, tried  # for those who check alone

    fields = {name: value for name, equals, value in (text.partition("=") for text in given) if equals}
    with source(service, base_url) as api:
        found = list(looked(api))
        if create is not None and yes:
            with opened(service, MEMORY, base_url) as pool, pool.acquire(timeout=0) as lease:
                found += tried(api, lease, create.strip("/"), fields)
    odd = sum(one.odd for one in found)
    if as_json:
        print_json({"service": service, "odd": odd, "findings": found})
    else:
        rows = [(one.where, "?" if one.odd else "", one.what) for one in found]
        console().print(
            table(f"{service}: {odd} things that its row does not understand", ("in", "", "what"), rows)
        )
    if create is not None and not yes:
        tell(f"POST {create} would start a job that has to be paid for. To send it, add --yes.")
    if odd:
        raise typer.Exit(NOT_THERE)


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
