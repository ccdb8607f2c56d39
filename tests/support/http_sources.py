"""HTTP sources over a stand-in, and a server that writes what a test says."""

from __future__ import annotations

import socketserver
import threading

import pytest
import requests

from balancer import HttpSource
from balancer.useapi.http_client import PatientRetry


@pytest.fixture
def fake(fake_useapi):
    """Start a stand-in with two accounts."""
    return fake_useapi({"flowmusic": {"a@example.com": 2, "b@example.com": 1}})


@pytest.fixture
def naps(monkeypatch):
    """Have retries follow each other at once, and return what they asked to wait."""
    taken = []

    def sleep(retry, response=None):
        taken.append(response and retry.get_retry_after(response))

    monkeypatch.setattr(PatientRetry, "sleep", sleep)
    return taken


@pytest.fixture
def plain():
    """Return a session that never retries."""
    with requests.Session() as session:
        yield session


def source_of(fake, **options):
    """Return a source that reads from the stand-in."""
    return HttpSource("flowmusic", **{"token": fake.token, "base_url": fake.url, **options})


class Scripted(socketserver.ThreadingTCPServer):
    """A server that writes what a test says, in its own time, and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, pieces, pause=0.0):
        self.asked, self.stop = [], threading.Event()
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                server.asked.append(self.request.recv(65536))
                try:
                    for piece in pieces:
                        self.request.sendall(piece)
                        if server.stop.wait(pause):
                            return
                except OSError:
                    pass  # the client has had enough

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.shutdown()
        self.server_close()
