"""What the server says, from bytes: the one text that every script answers, and the messages of a channel."""

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


def messages(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """Return the whole messages in ``data``, each a list of texts, and the beginning of the next.

    Raises:
        ResponseError: the server refused to be listened to.
    """
    found: list[list[bytes]] = []
    start = 0
    while True:
        try:
            message, start = _message(data, start)
        except Incomplete:
            return found, data[start:]
        found.append(message)


def _message(data: bytes, start: int) -> tuple[list[bytes], int]:
    kind, head, at = _line(data, start)
    if kind == b"-":
        raise _error(head)
    if kind != b"*":
        return [head], at
    parts = []
    for _ in range(int(head)):
        kind, part, at = _line(data, at)
        if kind == b"$":
            end = at + int(part)
            if len(data) < end + 2:
                raise Incomplete
            part, at = data[at:end], end + 2
        parts.append(part)
    return parts, at


def _line(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    end = data.find(b"\r\n", start)
    if end < 0:
        raise Incomplete
    return data[start : start + 1], data[start + 1 : end], end + 2


def _error(said: bytes) -> ResponseError:
    text = said.decode("utf-8", "replace")
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
