"""What the demo says at its end: one table and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from balancer.cli.demo.play import Outcome
from balancer.cli.demo.stage import ACCOUNTS, JOB_SECONDS, RETRY_SECONDS, Plan

Outcomes = Mapping[str, Outcome]
"""Name of the way -> what it came to; today's way and the pool's."""


def table(plan: Plan, outcomes: Outcomes) -> Table:
    """Return the one table, a column a way."""
    made = Table(title=f"{plan.jobs} jobs, {plan.threads} senders, {plan.slots} slots", title_justify="left")
    made.add_column("")
    for way in outcomes:
        made.add_column(way, justify="right")

    def row(name: str, cell: Callable[[Outcome], str]) -> None:
        made.add_row(name, *map(cell, outcomes.values()))

    row("jobs done", lambda one: f"{one.jobs:,}")
    row("calls refused (429)", lambda one: f"{one.refused:,}")
    row("makespan", lambda one: f"{one.makespan:.1f} s")
    row("lower bound", lambda one: f"{one.bound:.1f} s")
    row("makespan / lower bound", lambda one: f"{one.makespan / one.bound:.2f}")
    for account, room in ACCOUNTS.items():
        row(f"room used, {account} ({room})", lambda one, id=account: f"{one.use[id]:.0%}")  # type: ignore[misc]
    return made


def sentence(plan: Plan, outcomes: Outcomes) -> str:
    """Say what the reader has just seen."""
    today, pool = outcomes.values()
    return (
        f"You have just seen the same {plan.jobs} jobs of {_span(JOB_SECONDS)} sent twice to the same "
        f"{len(ACCOUNTS)} accounts, on a stand-in server whose time runs {plan.speed:g} times as fast: "
        f"guessing an account and waiting {_span(RETRY_SECONDS)} after each 429 cost "
        f"{today.refused:,} refused calls and {today.makespan:.1f} s, "
        f"asking the pool first cost {pool.refused:,} and {pool.makespan:.1f} s, "
        f"where no way can be faster than {pool.bound:.1f} s."
    )


def data(plan: Plan, outcomes: Outcomes) -> dict[str, Any]:
    """Return the same as JSON values."""
    asked = {"jobs": plan.jobs, "threads": plan.threads, "speed": plan.speed, "seed": plan.seed}
    return {**asked, "accounts": dict(ACCOUNTS), "ways": {way: asdict(one) for way, one in outcomes.items()}}


def _span(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:g} to {seconds[1]:g} s"
