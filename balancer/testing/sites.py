"""The services as the server sees them: one site per path, with the kinds of job that share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from balancer.services import SERVICES, find
from balancer.services.schema import Service


@dataclass(frozen=True, slots=True)
class Site:
    """Everything below one path: ``minimax`` holds the rows ``minimax`` and ``minimax/images``."""

    name: str
    path: str
    kinds: Mapping[str, Service]
    """Last part of a row's key, ``""`` for the site's own row -> the row."""

    @property
    def row(self) -> Service:
        """The site's own row."""
        return self.kinds.get("") or next(iter(self.kinds.values()))

    def kind(self, verb: str) -> Service:
        """Return the row that counts a create below ``verb``, such as ``images/create``."""
        for part in verb.split("/"):
            if part in self.kinds:
                return self.kinds[part]
        return self.row


class Sites:
    """The sites of one stand-in: those of the table, and of rows that are not in it."""

    def __init__(self, rows: Iterable[Service] = ()) -> None:
        self._rows = {row.key: row for row in rows}
        self._sites = _sites({**SERVICES, **self._rows}.values())

    def row(self, service: str) -> Service:
        """Return the row of a service key. An unknown key is a ValueError that lists near ones."""
        return self._rows.get(service) or find(service)

    def of(self, service: str) -> Site:
        """Return the site of a service key. An unknown key is a ValueError that lists near ones."""
        return self._sites[_name(self.row(service))]

    def locate(self, path: str) -> tuple[Site, str] | None:
        """Return the site that ``path`` belongs to and what follows below it, or None."""
        for site in self._sites.values():
            if path.startswith(site.path + "/"):
                return site, path[len(site.path) + 1 :].strip("/")
        return None


def _name(row: Service) -> str:
    return row.key.partition("/")[0]


def _sites(rows: Iterable[Service]) -> dict[str, Site]:
    kinds: dict[str, dict[str, Service]] = {}
    for row in rows:
        kinds.setdefault(_name(row), {})[row.key.partition("/")[2]] = row
    sites = [
        Site(name, next(iter(group.values())).path, MappingProxyType(group)) for name, group in kinds.items()
    ]
    # The longest paths first: /v2/pixverse is not a job below /v2.
    return {site.name: site for site in sorted(sites, key=lambda site: -len(site.path))}
