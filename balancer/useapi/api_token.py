"""The API token, kept so that nothing shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NoReturn


class Token:
    """An API token that no repr shows; one given as a callable is read anew at each fetch."""

    __slots__ = ("_value", "fixed")

    def __init__(self, value: str | Callable[[], str]) -> None:
        self._value: Any = value
        self.fixed = not callable(value)
        """It is a string, and not a callable that is asked at each fetch."""

    def __repr__(self) -> str:
        return "Token(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token cannot be pickled: a pickle is a file")

    @classmethod
    def of(cls, value: str | Callable[[], str] | Token | None) -> Token | None:
        """Wrap a token as users give it. Never raises, so that no traceback can show it."""
        return value if value is None or isinstance(value, Token) else cls(value)

    def now(self) -> Token:
        """Return the token of this moment, as a fixed one. Raises what the user's callable raises."""
        if self.fixed:
            return self
        token = Token("")
        token._value = self._read()
        return token

    def problem(self) -> str | None:
        """Say what is wrong with the token without showing it, or None."""
        value = self._read()
        if not isinstance(value, str):
            return f"must be a string, not {type(value).__name__}"
        value = value.strip()
        if not value:
            return "is empty: pass token=, or set USEAPI_TOKEN"
        for place, letter in enumerate(value):
            if not "!" <= letter <= "~":
                return f"has a character at position {place} that a header cannot carry"
        return None

    def bearer(self) -> str:
        """Return the value of the Authorization header."""
        return f"Bearer {self._read().strip()}"

    def customer(self) -> str:
        """Return what names the customer and is no secret: ``user:<num>``, or else a fingerprint."""
        value: str = self._read().strip()
        head = value.split("-", 1)[0]
        if head.startswith("user:") and head[5:].isdigit():
            return head
        return "token:" + hashlib.sha256(b"balancer customer " + value.encode()).hexdigest()[:16]

    def _read(self) -> Any:
        return self._value if self.fixed else self._value()
