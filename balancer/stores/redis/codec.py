"""Operations as script calls, ready to be sent, and answers of scripts as answers of operations."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.rules.operations import Operation, Owner, Settings
from balancer.stores.redis.scripts import KEYS, WITH_JOBS, Script, base_of

Args = Sequence[str | int | float]


_FOR_EVER = 10**15
"""Milliseconds, 31,700 years: the script language writes no infinity into JSON."""


def milliseconds(seconds: float) -> int:
    """Return a length in whole milliseconds; the longest stands for ever."""
    return round(min(seconds * 1000, _FOR_EVER))


def _seconds(ms: float) -> float:
    return ms / 1000 if ms < _FOR_EVER / 2 else math.inf


def _optional(text: str | None) -> str:
    return "" if text is None else "=" + text


def _number(value: float | None) -> str | int | float:
    return "" if value is None else value


def _flag(value: bool) -> str:
    return "1" if value else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _wants(wants: ops.Wanted | None, priority: int) -> str:
    if wants is None:
        return ""
    bounded = max(-ops.MOST_PRIORITY, min(priority, ops.MOST_PRIORITY))
    return f"{bounded or ''}{_json(list(wants))}"


def text(value: Any) -> str:
    """Return what the server answered as text, whether or not the client decodes."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else str(value)


def _pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a hash, or the members of a sorted set; not the placeholder."""
    flat = flat or ()  # nothing at all arrives as an empty object
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        if name:
            yield name, value


# -- accounts ---------------------------------------------------------------------------------------------


def _describe(account: Account) -> str:
    described = {
        "capacity": account.capacity,
        "fields": dict(account.fields),
        "broken": account.broken,
        "note": account.note,
    }
    return _json({name: value for name, value in described.items() if value is not None})


def _account(id: str, described: str) -> Account:
    return Account(id, **json.loads(described))


def _table(flat: Sequence[Any]) -> AccountTable:
    return AccountTable({id: _account(id, described) for id, described in _pairs(flat)})


# -- what is sent -----------------------------------------------------------------------------------------


def _acquire(op: ops.Acquire) -> Args:
    return (
        op.key,
        repr(op.draw),
        _number(op.max_jobs),
        _optional(op.scope),
        _optional(op.label),
        _flag(op.offered),
        _wants(op.then_wants, op.then_priority),
        _wants(op.else_wants, op.else_priority),
        "" if op.accounts is None else _json(op.accounts),
        milliseconds(op.spacing) or "",
    )


def _renew(op: ops.Renew) -> Args:
    return op.key or "", _optional(op.job_id), "" if op.ttl is None else milliseconds(op.ttl)


def _report(op: ops.Report) -> Args:
    length = "" if op.seconds is None else milliseconds(op.seconds)
    flags = _flag(op.accepted), _flag(op.doubt), _flag(op.adverse)
    pause = length, _optional(op.scope), op.reason, _flag(op.worth_waiting)
    return str(op.key), *flags, *pause, op.account, _flag(op.named), _flag(op.teaches)


def _cool(op: ops.Cool) -> Args:
    return op.account, milliseconds(op.seconds), _optional(op.scope), op.reason, _flag(op.worth_waiting)


def _configure(op: ops.Configure) -> Args:
    args: list[str | int | float] = [op.number, op.base, _json(op.gone)]
    for account in op.put:
        args += account.id, account.capacity, _flag(account.broken is not None), _describe(account)
    return args


def _apply(op: ops.Apply) -> Args:
    plan = {
        "external": dict(op.external),
        "bind": op.bind,
        "prolong": op.prolong,
        "reclaim": op.reclaim,
        "resolve": op.resolve,
        "missed": list(op.missed.items()),
        "listed": dict.fromkeys(op.external_jobs, 1),
    }
    return op.number, _json(plan)


def _register(op: ops.Register) -> Args:
    rows = [
        (
            row.key,
            row.account,
            milliseconds(row.age),
            _optional(row.label),
            _optional(row.scope),
            row.adverse,
            row.accepted,
            row.declined,
        )
        for row in op.rows
    ]
    return (_json(rows),)


# -- what is answered -------------------------------------------------------------------------------------


def _granted(result: Any) -> ops.Granted | None:
    return ops.Granted(result) if result else None


def _gone(result: Any) -> ops.EndedLease | None:
    if result is None:
        return None
    job, label, age = result.get("job"), result.get("label"), _seconds(result["age"])
    return ops.EndedLease(result["key"], result["account"], result["state"], job, label, age)


def _adopted(result: Any) -> ops.Adopted | None:
    if result is None:
        return None
    key, account, live, job_ids, age, *label = result
    return ops.Adopted(key, account, bool(live), tuple(job_ids), _seconds(age), *label)


def _reported(result: Any) -> ops.Reported:
    return ops.Reported(bool(result[0]), bool(result[1]))


def _claimed(result: Any) -> ops.Claimed:
    go, number, wait, age, *why = result
    trouble = (why[0], why[1]) if why else None
    return ops.Claimed(bool(go), number, _seconds(wait), None if age < 0 else _seconds(age), trouble)


def _keys(result: Any) -> tuple[str, ...]:
    return tuple(result)


def _ended(result: Any) -> tuple[str, ...] | None:
    return None if result is None else tuple(result)


def _heartbeat(result: Any) -> ops.HeartbeatReply:
    return ops.HeartbeatReply(bool(result[0]), _keys(result[1]))


def _state(result: Any, version: int) -> ops.State:
    now, rows, accounts, table, owners, past, external = result
    leases = [(key, json.loads(row)) for key, row in _pairs(rows)]
    records = [(id, json.loads(record)) for id, record in _pairs(accounts)]
    offers = Counter(offer for _, owner in _pairs(owners) if (offer := json.loads(owner).get("offer")))
    return ops.State(
        version=version,
        table=_table(table) if version else None,
        draining=tuple(_account(id, record["draining"]) for id, record in records if "draining" in record),
        rows=tuple(_row(key, row, now) for key, row in leases),
        cooldowns=tuple(
            _pause(id, pause, now) for id, record in records for pause in record.get("pauses", ())
        ),
        restrictions=tuple(
            _restriction(id, record, now) for id, record in records if "limit" in record or "spaced" in record
        ),
        external=json.loads(external) if external else {},
        owners={key.rpartition("-")[0]: row["process"] for key, row in leases},
        done={job: _seconds(now - float(at)) for job, at in _pairs(past)},
        offers=offers,
    )


def _some(result: Any, version: int) -> ops.State:
    now, rows, accounts, table, offers, detached, next_end, closed = result
    state = _state([now, rows, accounts, table, (), (), None], version)
    records = {id: json.loads(record) for id, record in _pairs(accounts)}
    return replace(
        state,
        external={id: record["external"] for id, record in records.items() if record["external"]},
        offers=offers or {},
        detached=detached,
        next_end=None if next_end < 0 else _seconds(next_end),
        closed=None if closed < 0 else _seconds(closed),
    )


def _row(key: str, row: dict[str, Any], now: int) -> ops.LeaseState:
    loose = row["state"] != "held"
    return ops.LeaseState(
        key=key,
        account=row["account"],
        state=row["state"],
        age=_seconds(now - row["since"]),
        label=row.get("label"),
        scope=row.get("scope"),
        job_id=row.get("job"),
        other_jobs=tuple(row.get("other_jobs", ())),
        ended_jobs=tuple(sorted(row.get("ended_jobs", ()))),
        state_age=_seconds(now - row["state_since"]) if loose else 0.0,
        expires_in=_seconds(row["ends"] - now) if loose else None,
        adverse=row.get("adverse", False),
        accepted=row.get("accepted", False),
        declined=row.get("declined", False),
        missed=row.get("missed", 0),
    )


def _pause(id: str, pause: dict[str, Any], now: int) -> ops.CooldownState:
    left = _seconds(pause["ends"] - now)
    return ops.CooldownState(
        account=id,
        scope=pause.get("scope"),
        left=left if pause.get("cooling") else min(0.0, left),
        reason=pause["reason"],
        worth_waiting=pause["worth_waiting"],
        probe=pause.get("probe"),
    )


def _restriction(id: str, record: dict[str, Any], now: int) -> ops.RestrictionState:
    limit, spaced = record.get("limit"), record.get("spaced")
    spaced_for = None if spaced is None else _seconds(spaced - now)
    if limit is None:
        return ops.RestrictionState(account=id, spaced_for=spaced_for)
    return ops.RestrictionState(
        account=id,
        jobs=limit["jobs"],
        next_trial_in=_seconds(limit["next_at"] - now),
        wait=_seconds(limit["wait"]),
        trial=limit.get("trial"),
        due=limit.get("due", False),
        spaced_for=spaced_for,
    )


# -- the table of operations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How one operation travels."""

    script: Script
    args: Callable[[Any], Args]
    """Operation -> its own arguments."""
    result: Callable[[Any], Any]
    """What the script answered -> what the operation answers."""


def _form(name: str, args: Callable[[Any], Args], result: Callable[[Any], Any], **script: Any) -> Form:
    return Form(Script(name, **script), args, result)


def _nothing(_: Any) -> None:
    return None


_ALL: dict[str, Any] = {"keys": len(KEYS), "parts": ("_claims",)}
_APPLY: dict[str, Any] = {"keys": len(KEYS), "parts": ("_remember", "_memory", "_finish", "_bind", "_claims")}
_BIND: dict[str, Any] = {"keys": WITH_JOBS, "parts": ("_remember", "_memory", "_finish", "_bind")}
_ADOPT: dict[str, Any] = {"keys": WITH_JOBS, "parts": ("_memory", "_bind")}
_RELEASE: dict[str, Any] = {
    "keys": WITH_JOBS,
    "ahead": ("_fast", "_remember", "_fast_release"),
    "parts": ("_memory", "_finish"),
}
_ACQUIRE: dict[str, Any] = {"ahead": ("_fast", "_fast_acquire"), "parts": ("_memory", "_wants")}

FORMS: dict[type, Form] = {
    ops.Acquire: _form("acquire", _acquire, _granted, **_ACQUIRE),
    ops.Release: _form("release", lambda op: (op.key or "", _optional(op.job_id)), _gone, **_RELEASE),
    ops.Bind: _form("bind", lambda op: (op.key, milliseconds(op.ttl), *op.job_ids), str, **_BIND),
    ops.Adopt: _form(
        "adopt", lambda op: (op.key, op.job_id, op.account, milliseconds(op.ttl)), _adopted, **_ADOPT
    ),
    ops.Renew: _form("renew", _renew, bool, parts=("_bind",)),
    ops.Report: _form("report", _report, _reported, parts=("_bind", "_cool")),
    ops.Cool: _form("cool", _cool, bool, parts=("_cool",)),
    ops.Reset: _form("reset", lambda op: (op.account,), bool),
    ops.Claim: _form(
        "claim", lambda op: (op.what, milliseconds(op.max_age), milliseconds(op.hold)), _claimed, **_ALL
    ),
    ops.Fail: _form(
        "fail", lambda op: (op.what, op.number, op.kind, op.text, milliseconds(op.pause)), _nothing, **_ALL
    ),
    ops.Configure: _form("configure", _configure, lambda version: version, **_ALL),
    ops.ReadTable: _form("read_table", lambda _: (), lambda result: result, **_ALL),
    ops.Apply: _form("apply", _apply, _ended, **_APPLY),
    ops.ReadAll: _form("read_all", lambda _: (), lambda result: result, **_ALL),
    ops.ReadSome: _form("read_some", lambda op: (_json(op.accounts),), lambda result: result, **_ALL),
    ops.Heartbeat: _form("heartbeat", lambda _: (), _heartbeat),
    ops.Register: _form("register", _register, _keys, parts=("_memory",)),
    ops.SetWanted: _form(
        "set_wanted", lambda op: (_wants(op.wants, op.priority),), _nothing, parts=("_wants",)
    ),
}


_read = json.JSONDecoder().raw_decode


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


def reply(operation: Operation, answer: bytes | str) -> tuple[ops.Reply, int]:
    """Return what a script's answer says, and what the store's clock read, in ms."""
    version, due, loose, expired, result, now, *told = _read(text(answer))[0]
    ruling, learned = (*told, None, None)[:2] if told else (None, None)
    kind = type(operation)
    if kind is ops.ReadAll:
        meant: Any = _state(result, version)
    elif kind is ops.ReadSome:
        meant = _some(result, version)
    elif kind is ops.ReadTable:
        meant = result and ops.Configured(version, _table(result[1:]), _seconds(result[0]))
    else:
        meant = FORMS[kind].result(result)
    said = ops.Reply(
        meant,
        version,
        None if due < 0 else _seconds(due),
        None if loose < 0 else _seconds(loose),
        tuple(gone for row in expired if (gone := _gone(row))) if expired else (),
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
        constants = " ".join([*(str(milliseconds(ttl)) for ttl in ttls), flags])
        rest = [len(names), *(base + name for name in names), owner.name, owner.host_pid, constants]
        self.script = script
        self.rest = tuple(map(to_bytes, rest))
        command = (b"EVALSHA", script.sha.encode(), *self.rest)
        self.length = len(command)
        self.packed = b"".join(map(bulk, command))


_GREET = Script("greet")


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
        self._greet = Head(_GREET, settings, owner)
        self._answered: tuple[int, float] | None = None
        """What the store's clock read in the last answer, and ours then."""

    def call(self, operation: Operation) -> Call:
        """Return the call that carries out ``operation``."""
        kind = type(operation)
        return self._call(self._heads[kind], FORMS[kind].args(operation))

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
