"""How a job is followed from its create to its result, as its service's row says it. Pure.

Whoever polls, takes callbacks or passes requests on asks a row through these functions: which POST starts a
job, where the job is asked for, what a body says of it, and where its results stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from balancer.services.schema import Service, StatusEndpoint
from balancer.useapi.http_response import Answer, parsed, read
from balancer.useapi.json_access import field, first, get_path, identifier, items
from balancer.useapi.parsing import MOST_ITEMS, final, job_ids, matches

Outcome = Literal["running", "succeeded", "failed", "gone"]
"""What is known of a job: it runs, it ended well or badly, or the service does not have it any more."""


def creates(row: Service, path: str) -> bool:
    """Return whether a POST to ``path``, below the service's own, starts a job of this kind."""
    return _fits(path, row.creates)


def takes_no_slot(row: Service, path: str) -> bool:
    """Return whether a POST to ``path`` is known to start no job: an upload, lyrics, and the like."""
    return _fits(path, row.slotless)


def created_by(rows: Iterable[Service], path: str) -> Service | None:
    """Return which of the kinds of a service a POST to ``path`` starts a job of; None: of none."""
    return next((row for row in rows if creates(row, path)), None)


def outcome(body: object, row: Service, *, status: int = 200, job: str | None = None) -> Outcome:
    """Return what a status, a callback, or a create's own answer says of a job that was accepted.

    ``status`` is the answer's HTTP status, as the service's own word. What a 404 means stands in the row,
    by the id of the ``job`` where that makes a difference; 410 is gone everywhere. Any other answer outside
    2xx says nothing of the job, which runs on.
    """
    if status == HTTPStatus.NOT_FOUND:
        return _missing(row, job)
    if status == HTTPStatus.GONE:
        return "gone"
    if not 200 <= status < 300:
        return "running"
    if _is_result(body, row):
        return "succeeded"
    if not final(body, row):
        return "running"
    return "succeeded" if all(_went_well(item, row) for item in items(body)) else "failed"


class Settlement(NamedTuple):
    """What an answer or a callback says of jobs: those that are over, and whether those are all."""

    ended: Mapping[str, tuple[Outcome, object]]
    """Job -> how it has ended, and what was said of it; None where it is no word of the job itself."""
    final: bool


def settlement(said: object, row: Service, job: str | None = None) -> Settlement:
    """Return which jobs are over by what a status call, a create or a callback ``said``.

    That is a response of any client, a mapping, an array, or text. ``job`` is meant where it names none; of
    an array that names jobs, that job's item alone counts. A final status of nobody ends nothing.
    """
    answer = _said_by(said)
    if answer is None:
        return Settlement({}, final=False)
    found = items(answer.body)
    told = [(item, job_ids(item, row)) for item in found[:MOST_ITEMS]]
    if not any(ids for _, ids in told):
        told = [(answer.body, (job,))] if job and found else []
    elif job and isinstance(answer.body, list):
        told = [(item, (job,)) for item, ids in told if job in ids]
    known = [(outcome(body, row, status=answer.own_status, job=job), body, ids) for body, ids in told]
    over = [(how, body, ids) for how, body, ids in known if how != "running" and ids]
    of_it = answer.status < 300
    ended = {id: (how, body if of_it else None) for how, body, ids in reversed(over) for id in ids}
    return Settlement(ended, final=0 < len(over) == len(known) and len(found) <= MOST_ITEMS)


def _said_by(said: object) -> Answer | None:
    """Return what was said as an answer: a body alone is one of 200. None: it cannot be read."""
    if isinstance(said, Mapping | list):
        return Answer(HTTPStatus.OK, {}, body=said)
    if isinstance(said, str | bytes | bytearray | memoryview):
        body = parsed(said if isinstance(said, str) else bytes(said))
        return Answer(HTTPStatus.OK, {}, body=body) if isinstance(body, Mapping | list) else None
    return read(said, whole=True)


def status_path(row: Service, job: str, account: str | None = None) -> str | None:
    """Return the path of a job's status below the service's own; None where the row does not tell.

    Without ``account`` the parameter that names it is left out: a service that wants it refuses then.
    """
    endpoint = endpoint_of(row, job)
    if endpoint is None:
        return None
    path, mark, query = endpoint.path.partition("?")
    fields = [part for part in query.split("&") if account is not None or "{account}" not in part]
    return _filled("".join((path, mark, "&".join(fields))).rstrip("?"), job=job, account=account or "")


def endpoint_of(row: Service, job: str) -> StatusEndpoint | None:
    """Return where a job of that id is asked for."""
    return next((one for one in row.status if one.only is None or re.search(one.only, job)), None)


def job_of_status(row: Service, target: str) -> str | None:
    """Return the job that a GET of ``target``, path and query below the service's own, asks for.

    None: it is no status of one job. Parameters that the row does not name are passed by. Where the list of
    running jobs stands at a place for an id, it is the list.
    """
    path = target.partition("?")[0].strip("/")
    is_list = row.load is not None and path == row.load.path.partition("?")[0]
    for endpoint in row.status:
        if is_list and "{job}" in endpoint.path.partition("?")[0]:
            continue
        job = _job_of(endpoint.path, target)
        if job and endpoint_of(row, job) is endpoint:
            return job
    return None


def cancel_request(row: Service, job: str) -> tuple[str, str, Mapping[str, str]] | None:
    """Return method, path and fields of what calls a job off, or None where nothing does."""
    if row.cancel is None:
        return None
    fields = {row.cancel.field: job} if row.cancel.field else {}
    return row.cancel.method, _filled(row.cancel.path, job=job), fields


def results(body: object, row: Service) -> tuple[str, ...]:
    """Return where what was made is fetched: URLs, or paths below the service's own.

    A path, and a URL on the API's own host, wants the token.
    """
    for path in row.results:
        values = (value for item in items(body) for value in _each(item, path.split(".")))
        found = [text for value in values if (text := identifier(value))]
        if found:
            return tuple(_filled(row.download, id=text) if row.download else text for text in found)
    return ()


def asset_accounts(row: Service, fields: Mapping[str, Any]) -> frozenset[str]:
    """Return the accounts that the asset ids among a create's fields name: none, one, or too many."""
    named = (value for name, value in fields.items() if _fits(name, row.assets))
    accounts = (row.account_of(id) for value in named for id in _texts(value))
    return frozenset(account for account in accounts if account)


def account_in(body: object, row: Service, job: str | None = None) -> str | None:
    """Return the account that a body, or else the id of its job, says that the job runs on."""
    named = first(body, (row.selector, f"request.{row.selector}"))
    return named or (row.account_of(job) if job else None)


def _fits(path: str, patterns: Iterable[str]) -> bool:
    # A star stays within a name: fnmatch alone would let it run over the slashes.
    parts = path.partition("?")[0].strip("/").split("/")
    return any(
        len(parts) == len(wanted := pattern.split("/")) and all(map(fnmatchcase, parts, wanted))
        for pattern in patterns
    )


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value that can be sent as JSON, and so ends somewhere."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _filled(path: str, **ids: str) -> str:
    # Ids hold ``:`` and ``@``, which must not reach a path as they are.
    return path.format(**{name: quote(id, safe="") for name, id in ids.items()})


def _job_of(pattern: str, target: str) -> str | None:
    wanted, url = urlsplit(pattern), urlsplit(target)
    parts, given = wanted.path.strip("/").split("/"), url.path.strip("/").split("/")
    if len(parts) != len(given):
        return None
    known = dict(zip(parts, map(unquote, given), strict=True))
    if any(part != known[part] for part in parts if part != "{job}"):
        return None
    names = {value: name for name, value in parse_qsl(wanted.query)}
    return known.get("{job}") or dict(parse_qsl(url.query)).get(names.get("{job}", ""))


def _missing(row: Service, job: str | None) -> Outcome:
    endpoints = row.status if job is None else filter(None, (endpoint_of(row, job),))
    said: set[Any] = {endpoint.missing for endpoint in endpoints}
    # Several meanings and no id to choose by: the one that gives nothing up.
    return said.pop() if len(said) == 1 else "running" if said else "gone"


def _is_result(body: object, row: Service) -> bool:
    """Return whether a body is the result itself, and not a status that brings a part of it along."""
    told = any(get_path(body, path) is not None for path in row.final)
    return isinstance(body, Mapping) and not told and any(field(body, name) for name in row.inline)


def _went_well(item: object, row: Service) -> bool:
    told = [get_path(item, path) for path in row.succeeded]
    if any(value is not None for value in told):
        return matches(item, row.succeeded)
    return not (isinstance(item, Mapping) and field(item, "error")) and (
        not row.succeeded or bool(results(item, row))
    )


def _each(value: object, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        for item in value if isinstance(value, list) else ():
            yield from _each(item, path[1:])
    elif isinstance(value, Mapping):
        yield from _each(field(value, path[0]), path[1:])
