"""The service table as a whole: find a row, and print them all.

A service that is not here is one :class:`balancer.Service` away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from balancer.models import FrozenDict
from balancer.services import google, music, retired, video
from balancer.services.schema import Service

GENERIC = Service(
    key="custom",
    path="/",
    selector="account",
    max_jobs="maxJobs",
)
"""Stands in where a pool has a source of its own and no service."""

SERVICES: Mapping[str, Service] = FrozenDict(
    {row.key: row for row in (*music.ROWS, *video.ROWS, *google.ROWS, *retired.ROWS)}
)
"""Every service of the table by its key: those that take jobs first, then the retired."""


def find(service: str | Service) -> Service:
    """Return the row of ``service``.

    Raises:
        ValueError: no row has that key; the message lists near ones.
        TypeError: ``service`` is neither a key nor a :class:`Service`.
    """
    if isinstance(service, Service):
        return service
    if not isinstance(service, str):
        raise TypeError(f"service must be a key or a Service, not {type(service).__name__}")
    try:
        return SERVICES[service]
    except KeyError:
        from difflib import get_close_matches  # for those who mistype alone

        near = get_close_matches(service.lower(), SERVICES, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(SERVICES)}"
        raise ValueError(f"service {service!r} is not in the table; {hint}") from None


def table_markdown() -> str:
    """Return the table of services for the documentation, as Markdown."""
    head = f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}"
    lines = (" | ".join(column(row) for column in _COLUMNS.values()) for row in SERVICES.values())
    return "\n".join((head, *(f"| {line} |" for line in lines), ""))


def names_markdown(*, alive: bool) -> str:
    """Return the keys of the services that are alive, or of those that are not, as Markdown."""
    return ", ".join(f"`{row.key}`" for row in SERVICES.values() if row.alive is alive)


def _capacity(row: Service) -> str:
    default = "1 (assumed)" if row.default_capacity is None else str(row.default_capacity)
    return f"`{row.capacity}`, else {default}" if row.capacity else default


def _load(row: Service) -> str:
    return f"`GET {row.path}/{row.load.path}`" if row.load else "not listed"


def _ends(row: Service) -> str:
    return ", ".join(f"`{name}` {' / '.join(map(str, ends))}" for name, ends in row.final.items()) or "-"


_COLUMNS: Mapping[str, Callable[[Service], str]] = {
    "service": lambda row: f"[{row.key}]({row.docs})" if row.docs else row.key,
    "accounts": lambda row: f"`GET {row.path}/{row.accounts}`",
    "account parameter": lambda row: f"`{row.selector}`" + (", required" if row.selector_required else ""),
    "capacity": _capacity,
    "one request's own": lambda row: f"`{row.max_jobs}`" if row.max_jobs else "only lower",
    "running jobs": _load,
    "`replyRef`": lambda row: "listed" if row.reply_ref else "-",
    "final": _ends,
    "state": lambda row: row.retired or "alive",
}
