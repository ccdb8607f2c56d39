"""Where and how the commands print: results to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, TextIO

from rich.box import HEAVY_HEAD, Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 10_000
"""Columns of what is no terminal: a program that reads a table wants its lines whole."""


def console() -> Console:
    """Return the console of results. Made anew, as a test may have put another stdout in place."""
    return _console(sys.stdout)


def steps() -> Console:
    """Return the console of progress, questions and notes."""
    return _console(sys.stderr)


def tell(sentence: str) -> None:
    """Print a note that is no result."""
    steps().print(Text(sentence))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, lines: Box = HEAVY_HEAD
) -> Table:
    """Make a table. Columns of numbers stand to the right; nothing is cut off, and no cell is markup."""
    found = [list(row) for row in rows]
    made = Table(title=Text(title), title_justify="left", box=lines)
    for place, name in enumerate(columns):
        numbers = bool(found) and all(isinstance(row[place], int | float | None) for row in found)
        made.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in found:
        made.add_row(*map(cell, row))
    return made


def cell(value: Any) -> Any:
    """Return what stands in a table for ``value``. Renderables stay as they are."""
    if value is None:
        return Text("-")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}Z")
    if isinstance(value, str | int | float):
        # A label or a reason comes from elsewhere, and could steer the terminal.
        return Text("".join(char if char.isprintable() else "?" for char in str(value)))
    return value


def seconds(value: float | None) -> str | None:
    """Return a length of time as people read it."""
    if value is None:
        return None
    if value == math.inf:  # as of a lease that nothing but a release ends
        return "∞"
    rounded = round(value)
    if rounded < 120:
        return f"{rounded} s"
    if rounded < 7200:
        return f"{rounded // 60} min"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value, dataclasses included, as JSON."""
    sys.stdout.write(json.dumps(plain(value), indent=indent) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Return what JSON knows for a value of this library."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def svg(renderable: Any, *, title: str, width: int = 90) -> str:
    """Return a picture of what a terminal so many characters wide would show."""
    canvas = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    canvas.print(renderable)
    # The picture is to show itself without asking the network for a font.
    return re.sub(r"@font-face \{[^}]*\}\s*", "", canvas.export_svg(title=title))


def _console(file: TextIO) -> Console:
    return Console(file=file, width=None if file.isatty() else _UNBOUNDED)
