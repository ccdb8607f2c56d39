"""Whether a request may have been sent: what leaves it open, and what is no transport error at all."""

from __future__ import annotations

import asyncio
import builtins
import errno
import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
import urllib3
from trouble import (
    BODY,
    CLIENTS,
    SOON,
    answer_nonsense,
    close_after_reading,
    close_unread,
    never_answer,
    never_finish,
    raised_by,
    receive,
    reset,
    serving,
    stay_silent,
    stop_in_the_body,
    stop_in_the_status_line,
    with_aiohttp,
    with_http_client,
    with_requests,
    with_urllib,
)

from balancer import errors
from balancer.useapi.transport_errors import may_have_been_sent


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def post(request):
    """Return a function that posts to a URL with one of the clients and returns the error."""
    return lambda url: raised_by(request.param, url)


TROUBLE = [
    close_unread,
    close_after_reading,
    reset,
    answer_nonsense,
    stop_in_the_status_line,
    stop_in_the_body,
    never_answer,
    never_finish,
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_trouble_after_the_connection_is_no_proof(post, trouble):
    """P-57: once connected, the job may have been accepted, whatever the client calls the error."""
    with serving(trouble) as port:
        assert may_have_been_sent(post(f"http://127.0.0.1:{port}/")) is True


@pytest.mark.parametrize("client", [with_urllib, with_http_client])
def test_a_timeout_while_the_body_is_sent_is_no_proof(client, monkeypatch):
    """The bare TimeoutError of a write looks like that of a connect, but the server may have read enough."""
    with serving(stay_silent) as port:
        monkeypatch.setattr("trouble.BODY", b"x" * 32 * 1024 * 1024)
        error = raised_by(client, f"http://127.0.0.1:{port}/")
    assert "timed out" in str(error)
    assert may_have_been_sent(error) is True


def test_the_timeout_of_a_whole_call_is_no_proof():
    """The timeout of asyncio does not say how far the request got."""

    async def post(port):
        async with aiohttp.ClientSession() as session, asyncio.timeout(SOON):
            await session.post(f"http://127.0.0.1:{port}/", data=BODY)

    with serving(never_answer) as port:
        assert may_have_been_sent(raised_by(asyncio.run, post(port))) is True


def test_an_earlier_try_proves_nothing_about_a_later_one():
    """A refused first address is only the context of the read timeout at the second."""

    def post_somewhere(port):
        try:
            with_requests("http://127.0.0.1:1/")
        except requests.ConnectionError:
            with_requests(f"http://127.0.0.1:{port}/")

    with serving(never_answer) as port:
        error = raised_by(post_somewhere, port)
    assert isinstance(error.__context__, Exception)
    assert may_have_been_sent(error) is True


def test_an_answer_that_is_no_json_is_no_proof():
    """InvalidJSONError of requests is raised for answers too."""

    def call(port):
        requests.post(f"http://127.0.0.1:{port}/", data=BODY, timeout=5).json()

    def answer_html(connection, gone):
        receive(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

    with serving(answer_html) as port:
        error = raised_by(call, port)
    assert isinstance(error, requests.exceptions.InvalidJSONError)
    assert may_have_been_sent(error) is True


def test_a_redirect_that_leads_nowhere_is_no_proof():
    """The error of aiohttp is a kind of invalid URL, yet the request was sent and answered."""

    def send_away(connection, gone):
        receive(connection)
        connection.sendall(
            b"HTTP/1.1 307 Elsewhere\r\nLocation: ftp://example.com/\r\nContent-Length: 0\r\n\r\n"
        )

    with serving(send_away) as port:
        error = raised_by(with_aiohttp, f"http://127.0.0.1:{port}/")
    assert isinstance(error, aiohttp.NonHttpUrlClientError)
    assert may_have_been_sent(error) is True


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        asyncio.TimeoutError(),  # noqa: UP041  (the name that older code raises)
        asyncio.IncompleteReadError(b"", 1),
        ConnectionError(),
        ConnectionResetError(),
        ConnectionAbortedError(),
        BrokenPipeError(),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        ssl.SSLError(1, "bad record mac"),
        ssl.SSLEOFError(8, "EOF occurred"),
        http.client.RemoteDisconnected(),
        http.client.IncompleteRead(b""),
        urllib.error.URLError("what else"),
        urllib.error.URLError(BrokenPipeError()),
        urllib.error.ContentTooShortError("short", b""),
        requests.RequestException(),
        requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", ConnectionResetError())),
        requests.exceptions.InvalidHeader("Content-Length of the answer"),
        requests.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred")),
        requests.exceptions.ProxyError(ConnectionResetError()),
        urllib3.exceptions.HTTPError(),
        httpx.WriteTimeout("x"),
        httpx.LocalProtocolError("over HTTP/2 it may come late"),
        httpx.DecodingError("x"),
        aiohttp.ClientError(),
        aiohttp.ClientOSError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ServerTimeoutError(),
    ],
    ids=repr,
)
def test_what_is_not_known_to_be_proof_is_none(error):
    """Any other error of a client or of the network leaves the question open."""
    assert may_have_been_sent(error) is True


# -- no transport error --------------------------------------------------------------------------

OWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        RuntimeError("x"),
        StopIteration(),
        ZeroDivisionError(),
        AttributeError(),
        UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        BlockingIOError(errno.EAGAIN, "x"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(404),
        GeneratorExit(),
        *(kind("x") for kind in OWN),
    ],
    ids=repr,
)
def test_errors_of_the_program_are_no_transport_errors(error):
    """Nor are cancellations, nor this library's own, though AcquireTimeout is a TimeoutError."""
    assert may_have_been_sent(error) is None


def test_an_error_of_the_program_stays_one_whatever_caused_it():
    """What a program makes of a transport error is its own affair: only the kind raised counts."""
    error = ValueError("no such song")
    error.__cause__ = httpx.ConnectError("refused")
    assert may_have_been_sent(error) is None


# -- odd ones ------------------------------------------------------------------------------------


def test_an_error_whose_attributes_raise_is_no_proof():
    """A transport error that cannot be looked into may have been sent."""

    class Broken(requests.ConnectionError):
        @property
        def reason(self):
            raise RuntimeError("not for you")

    assert may_have_been_sent(Broken()) is True


def test_an_error_that_wraps_itself_is_looked_into_once_and_for_all():
    """A circle of wrapped errors ends."""
    error = urllib.error.URLError("x")
    error.reason = error
    assert may_have_been_sent(error) is True


def test_no_client_is_imported_to_judge_its_errors():
    """Kinds are told by name, so that nobody needs a client that he does not use."""
    text = (Path(__file__).parents[2] / "balancer" / "useapi" / "transport_errors.py").read_text("utf-8")
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported.isdisjoint({"requests", "urllib3", "httpx", "aiohttp", "urllib.error", "http.client"})
    assert "traceback" in imported


def test_a_network_error_that_python_has_no_type_for_counts_by_its_number():
    """OSError with EHOSTUNREACH is of the network; the same type with another number is not."""
    assert type(OSError(errno.EHOSTUNREACH, "x")) is builtins.OSError
    assert may_have_been_sent(OSError(errno.EHOSTUNREACH, "x")) is True
    assert may_have_been_sent(OSError(errno.EISDIR, "x")) is None
