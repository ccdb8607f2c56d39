"""The server's answers, from bytes. Only what scripts and plain commands answer (RESP 2)."""

from __future__ import annotations

from typing import Any

from redis.exceptions import NoScriptError, ResponseError


class Incomplete(Exception):
    """There is more to come."""


def parse(data: bytes) -> Any:
    """Return the one answer in ``data``; errors inside are returned, not raised.

    Raises:
        Incomplete: a part of it is missing.
    """
    return _value(data, 0)[0]


def _value(data: bytes, at: int) -> tuple[Any, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, head, after = data[at], data[at + 1 : end], end + 2
    if kind == 58:  # ":"
        return int(head), after
    if kind == 36:  # "$"
        return _bulk(data, after, int(head))
    if kind == 42:  # "*"
        return _array(data, after, int(head))
    return (head if kind == 43 else _error(head)), after


def _bulk(data: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    end = at + size
    if len(data) < end + 2:
        raise Incomplete
    return data[at:end], end + 2


def _array(data: bytes, at: int, size: int) -> tuple[list[Any] | None, int]:
    if size < 0:
        return None, at
    values = []
    for _ in range(size):
        value, at = _value(data, at)
        values.append(value)
    return values, at


def _error(said: bytes) -> ResponseError:
    text = said.decode("utf-8", "replace")
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
