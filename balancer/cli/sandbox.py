"""``balancer sandbox``: the stand-in for useapi.net in the foreground, for any language."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from typing import Annotated, Any

import typer

from balancer import SERVICES, Service
from balancer.cli.options import AsJson
from balancer.cli.output import console, print_json, table, tell
from balancer.testing import Audit, FakeUseapi
from balancer.testing.server import JOB_SECONDS

_ENDS = (signal.SIGINT, signal.SIGTERM)
_PROXIES = ("http_proxy", "all_proxy")
_DEFAULT = {"a": 1, "b": 2, "c": 4}


def sandbox(
    *,
    account: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE:ID=MAX", help="An account and its maximum; may be given many times."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 8480,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times faster jobs run.")] = 1.0,
    shortest: Annotated[
        float, typer.Option(min=0, help="Seconds that a job takes at least, before speed.")
    ] = JOB_SECONDS[0],
    longest: Annotated[float, typer.Option(min=0, help="Seconds that it takes at most.")] = JOB_SECONDS[1],
    failures: Annotated[float, typer.Option(min=0, max=1, help="Share of the jobs that fail.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Make every choice as in another run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a stand-in for useapi.net on this machine until Ctrl-C, then say what it saw.

    It speaks every service of the table, refuses with 429 what is over an account's maximum, runs jobs
    to their end in a sixtieth of their time, lets their results be fetched, and calls back. Without accounts
    of yours, each service has three.
    """
    accounts = _accounts(account or [])
    try:
        fake = FakeUseapi(
            accounts,
            port=port,
            speed=speed,
            job_seconds=(shortest, longest),
            failures=failures,
            rng=random.Random(seed),
        )
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    # Before the threads of the server start: they are to leave these signals to us.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    with fake:
        _introduce(fake)
        signal.sigwait(_ENDS)
    _report(fake.audit(), as_json=as_json)


def _accounts(given: list[str]) -> dict[str, dict[str, int]]:
    if not given:
        return {
            key: {_account_id(row, letter): most for letter, most in _DEFAULT.items()}
            for key, row in SERVICES.items()
            if "/" not in key
        }
    accounts = defaultdict[str, dict[str, int]](dict)
    for text in given:
        service, _, rest = text.partition(":")
        id, _, most = rest.rpartition("=")
        if service not in SERVICES or not id or not most.isdecimal():
            raise typer.BadParameter(f"{text!r} is not SERVICE:ID=MAX with a service of the table")
        accounts[service][id] = int(most)
    return accounts


def _account_id(row: Service, letter: str) -> str:
    """Return an id as the service gives them: an e-mail, one with its region, or a number."""
    if row.key == "dreamina":
        return f"US:{letter}@example.com"
    return f"{letter}@example.com" if row.selector == "email" else str(1001 + ord(letter) - ord("a"))


def _introduce(fake: FakeUseapi) -> None:
    tell("A stand-in for useapi.net; Ctrl-C ends it. For another shell:")
    typer.echo(f"export USEAPI_BASE_URL={fake.url}")
    typer.echo(f"export USEAPI_TOKEN={fake.token}")
    if any(name.lower() in _PROXIES for name in os.environ):
        direct = ",".join(
            filter(None, ("127.0.0.1", os.environ.get("NO_PROXY") or os.environ.get("no_proxy")))
        )
        typer.echo(f"export NO_PROXY={direct} no_proxy={direct}")
    tell('Try: curl -H "Authorization: Bearer $USEAPI_TOKEN" $USEAPI_BASE_URL/v1/flowmusic/accounts')


def _report(audit: Audit, *, as_json: bool) -> None:
    if as_json:
        print_json(audit)
        return
    columns = ("service", "account", "jobs", "chosen by the server", "refused", "most at once", "of")
    rows: list[tuple[Any, ...]] = [
        (service, id, one.accepted, one.picked, one.refused, one.peak, one.limit)
        for service, accounts in audit.accounts.items()
        for id, one in accounts.items()
    ]
    console().print(table(f"{audit.accepted} jobs, {audit.refused} creates refused", columns, rows))
    if not audit.clean:
        tell("An account was over its maximum.")
