"""The connections of one process to one server: redis-py's own, kept open, and given commands ready to send.

A client's pool takes longer to hand a connection out than the server takes to answer. So connections are
made with the class and the arguments of the client's, which knows about addresses, TLS, credentials and
sentinels, and are kept here: one list of idle ones for threads, and one for each event loop, as loops cannot
share theirs. No call is sent twice behind the caller's back, and a call that is cut short costs its
connection and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from balancer.stores.in_threads import InThreads, NotBegun
from balancer.stores.redis.codec import Call, pack

CONNECT_TIMEOUT, READ_TIMEOUT = 2.0, 5.0
"""Seconds, where the client has no timeouts of its own."""
MOST = 64
"""Connections of one process, where the client allows more."""
FRESH = 0.005
"""Seconds within which no server is gone and back again, so that a connection need not be looked at."""
LONG_IDLE = 15.0
"""Seconds after which a connection is asked whether it still leads anywhere: what stands between two machines
may forget a connection on which nothing is said, and tells nobody."""
IN_THREADS = 8
"""Calls of event loops at once that are made in threads."""
SHORT = 0.6
"""Seconds after which a socket gives up by itself; whoever is more patient goes on waiting."""
ANSWERS_WITHIN = 0.5
"""Seconds, at most half of those there are, that it is given to answer that."""
_LATE = 0.05
"""Seconds by which a loop may be late without having been held up; and that it then has to catch up."""
_FAREWELL = 0.2
"""Seconds that a loop that ends gives its connections to close: under TLS the other side has a word in it."""
_NOT_FOR_US = (
    "maint_",
    "oss_",
    "orig_",
    "maintenance_",
    "cache",
    "himport_",
    "retry_on_",
    "event_dispatcher",
)
"""How arguments begin that belong to the client's own pool, or that would repeat a call."""
_SYNC_ONLY = ("command_packer", "parser_class")
_ASYNC_TWINS = {
    redis.Connection: redis.asyncio.Connection,
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}
_SECRET = ("password", "ssl_password")


# -- what connections are made with -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionModel:
    """The class of a client's connections and what they are made with."""

    kind: Any
    kwargs: Mapping[str, Any]
    limit: int
    patience: float
    """Seconds for which an answer is waited for, if the caller has no limit of its own."""

    @staticmethod
    def of(pool: Any) -> ConnectionModel:
        """Return the model of a connection pool of redis-py for threads."""
        kwargs = _kwargs(pool, Retry(NoBackoff(), 0))
        patience = kwargs["socket_timeout"]
        kwargs["socket_timeout"] = min(patience, SHORT)
        return ConnectionModel(pool.connection_class, kwargs, min(pool.max_connections, MOST), patience)

    def twin(self, async_pool: Any = None) -> ConnectionModel | None:
        """Return the model of connections for event loops; None: there are none that would do.

        ``async_pool``: their own pool, if the user has given one. Else only a plain address has a twin.
        """
        retry = AsyncRetry(NoBackoff(), 0)
        if async_pool is not None:
            kind, kwargs = async_pool.connection_class, _kwargs(async_pool, retry)
        elif self.kind in _ASYNC_TWINS and self.kwargs.get("redis_connect_func") is None:
            kind = _ASYNC_TWINS[self.kind]
            kwargs = {name: value for name, value in self.kwargs.items() if name not in _SYNC_ONLY}
            kwargs["retry"] = retry
        else:
            return None
        # One limit to the whole call stands for those of its parts, which would cost as much as the call.
        kwargs["socket_timeout"] = None
        try:
            kind(**kwargs)
        except TypeError:  # an old redis-py knows fewer options there
            return None
        return ConnectionModel(kind, kwargs, self.limit, self.patience)

    def __repr__(self) -> str:
        return f"ConnectionModel({self.kind.__name__})"

    @property
    def where(self) -> str:
        """The server, for people."""
        if "path" in self.kwargs:
            return str(self.kwargs["path"])
        if "host" in self.kwargs or "port" in self.kwargs:
            return f"{self.kwargs.get('host', 'localhost')}:{self.kwargs.get('port', 6379)}"
        return str(getattr(self.kwargs.get("connection_pool"), "service_name", "localhost:6379"))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown."""
        return tuple(str(value) for name, value in self.kwargs.items() if value and name in _SECRET)

    def make(self) -> Any:
        """Return a new connection, not connected yet."""
        return self.kind(**self.kwargs)


def _kwargs(pool: Any, retry: Any) -> dict[str, Any]:
    kwargs = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_FOR_US)
    }
    kwargs.update(decode_responses=False, retry=retry)
    kwargs["protocol"] = kwargs.get("protocol") or 2  # its handshake takes fewer steps and rights
    if kwargs.get("socket_timeout") is None:
        kwargs["socket_timeout"] = READ_TIMEOUT
    if kwargs.get("socket_connect_timeout") is None:
        kwargs["socket_connect_timeout"] = CONNECT_TIMEOUT
    return kwargs


class _Kept:
    """A connection, and what is to be known of it while nobody uses it."""

    __slots__ = ("__weakref__", "connection", "used_at")

    def __init__(self, connection: Any = None) -> None:
        self.connection = connection
        """None: it was not needed yet."""
        self.used_at: float | None = None
        """When it was used last; None: it is not connected."""


def _late() -> RedisTimeout:
    return RedisTimeout("the server did not answer in time")


def _answer(connection: Any, patience: float, end: float) -> Any:
    """Return the answer to what was sent, which may take until ``end``.

    The socket gives up by itself after a while, and what was read before is not lost. To wait apart from
    reading, which is exact, costs a tenth of a call; so it is done only once the answer is late.
    """
    if patience < SHORT:
        _await_answer(connection, end)
    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisTimeout:
        _await_answer(connection, end)
        return connection.read_response()


def _await_answer(connection: Any, end: float) -> None:
    if not connection.can_read(_left(end)):
        raise _late()


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())


# -- for threads ------------------------------------------------------------------------------------------


class ThreadConnections:
    """Connections that threads take turns on.

    Mutable, without a lock, as a signal handler or a finalizer may need a connection, or close them, at any
    moment: all that is done to the lists is one call each, which is whole whoever comes in between.

    Args:
        model: How to make them.
        most: How many at once.
        greeting: Makes the command that each begins with.
    """

    def __init__(self, model: ConnectionModel, most: int, greeting: Callable[[], bytes]) -> None:
        self._model, self._greeting = model, greeting
        self._idle = deque(_Kept() for _ in range(most))
        """Those that nobody uses; the one used last is taken first, so that most are never made."""
        self._all, self._most = weakref.WeakSet(self._idle), most
        """Those that there are: an interruption may lose one between the list and whoever takes it."""
        self._waiting: deque[threading.Lock] = deque()
        """Opened for whoever waits when a connection is put back, the longest first."""

    def ask(self, packed: bytes, limit: float | None = None) -> Any:
        """Send a command and return its answer.

        Args:
            packed: The command.
            limit: Seconds within which it has to be there; None: as the client's timeouts say.
        """
        now, patience = time.monotonic(), self._model.patience if limit is None else limit
        end = now + patience
        kept = self._take(end)
        try:
            if kept.connection is None:
                kept.connection = self._model.make()
        except BaseException:
            self._put(kept)
            raise
        connection, used_at, kept.used_at = kept.connection, kept.used_at, None
        try:
            if used_at is None or not self._leads_anywhere(connection, now - used_at, end):
                self._connect(connection, end)
            connection.send_packed_command([packed], check_health=False)
            answer = _answer(connection, patience, end)
        except NoScriptError:
            kept.used_at = time.monotonic()
            raise
        except BaseException as error:
            # After an error too: it may be a replica by now, and a sentinel know better.
            connection.disconnect()
            if isinstance(error, RedisTimeout):
                self.close()  # those beside it may lead nowhere either
            raise
        else:
            kept.used_at = time.monotonic()
            return answer
        finally:
            self._put(kept)

    def _take(self, end: float) -> _Kept:
        while True:
            try:
                return self._idle.pop()
            except IndexError:
                if len(self._all) < self._most:
                    kept = _Kept()
                    self._all.add(kept)
                    return kept
                self._wait(end)

    def _wait(self, end: float) -> None:
        """Wait until it is worth a try. Raises RedisTimeout."""
        gate, came = threading.Lock(), False
        gate.acquire()
        self._waiting.append(gate)
        try:  # one may have been put back before it was seen that we wait
            came = bool(self._idle) or gate.acquire(timeout=_left(end))
        finally:
            try:
                self._waiting.remove(gate)
            except ValueError:
                if not came:  # it was called a moment too late: the next is, then
                    self._call_next()
        if not came:
            raise RedisTimeout("all connections are in use")

    def _put(self, kept: _Kept) -> None:
        self._idle.append(kept)
        if self._waiting:
            self._call_next()

    def _call_next(self) -> None:
        with suppress(IndexError):
            self._waiting.popleft().release()

    def _leads_anywhere(self, connection: Any, quiet: float, end: float) -> bool:
        """Whether it can still be used; if not it is closed. The server says nothing unasked but farewell."""
        if quiet < FRESH:
            return True
        try:
            if not connection.can_read(0):
                if quiet < LONG_IDLE:
                    return True
                connection.send_command("PING", check_health=False)
                if connection.can_read(min(ANSWERS_WITHIN, _left(end) / 2)):
                    connection.read_response()
                    return True
                self.close()  # those beside it are as old
        except (RedisError, OSError):
            pass
        connection.disconnect()
        return False

    def _connect(self, connection: Any, end: float) -> None:
        left = max(_left(end), FRESH)
        connection.socket_connect_timeout = min(self._model.kwargs["socket_connect_timeout"], left)
        connection.socket_timeout = min(self._model.kwargs["socket_timeout"], left)
        connection.connect()
        connection.send_packed_command([self._greeting()], check_health=False)
        _await_answer(connection, end)
        connection.read_response()

    def close(self) -> None:
        """Close those that are not in use just now; a later call makes them anew."""
        for _ in range(len(self._idle)):
            try:
                kept = self._idle.popleft()
            except IndexError:  # all are in use
                return
            try:
                if kept.used_at is not None:
                    kept.used_at = None
                    kept.connection.disconnect()
            finally:
                self._put(kept)


# -- for event loops --------------------------------------------------------------------------------------


class _NoneLeft(Exception):
    """The loop has no connection, and may make none as others have them all."""


class _OfLoop:
    """The connections of one event loop, touched by its thread only: the idle ones, and who waits for one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.idle: list[_Kept] = []
        self.made = 0
        self.waiting: deque[asyncio.Future[_Kept]] = deque()
        self.watch: AsyncGenerator[None, None] = self._close_with_the_loop()

    async def _close_with_the_loop(self) -> AsyncGenerator[None, None]:
        # Whoever ends a loop properly ends the generators that it has begun.
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self.close(nowait=False)

    def close_soon(self) -> None:
        """Close the idle ones, called by the loop: a task might not get its turn before that ends."""
        closing = self.close()
        with suppress(StopIteration):  # as it waits for nothing
            closing.send(None)
        closing.close()

    async def close(self, *, nowait: bool = True) -> None:
        """Close the idle ones; each is made anew at its next use."""
        for kept in self.idle:
            kept.used_at = None
            await _drop(kept.connection, nowait=nowait)

    def put(self, kept: _Kept) -> None:
        """Hand a connection to whoever has waited longest, or keep it."""
        while self.waiting:
            waiting = self.waiting.popleft()
            if not waiting.done():
                waiting.set_result(kept)
                return
        self.idle.append(kept)


class LoopConnections:
    """Connections that the tasks of event loops take turns on, those of each loop on its own.

    Mutable, under the lock: the loops, and how many connections they have together.

    Args:
        model: How to make them.
        most: How many at once, of all loops.
        greeting: Makes the command that each begins with.
    """

    def __init__(self, model: ConnectionModel, most: int, greeting: Callable[[], bytes]) -> None:
        self._model, self._most, self._greeting = model, most, greeting
        self._lock = threading.RLock()  # a signal handler may close them in the middle
        self._loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}
        self._made = 0
        self._closed = False
        """Each call closes what it has used: its loop may be closed before anybody else could."""

    async def ask(self, packed: bytes, limit: float | None = None) -> Any:
        """Send a command and return its answer, within ``limit`` seconds. Raises _NoneLeft."""
        mine = self._loops.get(asyncio.get_running_loop()) or await self._begin()
        patience = self._model.patience if limit is None else limit
        try:
            async with asyncio.timeout(None) as guard:
                timer = mine.loop.call_later(patience, _expire, guard, mine.loop, mine.loop.time() + patience)
                try:
                    kept = mine.idle.pop() if mine.idle else await self._take(mine)
                    try:
                        return await self._ask(kept, packed)
                    finally:
                        mine.put(kept)
                        if self._closed:
                            await mine.close()
                finally:
                    timer.cancel()
        except TimeoutError:
            await mine.close()  # those beside it may lead nowhere either
            raise _late() from None

    async def _ask(self, kept: _Kept, packed: bytes) -> Any:
        connection, used_at, kept.used_at = kept.connection, kept.used_at, None
        try:
            if used_at is None or not await self._leads_anywhere(connection, time.monotonic() - used_at):
                await self._connect(connection)
            await connection.send_packed_command([packed], check_health=False)
            answer = await connection.read_response()
        except NoScriptError:
            kept.used_at = time.monotonic()
            raise
        except BaseException:
            await _drop(connection)  # which waits for nothing
            raise
        kept.used_at = time.monotonic()
        return answer

    async def _begin(self) -> _OfLoop:
        mine = _OfLoop(asyncio.get_running_loop())
        with self._lock:
            for loop in [loop for loop in self._loops if loop.is_closed()]:
                self._made -= self._loops.pop(loop).made
            self._loops[mine.loop] = mine
        await anext(mine.watch)
        return mine

    async def _take(self, mine: _OfLoop) -> _Kept:
        with self._lock:
            if self._made < self._most:
                self._made += 1
                mine.made += 1
                return _Kept(self._model.make())
        if mine.made == 0:
            raise _NoneLeft
        waiting: asyncio.Future[_Kept] = mine.loop.create_future()
        mine.waiting.append(waiting)
        try:
            return await waiting
        except BaseException:
            if waiting.done() and not waiting.cancelled():
                mine.put(waiting.result())
            raise

    async def _leads_anywhere(self, connection: Any, quiet: float) -> bool:
        """Whether it can still be used; if not it is closed."""
        if quiet > FRESH:
            for _ in range(2):  # the first has the loop look at its sockets, the second act on what it saw
                await asyncio.sleep(0)
        # The public can_read_destructive of redis-py 5.0 does not tell the end of a stream from silence,
        # and to ask the server each time would double the cost of a call.
        if not connection._reader.at_eof():  # noqa: SLF001
            if quiet < LONG_IDLE:
                return True
            try:
                async with asyncio.timeout(ANSWERS_WITHIN):
                    await connection.send_command("PING", check_health=False)
                    await connection.read_response()
                    return True
            except (RedisError, OSError):  # as is a timeout
                await self._loops[asyncio.get_running_loop()].close()  # those beside it are as old
        await _drop(connection)
        return False

    async def _connect(self, connection: Any) -> None:
        await connection.connect()
        await connection.send_packed_command([self._greeting()], check_health=False)
        await connection.read_response()

    def close(self) -> None:
        """Have the loops close those that are not in use; a later call makes them anew."""
        self._closed = True
        with self._lock:
            loops = list(self._loops.values())
        for mine in loops:
            with suppress(RuntimeError):  # the loop is closed, and has closed them
                mine.loop.call_soon_threadsafe(mine.close_soon)


def _expire(guard: asyncio.Timeout, loop: asyncio.AbstractEventLoop, due: float) -> None:
    """Have a call time out. A loop that comes late to it has been busy, and reads first what has come."""
    late = loop.time() - due > _LATE
    guard.reschedule(loop.time() + (_LATE if late else 0.0))


async def _drop(connection: Any, *, nowait: bool = True) -> None:
    try:
        await connection.disconnect(nowait=nowait)
    except (RedisError, OSError, RuntimeError):  # broken already; or this is what is left of a task
        pass


# -- for both ---------------------------------------------------------------------------------------------


class Connections:
    """The way to one server, from threads and from event loops.

    Half of the connections that the client allows are for either. Where the client's have no twin for event
    loops, and where other loops have all that there may be, calls from a loop are made in a thread.

    Args:
        model: How to make connections for threads.
        twin: How to make them for event loops, if they can be made.
        greeting: Makes the command that each begins with.
    """

    def __init__(
        self, model: ConnectionModel, twin: ConnectionModel | None, greeting: Callable[[], bytes]
    ) -> None:
        self._patience, of_loops = model.patience, model.limit // 2 if twin else 0
        self._of_threads = ThreadConnections(model, model.limit - of_loops, greeting)
        self._of_loops = LoopConnections(twin, of_loops, greeting) if twin and of_loops else None
        self._in_threads = InThreads(IN_THREADS, "balancer-redis")

    def evaluate(self, call: Call, limit: float | None = None) -> Any:
        """Carry out a script call. ``limit``: seconds for the answer; None: as the client's timeouts say."""
        try:
            return self._of_threads.ask(call.packed, limit)
        except NoScriptError:
            return self._of_threads.ask(pack(call.long), limit)

    def command(self, *command: str, limit: float | None = None) -> Any:
        """Carry out one plain command. ``limit`` as above."""
        return self._of_threads.ask(pack(command), limit)

    async def aevaluate(self, call: Call, limit: float | None = None) -> Any:
        """Carry out a script call."""
        if self._of_loops is not None:
            try:
                return await self._of_loops.ask(call.packed, limit)
            except NoScriptError:
                return await self._of_loops.ask(pack(call.long), limit)
            except _NoneLeft:
                pass
        end = time.monotonic() + (self._patience if limit is None else limit)
        try:
            return await self._in_threads.run(lambda: self.evaluate(call, _left(end)), end)
        except NotBegun:
            raise _late() from None

    async def acommand(self, *command: str, limit: float | None = None) -> Any:
        """Carry out one plain command."""
        return await self._in_threads.run(lambda: self.command(*command, limit=limit))

    def leave_loops(self) -> None:
        """Have event loops close the connections that they do not use just now."""
        if self._of_loops is not None:
            self._of_loops.close()

    def close(self) -> None:
        """Close the connections that are not in use just now; a later call makes them anew."""
        self._of_threads.close()
        self.leave_loops()
        self._in_threads.close()
