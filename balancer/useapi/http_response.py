"""Answers of any HTTP client, read without importing the client, without I/O, without raising.

requests, httpx, aiohttp, urllib3 and urllib agree on hardly more than that an answer has a status
and headers. What counts as the body is only what the object already holds: ``.content`` and
``.text`` may read from the network, raise, or return a coroutine. A body that was not read yet is
no body.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from inspect import getattr_static
from types import MemberDescriptorType
from typing import Any, NamedTuple

from balancer.useapi.json_access import get_path

LONGEST = 31 * 86400.0
"""No answer makes us pause for longer, in seconds: 31 days."""

# Where requests and httpx, then aiohttp and urllib3, keep what was read; then what doubles are made of.
_BODIES = ("_content", "_body", "content", "body", "text", "data")
BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of an account or job list that are read, once unpacked."""
_READ_AT_ONCE = 256 * 1024
_TEXT_LIMIT = 64 * 1024
_INSTANT_LIMIT = 200
"""Characters of a pause: no date in any form has half as many, and the parsers of dates are not linear."""
_PAUSES = (
    "retryAfter",
    "retryAt",
    "error.retryAfter",
    "error.retryAt",
    "resetsAt",
    "quota.resetsAt",
    "error.resetsAt",
)
_EPOCH, _EPOCH_MS = 1e9, 1e12  # as a length, the first is 31 years; as an instant, the year 2001
_LENGTH = (
    r"([0-9]+(?:\.[0-9]*)?)\s*(?:(s)(?:ec(?:ond)?s?)?|(m)(?:in(?:ute)?s?)?|(h)(?:(?:ou)?rs?)?|(d)(?:ays?)?)?"
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def suppressing(read: Callable[[], Any], otherwise: Any) -> Any:
    """Return ``read()``, or ``otherwise`` if that raises: a foreign object may do anything."""
    try:
        return read()
    except Exception:  # noqa: BLE001  (a foreign property may raise whatever it likes)
        return otherwise


class Answer(NamedTuple):
    """What an HTTP answer says, whoever received it."""

    status: int
    headers: Mapping[str, Any]
    """Values by lower-case name."""
    text: str = ""
    """The beginning of the body, at most 64 KiB; empty if there is none."""
    body: Any = None
    """The body's JSON, or None; also of a body that is too large to be looked at while somebody waits."""
    unread: bool = False
    """It is a response whose body was not read yet: what it says besides its status is not known."""

    def at(self, path: str) -> Any:
        """Return what stands in the body at a dotted path of keys, or None."""
        return get_path(self.body, path)

    @property
    def is_page(self) -> bool:
        """Whether the body is what a gateway writes: anything but JSON, which useapi.net answers with."""
        return bool(self.text.strip()) and not isinstance(self.body, Mapping | list)

    @property
    def own_status(self) -> int:
        """The status as the service's own word; 502 where a web page says that a gateway has answered.

        A 404 of a gateway that was just set up anew does not mean that a job is gone.
        """
        return HTTPStatus.BAD_GATEWAY if self.text.lstrip().startswith("<") else self.status

    def pause(self, wall: float) -> float | None:
        """Return how many seconds it asks to wait, 31 days at most; None if it does not.

        The first usable one counts of: the header ``Retry-After`` (RFC 9110, section 10.2.3), then
        ``retryAfter``, ``retryAt`` and ``resetsAt`` of the body, of its ``error`` or its ``quota``
        (useapi.net's pages of Google Flow, Google Vids and Muse). ``wall`` is now, in seconds since
        the epoch, for answers that do not say when they were made.
        """
        now = self.made_at(wall)
        header = self.headers.get("retry-after")
        stated = (suppressing(lambda: _once(header), header), *map(self.at, _PAUSES))
        return next((pause for value in stated if (pause := seconds_until(value, now))), None)

    def made_at(self, wall: float) -> float:
        """Return when the server made it, by its header ``Date``; else ``wall``.

        An instant that the server names is as far away as its own clock says, not the client's.
        """
        instant = suppressing(lambda: _instant(_text(self.headers["date"], _INSTANT_LIMIT)), math.nan)
        return instant if math.isfinite(instant) else wall


def read(thing: object, *, whole: bool = False) -> Answer | None:
    """Return what ``thing`` says as an HTTP answer; None if it is none: it has no status.

    It may be a response object of any client, a bare status, or a triple of status, headers (a
    mapping, pairs or None) and body (text, bytes, JSON or None). Of text up to 256 KiB are parsed, as
    event loops stand still meanwhile; with ``whole`` all of it: a result may be an image in its answer.
    """
    status = _status(thing)
    if status is None:
        return None
    headers = suppressing(lambda: _headers(thing), {})
    held = suppressing(lambda: _held(thing), None)
    if held is None:
        return Answer(status, headers, unread=not isinstance(thing, int | tuple | BaseException))
    if not isinstance(held, str | bytes):
        return Answer(status, headers, suppressing(lambda: _written(held), ""), held)
    return Answer(status, headers, _text(held), parsed(held) if whole or len(held) <= _READ_AT_ONCE else None)


def parsed(raw: str | bytes) -> Any:
    """Return the JSON value in what was received; None if it is none.

    A byte that is no text, in a prompt that comes back, must not cost the id of a paid job.
    """

    def read_as_text() -> Any:
        return json.loads((raw if isinstance(raw, str) else raw.decode("utf-8", "replace")).lstrip("\ufeff"))

    return suppressing(lambda: json.loads(raw), None) or suppressing(read_as_text, None)


def retry_after(headers: Mapping[str, Any], wall: float) -> float | None:
    """Return how many seconds the header ``Retry-After`` asks to wait (RFC 9110, 10.2.3), or None."""
    return Answer(503, suppressing(lambda: _lower(headers), {})).pause(wall)


def seconds_until(value: object, wall: float) -> float | None:
    """Return the seconds from ``wall`` to what ``value`` names, 31 days at most; None for nonsense.

    It may be a length in seconds or with a unit (``5 minutes``), an instant in seconds or
    milliseconds since the epoch, an HTTP date in any form of RFC 9110, section 5.6.7, or ISO 8601;
    a number or text. Past, zero, negative and not finite are nonsense.
    """
    seconds = suppressing(lambda: _seconds(value, wall), math.nan)
    return min(seconds, LONGEST) if 0 < seconds < math.inf else None


def _status(thing: Any) -> int | None:
    readings = (
        thing,
        suppressing(lambda: _triple(thing)[0], None),
        suppressing(lambda: thing.status_code, None),
        suppressing(lambda: thing.status, None),
    )
    return next((found for value in readings if (found := suppressing(partial(_checked, value), None))), None)


def _checked(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 999:
        return int(value)
    return None


def _triple(thing: Any) -> tuple[Any, Any, Any]:
    """Return status, headers and body; raise for anything else, three numbers included."""
    status, headers, body = thing if isinstance(thing, tuple) else ()
    if headers is None or isinstance(headers, list) or hasattr(type(headers), "items"):
        return status, headers, body
    raise TypeError("these are no headers")


def _headers(thing: Any) -> dict[str, Any]:
    return _lower(_triple(thing)[1] if isinstance(thing, tuple) else thing.headers)


def _lower(headers: Any) -> dict[str, Any]:
    """Return values by lower-case name; those of one that comes twice joined (RFC 9110, section 5.3)."""
    pairs = headers.items() if hasattr(type(headers), "items") else headers
    found: dict[str, Any] = {}
    for name, value in pairs:
        key = (_text(name) if isinstance(name, bytes) else str(name)).lower()
        found[key] = f"{_text(found[key])}, {_text(value)}" if key in found else value
    return found


def _held(thing: Any) -> str | bytes | Mapping[Any, Any] | list[Any] | None:
    """Return what an answer holds of its body; None: it was not read."""
    own = {"body": thing[2]} if isinstance(thing, tuple) else suppressing(lambda: vars(thing), {})
    bodies = (own[name] if name in own else _of_type(thing, name) for name in _BODIES)
    kinds = (str, bytes, bytearray, memoryview, Mapping, list)
    found = next((body for body in bodies if isinstance(body, kinds)), None)
    return bytes(found) if isinstance(found, bytearray | memoryview) else found


def _of_type(thing: Any, name: str) -> Any:
    """Return what a slot or the type holds, and nothing computed: that may read from the network."""
    value = getattr_static(type(thing), name, None)
    return getattr(thing, name, None) if isinstance(value, MemberDescriptorType) else value


def _written(body: object) -> str:
    """Return the beginning of a parsed body as text, without writing the rest."""
    pieces, size = [], 0
    for piece in json.JSONEncoder(default=str, ensure_ascii=False).iterencode(body):
        pieces.append(piece[:_TEXT_LIMIT])
        size += len(piece)
        if size >= _TEXT_LIMIT:
            break
    return "".join(pieces)[:_TEXT_LIMIT]


def _text(raw: Any, limit: int = _TEXT_LIMIT) -> str:
    start = raw[:limit]
    return start.decode("utf-8", "replace") if isinstance(start, bytes) else str(start)


def _once(header: Any) -> Any:
    """Return one value, the longest pause, of a header that came twice: clients join them by commas."""
    parts = [part.strip() for part in _text(header, _INSTANT_LIMIT).split(",")]
    half = len(parts) // 2
    if half and all(re.fullmatch(_LENGTH, part, re.IGNORECASE) for part in parts):
        return max(parts, key=lambda part: _seconds(part, 0.0))
    return ", ".join(parts[:half]) if half and parts[:half] == parts[half:] else header


def _seconds(value: Any, wall: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(float(value), wall)
    if len(value) > _INSTANT_LIMIT:
        return math.nan
    text = _text(value).strip()
    length = re.fullmatch(_LENGTH, text, re.IGNORECASE)
    if length is None:
        return _instant(text) - wall
    number, *units = length.groups()
    unit = next(filter(None, units), None)
    return float(number) * _UNITS[unit.lower()] if unit else _from_number(float(number), wall)


def _from_number(number: float, wall: float) -> float:
    if number < _EPOCH:
        return number
    return (number if number < _EPOCH_MS else number / 1000) - wall


def _instant(text: str) -> float:
    try:
        instant = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        instant = parsedate_to_datetime(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
