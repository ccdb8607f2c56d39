"""Pictures of what was found, for the documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.report import Section

FOLDER = Path(__file__).parents[1] / "docs" / "img"
OURS, OTHERS = "#0b6e4f", ["#c44536", "#4a6fa5", "#b08900", "#7d5ba6"]
STYLE = {
    "svg.hashsalt": "balancer",  # the same figures give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(sections: list[Section]) -> list[Path]:
    """Draw every picture that the sections have figures for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = {section.name: section for section in sections}
    drawn = []
    with mpl.rc_context(STYLE):
        for name, picture in PICTURES.items():
            if name not in known:
                continue
            canvas = Canvas(figsize=(7.2, 3.8), layout="constrained")
            picture(canvas.subplots(), known[name])
            path = FOLDER / f"bench-{name.replace('_', '-')}.svg"
            canvas.savefig(path, metadata={"Date": None, "Creator": None})
            drawn.append(path)
    return drawn


def _pair(axes: Any, section: Section) -> None:
    for (kind, points), colour in zip(section.series.items(), [OURS, OTHERS[0]], strict=True):
        label = "balancer" if kind == "pair" else kind
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    axes.axhline(1.0, color="grey", linestyle=":", label="BoundedSemaphore")
    axes.set(xscale="log", yscale="log", xlabel="accounts", ylabel="acquire and release ÷ BoundedSemaphore")
    axes.legend(frameon=False)


def _threads(axes: Any, section: Section) -> None:
    for (name, served), colour in zip(section.series.items(), [OURS, OTHERS[0]], strict=True):
        label = {"pool": "balancer", "semaphore": "BoundedSemaphore"}[name]
        axes.step(range(1, len(served) + 1), served, where="mid", color=colour, label=label)
    axes.set(
        xlabel="threads, from the least to the most served", ylabel="slots got in a second", ylim=(0, None)
    )
    axes.legend(frameon=False)


def _end_to_end(axes: Any, section: Section) -> None:
    refused = {f.name.partition(":")[0]: f.value.median for f in section.figures if "refused" in f.name}
    for (name, times), colour in zip(section.series.items(), [OURS, *OTHERS], strict=False):
        label = f"{name}: {refused[name]:.1f} refused calls per job"
        axes.plot(times, range(1, len(times) + 1), color=colour, label=label)
    axes.axvline(1.0, color="grey", linestyle=":")
    axes.set(xlabel="time ÷ ideal makespan", ylabel="jobs finished", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")


def _limits(axes: Any, section: Section) -> None:
    for (name, points), colour in zip(section.series.items(), [OURS, *OTHERS], strict=False):
        hours, refused = zip(*points, strict=True)
        label = f"{name}: {refused[-1]:,} refused"
        axes.step(hours, refused, where="post", color=colour, label=label)
    axes.set(xlabel="hours", ylabel="calls refused until then", yscale="log", xlim=(0, None), ylim=(1, None))
    axes.legend(frameon=False, loc="lower right", fontsize=9)


def _peers(axes: Any, section: Section) -> None:
    shown = [figure for figure in section.figures if "edis" not in figure.name]
    names = [figure.name for figure in shown][::-1]
    values = [figure.value.median for figure in shown][::-1]
    axes.barh(names, values, color=[OURS if name.startswith("balancer") else OTHERS[1] for name in names])
    for place, value in enumerate(values):
        axes.text(value * 1.1, place, f"{value:.1f}", va="center", fontsize=8)
    axes.axvline(1.0, color="grey", linestyle=":")
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xscale="log", xlim=(0.5, max(values) * 4), xlabel="one pair ÷ BoundedSemaphore")


PICTURES: dict[str, Callable[[Any, Section], None]] = {
    "pair": _pair,
    "threads": _threads,
    "end_to_end": _end_to_end,
    "limits": _limits,
    "peers": _peers,
}
