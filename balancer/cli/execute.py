"""``balancer exec``: hold a slot while a command runs."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Annotated, Any

import typer

from balancer import AcquireTimeout, BalancerError, Lease
from balancer.cli.options import API, BaseUrl, ServiceOption, StoreUrl, opened, shared_store
from balancer.cli.output import tell
from balancer.cli.signals import InterruptedBeforeError, SignalForwarder

NO_SLOT, FAILED, NOT_EXECUTABLE, NOT_FOUND, SIGNALLED = 124, 125, 126, 127, 128


def execute(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", show_default=False)],
    *,
    service: ServiceOption,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for a slot.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this one; may be given many times.")] = None,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Replaces the accounts' own maximum.")] = None,
    scope: Annotated[str | None, typer.Option(help="What the job uses, such as a model.")] = None,
    label: Annotated[str | None, typer.Option(help="Shown by `balancer holders`; else the command.")] = None,
    lease_ttl: Annotated[
        float, typer.Option(min=0.1, help="Seconds until the slot comes back should this process be killed.")
    ] = 60.0,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """Wait for a slot, run a command that uses it, give the slot back.

    The command finds BALANCER_ACCOUNT, BALANCER_PARAMS (a JSON object to be merged into its request) and
    BALANCER_LEASE_ID in its environment. Signals are passed on to it, and its exit status is ours; 128 and
    the signal's number if a signal ended it. 124: no slot in time; 125: no slot for another reason; 126 and
    127: the command cannot be run, or is not there. All who share a store share one count.
    """
    signals = SignalForwarder()
    options: dict[str, Any] = {
        "timeout": timeout,
        "account": account,
        "exclude": exclude or (),
        "max_jobs": max_jobs,
        "scope": scope,
        "label": label or command[0],
    }
    try:
        url = shared_store(store)
        with opened(service, url, base_url, lease_ttl=lease_ttl) as pool, pool.acquire(**options) as lease:
            signals.hold()
            code = _run(command, lease, signals)
    except InterruptedBeforeError as error:
        code = SIGNALLED + error.number
    except (BalancerError, typer.BadParameter, ValueError) as error:
        tell(f"balancer: {error}")
        code = NO_SLOT if isinstance(error, AcquireTimeout) else FAILED
    raise typer.Exit(code)


def _run(command: list[str], lease: Lease, signals: SignalForwarder) -> int:
    try:
        process = subprocess.Popen(command, env=_environment(lease))  # noqa: S603  # it is the caller's own
    except OSError as error:
        tell(f"balancer: {command[0]}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    signals.attach(process)
    status = signals.wait(process)
    return status if status >= 0 else SIGNALLED - status


def _environment(lease: Lease) -> dict[str, str]:
    return {
        **os.environ,
        "BALANCER_ACCOUNT": lease.account.id,
        "BALANCER_PARAMS": json.dumps(dict(lease.params)),
        "BALANCER_LEASE_ID": lease.id,
    }
