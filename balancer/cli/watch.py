"""``balancer watch``: a service's accounts, live."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.text import Text

from balancer import SERVICES, AccountPool, AccountStats, BalancerError, Holder, PoolStats
from balancer.cli.bar import Bar, Legend, Room
from balancer.cli.options import (
    API,
    BLIND,
    MEMORY,
    AsJson,
    BaseUrl,
    ServiceArgument,
    StoreUrl,
    default_store,
    opened,
    without_secrets,
)
from balancer.cli.output import console, plain, print_json, seconds, table, tell

_MINUTE = 60.0
_OF_THE_FLEET = (
    *("service", "accounts", "capacity", "in_flight", "external", "free"),
    *("fetched_at", "age", "stale", "last_error"),
)
"""The stats that are not of this process alone: who watches acquires nothing and waits for nothing."""


@dataclass(frozen=True)
class Look:
    """A pool at one moment, and what happened since the last look."""

    at: datetime
    stats: PoolStats
    holders: tuple[Holder, ...]
    started: float
    """Leases a minute that were begun since the last look; the shortest lived are missed."""
    ended: float
    """Leases a minute that ended since then."""

    def rooms(self) -> dict[str, Room]:
        """Return account id -> how its slots are used."""
        states = defaultdict[str, Counter[str]](Counter)
        for holder in self.holders:
            states[holder.account][holder.state] += 1
        return {id: Room.of(account, states[id]) for id, account in self.stats.accounts.items()}


def watch(
    service: ServiceArgument,
    *,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    store: StoreUrl = None,
    base_url: BaseUrl = API,
    as_json: AsJson = False,
) -> None:
    """Watch the accounts of a service live: state, slots in use, leases a minute. Ctrl-C ends it.

    Where no terminal is, each look is a table of its own; with JSON, each is one line.
    """
    url = store or default_store()
    blind = url == MEMORY
    # A look changes nothing in a store that others use. One of its own learns what runs from the server.
    with opened(service, url, base_url, reconcile_every=_MINUTE if blind else None) as pool:
        looks = _looks(pool, every, once=once, alone=blind and SERVICES[service].load is not None)
        try:
            if as_json:
                _print_lines(looks)
            else:
                _show(looks, without_secrets(url), BLIND if blind else "")
        except KeyboardInterrupt:
            pass  # the ordinary way to end it


def _looks(pool: AccountPool, every: float, *, once: bool, alone: bool) -> Iterator[Look]:
    """Look again and again. Only the first look raises what keeps it from seeing anything."""
    look = _look(pool, None)
    if not look.stats.accounts and look.stats.last_error:
        pool.refresh()  # raises what is in the way
    yield look
    renewed = look.at
    while not once:
        time.sleep(every)
        if (look.at - renewed).total_seconds() > _MINUTE:
            renewed = look.at
            _renew(pool, alone=alone)
        try:
            look = _look(pool, look)
        except BalancerError as error:
            tell(f"balancer: {error}")
        else:
            yield look


def _look(pool: AccountPool, before: Look | None) -> Look:
    at, stats, held = datetime.now(UTC), pool.stats(), pool.holders()
    if before is None:
        return Look(at, stats, held, 0.0, 0.0)
    known, ids = {holder.id for holder in before.holders}, {holder.id for holder in held}
    rate = _MINUTE / max((at - before.at).total_seconds(), 0.001)
    return Look(at, stats, held, len(ids - known) * rate, len(known - ids) * rate)


def _renew(pool: AccountPool, *, alone: bool) -> None:
    try:
        pool.refresh()
        if alone:
            pool.reconcile()
    except BalancerError:
        pass  # the stats tell


def _print_lines(looks: Iterator[Look]) -> None:
    for look in looks:
        rooms = {id: plain(room) for id, room in look.rooms().items()}
        values = plain(look)
        values["stats"] = {name: values["stats"][name] for name in _OF_THE_FLEET}
        print_json({**values, "rooms": rooms}, indent=None)


def _show(looks: Iterator[Look], where: str, note: str) -> None:
    out = console()
    if not out.is_terminal:
        for look in looks:
            out.print(_view(look, where, note))
        return
    with Live(console=out, auto_refresh=False) as live:
        for look in looks:
            live.update(_view(look, where, note), refresh=True)


def _view(look: Look, where: str, note: str) -> Group:
    stats, rooms = look.stats, look.rooms()
    columns = ("account", "slots", "held", "bound", "external", "free", "of", "state")
    rows = [
        (id, Bar(room), room.held, room.bound, room.external, room.free, account.capacity, _state(account))
        for (id, account), room in zip(stats.accounts.items(), rooms.values(), strict=True)
    ]
    lines = [_summary(look), note, f"trouble: {stats.last_error}" if stats.last_error else ""]
    title = f"{stats.service}: leases in {where}, {look.at:%H:%M:%S}Z"
    # Without lines between the columns, as this one has to fit into small terminals.
    return Group(
        table(title, columns, rows, lines=SIMPLE_HEAD), Legend(), *(Text(line) for line in lines if line)
    )


def _state(account: AccountStats) -> str:
    until = f" until {account.until:%H:%M:%SZ}" if account.until else ""
    return f"{account.state}{until}" + (f": {account.reason}" if account.reason else "")


def _summary(look: Look) -> str:
    stats = look.stats
    stale = ", out of date" if stats.stale else ""
    return (
        f"{stats.in_flight} leases and {stats.external} others on {stats.capacity} slots, {stats.free} free; "
        f"{look.started:.0f} begun and {look.ended:.0f} ended a minute; "
        f"configuration {seconds(stats.age) or 'of unknown age'} old{stale}"
    )
