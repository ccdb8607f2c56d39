"""``balancer demo``: what lost answers and a killed process cost, the usual way and with the pool."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import typer
from rich.console import Group
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from balancer.cli.demo.worker import SERVICE
from balancer.cli.options import AsJson
from balancer.cli.output import console, print_json, steps, tell
from balancer.cli.output import svg as picture
from balancer.testing import FakeUseapi

ACCOUNTS = {"ann@example.com": 1, "ben@example.com": 2, "cleo@example.com": 3, "dora@example.com": 6}
SLOTS = sum(ACCOUNTS.values())
LOST = {"ben@example.com": 1, "cleo@example.com": 2, "dora@example.com": 3}
"""How many of an account's first jobs have their answer lost."""
WAYS = {"the usual way": "usual", "with balancer": "balancer"}
JOB_SECONDS = (60.0, 180.0)
CREDITS = 10
"""What a video costs here; the real ones cost more, or less."""
_FRAME = 0.05


@dataclass(frozen=True)
class Plan:
    """What is ordered, and what goes wrong, the same each way."""

    jobs: int
    threads: int
    speed: float
    seed: int

    @property
    def kill(self) -> int:
        """After how many accepted jobs the process is killed, and started again."""
        return self.jobs // 2

    @property
    def seconds(self) -> float:
        """About how long both ways take together."""
        return 2.6 * self.jobs * sum(JOB_SECONDS) / 2 / SLOTS / self.speed + 8

    def lengths(self) -> Iterator[float]:
        """Yield how long the server takes for each job, in the order in which they are accepted."""
        rng = random.Random(self.seed)
        while True:
            yield rng.uniform(*JOB_SECONDS)


@dataclass(frozen=True)
class Outcome:
    """What one way came to, as the server counted it."""

    done: int
    paid: int
    """Jobs that were accepted."""
    refused: int
    """Calls answered 429."""
    minutes: float
    """From beginning to end, by the service's clock."""
    over: int
    """How often an account had more jobs than its maximum."""


class _Clock:
    """The service's time. It stands still while a process starts, or that would take minutes of it."""

    def __init__(self) -> None:
        self._ran, self._since = 0.0, math.inf

    def __call__(self) -> float:
        return self._ran + max(0.0, time.monotonic() - self._since)

    def stop(self) -> None:
        self._ran, self._since = self(), math.inf

    def go(self) -> None:
        self._since = min(self._since, time.monotonic())


def demo(
    *,
    jobs: Annotated[int, typer.Option(min=2 * SLOTS, help="Videos to make, each way.")] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Threads that make them.")] = 16,
    speed: Annotated[
        float, typer.Option(min=1, help="How many times faster time runs on the stand-in.")
    ] = 60,
    seed: Annotated[int | None, typer.Option(help="Draw the same lengths of jobs again.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the result to this file, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """See what the pool is for: jobs that cost money, answers that are lost, a process that is killed.

    Starts a stand-in for useapi.net on this machine; nothing leaves it, no token is needed.
    """
    plan = Plan(jobs, threads, speed, random.randrange(1_000_000) if seed is None else seed)
    tell(
        f"{jobs} videos are made twice, on {len(ACCOUNTS)} accounts with {SLOTS} slots of a stand-in server "
        f"whose time runs {speed:g} times as fast. {sum(LOST.values())} answers are lost on their way, and "
        f"the process that sends is killed half-way. It takes about {plan.seconds:.0f} seconds."
    )
    outcomes = {name: play(plan, name) for name in WAYS}
    if as_json:
        ways = {name: asdict(one) for name, one in outcomes.items()}
        print_json({**asdict(plan), "lost": sum(LOST.values()), "accounts": ACCOUNTS, "ways": ways})
    else:
        console().print(told(plan, outcomes))
    if svg is not None:
        svg.write_text(picture(told(plan, outcomes), title="balancer demo", width=72), "utf-8")


def play(plan: Plan, name: str) -> Outcome:
    """Have all the work done one way; lose answers, kill the process half-way, and count at the server."""
    lengths, kill, clock = plan.lengths(), [plan.kill], _Clock()
    server = FakeUseapi({SERVICE: ACCOUNTS}, speed=plan.speed, job_seconds=lambda: next(lengths), clock=clock)
    with tempfile.TemporaryDirectory() as folder, server as fake, _Screen(name, plan.jobs) as screen:

        def look() -> tuple[int, int, int]:
            audit = fake.audit()
            seen = len([*Path(folder).glob("*.done")]), audit.accepted, audit.refused
            screen.show(*seen)
            return seen

        for account, times in LOST.items():
            fake.fault("POST */gen4/create", cut="after", account=account, times=times)
        command = [sys.executable, "-m", "balancer.cli.demo.worker", WAYS[name], str(plan.jobs)]
        command += [str(plan.threads), fake.url, fake.token, folder, str(plan.speed)]
        worker, ready = _start(command, folder), Path(folder) / "worker.ready"
        try:
            while (ended := worker.poll()) is None:
                time.sleep(_FRAME)
                if ready.exists():
                    clock.go()
                _, paid, _ = look()
                if kill and paid >= kill[0]:
                    _end(worker)
                    clock.stop()
                    ready.unlink()
                    worker = _start(command, folder)
                    kill.clear()
        finally:
            _end(worker)
        if ended:
            raise RuntimeError((Path(folder) / "errors").read_text("utf-8", "replace"))
        return Outcome(*look(), clock() * plan.speed / 60, len(fake.audit().over))


def _start(command: list[str], folder: str) -> subprocess.Popen[bytes]:
    with (Path(folder) / "errors").open("wb") as errors:
        return subprocess.Popen(command, stderr=errors)  # noqa: S603  # this interpreter, and a file of ours


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


class _Screen:
    """Shows how a way is getting on: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, jobs: int) -> None:
        self._name, self._jobs, self._told = name, jobs, 0
        columns = (TextColumn("{task.description}"), BarColumn(12), TextColumn("{task.fields[line]}"))
        self._bar = Progress(*columns, console=steps(), disable=not steps().is_terminal)
        self._task = self._bar.add_task(name, total=jobs, line="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, paid: int, refused: int) -> None:
        """Show how things stand now."""
        line, part = f"{done} done, {paid} paid, {refused} refused", done * 4 // self._jobs
        self._bar.update(self._task, completed=done, line=line)
        if self._bar.disable and part > self._told:
            self._told = part
            tell(f"{self._name}: {line}")


def told(plan: Plan, outcomes: dict[str, Outcome]) -> Group:
    """Return the one table, a column a way, and what it says."""
    table, ways = Table(), outcomes.values()
    table.add_column("")
    for name in outcomes:
        table.add_column(name, justify="right")
    table.add_row("videos made", *(f"{one.done:,}" for one in ways))
    table.add_row("jobs paid", *(f"{one.paid:,}" for one in ways))
    table.add_row("paid for nothing", *(f"{one.paid - one.done:,}" for one in ways))
    table.add_row(f"credits ({CREDITS} a job)", *(f"{one.paid * CREDITS:,}" for one in ways))
    table.add_row("calls refused", *(f"{one.refused:,}" for one in ways))
    table.add_row("minutes", *(f"{one.minutes:.0f}" for one in ways))
    usual, pool = ways
    said = (
        f"The same {plan.jobs} videos, {sum(LOST.values())} lost answers and one killed process. Who guesses "
        f"an account and sends again what was not answered has paid for {usual.paid} jobs, and was refused "
        f"{usual.refused} times. With the pool it was {pool.paid} jobs and {pool.refused} refusals: it knows "
        "which account has room, sends nothing again that may run, and finds it on the server's list."
    )
    return Group(table, Text(said))
