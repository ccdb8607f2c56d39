"""What the service sends, turned into the library's values. Pure: no I/O, no clock, no state.

Every field of every body may be missing, null, of another type or spelled in another case: the vendor
documents all of them as optional. What can be read is read; what cannot is left out or makes the one
account it concerns broken. Only a body of a wrong shape altogether is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from balancer.errors import InvalidConfiguration
from balancer.models import MAX_CAPACITY, Account, AccountTable, FrozenDict
from balancer.redaction import clean, is_secret, is_secret_number, secrets
from balancer.services.schema import Service
from balancer.useapi.job_lists import job_list
from balancer.useapi.json_access import field, folded, get_path, identifier, items, kind

__all__ = ["body", "entry", "final", "job_id", "job_ids", "job_list", "matches", "table"]

_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,12}(\.0*)?\s*", re.ASCII)
_MOST_DIGITS = 30
"""No capacity and no id has more."""
_WORDS = ("message", "error", "reason", "code")
_ABSURD = 10**18
MOST_ITEMS = 100
"""Jobs of one answer that are looked at."""


def body(raw: bytes, content_type: str | None) -> object:
    """Return the JSON value in ``raw``.

    Raises:
        InvalidConfiguration: it is no JSON. The message says what it is instead, and where it goes
            wrong, but shows nothing of it; neither does anything chained to it.
    """
    value, fault = _decoded(raw, content_type or "")
    del raw  # a traceback may be shown with its locals
    if fault is not None:
        raise InvalidConfiguration(fault)
    return value


def _decoded(raw: bytes, content_type: str) -> tuple[object, str | None]:
    # Faults are returned, not raised: an exception raised here would carry the document in its chain.
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, f"the answer is no UTF-8 text (byte {error.start})"
    try:
        return json.loads(text, parse_int=_integer), None
    except json.JSONDecodeError as error:
        return None, _malformed(text, error, content_type)
    except RecursionError:
        return None, "the answer is JSON that is nested too deeply"


def _integer(digits: str) -> int | float:
    # Very long integers cost quadratic time and may be refused by the interpreter; as floats they are
    # cheap, and wrong for every purpose all the same.
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _malformed(text: str, error: json.JSONDecodeError, content_type: str) -> str:
    start = text.lstrip()
    if not start:
        return "the answer is empty"
    if start.startswith("<") or "html" in content_type.lower():
        return "the answer is an HTML page, not JSON"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"the answer is JSON that was cut off (line {error.lineno}, column {error.colno})"
    return f"the answer is no valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"


def table(body: object, service: Service, default_capacity: int | None) -> AccountTable:
    """Return the accounts in a map of account id -> entry.

    Raises:
        InvalidConfiguration: it is no map of accounts.
    """
    if not isinstance(body, Mapping):
        raise InvalidConfiguration(f"the account list is {kind(body)}, not a map of accounts")
    if field(body, "error") and not any(isinstance(value, Mapping) for value in body.values()):
        raise InvalidConfiguration("the account list is an error report, not a map of accounts")
    accounts = (entry(str(key), value, service, default_capacity, plain=False) for key, value in body.items())
    return AccountTable({account.id: account for account in accounts})


def entry(
    account_id: str, value: object, service: Service, default_capacity: int | None, *, plain: bool = True
) -> Account:
    """Return the account that one entry describes; broken, with the reason, if it cannot be used.

    ``plain`` allows what people write by hand: a bare capacity, or an :class:`Account`, as the entry.
    """
    if not account_id or not account_id.isprintable():
        return Account(_readable(account_id), broken="its id is empty or no printable text")
    if plain and isinstance(value, Account):
        capacity, fault = _checked_capacity(value.capacity, "its capacity")
        if (value.id, value.capacity) == (account_id, capacity) and isinstance(value.capacity, int):
            return value  # it is right already, as what was read from a service is
        return replace(value, id=account_id, capacity=capacity or 1, broken=value.broken or fault)
    if plain and isinstance(value, int | float | str):
        capacity, fault = _checked_capacity(value, "its capacity")
        return Account(account_id, capacity or 1, broken=fault)
    if not isinstance(value, Mapping):
        return Account(account_id, broken=f"its entry is {kind(value)}, not an object")
    return _from_entry(account_id, value, service, default_capacity)


def _readable(account_id: str) -> str:
    # Escaped, and not cut out: the rest may be the id of another account, which is to be used.
    return clean("".join(char if char.isprintable() else ascii(char)[1:-1] for char in account_id))


def _from_entry(
    account_id: str, value: Mapping[Any, Any], service: Service, default_capacity: int | None
) -> Account:
    stated = field(value, service.capacity) if service.capacity else None
    if stated is None:
        capacity, note = _assumed(service, default_capacity)
        fault = None
    else:
        capacity, fault = _checked_capacity(stated, f"its {service.capacity}")
        note = None
    broken = _complaint(value, service) or fault
    hidden = secrets(value) if broken or service.strings else ()
    return Account(
        id=account_id,
        capacity=capacity or 1,
        fields=_fields(value, service, hidden),
        broken=clean(broken, hidden) if broken else None,
        note=note,
    )


def _checked_capacity(value: object, name: str) -> tuple[int | None, str | None]:
    """Return a capacity, or what is wrong with it. ``6``, ``6.0`` and ``"6"`` are 6."""
    number: object = value
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        number = float(value)
    if isinstance(number, int | float) and not isinstance(number, bool):
        if 1 <= number <= MAX_CAPACITY and number == math.floor(number):
            return int(number), None
        shown = f"{number:.12g}" if abs(number) < _ABSURD else "absurd"
    else:
        shown = kind(value)
    return None, f"{name} is {shown}, not a whole number from 1 to {MAX_CAPACITY:,}"


def _assumed(service: Service, default_capacity: int | None) -> tuple[int | None, str]:
    missing = f"no {service.capacity} stated" if service.capacity else "the service states no capacity"
    if default_capacity is not None:
        return default_capacity, f"{missing}: default_capacity {default_capacity} taken"
    if service.default_capacity is not None:
        default = f"{service.default_capacity}"
        taken = f"{default} assumed" if service.assumed else f"documented default {default} taken"
        return service.default_capacity, f"{missing}: {taken}"
    return 1, f"{missing}: 1 assumed"


def _complaint(value: Mapping[Any, Any], service: Service) -> str | None:
    """Return what the entry itself says is wrong with the account. A past expiry date is nothing."""
    for name in service.error:
        if error := _bare(field(value, name)):
            return _said(error) or f"its {name} is set"
    health = _bare(field(value, service.health)) if service.health else None
    if health in (None, "", True) or (isinstance(health, str) and health.upper() == "OK"):
        return None
    return f"{service.health}: {_said(health) or kind(health)}"


def _bare(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _said(value: object) -> str | None:
    """Return the words of an error: a text, a number, or a map with a message in it."""
    if isinstance(value, Mapping):
        value = next(filter(None, (_bare(field(value, name)) for name in _WORDS)), None)
    return value if isinstance(value, str) else identifier(value)


def _fields(
    value: Mapping[Any, Any], service: Service, hidden: Collection[str]
) -> Mapping[str, bool | int | float | str]:
    kept = {name: number for name, number in value.items() if _harmless(name, number)}
    for name in service.strings:
        text = field(value, name)
        if isinstance(text, str) and not is_secret(name):
            kept[name] = clean(text, hidden)
    return FrozenDict(kept)


def _harmless(name: object, value: object) -> bool:
    if not isinstance(name, str) or not name.isprintable():
        return False
    if isinstance(value, bool):
        return True
    return isinstance(value, int | float) and abs(value) < 2**63 and not is_secret_number(name)


def job_ids(body: object, service: Service) -> tuple[str, ...]:
    """Return the ids of all jobs that a create answer names, in its order, each once; at most 100.

    A request may start several: an array of answers, or an array of ids where one id would stand.
    """
    found = (id for item in islice(items(body), MOST_ITEMS) for id in _named(item, service.job_id))
    return tuple(islice(dict.fromkeys(found), MOST_ITEMS))


def job_id(body: object, service: Service) -> str | None:
    """Return the id of the one job that an answer, a status body or a callback is about, else None."""
    found = job_ids(body, service)
    return found[0] if len(found) == 1 else None


def _named(item: object, paths: Iterable[str]) -> list[str]:
    for path in paths:
        value = get_path(item, path)
        ids = map(identifier, value[:MOST_ITEMS] if isinstance(value, list) else (value,))
        if found := [id for id in ids if id is not None]:
            return found
    return []


def final(body: object, service: Service) -> bool:
    """Return whether a status body or callback says that its job is over, for good or ill.

    Of a list of bodies every one must say so.
    """
    told = items(body)
    return 0 < len(told) <= MOST_ITEMS and all(matches(item, service.final) for item in told)


def matches(item: object, words: Mapping[str, tuple[Any, ...]]) -> bool:
    """Return whether one of the fields holds one of the values that stand beside it."""
    return any(_same(get_path(item, path), end) for path, values in words.items() for end in values)


def _same(value: object, end: object) -> bool:
    """Return whether two words are one: in any case, and a number as its text. A flag is no word."""
    if isinstance(value, bool) or isinstance(end, bool):
        return value is end
    word = identifier(end)
    return word is not None and folded(word) == folded(identifier(value) or "")
