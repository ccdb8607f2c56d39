"""The Lua scripts: their text, what they are called by, and how many of the keys they touch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

KEYS = (
    "rows",
    "held",
    "owned",
    "agenda",
    "loose",
    "jobs",
    "tombs",
    "accounts",
    "room",
    "line",
    "owners",
    "meta",
    "done",
    "early",
    "table",
)
"""Ends of the keys' names, in the order of the scripts' KEYS."""
ALWAYS = 12
"""Keys that every script touches."""
WITH_JOBS = 14
"""Those, and what is remembered of released jobs."""

LAYOUT = 2
"""Number of the way in which keys hold what they hold: pools of another do not see each other's."""
_NAMESPACE = 24
"""Longest namespace that keys spell out: the names are sent with each call."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script."""

    name: str
    keys: int = ALWAYS
    """How many of :data:`KEYS` it is given."""
    parts: tuple[str, ...] = ()
    """Files that stand before its own, beside those that all have."""
    ahead: tuple[str, ...] = ()
    """Files that stand ahead of the functions that all have."""
    text: str = field(init=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        names = ("_base", *self.ahead, "_state", "_roll", "_steps", *self.parts, self.name)
        text = "\n".join(_file(name) for name in names)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "sha", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def _file(name: str) -> str:
    return resources.files("balancer.stores").joinpath("lua", f"{name}.lua").read_text("utf-8")


def base_of(namespace: str) -> str:
    """Return how all keys of a namespace begin: one hash tag, so that a cluster keeps them together."""
    if len(namespace) > _NAMESPACE:
        fingerprint = hashlib.sha256(namespace.encode()).hexdigest()[:12]
        namespace = f"{namespace[: _NAMESPACE - 13]}~{fingerprint}"
    return f"{{balancer:{LAYOUT}:{namespace}}}:"


def channel_of(namespace: str, owner: str) -> str:
    """Return the channel on which an owner hears of offers."""
    return f"{base_of(namespace)}offers:{owner}"


def roll_of(namespace: str) -> str:
    """Return the channel on which all owners hear that the store asks what they hold."""
    return f"{base_of(namespace)}roll"
