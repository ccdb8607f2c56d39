"""What a benchmark found: figures, beside the budgets that they are held to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.harness import Spread


@dataclass(frozen=True, slots=True)
class Budget:
    """The most, or the least, that a figure should be; the aim is what would be better still."""

    limit: float
    aim: float | None = None
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps to the limit."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        aim = f" (aim {number(self.aim)})" if self.aim is not None else ""
        return f"{sign} {number(self.limit)}{aim}"


def at_most(limit: float, aim: float | None = None) -> Budget:
    """Return the budget of a cost."""
    return Budget(limit, aim)


def at_least(limit: float, aim: float | None = None) -> Budget:
    """Return the budget of a gain."""
    return Budget(limit, aim, least=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured."""

    name: str
    value: Spread
    unit: str = "x"
    """``x`` marks a ratio to the yardstick."""
    budget: Budget | None = None
    absolute: str = ""
    """The same in units of this machine and this hour."""

    @property
    def verdict(self) -> str:
        """``met`` or ``NOT MET``, or nothing where there is no budget."""
        if self.budget is None:
            return ""
        return "met" if self.budget.met(self.value.median) else "NOT MET"

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        spread = f"{number(self.value.low)} to {number(self.value.high)}"
        budget = "" if self.budget is None else str(self.budget)
        return (
            self.name,
            f"{number(self.value.median)} {self.unit}",
            spread,
            self.absolute,
            budget,
            self.verdict,
        )


@dataclass(slots=True)
class Section:
    """The answer to one question."""

    name: str
    title: str
    text: str
    """What was done, what the yardstick is, and how to read the figures."""
    figures: list[Figure] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    """What a plot is drawn from."""
    seconds: float = 0.0

    def add(
        self, name: str, value: Spread, unit: str = "x", budget: Budget | None = None, absolute: str = ""
    ) -> None:
        """Note a figure."""
        self.figures.append(Figure(name, value, unit, budget, absolute))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Section:
        """Build it from plain values."""
        figures = [
            Figure(**{**f, "value": Spread(*f["value"]), "budget": f["budget"] and Budget(**f["budget"])})
            for f in plain["figures"]
        ]
        return Section(**{**plain, "figures": figures})

    def markdown(self) -> str:
        """Return the section as it stands in the results."""
        lines = [f"## {self.title}", "", self.text, ""]
        lines += ["| what | median | quartiles | here | budget | |", "|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(figure.cells())} |" for figure in self.figures]
        return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Return a number with three figures that mean something."""
    if value == 0 or not abs(value) < 1e15:
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a length of time in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns"
