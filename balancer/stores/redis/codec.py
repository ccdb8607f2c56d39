"""Operations as script calls, ready to be sent, and answers of scripts as answers of operations.

The fields of an operation are sent in the order in which :mod:`balancer.rules.operations` declares them, each
as its type says (:data:`_KINDS`), and are the parameters of the Lua function that carries it out. None is an
empty argument on the way, and nil there. An answer is one value, or an object without what is as by default.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.rules.operations import Operation, Owner, Settings
from balancer.stores.redis.scripts import GREET, KEYS, SCRIPTS, Script, base_of

_FOR_EVER = 10**15
"""Milliseconds, 31,700 years: the script language writes no infinity into JSON."""


# -- kinds of arguments -----------------------------------------------------------------------------------


def _milliseconds(seconds: float) -> int:
    """Return a length in whole milliseconds; the longest stands for ever."""
    return round(min(seconds * 1000, _FOR_EVER))


_marked = "=".__add__
"""A text that may be empty is told from none at all."""


def _flag(value: bool) -> str:
    return "1" if value else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(value: Mapping[str, int]) -> str:
    return _json(dict(value))


def _priority(value: int) -> int | str:
    return max(-ops.MOST_PRIORITY, min(value, ops.MOST_PRIORITY)) if value else ""


def _described(accounts: Sequence[Account]) -> str:
    return _json([(a.id, a.capacity, a.broken is not None, _description(a)) for a in accounts])


def _description(account: Account) -> str:
    told = {
        "capacity": account.capacity,
        "fields": dict(account.fields),
        "broken": account.broken,
        "note": account.note,
    }
    return _json({name: value for name, value in told.items() if value is not None})


_HELD = "key", "account", "label", "scope", "adverse", "accepted", "declined"


def _held(rows: Sequence[ops.LeaseState]) -> str:
    return _json(
        [
            {name: value for name in _HELD if (value := getattr(row, name)) not in (None, False)}
            | {"age": _milliseconds(row.age)}
            for row in rows
        ]
    )


# -- kinds of answers -------------------------------------------------------------------------------------


Answer = Callable[[Any, int, int], Any]
"""What a script answered, the version in force and what the store's clock reads -> what is answered."""
Read = Callable[[Any, int], Any]
"""A value as it was told, and what the store's clock reads -> what is meant."""


def _as_is(value: Any, _: int) -> Any:
    return value


def _seconds(ms: float, _: int = 0) -> float:
    return ms / 1000 if ms < _FOR_EVER / 2 else math.inf


def _since(instant: float, now: int) -> float:
    return _seconds(now - instant)


def _until(instant: float, now: int) -> float:
    return _seconds(instant - now)


def _tuple(values: Any, _: int) -> tuple[str, ...]:
    return tuple(values)  # an empty list arrives as an empty object


def _names(values: Mapping[str, bool], _: int) -> tuple[str, ...]:
    return tuple(sorted(values))


def _read(fields: Mapping[str, tuple[str, Read]], told: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return attributes, of what was told; the others are what they are by default."""
    return {attribute: read(told[name], now) for attribute, (name, read) in fields.items() if name in told}


def _alike(*names: str) -> dict[str, tuple[str, Read]]:
    """Return fields that are told as they are, under their own names."""
    return {name: (name, _as_is) for name in names}


_ADOPTED = _alike("key", "account", "live", "label") | {"job_ids": ("jobs", _tuple), "age": ("age", _seconds)}
_CLAIMED = _alike("go", "number") | {
    "retry_in": ("retry_in", _seconds),
    "age": ("age", _seconds),
    "trouble": ("trouble", _tuple),
}
_HEARTBEAT = _alike("known") | {"ended": ("ended", _tuple)}
_LEASE = _alike("account", "state", "label", "scope", "adverse", "accepted", "declined", "missed") | {
    "age": ("since", _since),
    "job_id": ("job", _as_is),
    "other_jobs": ("other_jobs", _tuple),
    "ended_jobs": ("ended_jobs", _names),
    "state_age": ("state_since", _since),
    "expires_in": ("ends", _until),
}
_COOLDOWN = _alike("reason", "worth_waiting", "probe")
_LIMIT = _alike("jobs", "trial", "due") | {
    "next_trial_in": ("next_at", _until),
    "wait": ("wait", _seconds),
}
_SPACED: dict[str, tuple[str, Read]] = {"spaced_for": ("spaced", _until)}
_LEDGER = _alike("detached") | {"next_end": ("next_end", _seconds), "closed": ("closed", _seconds)}


def _object_of(kind: Callable[..., Any], fields: Mapping[str, tuple[str, Read]]) -> Answer:
    """Return what reads an answer of a kind that has these fields; None is None."""
    return lambda told, _, now: None if told is None else kind(**_read(fields, told, now))


def _as_told(told: Any, _: int, __: int) -> Any:
    return told


def _yes(told: Any, _: int, __: int) -> bool:
    return bool(told)


def _list(told: Any, _: int, __: int) -> tuple[str, ...] | None:
    return None if told is None else tuple(told)


def _ended(told: Any, _: int, __: int) -> ops.EndedLease | None:
    if told is None:
        return None
    job, label, age = told.get("job"), told.get("label"), _seconds(told["age"])
    return ops.EndedLease(told["key"], told["account"], told["state"], job, label, age)


def _granted(told: Any, _: int, __: int) -> ops.Granted | None:
    return ops.Granted(told) if told else None


def _configured(told: Any, version: int, _: int) -> ops.Configured | None:
    return None if told is None else ops.Configured(version, _table(told["table"]), _seconds(told["age"]))


def _pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a hash, or the members of a sorted set; not the placeholder."""
    flat = flat or ()  # nothing at all arrives as an empty object
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        if name:
            yield name, value


def _account(id: str, described: str) -> Account:
    return Account(id, **json.loads(described))


def _table(flat: Sequence[str]) -> AccountTable:
    return AccountTable({id: _account(id, described) for id, described in _pairs(flat)})


def _state(told: Mapping[str, Any], version: int, now: int) -> ops.State:
    leases = [(key, json.loads(row)) for key, row in _pairs(told["rows"])]
    accounts = [(id, json.loads(account)) for id, account in _pairs(told["accounts"])]
    owners = [json.loads(owner) for _, owner in _pairs(told.get("owners", ()))]
    return ops.State(
        version=version,
        table=_table(told["table"]) if version else None,
        draining=tuple(
            _account(id, account["draining"]) for id, account in accounts if "draining" in account
        ),
        rows=tuple(ops.LeaseState(key=key, **_read(_LEASE, row, now)) for key, row in leases),
        cooldowns=tuple(
            _cooldown(id, cooldown, now)
            for id, account in accounts
            for cooldown in account.get("cooldowns", ())
        ),
        restrictions=tuple(
            _restriction(id, account, now)
            for id, account in accounts
            if "limit" in account or "spaced" in account
        ),
        external=json.loads(told["external"])
        if "external" in told
        else {id: account["external"] for id, account in accounts if account["external"]},
        owners={key.rpartition("-")[0]: row["process"] for key, row in leases},
        done={job: _since(float(at), now) for job, at in _pairs(told.get("done", ()))},
        offers=told.get("offers") or Counter(owner["offer"] for owner in owners if "offer" in owner),
        **_read(_LEDGER, told, now),
    )


def _cooldown(id: str, cooldown: Mapping[str, Any], now: int) -> ops.CooldownState:
    left = _until(cooldown["ends"], now)
    return ops.CooldownState(
        account=id,
        scope=cooldown.get("scope"),
        left=left if cooldown.get("cooling") else min(0.0, left),
        **_read(_COOLDOWN, cooldown, now),
    )


def _restriction(id: str, account: Mapping[str, Any], now: int) -> ops.RestrictionState:
    limit = _read(_LIMIT, account.get("limit", {}), now)
    return ops.RestrictionState(account=id, **limit, **_read(_SPACED, account, now))


# -- the table of operations ------------------------------------------------------------------------------


Kind = tuple[Callable[[Any], object], str]
"""How a value is sent, and how its script reads that."""

_TEXT: Kind = (str, "{} or ''")
_NUMBER: Kind = (str, "tonumber({})")
_DURATION: Kind = (_milliseconds, "tonumber({})")
_PARSED: Kind = (_json, "parsed({})")
_KINDS: dict[str, Kind | None] = {
    "str": _TEXT,
    "Hashable": _TEXT,
    "FleetTask": _TEXT,
    "str | None": (_marked, "optional({})"),
    "bool": (_flag, "{} == '1'"),
    "int": _NUMBER,
    "int | None": _NUMBER,
    "float": _NUMBER,
    "Seconds": _DURATION,
    "Seconds | None": _DURATION,
    "Priority": (_priority, "tonumber({})"),
    "Wanted | None": _PARSED,
    "tuple[str, ...]": _PARSED,
    "tuple[str, ...] | None": _PARSED,
    "tuple[tuple[str, str], ...]": _PARSED,
    "tuple[tuple[str, str, str], ...]": _PARSED,
    "Mapping[str, int]": (_object, "parsed({})"),
    "tuple[Account, ...]": (_described, "parsed({})"),
    "tuple[LeaseState, ...]": (_held, "parsed({})"),
    "AccountTable": None,
}
"""Type of a field -> how it travels; None: it does not."""
_FIRST = 6
"""The first of a script's arguments that is its operation's."""


class Form:
    """How one operation travels."""

    __slots__ = ("_kinds", "answer", "script")

    def __init__(self, operation: type, answer: Answer) -> None:
        types = {name: _written(annotation) for name, annotation in operation.__annotations__.items()}
        kinds = {name: kind for name, written in types.items() if (kind := _KINDS[written])}
        read = [form.format(f"ARGV[{number}]") for number, (_, form) in enumerate(kinds.values(), _FIRST)]
        self.script = replace(SCRIPTS[operation], arguments=tuple(read))
        self._kinds = tuple((name, send) for name, (send, _) in kinds.items())
        self.answer = answer

    def arguments(self, operation: Any) -> list[object]:
        """Return what is sent of it: each argument costs, so those that are empty at the end are left out."""
        sent = [
            "" if (value := getattr(operation, name)) is None else kind(value) for name, kind in self._kinds
        ]
        while sent and sent[-1] == "":
            sent.pop()
        return sent


def _written(annotation: Any) -> str:
    """Return an annotation as it is written down; a named tuple has it wrapped."""
    return str(getattr(annotation, "__forward_arg__", annotation))


FORMS = {
    operation: Form(operation, answer)
    for operation, answer in {
        ops.Acquire: _granted,
        ops.Release: _ended,
        ops.Bind: _as_told,
        ops.Adopt: _object_of(ops.Adopted, _ADOPTED),
        ops.Renew: _yes,
        ops.Report: _object_of(ops.Reported, _alike("live", "cooling")),
        ops.Cool: _yes,
        ops.Reset: _yes,
        ops.Claim: _object_of(ops.Claimed, _CLAIMED),
        ops.Fail: _as_told,
        ops.Configure: _as_told,
        ops.ReadTable: _configured,
        ops.Apply: _list,
        ops.ReadAll: _state,
        ops.ReadSome: _state,
        ops.Heartbeat: _object_of(ops.HeartbeatReply, _HEARTBEAT),
        ops.Register: _list,
        ops.SetWanted: _as_told,
    }.items()
}


_decode = json.JSONDecoder().raw_decode


def _ruling(constants: str) -> dict[str, Any]:
    """Return settings as they are told to people."""
    *ttls, flags = constants.split(" ")
    names = "lease_ttl", "job_ttl", "ambiguous_ttl"
    return {
        "strategy": "least_loaded" if "l" in flags else "random",
        **{name: _seconds(float(ttl)) for name, ttl in zip(names, ttls, strict=True)},
    }


def _learned(changes: Any) -> tuple[ops.LimitChange, ...]:
    return tuple(
        ops.LimitChange(id, limit, capacity, bool(raised)) for id, limit, capacity, raised in changes
    )


def text(value: Any) -> str:
    """Return what the server answered as text, whether or not the client decodes."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else str(value)


def reply(operation: Operation, answer: bytes | str) -> tuple[ops.Reply, int]:
    """Return what a script's answer says, and what the store's clock read, in ms."""
    version, due, loose, expired, result, now, *told = _decode(text(answer))[0]
    ruling, learned = (*told, None, None)[:2] if told else (None, None)
    kind = type(operation)
    said = ops.Reply(
        FORMS[kind].answer(result, version, now),
        version,
        None if due < 0 else _seconds(due),
        None if loose < 0 else _seconds(loose),
        tuple(ended for row in expired if (ended := _ended(row, version, now))) if expired else (),
        True if kind is ops.Acquire and result == 0 else None,
        _learned(learned) if learned else (),
        _ruling(ruling) if ruling else None,
    )
    return said, now


# -- calls in the server's protocol ------------------------------------------------------------------------


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
        flags = (
            "l" * (settings.strategy == "least_loaded") + "o" * settings.lower_only + "s" * settings.spaced
        )
        constants = " ".join([*(str(_milliseconds(ttl)) for ttl in ttls), flags])
        rest = [len(names), *(base + name for name in names), owner.name, owner.host_pid, constants]
        self.script = script
        self.rest = tuple(map(to_bytes, rest))
        command = (b"EVALSHA", script.sha.encode(), *self.rest)
        self.length = len(command)
        self.packed = b"".join(map(bulk, command))


def _uptime() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


_TRUSTED = 6 * 3600.0
"""Seconds after which two clocks may differ by what would look like a step."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Packer:
    """Turns the operations of one owner into calls."""

    def __init__(self, settings: Settings, owner: Owner, now: Callable[[], float] | None) -> None:
        self._now = now
        self._heads = {kind: Head(form.script, settings, owner) for kind, form in FORMS.items()}
        self._greet = Head(GREET, settings, owner)
        self._answered: tuple[int, float] | None = None
        """What the store's clock read in the last answer, and ours then."""

    def call(self, operation: Operation) -> Call:
        """Return the call that carries out ``operation``."""
        kind = type(operation)
        return self._call(self._heads[kind], FORMS[kind].arguments(operation))

    def greeting(self) -> bytes:
        """Return the command that a new connection begins with, whatever scripts the server knows."""
        return pack(self._call(self._greet, ()).long)

    def _call(self, head: Head, args: Sequence[object]) -> Call:
        now = "" if self._now is None else round(self._now() * 1000)
        return Call(head, (self._reckoning(), now, *args))

    def _reckoning(self) -> str | int:
        if self._answered is None:
            return ""
        read, ours = self._answered
        elapsed = _uptime() - ours
        return "-" if elapsed > _TRUSTED else read + int(elapsed * 1000)

    def answered(self, read: int) -> None:
        """Take note that the store has answered, by its clock at ``read`` ms: it knows the owner now."""
        self._answered = read, _uptime()
