"""What the demo shows while it runs: a live view on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from balancer.cli.demo.stage import ACCOUNTS, Score, Stage

_LINES = 4
_WIDTH = 60


class Screen:
    """Shows the score of one way. Use it as a context manager."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._live = (
            Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        )
        self._told = -1
        self._last = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._print(self._last)

    def show(self, stage: Stage) -> None:
        """Show how things stand now."""
        score, self._last = stage.score, self._line(stage.score)
        if self._live is not None:
            self._live.update(self._view(stage), refresh=True)
        elif (part := score.done * _LINES // score.total) > self._told:
            self._told = part
            self._print(self._line(score))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, score: Score) -> str:
        return f"{self._title}: {score.done} of {score.total} jobs done, {score.refused} calls refused"

    def _view(self, stage: Stage) -> Group:
        score, grid = stage.score, Table.grid(padding=(0, 1))
        grid.add_row("all jobs", f"{score.done} of {score.total}", _bar(score.done, score.total, _WIDTH))
        for account, running in stage.running().items():
            room = ACCOUNTS[account]
            grid.add_row(
                account, f"{running} of {room}", _bar(running, room, _WIDTH * room // stage.plan.slots)
            )
        return Group(Text(self._line(score)), grid)


def _bar(part: int, whole: int, width: int) -> ProgressBar:
    return ProgressBar(total=whole, completed=part, width=width)
