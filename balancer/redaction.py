"""Keeping secrets out of what people read.

The account list brings tokens, cookies and passwords with it, and an error text may quote one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

_SECRET = re.compile(
    r"token|jwt|cookie|passw|secret|session|refresh|access|credential|auth|bearer|api_?key|discord|params",
    re.IGNORECASE,
)
_SECRET_NUMBER = re.compile(
    r"(token|jwt|cookie|password|passwd|passcode|secret|session|credential|pin|otp|key)s?$", re.IGNORECASE
)
_TOKEN = re.compile(r"eyJ[\w.=…-]*|user:\d+-[^\s\"'<>()\[\]{},;]+")
_USER_IN_URL = re.compile(r"://([^\s'\"<>]{1,512})@")
_LIMIT = 200
_LOOKED_AT = 16 * 1024
"""Characters of a text that are searched for secrets; of what comes after them nothing is shown."""
SHORTEST = 4
"""Shorter strings are no secrets, and cutting each "n" and "/" would leave nothing to read."""
_CUT = "[cut]"


@lru_cache
def is_secret(name: str) -> bool:
    """Return whether a field of that name may hold a secret, or hold fields that do."""
    return _SECRET.search(name) is not None


@lru_cache
def is_secret_number(name: str) -> bool:
    """Return whether a number of that name may be a secret: ``password`` may, ``tokens_remaining`` not."""
    return _SECRET_NUMBER.search(name) is not None


def clean(text: str, hidden: Collection[str] = ()) -> str:
    """Return ``text`` fit for a log line, at most 200 characters long.

    Cut out are the strings ``hidden``, tokens of a known form, users and passwords in URLs (those of a proxy,
    say), and control characters.
    """
    start = text[:_LOOKED_AT]
    for secret in hidden:
        start = start.replace(secret, _CUT)
    if len(text) > _LOOKED_AT:  # a secret may begin where it was cut off
        start = start[: max(0, len(start) - max(map(len, hidden), default=0))] + "…"
    text = start
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    text = _USER_IN_URL.sub(_without_user, _TOKEN.sub(_CUT, text))
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"


def _without_user(found: re.Match[str]) -> str:
    # A password may hold a slash that nobody escaped; a path may hold an address, and shows no secret.
    user = found[1]
    return f"://{_CUT}@" if ":" in user or "/" not in user else found[0]


def secrets(body: object) -> list[str]:
    """Return every string that stands under a secret-looking name, however deep, the longest first."""
    found: set[str] = set()
    # A stack, not recursion: a body may be nested deeper than Python calls may.
    stack = [(body, False)]
    while stack:
        value, secret = stack.pop()
        if isinstance(value, str):
            if secret and len(value) >= SHORTEST:
                found.add(value)
        elif isinstance(value, Mapping):
            stack.extend((item, secret or is_secret(str(name))) for name, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend((item, secret) for item in value)
    return sorted(found, key=len, reverse=True)
