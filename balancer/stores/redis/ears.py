"""Hearing of offers: one subscribed connection, and a pipe by which a thread can be called off it."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from balancer.stores.redis.resp import messages
from balancer.stores.redis.template import Template
from balancer.stores.redis.wire import text
from balancer.stores.redis.wires import LATER

_CHUNK = 65536
QUIET = 10.0
"""Seconds without a message after which the server is asked whether it still hears us."""


class Ears:
    """The channels of one owner: its own, and that of the roll call. One thread at a time listens."""

    def __init__(self, template: Callable[[], Template], own: str, roll: str) -> None:
        self._template, self._own, self._roll = template, own, roll
        self._patience = 0.0
        self._connection: Any = None
        self._socket: Any = None
        self._rest = b""
        """The beginning of a message, of which the end has yet to come."""
        self._heard_at = 0.0
        self._asked = False
        self._busy = threading.Lock()
        self._closed = False
        self.was_connected = False
        """There was a connection when listening began the last time."""
        self.roll_calls = 0
        """How often it was asked what the owner holds, or may not have heard of being asked."""
        self._hearer, self._caller = os.pipe()
        os.set_blocking(self._hearer, False)
        os.set_blocking(self._caller, False)

    def __del__(self) -> None:
        os.close(self._hearer)
        os.close(self._caller)

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Return the accounts that were offered; see Backend.listen."""
        with self._busy:
            self._closed = False
            self.was_connected = self._connection is not None
            try:
                return self._listen(seconds)
            except BaseException:
                self._hang_up()
                raise
            finally:
                if self._closed:
                    self._hang_up()

    def poke(self) -> None:
        """Have the thread that listens return."""
        try:
            os.write(self._caller, b"!")
        except BlockingIOError:  # it has been called often enough
            pass

    def close(self) -> None:
        """Close the connection, or have the thread that listens close it."""
        self._closed = True
        self.poke()
        if self._busy.acquire(blocking=False):
            try:
                self._hang_up()
            finally:
                self._busy.release()

    def _listen(self, seconds: float) -> tuple[str, ...]:
        if self._connection is None:
            self._subscribe()
            return ()
        self._make_sure()
        if not self._wait(seconds):
            return ()
        self._heard_at, self._asked = time.monotonic(), False
        return tuple(self._messages())

    def _subscribe(self) -> None:
        template = self._template()
        self._patience = template.kwargs["socket_timeout"]
        connection = self._connection = template.make()
        connection.connect()
        self._socket, self._rest = connection._sock, b""  # noqa: SLF001  (redis-py has no public name for it)
        self._socket.settimeout(0)
        connection.send_command("SUBSCRIBE", self._own, self._roll, check_health=False)
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        heard = 0
        while heard < 2:
            if not ready.poll(self._patience * 1000):
                raise TimeoutError("the server did not answer in time")
            heard += sum(message[0] == b"subscribe" for message in self._read())
        self.roll_calls += 1
        self._heard_at, self._asked = time.monotonic(), False

    def _make_sure(self) -> None:
        """A connection that was cut without a word looks like one on which nothing is said."""
        quiet = time.monotonic() - self._heard_at
        if self._asked and quiet > QUIET + self._patience:
            raise RedisConnectionError("the subscription does not answer")
        if not self._asked and quiet > QUIET:
            self._asked = True
            self._connection.send_command("PING", check_health=False)

    def _wait(self, seconds: float) -> bool:
        """Whether there is something to read, within ``seconds`` and before anybody pokes."""
        poll = select.poll()
        poll.register(self._hearer, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        ready = [number for number, _ in poll.poll(max(0.0, seconds) * 1000)]
        if self._hearer in ready:
            os.read(self._hearer, 65536)
        return any(number != self._hearer for number in ready)

    def _messages(self) -> list[str]:
        """Return the offers in what has been said."""
        found, roll = [], self._roll.encode()
        for kind, *channel, payload in self._read():
            if kind == b"message" and channel[0] == roll:
                self.roll_calls += 1
            elif kind == b"message":
                found.append(text(payload))
        return found

    def _read(self) -> list[list[bytes]]:
        try:
            while True:
                received = self._socket.recv(_CHUNK)
                if not received:
                    raise RedisConnectionError("the server closed the connection")
                self._rest += received
        except LATER:
            said, self._rest = messages(self._rest)
            return said

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
