"""What is sent to start a job, made of a user's fields and checked before a slot is waited for. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from balancer.client.api import Request
from balancer.config import account_id
from balancer.request import AcquireOptions
from balancer.services import SERVICES
from balancer.services.schema import Service
from balancer.useapi import following

File = Any
"""Bytes, a path, a file that is open for reading, or a pair of name and one of these; a type may follow."""


@dataclass(frozen=True, slots=True)
class Order:
    """One create, to be sent on whichever account it gets a slot of."""

    row: Service
    endpoint: str
    fields: Mapping[str, Any]
    files: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Name of the field -> name, content and perhaps type of the file. Read already: it may be sent anew."""

    @property
    def plain(self) -> bool:
        """Whether it takes neither ``replyRef`` nor ``maxJobs``."""
        return any(part in self.row.plain for part in self.endpoint.split("/"))

    @property
    def refers(self) -> bool:
        """Whether the service's list shows the id of its lease while its job runs."""
        row = self.row
        return row.reply_ref and row.load is not None and not self.plain and "replyRef" not in self.fields

    def request(self, params: Mapping[str, Any]) -> Request:
        """Return what is sent on a lease with these ``params``."""
        own = {self.row.selector: params[self.row.selector]} if self.plain else params
        # A replyRef of the user's own is kept: it may be what their callbacks go by.
        fields = {**own, **self.fields, self.row.selector: own[self.row.selector]}
        if not self.files:
            return Request("POST", self.endpoint, json.dumps(fields, ensure_ascii=False).encode())
        parts = [(name, _text(value)) for name, value in fields.items() if value is not None]
        body, content_type = encode_multipart_formdata([*parts, *self.files])
        return Request("POST", self.endpoint, body, content_type)


def order(
    row: Service,
    endpoint: str,
    fields: Mapping[str, Any] | None,
    files: Mapping[str, File] | None,
    options: AcquireOptions,
) -> Order:
    """Check a create. Which account it has to run on, and its own maximum, are put into ``options``.

    Raises:
        ValueError, TypeError: the endpoint starts no job of this kind, or the fields contradict each other.
    """
    path = _endpoint(row, endpoint)
    if fields is not None and not isinstance(fields, Mapping):
        raise TypeError(f"fields must be a mapping, not {type(fields).__name__}")
    if files is not None and not isinstance(files, Mapping):
        raise TypeError(f"files must be a mapping, not {type(files).__name__}")
    # These two may be null, as a form has them that were not filled in.
    ours = ("replyRef", row.max_jobs)
    sent = {name: value for name, value in (fields or {}).items() if value is not None or name not in ours}
    _check(sent, files)
    if row.max_jobs in sent:
        own = sent.pop(row.max_jobs)
        if options.setdefault("max_jobs", own) != own:
            raise ValueError(f"max_jobs= is {options['max_jobs']}, and field {row.max_jobs!r} {own!r}")
    account = _account(row, sent, options)
    if account is not None:
        options["account"] = account
    return Order(row, path, sent, tuple((name, _file(name, file)) for name, file in (files or {}).items()))


def _endpoint(row: Service, endpoint: str) -> str:
    if not isinstance(endpoint, str):
        raise TypeError(f"endpoint must be the path of a create, not {type(endpoint).__name__}")
    path = endpoint.strip("/")
    if not path or (row.creates and not following.creates(row, path)):
        kinds = (one for one in SERVICES.values() if one.path == row.path and one is not row)
        other = following.created_by(kinds, path)
        hint = f"that is a job of {other.key!r}" if other else f"known: {', '.join(row.creates)}"
        raise ValueError(f"endpoint {endpoint!r} starts no job of {row.key!r}; {hint}")
    return path


def _check(fields: Mapping[Any, Any], files: Mapping[str, File] | None) -> None:
    """Refuse fields that no request can carry: found on the way, they would have cost a slot."""
    if odd := [name for name in fields if not isinstance(name, str)]:
        raise TypeError(f"fields must be named by strings, not {type(odd[0]).__name__}")
    for name, value in fields.items():
        if files and isinstance(value, bytes):  # a form takes it as it is
            continue
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            why = "half of a character" if isinstance(error, UnicodeError) else error
            raise kind(f"fields[{name!r}] cannot be sent as JSON: {why}") from None


def _account(row: Service, fields: dict[str, Any], options: AcquireOptions) -> str | None:
    pinned, own = options.get("account"), fields.pop(row.selector, None)
    if isinstance(own, bool) or not isinstance(own, str | int | None):
        raise TypeError(f"fields[{row.selector!r}] must name an account, not {type(own).__name__}")
    named: dict[str, str | int | None] = {
        "account=": None if pinned is None else account_id("account", pinned),
        f"field {row.selector!r}": own,
    }
    assets = following.asset_accounts(row, fields)
    if len(assets) > 1:
        raise ValueError(f"fields name assets of several accounts: {', '.join(sorted(assets))}")
    named["an asset among the fields"] = next(iter(assets), None)
    given = {how: str(account) for how, account in named.items() if account not in (None, "")}
    if len(set(given.values())) > 1:
        told = ", ".join(f"{how} names {account}" for how, account in given.items())
        raise ValueError(f"account: {told}; a job runs on one account")
    return next(iter(given.values()), None)


def _file(name: str, file: File) -> tuple[Any, ...]:
    if not isinstance(name, str):
        raise TypeError(f"files must be named by strings, not {type(name).__name__}")
    if isinstance(file, tuple) and len(file) not in (2, 3):
        raise ValueError(f"files[{name!r}] must be (name, content) or (name, content, type)")
    title, content, *kind = file if isinstance(file, tuple) else (_title(name, file), file)
    if isinstance(content, str | os.PathLike):
        content = Path(content).read_bytes()
    elif hasattr(content, "read"):
        content = content.read()
    if not isinstance(content, bytes | bytearray):
        raise TypeError(f"files[{name!r}] must be bytes, a path or an open binary file")
    return (title, bytes(content), *kind)


def _title(name: str, file: File) -> str:
    known = file if isinstance(file, str | os.PathLike) else getattr(file, "name", None)
    return Path(known).name if isinstance(known, str | os.PathLike) else name


def _text(value: Any) -> Any:
    return value if isinstance(value, str | bytes) else json.dumps(value, ensure_ascii=False)
