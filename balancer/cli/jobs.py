"""``balancer submit``, ``wait`` and ``bind``: jobs from shell scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from balancer import JobFailed, JobRefused
from balancer.cli.failures import NOT_THERE
from balancer.cli.options import (
    API,
    BaseUrl,
    Poll,
    ServiceArgument,
    ServiceOption,
    StoreUrl,
    client,
    opened,
    shared_store,
)
from balancer.cli.output import print_json, tell
from balancer.config import job_text

OUT_OF_TIME = 124


def _named(job: str) -> str:
    """Return a job's id; none at all is what a script that could not start its job hands on."""
    try:
        return job_text(job)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


_Job = Annotated[str, typer.Argument(metavar="JOB", show_default=False, callback=_named)]
_Account = Annotated[str | None, typer.Option(help="The account that it runs on.")]


def submit(
    service: ServiceArgument,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", show_default=False, help="Path of the create.")
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE", show_default=False, help="Fields; none: a JSON object from stdin."
        ),
    ] = None,
    *,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for a slot.")] = None,
    account: _Account = None,
    label: Annotated[str | None, typer.Option(help="Shown by `balancer holders`.")] = None,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """Wait for a slot, send a job once, and print its id.

    The slot is the job's until `balancer wait` sees its end. NAME=VALUE is text; NAME:=VALUE is JSON.
    """
    from balancer.client.jobs import refusal

    sent = dict(map(_field, fields)) if fields else _from_stdin()
    with client(service, shared_store(store), base_url, None) as api:
        try:
            job = api.submit(endpoint, sent, timeout=timeout, account=account, label=label)
        except (ValueError, TypeError) as error:
            raise typer.BadParameter(str(error)) from None
        except JobRefused as error:
            tell(f"balancer: {refusal(error)}")
            raise typer.Exit(NOT_THERE) from None
        if job.id is None:  # the answer was the result
            print_json(job.body)
        else:
            typer.echo(job.id)


def wait(
    job: _Job,
    *,
    service: ServiceOption,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for its end.")] = None,
    account: _Account = None,
    download: Annotated[
        Path | None, typer.Option(file_okay=False, help="Fetch what was made into here.")
    ] = None,
    poll: Poll = None,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """Wait until a job has ended, free its slot, and print what the service said at last, as JSON.

    0: it has completed; 1: it has failed or is gone; 124: it has not ended in time, and keeps its slot.
    """
    with client(service, shared_store(store), base_url, poll) as api:
        attached = api.attach(job, account)
        try:
            print_json(attached.result(timeout))
        except JobFailed as error:
            print_json(error.body)
            tell(f"balancer: {error}")
            raise typer.Exit(NOT_THERE) from None
        except TimeoutError as error:
            tell(f"balancer: {error}")
            raise typer.Exit(OUT_OF_TIME) from None
        if download is not None:
            for path in attached.save(download):
                tell(str(path))


def bind(
    job: _Job,
    *,
    service: ServiceOption,
    account: Annotated[
        str, typer.Option(envvar="BALANCER_ACCOUNT", show_default=False, help="The account that it runs on.")
    ],
    store: StoreUrl = None,
    base_url: BaseUrl = API,
) -> None:
    """Have a slot of its account follow a job that this script has started.

    Under `balancer exec` the account is in the environment; the job keeps its slot when the command ends,
    until `balancer wait` or `balancer release --job` ends it.
    """
    with opened(service, shared_store(store), base_url) as pool:
        try:
            pool.adopt(job, account=account)
        except ValueError:
            tell(f"balancer: {account} is not in the configuration")
            raise typer.Exit(NOT_THERE) from None


def _field(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name.strip(":"):
        raise typer.BadParameter(f"{text!r} is neither NAME=VALUE nor NAME:=JSON")
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], json.loads(value)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: no JSON: {error}") from None


def _from_stdin() -> dict[str, Any]:
    try:
        found = json.loads(sys.stdin.read())
    except ValueError as error:
        raise typer.BadParameter(f"stdin is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter("stdin is no JSON object")
    return found
