"""Connections that event loops keep for themselves.

To have a loop watch a socket, and stop again, costs half of what a call costs. So a loop goes on watching
those that its tasks have used, and no thread and no other loop gets them. The server's farewell
is noticed on the way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from balancer.stores.redis.resp import Incomplete, parse
from balancer.stores.redis.wires import CHUNK, LATER, Wire, give_up

Loop = asyncio.AbstractEventLoop


class Watched:
    """A connection whose socket one event loop watches. Touched by the thread of that loop only."""

    __slots__ = ("_asked", "_farewell", "_heard", "_number", "loop", "wire")

    def __init__(self, wire: Wire, loop: Loop, farewell: Callable[[Watched], None]) -> None:
        self.wire, self.loop, self._farewell = wire, loop, farewell
        self._asked: asyncio.Future[Any] | None = None
        self._heard = b""
        self._number = wire.socket.fileno()  # what a loop knows it by, also once it is closed
        loop.add_reader(self._number, self._hear)

    async def ask(self, packed: bytes) -> Any:
        """Send a command and return its answer; whatever goes wrong costs the connection."""
        asked = self._asked = self.loop.create_future()
        timer = self.loop.call_later(self.wire.patience, give_up, asked)
        try:
            await self.wire.asend(packed)
            return self.wire.answered(await asked)
        except NoScriptError:
            raise
        except BaseException:
            if asked.done() and not asked.cancelled():
                asked.exception()  # seen, so that nobody warns of it
            self.drop()
            raise
        finally:
            timer.cancel()
            self._asked = None

    def _hear(self) -> None:
        asked = self._asked
        if asked is None:
            self._farewell(self)
        elif not asked.done():
            try:
                answer = self._read()
            except LATER:
                pass
            except Exception as error:  # noqa: BLE001  # whoever asked is told
                asked.set_exception(error)
            else:
                asked.set_result(answer)

    def _read(self) -> Any:
        # Here, not in the task: what is left unread would have the loop call again before that runs.
        while received := self.wire.socket.recv(CHUNK):
            self._heard += received
            try:
                answer = parse(self._heard)
            except Incomplete:
                continue
            self._heard = b""
            return answer
        raise RedisConnectionError("the server closed the connection")

    def unwatch(self) -> None:
        """Have the loop watch the socket no more, unless it is closed."""
        number, self._number = self._number, -1
        if number >= 0 and not self.loop.is_closed():
            self.loop.remove_reader(number)

    def drop(self) -> None:
        """Close the connection."""
        self.unwatch()
        self.wire.disconnect()


class Keep:
    """Who keeps which. Mutable, under the lock: the idle ones of each loop, and how many there are in all.

    Args:
        most: Connections that may be kept; there must be others for those who keep none.
        give_back: Takes those that are not kept any more.
    """

    def __init__(self, most: int, give_back: Callable[[Wire], None]) -> None:
        self._most, self._give_back = most, give_back
        self._lock = threading.Lock()
        self._idle: dict[Loop, list[Watched]] = {}
        self._number = 0

    def take(self, loop: Loop) -> Watched | None:
        """Return one that the running loop keeps."""
        idle = self._idle.get(loop)
        while idle:
            watched = idle.pop()
            if watched.wire.connected:
                return watched
            self.give_up(watched)
        return None

    def add(self, wire: Wire, loop: Loop) -> Watched | None:
        """Have the running loop keep a connection; None: no more may be kept."""
        with self._lock:
            if self._number >= self._most:
                return None
            self._number += 1
            self._idle.setdefault(loop, [])
        return Watched(wire, loop, self._farewell)

    def put(self, watched: Watched) -> None:
        """Put back what was taken."""
        with self._lock:
            self._idle.setdefault(watched.loop, []).append(watched)

    def give_up(self, watched: Watched) -> None:
        """Keep it no more (in the thread of its loop, or once that is closed)."""
        watched.unwatch()
        if not watched.wire.alive:
            watched.drop()
        with self._lock:
            self._number -= 1
        self._give_back(watched.wire)

    def sweep(self) -> None:
        """Take back what closed loops have kept."""
        with self._lock:  # to the end: who found none would make another
            for loop in [loop for loop in self._idle if loop.is_closed()]:
                for watched in self._idle.pop(loop):
                    self._number -= 1
                    self._give_back(watched.wire)

    def close(self) -> None:
        """Close the connections that are not in use, each where its loop runs."""
        self.sweep()
        with self._lock:
            left = [watched for idle in self._idle.values() for watched in idle]
        for watched in left:
            try:
                watched.loop.call_soon_threadsafe(self._farewell, watched)
            except RuntimeError:  # it was closed just now
                self._farewell(watched)

    def _farewell(self, watched: Watched) -> None:
        with self._lock:
            idle = self._idle.get(watched.loop, [])
            if watched not in idle:  # it was taken in the meantime
                return
            idle.remove(watched)
        watched.drop()
        self.give_up(watched)
