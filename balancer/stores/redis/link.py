"""The connections of one process, which its threads and event loops take turns on."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeout

from balancer.stores.redis.packing import Call, pack
from balancer.stores.redis.template import Template
from balancer.stores.redis.watched import Keep
from balancer.stores.redis.wires import Wire


class Link:
    """As many connections as are needed, up to a limit. Mutable, under the lock: who has which.

    A connection that is given back goes to whoever has waited longest. Up to half of them are kept by the
    event loops that have used them, as long as those are open.
    """

    def __init__(self, template: Template) -> None:
        self._template = template
        self._patience: float = template.kwargs["socket_timeout"]
        self._lock = threading.Lock()
        self._idle: list[Wire] = []
        self._made = 0
        self._waiting: deque[Callable[[Wire], bool]] = deque()
        """Each is handed a connection; False: it does not want it any more."""
        self._keep = Keep(template.limit // 2, self._give_back)
        self._threads: ThreadPoolExecutor | None = None
        self.greeting: Callable[[], bytes] | None = None
        """Makes the command that each new connection begins with."""

    # -- from threads -----------------------------------------------------------------------------

    def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        try:
            return self._ask(call.packed)
        except NoScriptError:
            return self._ask(pack(call.long))

    def command(self, *command: str) -> Any:
        """Carry out one plain command."""
        return self._ask(pack(command))

    def _ask(self, packed: bytes) -> Any:
        wire = self._at_once(None) or self._in_turn()
        try:
            return wire.ask(packed)
        finally:
            self._give_back(wire)

    def _in_turn(self) -> Wire:
        got: list[Wire | None] = []
        told = threading.Event()

        def hand(wire: Wire) -> bool:
            got.append(wire)
            told.set()
            return got[0] is wire

        wire = self._at_once(hand)
        if wire is not None:
            return wire
        try:
            told.wait(self._patience)
        except BaseException:
            if (wire := self._first(got)) is not None:
                self._give_back(wire)
            raise
        if (wire := self._first(got)) is None:
            raise RedisTimeout("all connections are in use")
        return wire

    def _first(self, got: list[Wire | None]) -> Wire | None:
        with self._lock:
            got.append(None)  # whoever comes later is told that it is too late
            return got[0]

    # -- from event loops -------------------------------------------------------------------------

    async def aevaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        try:
            return await self._aask(call.packed)
        except NoScriptError:
            return await self._aask(pack(call.long))

    async def acommand(self, *command: str) -> Any:
        """Carry out one plain command."""
        return await self._aask(pack(command))

    async def _aask(self, packed: bytes) -> Any:
        loop = asyncio.get_running_loop()
        watched = self._keep.take(loop)
        if watched is None:
            wire = self._at_once(None) or await self._ain_turn()
            if not wire.connected:
                await self._connect(wire)
            watched = self._keep.add(wire, loop)
            if watched is None:
                try:
                    return await wire.aask(packed)
                finally:
                    self._give_back(wire)
        try:
            return await watched.ask(packed)
        finally:
            # Whoever waits for a connection comes before the loop's next call.
            if self._waiting or not watched.wire.alive:
                self._keep.give_up(watched)
            else:
                self._keep.put(watched)

    async def _ain_turn(self) -> Wire:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[Wire] = loop.create_future()

        def hand(wire: Wire) -> bool:
            try:
                loop.call_soon_threadsafe(deliver, wire)
            except RuntimeError:  # that loop is closed
                return False
            return True

        def deliver(wire: Wire) -> None:
            if got.done():
                self._give_back(wire)
            else:
                got.set_result(wire)

        wire = self._at_once(hand)
        if wire is not None:
            return wire
        try:
            async with asyncio.timeout(self._patience):
                return await got
        except BaseException:
            if got.done() and not got.cancelled():
                self._give_back(got.result())
            raise

    async def _connect(self, wire: Wire) -> None:
        """Connect in a thread. If the caller is cancelled meanwhile, the thread gives the connection back."""
        with self._lock:
            self._threads = self._threads or ThreadPoolExecutor(4, "balancer-redis")
            work = self._threads.submit(_attempt, wire)
        try:
            trouble = await asyncio.shield(asyncio.wrap_future(work))
        except BaseException:
            work.add_done_callback(lambda _: self._give_back(wire))
            raise
        if trouble is not None:
            self._give_back(wire)
            raise trouble

    # -- who has which ----------------------------------------------------------------------------

    def _at_once(self, hand: Callable[[Wire], bool] | None) -> Wire | None:
        """Return a connection if there is one for us; else have ``hand`` wait for its turn."""
        if not self._idle:
            self._keep.sweep()
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._made < self._template.limit:
                self._made += 1
                return Wire(self._template, self.greeting)
            if hand is not None:
                self._waiting.append(hand)
            return None

    def _give_back(self, wire: Wire) -> None:
        with self._lock:
            while self._waiting:
                if self._waiting.popleft()(wire):
                    return
            self._idle.append(wire)

    def close(self) -> None:
        """Close the connections that are not in use just now; a later call makes them anew."""
        self._keep.close()
        with self._lock:
            idle, self._idle = self._idle, []
            self._made -= len(idle)
            threads, self._threads = self._threads, None
        for wire in idle:
            wire.disconnect()
        if threads is not None:
            threads.shutdown(wait=False)


def _attempt(wire: Wire) -> Exception | None:
    try:
        wire.connect()
    except Exception as error:  # noqa: BLE001  # it is raised where it was asked for
        return error
    return None
