"""The Lua scripts: their text, what they are called by, and how many of the keys they touch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from balancer.rules import operations as ops

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


_CLAIMS = ("_claims",)
SCRIPTS = {
    ops.Acquire: Script("acquire", ahead=("_fast", "_fast_acquire"), parts=("_memory", "_wants")),
    ops.Release: Script(
        "release", WITH_JOBS, ahead=("_fast", "_remember", "_fast_release"), parts=("_memory", "_finish")
    ),
    ops.Bind: Script("bind", WITH_JOBS, parts=("_remember", "_memory", "_finish", "_bind")),
    ops.Adopt: Script("adopt", WITH_JOBS, parts=("_memory", "_bind")),
    ops.Renew: Script("renew", parts=("_bind",)),
    ops.Report: Script("report", parts=("_bind", "_cool")),
    ops.Cool: Script("cool", parts=("_cool",)),
    ops.Reset: Script("reset"),
    ops.Claim: Script("claim", len(KEYS), parts=_CLAIMS),
    ops.Fail: Script("fail", len(KEYS), parts=_CLAIMS),
    ops.Configure: Script("configure", len(KEYS), parts=_CLAIMS),
    ops.ReadTable: Script("read_table", len(KEYS), parts=_CLAIMS),
    ops.Apply: Script("apply", len(KEYS), parts=("_remember", "_memory", "_finish", "_bind", "_claims")),
    ops.ReadAll: Script("read_all", len(KEYS), parts=_CLAIMS),
    ops.ReadSome: Script("read_some", len(KEYS), parts=_CLAIMS),
    ops.Heartbeat: Script("heartbeat"),
    ops.Register: Script("register", parts=("_memory",)),
    ops.SetWanted: Script("set_wanted", parts=("_wants",)),
}
"""Operation -> its script, with the pieces that it is made of."""
GREET = Script("greet")
"""What a new connection begins with."""


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
