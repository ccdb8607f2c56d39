"""Requests, answers, and faults on demand between them: other answers, delays, cut connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

CUTS = (None, "before", "after", "midbody")

_BODIES: Mapping[int, Any] = MappingProxyType(
    {
        400: {"error": "Parameter prompt is required", "code": 400},
        401: {"error": "Unauthorized", "code": 401},
        402: {"error": "Account has no subscription or subscription expired", "code": 402},
        412: {"error": "Not enough credits: requested 3, available 0", "code": 412},
        422: {"is_flagged": True, "reason": "moderation", "musician_replacement_data": None},
        429: {"error": "Too many requests, all configured accounts are at capacity", "code": 429},
        502: "<html><body>502 Bad Gateway</body></html>",
        503: {"error": {"code": 503, "message": "Service temporarily unavailable.", "status": "UNAVAILABLE"}},
        596: {"error": "Account in error state: session could not be refreshed", "code": 596},
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    """What happens to it on the way."""


def answer(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Make an answer: JSON from a mapping or list, text and bytes as they are, None for no body."""
    raw, content = _encoded(body)
    return Answer(status, raw, {**content, **(headers or {})})


@dataclass(eq=False)
class Fault:
    """One scripted fault. ``hit`` is set when it first strikes; ``lift()`` ends it."""

    pattern: str
    times: int | None = 1
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: str | None = None
    hang: bool = False
    account: str | None = None
    empty: bool = False
    hit: threading.Event = field(default_factory=threading.Event)
    _lifted: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.cut not in CUTS:
            raise ValueError(f"cut must be one of {CUTS}, not {self.cut!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be None or at least 1, not {self.times!r}")

    @property
    def replaces(self) -> bool:
        """Whether the request is not carried out: another answer, or none, takes its place."""
        return self.status is not None or self.body is not None or self.hang or self.cut == "before"

    @property
    def silent(self) -> bool:
        """Whether nothing at all goes back."""
        return self.hang or self.cut in ("before", "after")

    def scripted(self) -> Answer:
        """Return the answer that takes the place of the real one."""
        status = self.status or 200
        body = (
            _BODIES.get(status, {"error": "Scripted fault", "code": status})
            if self.body is None
            else self.body
        )
        made = answer(status, body, self.headers)
        return Answer(made.status, made.body, made.headers, self)

    def onto(self, real: Answer) -> Answer:
        """Return the real answer with this fault on its way."""
        return Answer(real.status, real.body, {**real.headers, **self.headers}, self)

    def strikes(self, method: str, path: str, account: str | None) -> bool:
        """Return whether it is meant for that request."""
        names = (path, f"{method} {path}")
        return self.account == account and any(fnmatchcase(name, self.pattern) for name in names)

    def pause(self) -> None:
        """Wait out the delay, or for ever if it hangs; less if the fault is lifted."""
        if self.hang or self.delay:
            self._lifted.wait(None if self.hang else self.delay)

    def lift(self) -> None:
        """End the fault: it strikes no more, and whom it holds up goes on."""
        self._lifted.set()

    @property
    def spent(self) -> bool:
        """Whether it strikes no more."""
        return self.times == 0 or self._lifted.is_set()


class Struck(Exception):
    """Raised on the way to an account where a fault waits that takes the place of the answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.pattern)
        self.fault = fault


class Faults:
    """Mutable: the faults that are still to strike, in the order of their script."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self._struck: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault at the end of the script."""
        with self._lock:
            self._waiting.append(fault)
            self._struck.append(fault)
        return fault

    def take(
        self, method: str, path: str, account: str | None = None, *, replaces: bool | None = None
    ) -> Fault | None:
        """Return the first fault for that request, or for a create that lands on ``account``.

        ``replaces`` asks only for faults that take the place of the real answer, or only for others.
        """
        if not self._waiting:
            return None
        with self._lock:
            self._waiting = [fault for fault in self._waiting if not fault.spent]
            for fault in self._waiting:
                if replaces in (None, fault.replaces) and fault.strikes(method, path, account):
                    if fault.times is not None:
                        fault.times -= 1
                    fault.hit.set()
                    return fault
        return None

    def lift_all(self) -> None:
        """End every fault ever scripted, so that nobody hangs on one."""
        with self._lock:
            for fault in self._struck:
                fault.lift()


def _encoded(body: Any) -> tuple[bytes, dict[str, str]]:
    if body is None:
        return b"", {}
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        kind = "text/html" if raw.lstrip()[:1] == b"<" else "text/plain; charset=utf-8"
        return raw, {"Content-Type": kind}
    return json.dumps(body, ensure_ascii=False).encode(), {"Content-Type": "application/json; charset=utf-8"}
