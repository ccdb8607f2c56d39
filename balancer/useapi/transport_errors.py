"""Which exceptions prove that a request never left, and which may hide an accepted job.

A job costs money and cannot be sent twice, so the proof is asked of the exception: only what is
listed here is known never to have been sent, everything else that a client or the network raises
may have been. What such an error looks like is a principle and no list, as nobody can list every
client: by its name or a base's, or by its number. Types and functions are named as
``module:qualname`` and looked for among the bases of the exception and in its traceback, so that
no client has to be imported.

Not on the list, although they sound like it: httpx's ``LocalProtocolError`` (over HTTP/2 it may come
after the request), ``InvalidHeader`` of requests (also raised for the answer's headers), and any
timeout that does not say that it was the connection's.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections import deque
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice
from typing import Any, cast

from balancer.errors import BalancerError
from balancer.useapi.http_response import suppressing

_TRANSPORT = frozenset(
    {
        "builtins:ConnectionError",
        "builtins:TimeoutError",
        "socket:gaierror",
        "socket:herror",
        "ssl:SSLError",
        "http.client:HTTPException",
        "urllib.error:URLError",
        "urllib3.exceptions:HTTPError",
        "requests.exceptions:RequestException",
        "httpcore:UnsupportedProtocol",
        "httpx:HTTPError",
        "httpx:InvalidURL",
        "aiohttp.client_exceptions:ClientError",
        "botocore.exceptions:HTTPClientError",
        "pycurl:error",
    }
)
"""Roots of what clients raise whose names do not tell it."""

_SHAPE = re.compile(
    "Timeout|TimedOut|Connect|Disconnect|Network|Transport|Socket|Curl|SSL|DNS|Proxy"
    "|(?:Protocol|Read|Write|Receive|Send)Error$|IncompleteRead|EndOfStream|Unreachable|RequestException$"
    "|(?:Broken|Closed)Resource|(?:Stream|Channel)(?:Closed|Reset|Error)"
)
"""Names, of a type or of a base, by which clients call trouble on the way to the server and back."""

_SAME = {"niquests": "requests", "urllib3_future": "urllib3"}
"""Packages that were made from another one and kept its errors."""

_NETWORK = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOBUFS,
        errno.ENOTCONN,
        errno.EPROTO,
    }
)
"""Errors of the network that Python has no type for."""

_NEVER_SENT = frozenset(
    {
        "builtins:ConnectionRefusedError",
        "socket:gaierror",
        "socket:herror",
        "ssl:SSLCertVerificationError",  # checked in the handshake, before any request
        "http.client:CannotSendRequest",
        "http.client:InvalidURL",
        "http.client:NotConnected",
        "urllib3.exceptions:ClosedPoolError",
        "urllib3.exceptions:ConnectTimeoutError",
        "urllib3.exceptions:EmptyPoolError",
        "urllib3.exceptions:LocationValueError",
        "urllib3.exceptions:NewConnectionError",  # NameResolutionError is one
        "requests.exceptions:ConnectTimeout",
        "requests.exceptions:InvalidJSONError",  # of the request; that of an answer is below
        "requests.exceptions:InvalidSchema",
        "requests.exceptions:InvalidURL",
        "requests.exceptions:MissingSchema",
        "httpcore:ConnectError",
        "httpcore:ConnectTimeout",
        "httpcore:PoolTimeout",
        "httpcore:ProxyError",
        "httpcore:UnsupportedProtocol",
        "httpx:ConnectError",
        "httpx:ConnectTimeout",
        "httpx:InvalidURL",
        "httpx:PoolTimeout",
        "httpx:ProxyError",  # the proxy did not open the tunnel
        "httpx:UnsupportedProtocol",
        "aiohttp.client_exceptions:ClientConnectorError",  # DNS, refused, TLS, certificate, proxy
        "aiohttp.client_exceptions:ClientHttpProxyError",
        "aiohttp.client_exceptions:ConnectionTimeoutError",
        "aiohttp.client_exceptions:InvalidURL",
        "aiohttp.client_exceptions:NonHttpUrlClientError",
        "aiohttp.client_exceptions:ServerFingerprintMismatch",
        "botocore.exceptions:ConnectTimeoutError",
        "botocore.exceptions:EndpointConnectionError",
        "botocore.exceptions:ProxyConnectionError",
        "curl_cffi.requests.exceptions:CertificateVerifyError",
        "curl_cffi.requests.exceptions:DNSError",
        "curl_cffi.requests.exceptions:ProxyError",  # no proxy, or no tunnel
    }
)

_SENT_AFTER_ALL = frozenset(
    {
        "requests.exceptions:JSONDecodeError",
        "aiohttp.client_exceptions:RedirectClientError",
    }
)
"""Types below those of the list above that are raised once an answer is there."""

_WRAPPERS = frozenset(
    {
        "urllib.error:URLError",
        "urllib3.exceptions:MaxRetryError",
        "urllib3.exceptions:ProxyError",
        "urllib3.exceptions:ReadTimeoutError",  # also of a handshake
        "urllib3.exceptions:SSLError",
        "requests.exceptions:ConnectionError",
        "requests.exceptions:ReadTimeout",
    }
)
"""Types that carry the error which says why."""

_OF_CURL = frozenset({"curl_cffi.curl:CurlError", "pycurl:error"})
_CURL_NEVER_SENT = frozenset({5, 6, 7, 60})
"""libcurl's numbers for: no name resolved, the proxy's or the host's; no connection; no trust.

Not 1 (unsupported protocol), which is also said of an answer that is no HTTP, nor 28: any timeout.
"""

_CONNECTING = frozenset(
    {
        "socket:create_connection",
        "http.client:HTTPConnection.connect",
        "http.client:HTTPSConnection.connect",
        "urllib3.connection:HTTPConnection.connect",
        "urllib3.connection:HTTPSConnection.connect",
    }
)
"""What fails in here failed before the request: a bare ``TimeoutError`` does not tell otherwise."""

DEEPEST = 6
"""How many errors deep is looked for the one at the bottom: requests wraps four."""
_MOST_ERRORS = 1_000
_MOST_FRAMES = 1_000


def may_have_been_sent(error: BaseException) -> bool | None:
    """Return whether the request behind ``error``, taken by itself, may have reached the server.

    False is proof that it never left; None says that ``error`` is no transport error. Errors of
    this library are none, though ``AcquireTimeout`` is a ``TimeoutError``; nor are cancellations and
    other exceptions that are no :class:`Exception`. RFC 9110, section 9.2.2: a client must not repeat
    a POST by itself unless it knows that the first was never applied.
    """
    return cast("bool | None", suppressing(lambda: _judged(error), True))


class UnreadError(ConnectionError):
    """Stands for the errors beyond those that were looked at: one of them may hide a job."""


def linked(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """Yield ``error`` and what it brings along, each to be judged by itself.

    Of a group that is every leaf, as task groups wrap whatever their tasks raise. Behind them come
    causes, and contexts that were not suppressed: an error of the caller's own may be raised from a
    read timeout, or while one was being handled. With each comes whether it is what was raised (or
    in the group that was) and not only behind it. After 1,000 comes an :class:`UnreadError`.

    What a proven error translates is left out, as it is the same trouble once more: a connect
    timeout comes from a bare ``TimeoutError``. What was being handled when that came is not.
    """
    todo, seen = deque([(error, True, False)]), {id(error)}
    while todo:
        if len(seen) > _MOST_ERRORS:
            yield UnreadError(f"more than {_MOST_ERRORS:,} errors"), False
            return
        one, raised, told = todo.popleft()
        leaves = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        if not leaves and not told:
            yield one, raised
            told = may_have_been_sent(one) is False
        links = [(leaf, raised, told) for leaf in islice(leaves, _MOST_ERRORS)]
        links += (
            [(inner, False, True) for inner in suppressing(partial(list, wrapped(one)), [])] if told else []
        )
        links += [(inner, False, False) for inner in (_behind(one),) if inner is not None]
        for link in links:  # one that is told comes before the same as what was being handled
            if id(link[0]) not in seen:
                seen.add(id(link[0]))
                todo.append(link)


def _behind(error: BaseException) -> BaseException | None:
    """Return the cause of an error, else its context. The cause of an error of this library is none.

    It failed on the way to the accounts or to the store, and no job was in it.
    """
    if error.__cause__ is not None and not isinstance(error, BalancerError):
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def _judged(error: BaseException) -> bool | None:
    if isinstance(error, BalancerError) or not isinstance(error, Exception):
        return None
    if not _is_of_the_way(error):
        return None
    return bool(_names(error) & _SENT_AFTER_ALL) or not any(map(_proves, _layers(error)))


def _is_of_the_way(error: BaseException) -> bool:
    names = _names(error)
    if names & _TRANSPORT or any(_SHAPE.search(name.partition(":")[2]) for name in names):
        return True
    return isinstance(error, OSError) and (error.errno in _NETWORK or _was_connecting(error))


def _proves(error: BaseException) -> bool:
    return bool(_names(error) & _NEVER_SENT) or _curl_never_sent(error) or _was_connecting(error)


def _names(error: BaseException) -> frozenset[str]:
    kind: Any = type(error)
    names: frozenset[str] = _names_of(kind)
    return names


@lru_cache(maxsize=256)
def _names_of(kind: Any) -> frozenset[str]:
    return frozenset(f"{_home(base)}:{base.__qualname__}" for base in kind.__mro__)


def _home(kind: type) -> str:
    top, dot, rest = kind.__module__.partition(".")
    return _SAME.get(top, top) + dot + rest


def _curl_never_sent(error: BaseException) -> bool:
    if not _names(error) & _OF_CURL:
        return False
    number = getattr(error, "code", error.args[0] if error.args else None)
    return isinstance(number, int) and number in _CURL_NEVER_SENT


def _was_connecting(error: BaseException) -> bool:
    frames = (frame for frame, _ in islice(traceback.walk_tb(error.__traceback__), _MOST_FRAMES))
    return any(f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}" in _CONNECTING for frame in frames)


def _layers(error: BaseException, depth: int = DEEPEST) -> Iterator[BaseException]:
    """Yield ``error`` and, where it wraps others, those. Never its context: that was another try."""
    yield error
    if depth and _names(error) & _WRAPPERS:
        for inner in wrapped(error):
            yield from _layers(inner, depth - 1)


def wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that ``error`` names as its own reason."""
    named = (getattr(error, "reason", None), getattr(error, "original_error", None), error.__cause__)
    yield from (inner for inner in (*named, *error.args) if isinstance(inner, BaseException))
