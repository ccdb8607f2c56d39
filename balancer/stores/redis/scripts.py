"""The Lua scripts: their text, what they are called by, and how many of the keys they touch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from balancer.rules import limits
from balancer.rules import operations as ops

KEYS = (
    "rows",
    "held",
    "owned",
    "timers",
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

LAYOUT = 3
"""Number of the way in which keys hold what they hold: pools of another do not see each other's."""
_NAMESPACE = 24
"""Longest namespace that keys spell out: the names are sent with each call."""


_CONSTANTS = {
    "OFFER": ops.OFFER_SECONDS,
    "MEMORY": ops.TOMBSTONE_SECONDS,
    "FIRST_WAIT": limits.FIRST_WAIT,
    "LONGEST_WAIT": limits.LONGEST_WAIT,
}
"""What the rules say in Python, in seconds; scripts have it in milliseconds."""


@dataclass(frozen=True)
class Script:
    """One script: files, in this order, and at last a call of the function that carries out its operation."""

    name: str
    """Of that function, and of the last file unless ``file`` says another."""
    file: str = ""
    keys: int = ALWAYS
    """How many of :data:`KEYS` it is given."""
    parts: tuple[str, ...] = ()
    """Files that stand before the last, beside those that all have."""
    ahead: tuple[str, ...] = ()
    """Files that stand ahead of the functions that all have."""
    arguments: tuple[str, ...] = ()
    """What that function is called with."""

    @cached_property
    def text(self) -> str:
        """What the server carries out."""
        constants = [f"local {name} = {seconds * 1000:.0f}" for name, seconds in _CONSTANTS.items()]
        names = ("_base", *self.ahead, "_state", "_steps", *self.parts, self.file or self.name)
        call = f"return {self.name}({', '.join(self.arguments)})"
        return "\n".join([*constants, *map(_file, names), call])

    @cached_property
    def sha(self) -> str:
        """What the server calls it by, once it has seen the text."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def _file(name: str) -> str:
    return resources.files("balancer.stores").joinpath("lua", f"{name}.lua").read_text("utf-8")


_ALL = len(KEYS)
SCRIPTS = {
    ops.Acquire: Script("acquire", parts=("_memory", "line"), ahead=("_fast", "_fast_acquire")),
    ops.Release: Script("release", "leases", WITH_JOBS, ahead=("_fast", "_memory", "_fast_release")),
    ops.Bind: Script("bind", "leases", WITH_JOBS, parts=("_memory",)),
    ops.Adopt: Script("adopt", keys=WITH_JOBS, parts=("_memory", "leases")),
    ops.Renew: Script("renew", "leases", parts=("_memory",)),
    ops.Report: Script("report", parts=("_memory", "leases", "accounts")),
    ops.Cool: Script("cool", "accounts"),
    ops.Reset: Script("reset", "accounts"),
    ops.Claim: Script("claim", "claims", _ALL),
    ops.Fail: Script("fail", "claims", _ALL),
    ops.Configure: Script("configure", keys=_ALL, parts=("claims",)),
    ops.ReadTable: Script("read_table", "reads", _ALL, parts=("claims",)),
    ops.Apply: Script("apply", keys=_ALL, parts=("_memory", "leases", "claims")),
    ops.ReadAll: Script("read_all", "reads", _ALL, parts=("claims",)),
    ops.ReadSome: Script("read_some", "reads", _ALL, parts=("claims",)),
    ops.Heartbeat: Script("heartbeat", "processes", parts=("_memory",)),
    ops.Register: Script("register", "processes", parts=("_memory",)),
    ops.SetWanted: Script("set_wanted", "line"),
}
"""Operation -> its script, with the pieces that it is made of."""
GREET = Script("greet", "processes", parts=("_memory",))
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
