"""``balancer demo``: the same jobs, sent as people do it today and through the pool."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer

from balancer.cli.demo import report
from balancer.cli.demo.play import Outcome, play
from balancer.cli.demo.screen import Screen
from balancer.cli.demo.stage import Plan
from balancer.cli.demo.ways import asking, asking_async, guessing
from balancer.cli.options import AsJson
from balancer.cli.output import console, print_json, steps
from balancer.cli.output import svg as picture


def demo(
    *,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs to send, each way.")] = 240,
    threads: Annotated[int, typer.Option(min=1, help="Threads (or tasks) that send them.")] = 16,
    speed: Annotated[
        float, typer.Option(min=1, help="How many times faster time runs on the stand-in.")
    ] = 240,
    seed: Annotated[int | None, typer.Option(help="Draw the same lengths of jobs again.")] = None,
    use_async: Annotated[bool, typer.Option("--async", help="Use AsyncAccountPool and tasks.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the final table to this file, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """See what the pool is for: the same jobs sent the way people do it today, and through it.

    Starts a stand-in for useapi.net on this machine; nothing leaves it, no token is needed.
    """
    plan = Plan(jobs, threads, speed, random.randrange(1_000_000) if seed is None else seed)
    pool = "AsyncAccountPool" if use_async else "AccountPool"
    ways = {"random account, retry on 429": guessing, pool: asking_async if use_async else asking}
    outcomes = dict[str, Outcome]()
    for name, way in ways.items():
        with Screen(steps(), name) as screen:
            outcomes[name] = play(plan, way, screen.show)
    if as_json:
        print_json(report.data(plan, outcomes))
    else:
        _print(plan, outcomes)
    if svg is not None:
        svg.write_text(picture(report.table(plan, outcomes), title="balancer demo"), "utf-8")


def _print(plan: Plan, outcomes: report.Outcomes) -> None:
    console().print(report.table(plan, outcomes))
    console().print(report.sentence(plan, outcomes), highlight=False)
