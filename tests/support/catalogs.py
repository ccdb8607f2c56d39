"""A catalog with a clock that is a number, and what a source may bring it."""

from __future__ import annotations

from balancer.errors import SourceUnavailable
from balancer.models import Account, AccountTable
from balancer.rules.freshness import ConfigurationCache

TTL, STALE = 60.0, 3600.0
OLD, NEW = AccountTable({"a": Account("a", 1)}), AccountTable({"a": Account("a", 2)})
AWAY = SourceUnavailable("away")


class Clocked(ConfigurationCache):
    """A catalog with a clock that is a number."""

    def __init__(self):
        self.now = 0.0
        super().__init__(TTL, STALE, lambda: self.now)

    def at(self, now):
        """Move the clock and ask what to do."""
        self.now = now
        return self.advise(now)

    def fetch(self, outcome, now=None):
        """Start a fetch, if ``now`` is given at that time, and have it land at once."""
        self.now = self.now if now is None else now
        return self.land(self.single_flight.start(self.now), outcome, self.now)
