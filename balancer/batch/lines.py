"""The lines of a batch: read and checked whole before anything is sent. Pure but for the reading."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from balancer.client.orders import Order, order
from balancer.request import AcquireOptions, AcquireRequest
from balancer.services.schema import Service


class WrongInputError(ValueError):
    """The input, or what is beside it, does not fit. Nothing was sent."""


class Line(NamedTuple):
    """One line, and the create that it asks for."""

    number: int
    """From 1, blank lines counted."""
    create: Order
    options: AcquireOptions
    """Where it has to run."""


class Input(NamedTuple):
    """A file of lines."""

    lines: tuple[Line, ...]
    digest: str
    """What tells it from another file."""


def read_input(path: Path, row: Service, endpoint: str, first: int | None = None) -> Input:
    """Return the lines of a file, or the ``first`` so many of them.

    Raises:
        WrongInputError: a line is no JSON object, or no create of this service. It names the line.
    """
    raw = path.read_bytes()
    lines = []
    for number, text in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if text.strip():
            lines.append(_line(number, text, row, endpoint))
    return Input(tuple(lines[:first]), hashlib.sha256(raw).hexdigest())


def _line(number: int, text: bytes, row: Service, endpoint: str) -> Line:
    options = AcquireOptions()
    try:
        fields: Any = json.loads(text, parse_constant=_no_number)
        if fields is None:
            fields = []  # what is no object is told of as wrong fields, and so is null
        create = order(row, endpoint, fields, None, options)
        AcquireRequest.make(**options, row=row)
    except json.JSONDecodeError as error:
        why = f"no JSON: {error.msg}"
    except (ValueError, TypeError, RecursionError) as error:
        why = str(error)
    else:
        return Line(number, create, options)
    # Its text is not shown: a prompt is its writer's business.
    raise WrongInputError(f"line {number}: {why}")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
