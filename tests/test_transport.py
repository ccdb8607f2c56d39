"""Whether a request may have been sent, asked of real clients that meet real trouble on loopback."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import http.client
import os
import socket
import ssl
import struct
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
import urllib3

from balancer import errors
from balancer.transport import may_have_been_sent

BODY = b'{"prompt": "lo-fi"}'
SOON = 0.3  # seconds until a client gives up on a server that will never answer

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


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def post(request):
    """Return a function that posts to a URL with one of the clients and returns the error."""
    return lambda url: raised_by(request.param, url)


# -- never sent ----------------------------------------------------------------------------------


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


@pytest.fixture
def port_of_no_return():
    """Yield a port where connections are neither accepted nor refused: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_connect_timeout_is_proof(post, port_of_no_return):
    """The connection did not come about in time, even where the client raises a plain TimeoutError."""
    assert may_have_been_sent(post(f"http://127.0.0.1:{port_of_no_return}/")) is False


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


# -- perhaps sent --------------------------------------------------------------------------------

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
        monkeypatch.setitem(globals(), "BODY", b"x" * 32 * 1024 * 1024)
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
    text = (Path(__file__).parent.parent / "balancer" / "transport.py").read_text("utf-8")
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported.isdisjoint({"requests", "urllib3", "httpx", "aiohttp", "urllib.error", "http.client"})
    assert "traceback" in imported


def test_a_network_error_that_python_has_no_type_for_counts_by_its_number():
    """OSError with EHOSTUNREACH is of the network; the same type with another number is not."""
    assert type(OSError(errno.EHOSTUNREACH, "x")) is builtins.OSError
    assert may_have_been_sent(OSError(errno.EHOSTUNREACH, "x")) is True
    assert may_have_been_sent(OSError(errno.EISDIR, "x")) is None
