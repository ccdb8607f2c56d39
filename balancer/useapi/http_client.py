"""One GET at a time: its token, its retries, its redirects and its body, within one deadline."""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from balancer.errors import (
    BalancerError,
    InvalidConfiguration,
    SourceUnavailable,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.redaction import SHORTEST, clean
from balancer.useapi.api_token import Token
from balancer.useapi.http_response import BODY_LIMIT, read, retry_after
from balancer.useapi.transport_errors import DEEPEST, wrapped

_CHUNK = 64 * 1024
_MOST_REDIRECTS = 5
_ITS_OWN = (429, 503)
"""Statuses whose ``Retry-After`` is the service's word; that of the others is a gateway's."""
_REDIRECTS = (301, 302, 303, 307, 308)


class Reply:
    """What came back: the bodies of account lists are full of secrets, so no repr shows one."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class BearerAuth(AuthBase):
    """Sets the header itself, so that neither a .netrc nor a session's own auth replaces it."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the header on ``request``."""
        request.headers["Authorization"] = self._token.bearer()
        return request


class PatientRetry(Retry):
    """urllib3's Retry, within what is left of a fetch: it never sleeps or starts past the deadline.

    Each try that fails is told to whom it may concern: a fetch that is still trying can say why.
    """

    budget = threading.local()

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds that the service asks to wait; None if it names none, or nonsense."""
        return retry_after(response.headers, time.time()) if response.status in _ITS_OWN else None

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """Count a failed try.

        Raises:
            urllib3.exceptions.MaxRetryError: no try is left, or none that would end in time.
        """
        left = getattr(self.budget, "end", time.monotonic()) - time.monotonic()
        response = kwargs.get("response")
        self._tell(response, kwargs.get("error"))
        named = None if response is None else self.get_retry_after(response)
        needed = (named or self.get_backoff_time()) + getattr(self.budget, "for_one_try", 0.0)
        tired = self.new(total=0) if needed > left else self
        return super(PatientRetry, tired).increment(*args, **kwargs)

    def _tell(self, response: BaseHTTPResponse | None, error: BaseException | None) -> None:
        tell = getattr(self.budget, "tell", None)
        if tell is not None:
            hidden = getattr(self.budget, "hidden", ())
            tell(what_failed(error, hidden) if response is None else f"the server answered {response.status}")


class Http:
    """Sends GETs with a token. Without a session of the user's it makes one that retries.

    Args:
        session: The user's, or None.
        timeout: Seconds to connect, and to wait for each piece of an answer.
        deadline: Seconds after which one GET is given up, its retries and body included.
        limit: Bytes of an answer that are read, once unpacked.
    """

    def __init__(
        self,
        session: requests.Session | None,
        timeout: tuple[float, float],
        deadline: float,
        limit: int = BODY_LIMIT,
    ) -> None:
        self._own = session is None
        self._session = session or _session()
        self._timeout, self._deadline, self._limit = timeout, deadline, limit

    def get(self, url: str, token: Token, tell: Callable[[str], None] | None = None) -> Reply:
        """Return the answer, whatever its status. ``tell`` hears of each try that failed on the way.

        Raises:
            requests.RequestException, urllib3.exceptions.HTTPError, OSError: there is none.
            SourceUnavailable: it did not end in time.
            InvalidConfiguration: it is too large, or leads elsewhere.
        """
        end = time.monotonic() + self._deadline
        PatientRetry.budget.end, PatientRetry.budget.for_one_try = end, sum(self._timeout)
        PatientRetry.budget.tell, PatientRetry.budget.hidden = tell, self.hidden()
        auth = BearerAuth(token)
        proxies = directly(url)
        for _ in range(1 + _MOST_REDIRECTS):
            with self._session.get(
                url, auth=auth, timeout=self._timeout, stream=True, allow_redirects=False, **proxies
            ) as answer:
                if answer.status_code not in _REDIRECTS:
                    return Reply(answer.status_code, answer.headers, _body(answer, end, self._limit))
                url = _same_host(url, answer.headers.get("Location"))
        raise InvalidConfiguration(f"the answer is a chain of more than {_MOST_REDIRECTS} redirects")

    def hidden(self) -> list[str]:
        """Return what no error may show: users and passwords of proxies, and parts of them."""
        found: set[str] = set()
        for url in (*getproxies().values(), *(getattr(self._session, "proxies", None) or {}).values()):
            user = url.rpartition("@")[0].rpartition("://")[2]
            for form in (user, unquote(user)):
                found.update((form, form.partition("/")[0], *re.split("[:/@]", form)))
        return sorted((part for part in found if len(part) >= SHORTEST), key=len, reverse=True)

    def after_fork(self) -> None:
        """Let go of connections that belong to the parent process."""
        if self._own:
            self._session = _session()

    def close(self) -> None:
        """Close the session, unless it is the user's."""
        if self._own:
            self._session.close()


def what_failed(error: BaseException | None, hidden: Collection[str] = ()) -> str:
    """Say in a line what a client's error was about: its type, and the text at the bottom of its causes.

    The strings ``hidden`` are cut out.
    """
    deepest = error
    for _ in range(DEEPEST):
        deepest = next(wrapped(deepest), deepest) if deepest is not None else None
    text = clean(str(deepest), hidden)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def status_error(reply: Reply) -> BalancerError | None:
    """Return the error that a status stands for, or None."""
    status = reply.status
    if status in (200, 201):
        return None
    if status == 401:
        return Unauthorized("the server did not accept the token (401): check token=, or USEAPI_TOKEN")
    if status == 402:
        return SubscriptionRequired(
            "the subscription behind the token has ended (402): renew it at useapi.net"
        )
    if status != 429 and status < 500:
        return InvalidConfiguration(f"the server answered {status}")
    error = SourceUnavailable(f"the server answered {status}")
    answer = read((status, dict(reply.headers), reply.body))
    if answer is not None and status in _ITS_OWN and not answer.is_page:
        error.retry_after = answer.pause(time.time())
    return error


def _session() -> requests.Session:
    session = requests.Session()
    retry = PatientRetry(
        total=3,
        backoff_factor=0.5,
        allowed_methods=frozenset({"GET"}),
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def directly(url: str) -> dict[str, Any]:
    """Return what makes requests ask a server of this machine itself: a proxy would look on its own."""
    return {"proxies": {"no_proxy": urlsplit(url).hostname}} if on_this_machine(url) else {}


def on_this_machine(url: str) -> bool:
    """Return whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _same_host(url: str, location: str | None) -> str:
    target = urljoin(url, location or "")
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise InvalidConfiguration("the answer redirects to another host, which must not see the token")
    return target


def _body(answer: requests.Response, end: float, limit: int) -> bytes:
    pieces, size = [], 0
    # One read of the socket at a time: iter_content would wait for whole chunks, and a body that
    # drips would keep it past any deadline.
    while piece := answer.raw.read1(_CHUNK, decode_content=True):
        size += len(piece)
        if size > limit:
            raise InvalidConfiguration(f"the answer is larger than {limit // 1024 // 1024} MiB")
        if time.monotonic() > end:
            raise SourceUnavailable("the answer did not end in time")
        pieces.append(piece)
    return b"".join(pieces)
