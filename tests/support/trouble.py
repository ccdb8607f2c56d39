"""Servers that make trouble on loopback, and clients that post to them and raise for it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import struct
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import pytest
import requests
import urllib3

BODY = b'{"prompt": "lo-fi"}'
SOON = 0.15  # seconds until a client gives up on a server that will never answer

# Made for this test and trusted by nobody.
WORTHLESS = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg24+h5aZArAWdm2l1
OcQ971DDyBtibgQco0O/qstxEOmhRANCAATlXH3mOSYcEH/C37JUFUBPklg/CHRn
MG03ZI+iu2MTWPrNIpUS9h3mESFCctv9+VJWWnsj/af7M8aBqeULXtQl
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkTCCATagAwIBAgIUEcOrJO2wsPBuxKdW2BZ4BRaXddMwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMjEyMjUxMVoYDzIxMjYxMDI5
MTIyNTExWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATlXH3mOSYcEH/C37JUFUBPklg/CHRnMG03ZI+iu2MTWPrNIpUS9h3m
ESFCctv9+VJWWnsj/af7M8aBqeULXtQlo2QwYjAdBgNVHQ4EFgQUGzIVijJrzTXD
5qFwBTOkQH0IFxgwHwYDVR0jBBgwFoAUGzIVijJrzTXD5qFwBTOkQH0IFxgwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC
IQCMObzC4X5+WGNe708xBrjg3UI1P6/Dd3V3ca22887C5QIhAMSgyRjQXbFKJklx
9fxKLPHVnJ9bqdqJutzT/GcBbH1h
-----END CERTIFICATE-----
"""


# -- where no connection comes about ---------------------------------------------------------------


@contextlib.contextmanager
def port_that_never_answers():
    """Hold a port whose queue of connections is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# -- what a server may do to a request -----------------------------------------------------------


def receive(connection):
    """Read the whole of a small request."""
    request = b""
    while BODY not in request and (piece := connection.recv(65536)):
        request += piece
    return request


def close_unread(connection, gone):
    """Close the connection at once."""


def close_after_reading(connection, gone):
    """Take the request and close."""
    receive(connection)


def reset(connection, gone):
    """Take the request and reset the connection."""
    receive(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer_nonsense(connection, gone):
    """Answer with what is no HTTP."""
    receive(connection)
    connection.sendall(b"\x00 what a day \xff\r\n\r\n")


def stop_in_the_status_line(connection, gone):
    """Close in the middle of the first line."""
    receive(connection)
    connection.sendall(b"HTTP/1.")


def stop_in_the_body(connection, gone):
    """Close in the middle of the body."""
    receive(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"jobid": ')


def never_answer(connection, gone):
    """Take the request and stay silent."""
    receive(connection)
    gone.wait()


def never_finish(connection, gone):
    """Stay silent in the middle of the body."""
    receive(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"jobid": ')
    gone.wait()


def stay_silent(connection, gone):
    """Neither read nor write."""
    gone.wait()


@contextlib.contextmanager
def serving(behave, context=None):
    """Run ``behave(connection, gone)`` for each connection; yield the port."""
    gone = threading.Event()

    def handle(connection):
        with contextlib.suppress(OSError), connection:
            if context is None:
                behave(connection, gone)
            else:
                with context.wrap_socket(connection, server_side=True) as secure:
                    behave(secure, gone)

    def accept():
        while (connection := next_connection(listener)) is not None:
            pool.submit(handle, connection)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(8) as pool:
        pool.submit(accept)
        try:
            yield listener.getsockname()[1]
        finally:
            gone.set()
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accept


def next_connection(listener):
    """Return the next connection, or None once the listener is shut."""
    try:
        return listener.accept()[0]
    except OSError:
        return None


# -- the clients: each posts a job and returns what that raises ----------------------------------


def with_requests(url):
    """Post with requests."""
    with requests.Session() as session:
        session.post(url, data=BODY, timeout=(SOON, SOON))


def with_httpx(url):
    """Post with httpx."""
    with httpx.Client(timeout=SOON) as client:
        client.post(url, content=BODY)


def with_httpx_async(url):
    """Post with httpx in a task."""

    async def post():
        async with httpx.AsyncClient(timeout=SOON) as client:
            await client.post(url, content=BODY)

    asyncio.run(post())


def with_aiohttp(url):
    """Post with aiohttp."""

    async def post():
        timeout = aiohttp.ClientTimeout(total=None, connect=SOON, sock_read=SOON)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=BODY) as answer,
        ):
            await answer.read()

    asyncio.run(post())


def with_urllib(url):
    """Post with urllib."""
    with urllib.request.urlopen(url, BODY, timeout=SOON) as answer:
        answer.read()


def with_http_client(url):
    """Post with http.client."""
    parts = urllib3.util.parse_url(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(parts.host, parts.port, timeout=SOON)) as connection:
        connection.request("POST", "/", BODY)
        connection.getresponse().read()


def with_urllib3(url):
    """Post with urllib3, which then raises its own errors bare."""
    with urllib3.PoolManager() as manager:
        manager.request("POST", url, body=BODY, timeout=SOON, retries=False)


def with_urllib3_retries(url):
    """Post with urllib3, which then wraps its errors."""
    with urllib3.PoolManager() as manager:
        manager.request("POST", url, body=BODY, timeout=SOON, retries=urllib3.Retry(0))


CLIENTS = [
    with_requests,
    with_httpx,
    with_httpx_async,
    with_aiohttp,
    with_urllib,
    with_http_client,
    with_urllib3,
    with_urllib3_retries,
]


def raised_by(call, *args):
    """Return what a call raises."""
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001  (whatever the client raises is the subject)
        return error
    pytest.fail("the client raised nothing")
