"""``balancer batch``: a file of prompts in, a file of results out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from balancer.cli.options import API, AsJson, BaseUrl, Poll, ServiceArgument, StoreUrl, client, shared_store


def batch(
    service: ServiceArgument,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", show_default=False, help="Path of the create.")
    ],
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS", exists=True, dir_okay=False, show_default=False, help="JSON lines."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="Where the results go.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun, or begin.")] = False,
    resubmit_unknown: Annotated[
        bool,
        typer.Option("--resubmit-unknown", help="Send again what nobody knows of: it may be paid twice."),
    ] = False,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Send nothing more after so many failures in a row.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first so many lines.")] = None,
    download: Annotated[
        Path | None, typer.Option(file_okay=False, help="Fetch what is made into here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the input, and send nothing.")] = False,
    poll: Poll = None,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
    as_json: AsJson = False,
) -> None:
    """Send each line of a file as a job, and write a line of result for each.

    A journal beside the output holds what became of each line: whatever kills this process, the same command
    with --resume goes on, and sends no line twice. 0: all completed; 1: some failed, were refused or are
    unknown; 2: wrong input, or a journal that does not fit; 130: interrupted, and what runs goes on.
    """
    from balancer.cli.batching import run  # loads what no other command needs

    with client(service, shared_store(store), base_url, poll) as opened:
        code = run(
            opened,
            endpoint,
            prompts,
            output,
            resume=resume,
            first=first,
            dry_run=dry_run,
            as_json=as_json,
            stop_after=stop_after,
            download=download,
            resubmit_unknown=resubmit_unknown,
        )
    if code:
        raise typer.Exit(code)
