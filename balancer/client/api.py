"""Requests to one service: sent with the token, answered whole. Threads by requests, tasks by httpx.

What starts a job goes over a connection of its own: one that was kept from the call before may be dead
already, and nobody could tell whether the job was accepted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from balancer.errors import BalancerError, SourceUnavailable, Unauthorized, sanitized
from balancer.redaction import clean
from balancer.services.schema import Service
from balancer.useapi.api_token import Token
from balancer.useapi.http_client import (
    BearerAuth,
    Http,
    Reply,
    directly,
    on_this_machine,
    status_error,
    what_failed,
)
from balancer.useapi.http_response import Answer, read
from balancer.useapi.sources import HttpSource, root_url

CREATE_TIMEOUT = (10.0, 300.0)
"""Seconds to connect, and to wait for the answer to a create: some services answer when the job is done."""
ASK_TIMEOUT = (5.0, 15.0)
ASK_DEADLINE = 30.0
"""Seconds for one question, its body included: whoever asks for many must not hang on one."""
_LARGEST = 64 * 1024 * 1024
"""Bytes of an answer to a question that are read: what was made may stand in it."""
_PIECE = 256 * 1024
T = TypeVar("T")


class Request(NamedTuple):
    """What is sent."""

    method: str
    path: str
    """Below the service's own."""
    body: bytes = b""
    content_type: str = "application/json"


class Api:
    """One service at one address with one token. Mutable: the session that questions share."""

    def __init__(self, row: Service, token: Token | None, base_url: str | None) -> None:
        token = token or Token(os.environ.get("USEAPI_TOKEN", ""))
        # The same arguments are right, and wrong.
        checked = HttpSource(row, token=token, base_url=root_url(base_url))
        self._token, self._root, self._base = token, checked.base_url, f"{checked.base_url}{row.path}/"
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""
        self._session = requests.Session()
        self._http = Http(self._session, ASK_TIMEOUT, ASK_DEADLINE, _LARGEST)

    def close(self) -> None:
        """Close what is kept open."""
        self._session.close()

    def send(self, request: Request) -> requests.Response:
        """Send what changes something, once. Raises what requests raises, and :class:`Unauthorized`."""
        url = self._base + request.path
        with requests.Session() as session:
            return session.request(
                request.method,
                url,
                data=request.body or None,
                headers=_content_type(request),
                auth=BearerAuth(self._token_now()),
                timeout=CREATE_TIMEOUT,
                allow_redirects=False,
                **directly(url),
            )

    async def asend(self, request: Request) -> Any:
        """Do as :meth:`send` for a task."""
        import httpx  # an extra

        url, sign = self._base + request.path, BearerAuth(self._token_now())
        connect, answer = CREATE_TIMEOUT
        async with httpx.AsyncClient(
            verify=_tls(),
            trust_env=not on_this_machine(url),
            timeout=httpx.Timeout(answer, connect=connect),
            auth=sign,  # type: ignore[arg-type]  # a request of either client has headers to be set
        ) as client:
            return await client.request(
                request.method, url, content=request.body, headers=_content_type(request)
            )

    def ask(self, path: str) -> Answer:
        """Return what the service answers to a question, whatever its status.

        Raises:
            SourceUnavailable: there is no answer. Unauthorized: there is no token to ask with.
        """
        url, token = self._base + path, self._token_now()
        reply = self._sent_by(url, lambda: self._http.get(url, token))
        answer = read((reply.status, dict(reply.headers), reply.body), whole=True)
        assert answer is not None  # noqa: S101  # a triple with a status is an answer
        return answer

    def call(self, method: str, path: str, fields: Mapping[str, str]) -> Answer:
        """Return the answer to what changes something that is no job's start. Raises as :meth:`ask`."""
        body = json.dumps(dict(fields)).encode() if fields else b""
        sent = self._sent_by(self._base + path, lambda: self.send(Request(method, path, body)))
        answer = read(sent, whole=True)
        assert answer is not None  # noqa: S101  # a response is an answer
        return answer

    def download(self, place: str, target: Callable[[str | None], Path]) -> Path:
        """Write what stands at a URL, or at a path of the service, into the file that ``target`` names.

        ``target`` is given the content's type. What is not whole leaves no file.
        """
        url = place if urlsplit(place).scheme else self._base + place
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"a result must be fetched over HTTP, not {urlsplit(url).scheme!r}")
        own = urlsplit(url)[:2] == urlsplit(self._root)[:2]
        auth = BearerAuth(self._token_now()) if own else None
        return self._sent_by(url, lambda: self._fetched(url, auth, target))

    def _fetched(self, url: str, auth: BearerAuth | None, target: Callable[[str | None], Path]) -> Path:
        with (
            requests.Session() as session,
            session.get(url, auth=auth, stream=True, timeout=ASK_TIMEOUT, **directly(url)) as answer,
        ):
            if answer.status_code != 200:
                raise SourceUnavailable(
                    f"a result cannot be fetched: the server answered {answer.status_code}"
                )
            path = target(answer.headers.get("Content-Type"))
            part = path.with_name(path.name + ".part")
            try:
                with part.open("wb") as file:
                    for piece in answer.iter_content(_PIECE):
                        file.write(piece)
                part.replace(path)
            finally:
                with suppress(FileNotFoundError):
                    part.unlink()
        return path

    def _sent_by(self, url: str, send: Callable[[], T]) -> T:
        """Return what ``send()`` does; the error of an HTTP client, which knows the token, stays in here."""
        try:
            return send()
        except (requests.RequestException, HTTPError) as error:
            hidden = self._http.hidden()
            failed, cause = f"{clean(url)}: {what_failed(error, hidden)}", sanitized(error, hidden)
        raise SourceUnavailable(failed) from cause

    def _token_now(self) -> Token:
        try:
            token = self._token.now()
        except Exception as error:  # noqa: BLE001  # the user's callable may raise whatever it likes
            why, token = f"the token could not be read: {type(error).__name__}", None
        if token is None:
            raise SourceUnavailable(why)
        if (problem := token.problem()) is not None:
            raise Unauthorized(f"the token {problem}")
        return token


def trouble(answer: Answer) -> BalancerError | None:
    """Return the error that an answer stands for which says nothing of what was asked for, or None."""
    if answer.status in (401, 402, 429) or answer.status >= 500:
        return status_error(Reply(answer.status, answer.headers, b""))
    return None


def pause(answer: Answer) -> float | None:
    """Return how many seconds an answer asks to wait, if it does."""
    return answer.pause(time.time()) if answer.status in (429, 503) else None


def _content_type(request: Request) -> dict[str, str]:
    return {"Content-Type": request.content_type} if request.body else {}


@lru_cache(maxsize=1)
def _tls() -> Any:
    import httpx

    return httpx.create_ssl_context()  # costs more than a request
