"""The service table as a whole: find a row.

A service that is not here is one :class:`balancer.Service` away.
"""

from __future__ import annotations

from collections.abc import Mapping

from balancer.models import FrozenDict
from balancer.services import google, music, retired, video
from balancer.services.schema import Service, check_patterns

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
            Or a pattern of the row is no regular expression.
        TypeError: ``service`` is neither a key nor a :class:`Service`.
    """
    if isinstance(service, Service):
        check_patterns(service)
        return service
    if not isinstance(service, str):
        raise TypeError(f"service must be a key or a Service, not {type(service).__name__}")
    try:
        return SERVICES[service]
    except KeyError:
        near = near_keys(service)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(SERVICES)}"
        raise ValueError(f"service {service!r} is not in the table; {hint}") from None


def kinds(row: Service) -> tuple[Service, ...]:
    """Return the rows below ``row``'s path, itself in place of the table's row of that key.

    A row whose path is in no row of the table is alone there.
    """
    group = tuple(one for one in SERVICES.values() if one.path == row.path)
    return tuple(row if one.key == row.key else one for one in group) if group else (row,)


def near_keys(word: str, cutoff: float = 0.4) -> list[str]:
    """Return up to three keys of the table that ``word`` may have been meant for."""
    from difflib import get_close_matches  # for those who mistype alone

    return get_close_matches(word.lower(), SERVICES, n=3, cutoff=cutoff)
