"""The services as the server sees them: one site per path, with the kinds of job that share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from balancer.service import Service
from balancer.services import SERVICES, find


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
        return self.kinds[""]

    def kind(self, verb: str) -> Service:
        """Return the row that counts a create below ``verb``, such as ``images/create``."""
        for part in verb.split("/"):
            if part in self.kinds:
                return self.kinds[part]
        return self.row


def site_name(service: str) -> str:
    """Return the site of a service key. An unknown key is a ValueError that lists near ones."""
    return find(service).key.partition("/")[0]


def _sites() -> dict[str, Site]:
    kinds: dict[str, dict[str, Service]] = {}
    for row in SERVICES.values():
        name, _, kind = row.key.partition("/")
        kinds.setdefault(name, {})[kind] = row
    sites = [Site(name, rows[""].path, MappingProxyType(rows)) for name, rows in kinds.items()]
    return {site.name: site for site in sorted(sites, key=lambda site: -len(site.path))}


SITES: Mapping[str, Site] = MappingProxyType(_sites())
"""Every site of the table by its name, the longest paths first."""


def locate(path: str) -> tuple[Site, str] | None:
    """Return the site that ``path`` belongs to and what follows below it, or None."""
    for site in SITES.values():
        if path.startswith(site.path + "/"):
            return site, path[len(site.path) + 1 :].strip("/")
    return None
