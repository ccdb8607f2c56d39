"""One connection to the server, for a thread or for an event loop.

redis-py connects it: address, TLS, credentials, sentinels. What is said on it then is one command and
one answer at a time, which needs none of redis-py's way through six functions. As no event loop owns
the socket, threads and loops use the same connections, and no loop has any to close.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from ssl import SSLWantReadError, SSLWantWriteError
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from balancer.store.redis.resp import Incomplete, parse
from balancer.store.redis.template import Template

_CHUNK = 65536
_LATER = (BlockingIOError, SSLWantReadError, SSLWantWriteError)


class Wire:
    """A connection, made at its first use and anew after every failure."""

    __slots__ = ("_connection", "_patience", "_poll", "_socket")

    def __init__(self, template: Template) -> None:
        self._connection = template.make()
        self._patience: float = template.kwargs["socket_timeout"]
        self._socket: Any = None
        self._poll: Any = None

    @property
    def connected(self) -> bool:
        """Whether it can be used at once. Between two answers the server says nothing but farewell."""
        if self._socket is not None and self._poll.poll(0):
            self.disconnect()
        return self._socket is not None

    def connect(self) -> None:
        """Connect, however long that takes within the timeouts."""
        try:
            self._connection.connect()
        except BaseException:
            self.disconnect()
            raise
        self._socket = self._connection._sock  # noqa: SLF001  (redis-py has no public name for it)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def disconnect(self) -> None:
        """Close the connection; what was under way on it is lost."""
        self._socket = None
        self._connection.disconnect()

    def ask(self, packed: bytes) -> Any:
        """Send a command and return its answer."""
        if not self.connected:
            self.connect()
        socket, data = self._socket, b""
        try:
            socket.sendall(packed)
            while True:
                data += _received(socket.recv(_CHUNK))
                try:
                    return self._checked(parse(data))
                except Incomplete:
                    continue
        except NoScriptError:
            raise
        except BaseException:
            self.disconnect()
            raise

    async def aask(self, packed: bytes) -> Any:
        """Likewise in an event loop; it must be connected."""
        socket = self._socket
        try:
            socket.settimeout(0)
            async with asyncio.timeout(self._patience):
                answer = self._checked(await _exchange(socket, packed))
            socket.settimeout(self._patience)
            return answer
        except NoScriptError:
            socket.settimeout(self._patience)
            raise
        except BaseException:
            self.disconnect()
            raise

    @staticmethod
    def _checked(answer: Any) -> Any:
        if isinstance(answer, ResponseError):
            raise answer
        return answer


async def _exchange(socket: Any, packed: bytes) -> Any:
    loop, left, data = asyncio.get_running_loop(), memoryview(packed), b""
    while left:
        try:
            left = left[socket.send(left) :]
        except _LATER:
            await _until(loop.add_writer, loop.remove_writer, socket)
    while True:
        await _until(loop.add_reader, loop.remove_reader, socket)
        try:
            while True:
                data += _received(socket.recv(_CHUNK))
                try:
                    return parse(data)
                except Incomplete:
                    continue
        except _LATER:
            continue


async def _until(add: Callable[..., Any], remove: Callable[..., Any], socket: Any) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(socket, _set, ready)
    try:
        await ready
    finally:
        remove(socket)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _received(data: bytes) -> bytes:
    if not data:
        raise RedisConnectionError("the server closed the connection")
    return data
