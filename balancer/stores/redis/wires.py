"""One connection to the server, for a thread or for an event loop.

redis-py connects it: address, TLS, credentials, sentinels. What is said on it then is one command and
one answer at a time, which needs none of redis-py's way through six functions. As no event loop owns
the socket, threads and loops use the same connections, and no loop has any to close, though it may keep
some: see :mod:`balancer.stores.redis.watched`.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Generator
from ssl import SSLWantReadError, SSLWantWriteError
from time import monotonic
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from balancer.stores.redis.resp import Incomplete, parse
from balancer.stores.redis.template import Template

CHUNK = 65536
LATER = (BlockingIOError, SSLWantReadError, SSLWantWriteError)
"""What a socket that does not block raises instead."""
_FRESH = 0.005
"""Seconds within which no server is gone and back again, so that a connection need not be looked at."""
_IN, _OUT = select.POLLIN, select.POLLOUT


class Wire:
    """A connection, made at its first use and anew after every failure. Its socket never blocks."""

    __slots__ = ("_connection", "_greeting", "_poll", "_used_at", "patience", "socket")

    def __init__(self, template: Template, greeting: Callable[[], bytes] | None = None) -> None:
        self._connection, self._greeting = template.make(), greeting
        self.patience: float = template.kwargs["socket_timeout"]
        self.socket: Any = None
        self._poll: Any = None
        self._used_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether it can be used at once. Between two answers the server says nothing but farewell."""
        if self.socket is not None and monotonic() - self._used_at > _FRESH and self._poll.poll(0):
            self.disconnect()
        return self.socket is not None

    @property
    def alive(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self.socket is not None

    def connect(self) -> None:
        """Connect, however long that takes within the timeouts."""
        try:
            self._connection.connect()
            if self._greeting is not None:
                self._connection.send_packed_command([self._greeting()], check_health=False)
                self._connection.read_response()
        except BaseException:
            self.disconnect()
            raise
        self.socket = self._connection._sock  # noqa: SLF001  (redis-py has no public name for it)
        self.socket.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self.socket, _IN)

    def disconnect(self) -> None:
        """Close the connection; what was under way on it is lost."""
        self.socket = None
        self._connection.disconnect()

    def ask(self, packed: bytes) -> Any:
        """Send a command and return its answer."""
        if not self.connected:
            self.connect()
        exchange = _exchange(self.socket, packed)
        try:
            while True:
                self._wait(next(exchange))
        except StopIteration as done:
            answer = done.value
        except BaseException:
            self.disconnect()
            raise
        return self.answered(answer)

    async def aask(self, packed: bytes) -> Any:
        """Likewise in an event loop; it must be connected."""
        exchange = _exchange(self.socket, packed)
        try:
            while True:
                await self._await(next(exchange))
        except StopIteration as done:
            answer = done.value
        except BaseException:
            self.disconnect()
            raise
        return self.answered(answer)

    async def asend(self, packed: bytes) -> None:
        """Send a command; its answer is waited for by the caller."""
        for event in _send(self.socket, packed):
            await self._await(event)

    def answered(self, answer: Any) -> Any:
        """Return what the server answered, or raise it."""
        self._used_at = monotonic()
        if isinstance(answer, ResponseError):
            if not isinstance(answer, NoScriptError):
                self.disconnect()  # it may be a replica by now, and a sentinel know better
            raise answer
        return answer

    def _wait(self, event: int) -> None:
        poll = self._poll
        if event == _OUT:
            poll = select.poll()
            poll.register(self.socket, event)
        if not poll.poll(self.patience * 1000):
            raise TimeoutError("the server did not answer in time")

    async def _await(self, event: int) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        # By number: a loop makes an error with the text of what it does not know yet; a socket's is long.
        number = self.socket.fileno()
        if event == _IN:
            add, remove = loop.add_reader, loop.remove_reader
        else:
            add, remove = loop.add_writer, loop.remove_writer
        timer = loop.call_later(self.patience, give_up, ready)  # a task's own timeout costs thrice as much
        try:
            add(number, _set, ready)
            await ready
        finally:
            timer.cancel()
            remove(number)


def _send(socket: Any, packed: bytes) -> Generator[int, None, None]:
    """Send a command; yield what the socket has to be waited for."""
    left: bytes | memoryview = packed
    while left:
        try:
            sent = socket.send(left)
        except LATER:
            yield _OUT
        else:
            left = b"" if sent == len(left) else memoryview(left)[sent:]


def _exchange(socket: Any, packed: bytes) -> Generator[int, None, Any]:
    """Send a command and return its answer; yield what the socket has to be waited for."""
    yield from _send(socket, packed)
    data = b""
    while True:
        yield _IN
        try:
            while True:
                received = socket.recv(CHUNK)
                if not received:
                    raise RedisConnectionError("the server closed the connection")
                data += received
                try:
                    return parse(data)
                except Incomplete:
                    continue
        except LATER:
            continue


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def give_up(ready: asyncio.Future[Any]) -> None:
    """Have whoever waits told that it took too long."""
    if not ready.done():
        ready.set_exception(TimeoutError("the server did not answer in time"))
