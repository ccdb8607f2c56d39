"""Whether a request may have been sent: what proves that it never left, asked of real clients."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request

import aiohttp
import httpx
import pytest
import requests
import urllib3
from trouble import (
    BODY,
    CLIENTS,
    SOON,
    WORTHLESS,
    close_after_reading,
    never_finish,
    port_that_never_answers,
    raised_by,
    serving,
    stay_silent,
    with_aiohttp,
    with_httpx,
    with_requests,
    with_urllib3,
)

from balancer.useapi.transport_errors import may_have_been_sent


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def post(request):
    """Return a function that posts to a URL with one of the clients and returns the error."""
    return lambda url: raised_by(request.param, url)


def test_a_refused_connection_is_proof(post):
    """Nobody listens: each client's own error says that nothing was sent."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert may_have_been_sent(post(f"http://127.0.0.1:{bound.getsockname()[1]}/")) is False


def test_a_name_that_does_not_resolve_is_proof(post, monkeypatch):
    """The name of the server has no address; no resolver is asked, the machine's answer is given here."""

    def fail(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert may_have_been_sent(post("http://nowhere.invalid/")) is False


def test_a_connect_timeout_is_proof(post):
    """The connection did not come about in time, even where the client raises a plain TimeoutError."""
    with port_that_never_answers() as port:
        assert may_have_been_sent(post(f"http://127.0.0.1:{port}/")) is False


def test_a_certificate_that_nobody_trusts_is_proof(post, tmp_path):
    """The handshake fails before any request is written."""
    (tmp_path / "pem").write_text(WORTHLESS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with serving(close_after_reading, context) as port:
        assert may_have_been_sent(post(f"https://127.0.0.1:{port}/")) is False


def test_a_server_that_does_not_speak_tls_is_proof(post):
    """The handshake is answered with something else."""

    def speak_plainly(connection, gone):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(speak_plainly) as port:
        assert may_have_been_sent(post(f"https://127.0.0.1:{port}/")) is False


def test_a_handshake_that_never_ends_is_proof(post):
    """The timeout is one of reading, but what was not read is the server's part of the handshake."""
    with serving(stay_silent) as port:
        assert may_have_been_sent(post(f"https://127.0.0.1:{port}/")) is False


def test_no_free_connection_in_the_pool_of_httpx_is_proof():
    """The request waited for a connection of the client's own pool, in vain."""
    limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.05)
    with (
        serving(never_finish) as port,
        httpx.Client(limits=limits, timeout=timeout) as client,
        client.stream("POST", f"http://127.0.0.1:{port}/", content=BODY),
    ):
        error = raised_by(client.post, f"http://127.0.0.1:{port}/")
    assert isinstance(error, httpx.PoolTimeout)
    assert may_have_been_sent(error) is False


def test_no_free_connection_in_the_pool_of_aiohttp_is_proof():
    """The request waited for a connection of the client's own pool, in vain."""

    async def post(port):
        timeout = aiohttp.ClientTimeout(total=None, connect=0.05)
        connector = aiohttp.TCPConnector(limit=1)
        url = f"http://127.0.0.1:{port}/"
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, data=BODY),
        ):
            await session.post(url, data=BODY)

    with serving(never_finish) as port:
        error = raised_by(asyncio.run, post(port))
    assert isinstance(error, aiohttp.ConnectionTimeoutError)
    assert may_have_been_sent(error) is False


def test_no_free_connection_in_the_pool_of_urllib3_is_proof():
    """An empty pool that blocks gives up before anything is sent."""
    with urllib3.HTTPConnectionPool("127.0.0.1", 9, maxsize=1, block=True) as pool:
        taken = pool._get_conn()
        error = raised_by(lambda: pool.urlopen("POST", "/", body=BODY, pool_timeout=0.01, retries=False))
        taken.close()
    assert isinstance(error, urllib3.exceptions.EmptyPoolError)
    assert may_have_been_sent(error) is False


def requests_by_proxy(url, proxy):
    """Post with requests."""
    requests.post(url, data=BODY, timeout=SOON, proxies={"http": proxy, "https": proxy})


def httpx_by_proxy(url, proxy):
    """Post with httpx."""
    with httpx.Client(proxy=proxy, timeout=SOON) as client:
        client.post(url, content=BODY)


def aiohttp_by_proxy(url, proxy):
    """Post with aiohttp."""

    async def post():
        async with aiohttp.ClientSession() as session:
            await session.post(url, data=BODY, proxy=proxy)

    asyncio.run(post())


def http_client_by_proxy(url, proxy):
    """Post with http.client."""
    parts = urllib3.util.parse_url(proxy)
    with contextlib.closing(http.client.HTTPSConnection(parts.host, parts.port, timeout=SOON)) as connection:
        connection.set_tunnel("api.example.com")
        connection.request("POST", "/", BODY)


BY_PROXY = [requests_by_proxy, httpx_by_proxy, aiohttp_by_proxy, http_client_by_proxy]


@pytest.mark.parametrize("call", BY_PROXY, ids=lambda call: call.__name__)
def test_a_proxy_that_opens_no_tunnel_is_proof(call):
    """The proxy's own 503 is no answer of the server: the request never reached it."""

    def decline(connection, gone):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    with serving(decline) as port:
        error = raised_by(call, "https://api.example.com/", f"http://127.0.0.1:{port}")
    assert may_have_been_sent(error) is False


@pytest.mark.parametrize("call", BY_PROXY, ids=lambda call: call.__name__)
def test_a_proxy_that_is_not_there_is_proof(call):
    """The connection to the proxy is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = raised_by(call, "https://api.example.com/", f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert may_have_been_sent(error) is False


@pytest.mark.parametrize(
    ("call", "url"),
    [
        (with_requests, "api.example.com/x"),
        (with_requests, "ftp://example.com/"),
        (with_requests, "http://"),
        (with_httpx, "ftp://example.com/"),
        (with_httpx, "http://exa mple.com:port/"),
        (with_aiohttp, "ftp://example.com/"),
        (with_aiohttp, "http:///x"),
        (with_urllib3, "nonsense://example.com/"),
    ],
)
def test_an_address_that_cannot_be_used_is_proof(call, url):
    """Without a usable URL there is no request."""
    assert may_have_been_sent(raised_by(call, url)) is False


def test_a_body_that_is_no_json_is_proof():
    """The client refuses to build the request."""
    error = raised_by(lambda: requests.post("http://127.0.0.1:9/", json={"seed": float("nan")}, timeout=1))
    assert isinstance(error, requests.exceptions.InvalidJSONError)
    assert may_have_been_sent(error) is False


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(-2, "Name or service not known"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        ssl.SSLCertVerificationError(1, "self-signed certificate"),
        http.client.NotConnected(),
        http.client.CannotSendRequest(),
        urllib.error.URLError(socket.gaierror(-2, "Name or service not known")),
        requests.ConnectionError(
            urllib3.exceptions.MaxRetryError(
                None, "/", urllib3.exceptions.NewConnectionError(None, "no route to host")
            )
        ),
    ],
    ids=repr,
)
def test_errors_that_come_before_any_request_are_proof_by_their_kind(error):
    """Also when they are caught, stored and judged without their traceback."""
    assert may_have_been_sent(error) is False
