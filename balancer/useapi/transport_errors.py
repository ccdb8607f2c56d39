"""Which exceptions prove that a request never left, and which may hide an accepted job.

A job costs money and cannot be sent twice, so the proof is asked of the exception: only what is
listed here is known never to have been sent, everything else that a client or the network raises
may have been. Types and functions are named as ``module:qualname`` and looked for among the bases
of the exception and in its traceback, so that no client has to be imported.

Not on the list, although they sound like it: httpx's ``LocalProtocolError`` (over HTTP/2 it may come
after the request), ``InvalidHeader`` of requests (also raised for the answer's headers), and any
timeout that does not say that it was the connection's.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from typing import cast

from balancer.errors import BalancerError
from balancer.useapi.http_response import suppressing

_TRANSPORT = frozenset(
    {
        "builtins:ConnectionError",
        "builtins:TimeoutError",
        "asyncio.exceptions:IncompleteReadError",
        "socket:gaierror",
        "socket:herror",
        "ssl:SSLError",
        "http.client:HTTPException",
        "urllib.error:URLError",
        "urllib3.exceptions:HTTPError",
        "requests.exceptions:RequestException",
        "h11._util:ProtocolError",
        "httpcore:NetworkError",
        "httpcore:ProtocolError",
        "httpcore:ProxyError",
        "httpcore:TimeoutException",
        "httpcore:UnsupportedProtocol",
        "httpx:HTTPError",
        "httpx:InvalidURL",
        "aiohttp.client_exceptions:ClientError",
    }
)
"""The roots of what clients and the network raise."""

_NETWORK = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
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

_DEEPEST = 6  # requests wraps four errors deep


def may_have_been_sent(error: BaseException) -> bool | None:
    """Return whether the request behind ``error`` may have reached the server.

    False is proof that it never left; None says that ``error`` is no transport error. Errors of
    this library are none, though ``AcquireTimeout`` is a ``TimeoutError``. RFC 9110, section 9.2.2:
    a client must not repeat a POST by itself unless it knows that the first was never applied.
    """
    return cast("bool | None", suppressing(lambda: _judged(error), True))


def _judged(error: BaseException) -> bool | None:
    names = _names(error)
    if isinstance(error, BalancerError) or not (names & _TRANSPORT or _of_the_network(error)):
        return None
    return bool(names & _SENT_AFTER_ALL) or not any(map(_proves, _layers(error)))


def _of_the_network(error: BaseException) -> bool:
    return isinstance(error, OSError) and (error.errno in _NETWORK or _was_connecting(error))


def _proves(error: BaseException) -> bool:
    return bool(_names(error) & _NEVER_SENT) or _was_connecting(error)


def _names(error: BaseException) -> set[str]:
    return {f"{base.__module__}:{base.__qualname__}" for base in type(error).__mro__}


def _was_connecting(error: BaseException) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}" in _CONNECTING for frame in frames)


def _layers(error: BaseException, depth: int = _DEEPEST) -> Iterator[BaseException]:
    """Yield ``error`` and, where it wraps others, those. Never its context: that was another try."""
    yield error
    if depth and _names(error) & _WRAPPERS:
        named = (getattr(error, "reason", None), getattr(error, "original_error", None), error.__cause__)
        for inner in (*named, *error.args):
            if isinstance(inner, BaseException):
                yield from _layers(inner, depth - 1)
