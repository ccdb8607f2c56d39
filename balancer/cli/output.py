"""Where the commands print: results to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from rich.console import Console


def console() -> Console:
    """Return the console of results. Made anew, as a test may have put another stdout in place."""
    return Console(file=sys.stdout)


def steps() -> Console:
    """Return the console of progress, questions and errors."""
    return Console(file=sys.stderr)


def drawing(width: int) -> Console:
    """Return a console that shows nothing and can be exported, so many characters wide."""
    return Console(file=io.StringIO(), record=True, width=width, force_terminal=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
