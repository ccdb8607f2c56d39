"""What every operation looks up first: kept in the pool's row, as it rarely changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from balancer.stores.operations import EndedLease, Reply

_READ = """
    SELECT version, strategy, due, loose_since, pauses, anybody_waits,
        owner.name IS NOT NULL, owner.place IS NOT NULL
    FROM pool LEFT JOIN owner ON owner.pool = ?1 AND owner.name = ?2
    WHERE pool.id = ?1"""
_KEEP = """
    UPDATE pool SET (due, loose_since, pauses, anybody_waits) = (SELECT
        min(coalesce((SELECT min(ends) FROM lease WHERE pool = ?1 AND ends IS NOT NULL), 9e999),
            coalesce((SELECT min(until) FROM pause WHERE pool = ?1 AND cooling), 9e999),
            coalesce((SELECT min(look_at) FROM owner WHERE pool = ?1), 9e999)),
        (SELECT min(state_since) FROM lease WHERE pool = ?1 AND state_since IS NOT NULL),
        EXISTS (SELECT 1 FROM pause WHERE pool = ?1),
        EXISTS (SELECT 1 FROM owner WHERE pool = ?1 AND place IS NOT NULL))
    WHERE id = ?1"""


class Glance(NamedTuple):
    """What is looked up at the beginning of each operation, and at its end if it may have changed."""

    version: int
    strategy: str
    due: float
    """When the next thing ends by itself."""
    loose_since: float | None
    cooldowns: bool
    anybody_waits: bool
    known: bool
    waiting: bool


Told = tuple[int, float, float | None]
"""Version, due and loose_since: what every answer tells."""


def replied(result: Any, told: Told, now: float, expired: tuple[EndedLease, ...] = ()) -> Reply:
    """Return an answer."""
    version, due, loose_since = told
    ends_in = None if due == math.inf else due - now if due > now else 0.0
    return Reply(result, version, ends_in, None if loose_since is None else now - loose_since, expired)


def read(run: Callable[..., Any], pool: int, owner: str) -> Glance:
    """Return what is kept of a pool, and how it knows an owner."""
    return Glance._make(run(_READ, (pool, owner)).fetchone())


def keep(run: Callable[..., Any], pool: int) -> None:
    """Keep what has changed: to be called by whatever changes an end, a pause or who waits."""
    run(_KEEP, (pool,))
