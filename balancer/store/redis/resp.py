"""The server's answers, from bytes. Every script answers one text, so there are no lists to read."""

from __future__ import annotations

from typing import Any

from redis.exceptions import NoScriptError, ResponseError


class Incomplete(Exception):
    """There is more to come."""


def parse(data: bytes) -> Any:
    """Return the one answer in ``data``: an error, which is not raised, or a text.

    Raises:
        Incomplete: a part of it is missing.
    """
    end = data.find(b"\r\n")
    if end < 0:
        raise Incomplete
    kind, head = data[:1], data[1:end]
    if kind == b"-":
        return _error(head)
    if kind != b"$":
        return head
    start, size = end + 2, int(head)
    if size < 0:
        return None
    if len(data) < start + size + 2:
        raise Incomplete
    return data[start : start + size]


def _error(said: bytes) -> ResponseError:
    text = said.decode("utf-8", "replace")
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
