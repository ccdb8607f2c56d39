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
from typing import Any, NamedTuple

from balancer.useapi.json_access import get_path

LONGEST = 31 * 86400.0
"""No answer makes us pause for longer, in seconds: 31 days."""

# Where requests and httpx, then aiohttp and urllib3, keep what was read; then what doubles are made of.
_BODIES = ("_content", "_body", "content", "body", "text", "data")
_BODY_LIMIT = 8 * 1024 * 1024
_TEXT_LIMIT = 64 * 1024
_PAUSES = ("retryAfter", "retryAt", "error.retryAfter", "error.retryAt")
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
    """The body's JSON, or None."""

    def at(self, path: str) -> Any:
        """Return what stands in the body at a dotted path of keys, or None."""
        return get_path(self.body, path)

    def pause(self, wall: float) -> float | None:
        """Return how many seconds it asks to wait, 31 days at most; None if it does not.

        The first usable one counts of: the header ``Retry-After`` (RFC 9110, section 10.2.3), then
        ``retryAfter`` and ``retryAt`` of the body or of its ``error`` (useapi.net's pages of Google
        Flow and Google Vids). ``wall`` is now, in seconds since the epoch.
        """
        stated = (self.headers.get("retry-after"), *map(self.at, _PAUSES))
        return next((pause for value in stated if (pause := seconds_until(value, wall))), None)


def read(thing: object) -> Answer | None:
    """Return what ``thing`` says as an HTTP answer; None if it is none: it has no status.

    It may be a response object of any client, a bare status, or a triple of status, headers (a
    mapping or None) and body (text, bytes, JSON or None).
    """
    status = _status(thing)
    if status is None:
        return None
    headers = suppressing(lambda: _headers(thing), {})
    raw = suppressing(lambda: _raw(thing), "")
    if len(raw) > _BODY_LIMIT:
        return Answer(status, headers, _text(raw))
    return Answer(status, headers, _text(raw), suppressing(lambda: json.loads(raw), None))


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
    pairs = headers.items() if hasattr(type(headers), "items") else headers
    return {(_text(name) if isinstance(name, bytes) else str(name)).lower(): value for name, value in pairs}


def _raw(thing: Any) -> str | bytes:
    held = {"body": thing[2]} if isinstance(thing, tuple) else vars(thing)
    body = next(held[name] for name in _BODIES if isinstance(held.get(name), str | bytes | dict | list))
    return body if isinstance(body, str | bytes) else json.dumps(body, default=str, ensure_ascii=False)


def _text(raw: Any) -> str:
    start = raw[:_TEXT_LIMIT]
    return start.decode("utf-8", "replace") if isinstance(start, bytes) else str(start)


def _seconds(value: Any, wall: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(float(value), wall)
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
