"""Script calls as the bytes that are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from balancer.rules.operations import Operation, Owner, Settings
from balancer.stores.redis.scripts import KEYS, Script, base_of
from balancer.stores.redis.wire import FORMS, milliseconds


def to_bytes(value: object) -> bytes:
    """Return an argument as it is sent."""
    return str(value).encode("utf-8", "surrogatepass")


def bulk(value: bytes) -> bytes:
    """Return one argument in the server's protocol."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


_NOTHING = bulk(b"")


def pack(command: Sequence[object]) -> bytes:
    """Return a command in the server's protocol."""
    packed = [bulk(part if isinstance(part, bytes) else to_bytes(part)) for part in command]
    return b"*%d\r\n%b" % (len(packed), b"".join(packed))


class Call:
    """One script call."""

    __slots__ = ("_head", "_own")

    def __init__(self, head: Head, own: Sequence[object]) -> None:
        self._head, self._own = head, own

    @property
    def packed(self) -> bytes:
        """``EVALSHA`` in the server's protocol."""
        head, own = self._head, self._own
        # Most arguments are empty, and what is not prepared for each call costs at each call.
        arguments = [_NOTHING if value == "" else bulk(to_bytes(value)) for value in own]
        return b"*%d\r\n%b%b" % (head.length + len(own), head.packed, b"".join(arguments))

    @property
    def short(self) -> tuple[str | bytes, ...]:
        """The call by the script's hash, as clients take it."""
        return "EVALSHA", self._head.script.sha, *self._head.rest, *map(to_bytes, self._own)

    @property
    def long(self) -> tuple[str | bytes, ...]:
        """The call with the script's text, which has the server remember it."""
        return "EVAL", self._head.script.text, *self._head.rest, *map(to_bytes, self._own)


class Head:
    """What all calls of one script begin with, for one owner."""

    __slots__ = ("length", "packed", "rest", "script")

    def __init__(self, script: Script, settings: Settings, owner: Owner) -> None:
        base = base_of(settings.namespace)
        names = KEYS[: script.keys]
        ttls = (settings.lease_ttl, settings.job_ttl, settings.ambiguous_ttl)
        flags = "l" * (settings.strategy == "least_loaded") + "o" * settings.lower_only
        constants = " ".join([*(str(milliseconds(ttl)) for ttl in ttls), flags])
        rest = [len(names), *(base + name for name in names), owner.name, owner.host_pid, constants]
        self.script = script
        self.rest = tuple(map(to_bytes, rest))
        command = (b"EVALSHA", script.sha.encode(), *self.rest)
        self.length = len(command)
        self.packed = b"".join(map(bulk, command))


_GREET = Script("greet")


class Packer:
    """Turns the operations of one owner into calls."""

    def __init__(self, settings: Settings, owner: Owner, now: Callable[[], float] | None) -> None:
        self._now = now
        self._heads = {kind: Head(form.script, settings, owner) for kind, form in FORMS.items()}
        self._greet = Head(_GREET, settings, owner)
        self.met = False
        """The owner has been answered once: a store that does not know it then has forgotten it."""

    def call(self, operation: Operation) -> Call:
        """Return the call that carries out ``operation``."""
        kind = type(operation)
        return self._call(self._heads[kind], FORMS[kind].args(operation))

    def greeting(self) -> bytes:
        """Return the command that a new connection begins with, whatever scripts the server knows."""
        return pack(self._call(self._greet, ()).long)

    def _call(self, head: Head, args: Sequence[object]) -> Call:
        now = "" if self._now is None else round(self._now() * 1000)
        return Call(head, ("" if self.met else "1", now, *args))
