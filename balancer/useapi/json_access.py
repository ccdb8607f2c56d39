"""Reading loosely typed JSON: a field by name, a value by path, an identifier of whatever type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_ABSURD = 10**30


def field(item: Mapping[Any, Any], name: str) -> Any:
    """Return a field of ``item`` spelled exactly so, else one that differs in case only, else None."""
    if name in item:
        return item[name]
    folded = name.casefold()
    for key in item:
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


def first(item: object, paths: Iterable[str]) -> str | None:
    """Return the first of several dotted paths that leads to an identifier."""
    return next((found for path in paths if (found := identifier(get_path(item, path)))), None)


def identifier(value: object) -> str | None:
    """Return an id as text: some services send numbers. None for what cannot be an id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value) if abs(value) < _ABSURD else None
    return value if isinstance(value, str) and value and value.isprintable() else None


def kind(value: object) -> str:
    """Return what a JSON value is, for a message that must not show it."""
    if value is None:
        return "null"
    names = ((bool, "a boolean"), (int | float, "a number"), (str, "text"), (list | tuple, "an array"))
    return next((name for types, name in names if isinstance(value, types)), "an object")
