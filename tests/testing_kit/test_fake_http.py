"""The stand-in as an HTTP server: tokens, odd requests, and how it ends."""

from __future__ import annotations

import socket
import threading

import pytest
import requests
from api import Api

from balancer.testing import FakeUseapi, ManualClock

pytest_plugins = ["balancer.testing.plugin"]

TWO = {"a@example.com": 2, "b@example.com": 1}


@pytest.fixture
def fake(fake_useapi):
    """Two accounts of Flow Music."""
    return fake_useapi({"flowmusic": TWO})


@pytest.fixture
def api(fake):
    """A client of the stand-in."""
    with Api(fake) as api:
        yield api


def test_a_wrong_token_is_refused_with_a_code_and_none_without(fake):
    """Both forms of the 401 body are in use."""
    url = f"{fake.url}/v1/flowmusic/accounts"
    wrong = requests.get(url, headers={"Authorization": "Bearer user:1-x"}, timeout=10)
    none = requests.get(url, timeout=10)
    assert (wrong.status_code, wrong.json()) == (401, {"error": "Unauthorized", "code": 401})
    assert (none.status_code, none.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize(
    ("request_line", "options", "status"),
    [
        ("GET /v1/nowhere/accounts", {}, 404),
        ("GET /v1/flowmusic/jobs/job:unknown", {}, 404),
        ("DELETE /v1/flowmusic/jobs/job:unknown", {}, 404),
        ("POST /v1/flowmusic/accounts", {"json": {}}, 400),
        ("POST /v1/flowmusic/songs", {"json": {}}, 404),
        ("PUT /v1/flowmusic/music", {"json": {}}, 405),
        ("POST /v1/flowmusic/music", {"json": [1]}, 400),
        ("POST /v1/flowmusic/music", {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST /v1/flowmusic/music", {"data": iter([b"{", b"}"])}, 201),
        (
            "POST /v1/flowmusic/music?email=b%40example.com",
            {"data": b"a picture", "headers": {"Content-Type": "image/png"}},
            201,
        ),
    ],
)
def test_requests_are_answered_for_what_they_are(fake, api, request_line, options, status):
    """What nobody offers is refused; a body that is no JSON leaves the parameters to the query."""
    method, path = request_line.split()
    assert api.session.request(method, fake.url + path, timeout=10, **options).status_code == status


def test_what_is_no_http_ends_the_connection(fake):
    """And harms nobody else."""
    address = ("127.0.0.1", int(fake.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert connection.recv(100) == b""


def test_close_leaves_no_thread_and_no_open_port():
    """Connections that clients keep open are closed too; closing twice is fine."""
    before = set(threading.enumerate())
    fake = FakeUseapi({"flowmusic": TWO}).start()
    address = fake.url.removeprefix("http://").split(":")
    with Api(fake) as api:
        api.create(replyUrl="http://127.0.0.1:9/nobody")
        fake.close()
        fake.close()
        assert set(threading.enumerate()) <= before  # those of other tests may have ended meanwhile
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address[0], int(address[1])), timeout=10)


def test_it_can_serve_in_a_thread_of_the_caller():
    """serve_forever blocks until somebody closes the server."""
    fake = FakeUseapi({"flowmusic": TWO}, clock=ManualClock())
    thread = threading.Thread(target=fake.serve_forever)
    thread.start()
    with Api(fake) as api:
        assert api.get("accounts").status_code == 200
    fake.close()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_port_that_is_in_use_is_said_to_be():
    """Whoever starts a second one is told what to do, and nothing is left behind."""
    before = set(threading.enumerate())
    with FakeUseapi({}) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match=rf"port {port} is in use.*--port 0"):
            FakeUseapi({}, port=port)
    assert set(threading.enumerate()) <= before  # those of other tests may have ended meanwhile


@pytest.mark.parametrize("cut", [b"", b'{"prompt": "ra'])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 18\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n12\r\n"]
)
def test_a_request_that_ends_in_its_middle_starts_no_job(fake_useapi, framing, cut):
    """Whoever sent it was killed: no server takes half of a request for one."""
    fake = fake_useapi({"flowmusic": TWO})
    host, port = fake.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        head = f"POST /v1/flowmusic/music HTTP/1.1\r\nAuthorization: Bearer {fake.token}\r\n"
        client.sendall(head.encode() + b"Content-Type: application/json\r\n" + framing + cut)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert fake.audit().accepted == 0
