"""Play a plan one way, and say what came out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from balancer.cli.demo.stage import ACCOUNTS, SERVICE, Plan, Score, Stage
from balancer.cli.demo.ways import Way, Worker

_FRAME = 0.05


@dataclass(frozen=True)
class Outcome:
    """What one way of doing it came to."""

    jobs: int
    refused: int
    """Calls answered 429."""
    makespan: float
    """Seconds from the first call to the end of the last job."""
    bound: float
    """Seconds below which no way can come."""
    peak: Mapping[str, int]
    """Account id -> most jobs at once."""
    use: Mapping[str, float]
    """Account id -> share of its room, over the makespan, that was used."""


def play(plan: Plan, way: Way, show: Callable[[Stage], None]) -> Outcome:
    """Do the plan's jobs one way; ``show`` is called twenty times a second."""
    with Stage(plan) as stage, way(stage) as workers:
        for worker in workers:
            threading.Thread(target=_guarded, args=(worker, stage.score), daemon=True).start()
        use = _watched(stage, show)
        if stage.score.error is not None:
            raise stage.score.error
        show(stage)
        return _outcome(stage, use)


def _guarded(worker: Worker, score: Score) -> None:
    try:
        worker()
    except BaseException as error:  # noqa: BLE001  # it is raised again where somebody sees it
        score.fail(error)


def _watched(stage: Stage, show: Callable[[Stage], None]) -> dict[str, float]:
    """Show until all jobs are over, and return the share of each account's room that was used.

    The server is asked what runs at every look: what clients hear of a job's start and end is late.
    """
    before = began = time.monotonic()
    busy = dict.fromkeys(ACCOUNTS, 0.0)
    while not stage.score.over.wait(_FRAME):
        now = time.monotonic()
        for account, running in stage.running().items():
            busy[account] += running * (now - before)
        before = now
        show(stage)
    elapsed = max(before - began, _FRAME)
    return {account: busy[account] / (room * elapsed) for account, room in ACCOUNTS.items()}


def _outcome(stage: Stage, use: Mapping[str, float]) -> Outcome:
    score, seen = stage.score, stage.fake.audit().accounts[SERVICE.key]
    return Outcome(
        jobs=score.done,
        refused=score.refused,
        makespan=score.ended - score.began,
        bound=stage.plan.bound,
        peak={account: seen[account].peak for account in ACCOUNTS},
        use=use,
    )
