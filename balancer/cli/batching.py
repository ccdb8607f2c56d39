"""What ``balancer batch`` runs and shows. Loaded by it alone: the other commands start faster without."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from balancer import BalancerError, Client, PoolStats
from balancer.batch.journal import Journal, JournalError
from balancer.batch.lines import WrongInputError, read_input
from balancer.batch.runner import Batch, Progress
from balancer.cli.failures import INTERRUPTED, code_of
from balancer.cli.output import console, print_json, seconds, steps, tell

_EVERY = 0.5
_EVERY_LINE = 1.0
NOT_ALL = 1
_WIDTH, _MOST_ROWS = 30, 20


def run(
    client: Client,
    endpoint: str,
    prompts: Path,
    output: Path,
    *,
    resume: bool,
    first: int | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Do a batch; return its exit code."""
    row = client.pool.service
    try:
        lines, digest = read_input(prompts, row, endpoint, first)
        if dry_run:
            tell(f"{len(lines)} lines of {row.key} {endpoint} would be sent; nothing was")
            return 0
        about = {"service": row.key, "endpoint": endpoint.strip("/"), "input": digest}
        with Journal(output, about, resume=resume) as journal:
            done = Batch(client, journal, lines, tell=tell, **options)
            asyncio.run(_watched(done, as_json=as_json))
            if left := done.progress().open:
                tell(f"{left} lines are still open: the same command with --resume goes on")
            return _code(done)
    except WrongInputError as error:
        raise typer.BadParameter(str(error)) from None
    except JournalError as error:
        tell(f"balancer: {error}")
        return NOT_ALL


def _code(done: Batch) -> int:
    if done.interrupted:
        return INTERRUPTED
    if isinstance(done.stopped_by, BalancerError):
        return code_of(done.stopped_by)
    progress = done.progress()
    return 0 if progress.completed == progress.total else NOT_ALL


async def _watched(done: Batch, *, as_json: bool) -> None:
    """Run a batch, and show how far it is."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)  # the next one ends us as ever
        tell("interrupted: calls that are under way are waited for, jobs go on")
        done.interrupt()

    with suppress(ValueError, RuntimeError):  # only a main thread can
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
    showing = loop.create_task(_lines(done) if as_json else _bar(done, steps()))
    try:
        await done.run()
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
    _summary(done, as_json=as_json)


def _summary(done: Batch, *, as_json: bool) -> None:
    progress = done.progress()
    if as_json:
        print_json({**_numbers(progress), "over": True}, indent=None)
    else:
        console().print(Text(f"{_told(progress)}, in {seconds(progress.seconds)}"))


async def _lines(done: Batch) -> None:
    while True:
        await asyncio.sleep(_EVERY_LINE)
        print_json({**_numbers(done.progress()), "over": False}, indent=None)


async def _bar(done: Batch, out: Console) -> None:
    if not out.is_terminal:
        return
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            stats = None
            with suppress(BalancerError):
                stats = await done.stats()
            live.update(_view(done.progress(), stats), refresh=True)
            await asyncio.sleep(_EVERY)


def _view(progress: Progress, stats: PoolStats | None) -> Group:
    left = f", about {seconds(progress.left)} left" if progress.left is not None and progress.open else ""
    accounts = [] if stats is None else stats.accounts.values()
    ours = progress.accounts
    rows = [
        Text(f"  {one.id}: {ours.get(one.id, 0)} of ours, {one.in_flight} of {one.capacity}, {one.state}")
        for one in accounts
    ]
    head = Table.grid(padding=(0, 1))
    done = progress.total - progress.open
    head.add_row(ProgressBar(max(1, progress.total), done, width=_WIDTH), Text(f"{_told(progress)}{left}"))
    return Group(head, *rows[:_MOST_ROWS])


def _told(progress: Progress) -> str:
    parts = {
        "completed": progress.completed,
        "failed": progress.failed,
        "refused": progress.refused,
        "unknown": progress.unknown,
        "running": progress.running + progress.sending,
        "waiting": progress.waiting,
    }
    shown = (f"{count} {name}" for name, count in parts.items() if count or name == "completed")
    return f"{', '.join(shown)} of {progress.total} lines"


def _numbers(progress: Progress) -> dict[str, Any]:
    names = ("completed", "failed", "refused", "unknown", "running", "sending", "waiting", "seconds", "left")
    return {name: getattr(progress, name) for name in (*names, "accounts", "total")}
