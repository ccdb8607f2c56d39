"""Reading loosely typed JSON: a field by name, a value by path, an identifier of whatever type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

_ABSURD = 10**30
_LONGEST_ID = 1_000
"""Characters. The longest id that any page shows has under 150."""
_MOST_FIELDS = 1_000
"""Fields of an object that are looked through for another spelling. None that is known has a hundred."""


def field(item: Mapping[Any, Any], name: str) -> Any:
    """Return a field of ``item`` spelled exactly so, else one that differs in case only, else None."""
    if name in item:
        return item[name]
    folded = name.casefold()
    for key in islice(item, _MOST_FIELDS):
        if isinstance(key, str) and key.casefold() == folded:
            return item[key]
    return None


def get_path(item: object, path: str) -> Any:
    """Return what stands at a dotted path, or None."""
    for name in path.split("."):
        if not isinstance(item, Mapping):
            return None
        item = field(item, name)
    return item


def items(body: object) -> Sequence[object]:
    """Return the items of an array; what is none is the only one."""
    return body if isinstance(body, list) else (body,)


def first(item: object, paths: Iterable[str]) -> str | None:
    """Return the first of several dotted paths that leads to an identifier."""
    return next((found for path in paths if (found := identifier(get_path(item, path)))), None)


def identifier(value: object) -> str | None:
    """Return an id as text, white space around it cut off: some services send numbers. None for no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value) if abs(value) < _ABSURD else None
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return None
    text = value.strip()
    return text if text and text.isprintable() else None


def folded(account_id: str) -> str:
    """Return what two spellings of an account have in common: people write e-mails in either case."""
    return account_id.strip().casefold()


def kind(value: object) -> str:
    """Return what a JSON value is, for a message that must not show it."""
    if value is None:
        return "null"
    names = ((bool, "a boolean"), (int | float, "a number"), (str, "text"), (list | tuple, "an array"))
    return next((name for types, name in names if isinstance(value, types)), "an object")
