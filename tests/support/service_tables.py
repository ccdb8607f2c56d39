"""The service table as Markdown, for the page of the documentation that is made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from balancer import SERVICES, Service


def table_markdown() -> str:
    """Return the table of services for the documentation, as Markdown."""
    return _markdown(_COLUMNS)


def following_markdown() -> str:
    """Return the table of how jobs are followed, as Markdown."""
    return _markdown(_FOLLOWING)


def checked_markdown() -> str:
    """Return the table of what each row was held against, as Markdown."""
    return _markdown(_CHECKED)


def _markdown(columns: Mapping[str, Callable[[Service], str]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    lines = (" | ".join(column(row) for column in columns.values()) for row in SERVICES.values())
    return "\n".join((head, *(f"| {line} |" for line in lines), ""))


def names_markdown(*, alive: bool) -> str:
    """Return the keys of the services that are alive, or of those that are not, as Markdown."""
    return ", ".join(f"`{row.key}`" for row in SERVICES.values() if row.alive is alive)


def _capacity(row: Service) -> str:
    default = str(row.default_capacity or 1) + (
        " (assumed)" if row.assumed or row.default_capacity is None else ""
    )
    return f"`{row.capacity}`, else {default}" if row.capacity else default


def _load(row: Service) -> str:
    return f"`GET {row.path}/{row.load.path}`" if row.load else "not listed"


def _words(words: Mapping[str, tuple[Any, ...]]) -> str:
    return ", ".join(f"`{name}` {' / '.join(map(str, ends))}" for name, ends in words.items()) or "-"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def _cancel(row: Service) -> str:
    return f"`{row.cancel.method} {row.cancel.path}`" if row.cancel else "-"


def _status(row: Service) -> str:
    return ", ".join(dict.fromkeys(f"`{one.path}`" for one in row.status)) or "-"


def _missing(row: Service) -> str:
    return ", ".join(dict.fromkeys(one.missing for one in row.status)) or "-"


def _results(row: Service) -> str:
    first = _names(row.results[:1])
    return f"{first} at `{row.download}`" if row.download else first


_COLUMNS: Mapping[str, Callable[[Service], str]] = {
    "service": lambda row: f"[{row.key}]({row.docs})" if row.docs else row.key,
    "accounts": lambda row: f"`GET {row.path}/{row.accounts}`",
    "account parameter": lambda row: f"`{row.selector}`" + (", required" if row.selector_required else ""),
    "capacity": _capacity,
    "one request's own": lambda row: f"`{row.max_jobs}`" if row.max_jobs else "only lower",
    "running jobs": _load,
    "`replyRef`": lambda row: "listed" if row.reply_ref else "-",
    "final": lambda row: _words(row.final),
    "state": lambda row: row.retired or "alive",
}

_FOLLOWING: Mapping[str, Callable[[Service], str]] = {
    "service": lambda row: row.key,
    "creates": lambda row: _names(row.creates),
    "no slot": lambda row: _names(row.slotless),
    "status": _status,
    "404 there": _missing,
    "success": lambda row: _words(row.succeeded),
    "asked after": lambda row: f"{row.poll[0]:g} to {row.poll[1]:g} s",
    "called off": _cancel,
    "results": _results,
    "assets": lambda row: _names(row.assets),
}

_CHECKED: Mapping[str, Callable[[Service], str]] = {
    "service": lambda row: row.key,
    "held against": lambda row: row.checked or "-",
}
