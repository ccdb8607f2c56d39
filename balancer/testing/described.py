"""A load endpoint made from a row's own words, for services that have no form of their own here."""

from __future__ import annotations

from typing import Any

from balancer.services.schema import JobsEndpoint
from balancer.testing.lists import Listing
from balancer.testing.views import Seen


def described(load: JobsEndpoint) -> Listing:
    """Return what lists the running jobs at the first place that ``load`` names, as it says."""
    place = (*load.rows, load.counts or "")[0]
    return lambda view: _placed(place.split(".") if place else [], [*view.jobs], load)


def _placed(path: list[str], jobs: list[Seen], load: JobsEndpoint) -> Any:
    if not path:
        return [_row(seen, load) for seen in jobs] if load.rows else len(jobs)
    name, *below = path
    if name == "*":
        accounts = dict.fromkeys(seen.account for seen in jobs)
        return {id: _placed(below, [seen for seen in jobs if seen.account == id], load) for id in accounts}
    if name == "#":
        return {seen.id: _row(seen, load) for seen in jobs}
    return {name: _placed(below, jobs, load)}


def _row(seen: Seen, load: JobsEndpoint) -> dict[str, Any]:
    ref = {load.ref: seen.reply["replyRef"]} if "replyRef" in seen.reply else {}
    return {load.job[0]: seen.id, **dict.fromkeys(load.account[:1], seen.account), **ref}
