"""Calls from threads: on connections of our own, or through a client that is no plain pool."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import Any

from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from balancer.store.redis.packing import Call, pack
from balancer.store.redis.template import Template


class Wire:
    """One connection."""

    __slots__ = ("_poll", "_socket", "connection")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._socket: Any = None
        self._poll: Any = None

    def ask(self, packed: bytes) -> Any:
        """Send a command and return its answer. A broken connection is made anew at the next call."""
        connection = self.connection
        try:
            self._drop_if_stale()
            connection.send_packed_command((packed,))
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise

    def _drop_if_stale(self) -> None:
        # Between two calls nothing is to be read, so what can be read is that the server hung up.
        current = self.connection._sock  # noqa: SLF001  (redis-py has no public name for it)
        if current is None:
            return
        if current is not self._socket:
            self._socket, self._poll = current, select.poll()
            self._poll.register(current, select.POLLIN)
        elif self._poll.poll(0):
            self.connection.disconnect()


class Link:
    """A few connections, made as they are needed, that threads take turns on."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._patience: float = template.kwargs["socket_timeout"]
        self._idle: list[Wire] = []
        self._made = 0
        self._waiting = 0
        self._freed = threading.Condition()

    def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        try:
            return self._ask(call.packed)
        except NoScriptError:
            return self._ask(pack(call.long))

    def command(self, *command: bytes) -> Any:
        """Carry out one plain command."""
        return self._ask(pack(command))

    def _ask(self, packed: bytes) -> Any:
        wire = self._take()
        try:
            return wire.ask(packed)
        finally:
            self._give_back(wire)

    def _take(self) -> Wire:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        with self._freed:
            if self._made < self._template.limit:
                self._made += 1
                return Wire(self._template.make())
            self._waiting += 1
            try:
                if not self._freed.wait_for(lambda: self._idle, self._patience):
                    raise RedisTimeout("all connections are in use")
                return self._idle.pop()
            finally:
                self._waiting -= 1

    def _give_back(self, wire: Wire) -> None:
        self._idle.append(wire)
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def close(self) -> None:
        """Close the connections that are not in use just now."""
        for wire in list(self._idle):
            wire.connection.disconnect()


class ClientLink:
    """A cluster, or another client that knows itself whom to ask."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def evaluate(self, call: Call) -> Any:
        """Carry out a script call."""
        return evaluate(self._client.execute_command, call)

    def command(self, *command: bytes) -> Any:
        """Carry out one plain command, on any server of the cluster."""
        node = self._client.get_random_node()
        return self._client.execute_command(*command, target_nodes=node)

    def close(self) -> None:
        """Leave the client to its owner."""


def evaluate(execute: Callable[..., Any], call: Call) -> Any:
    """Carry out a script call by way of a client's ``execute_command``."""
    try:
        return execute(*call.short)
    except NoScriptError:
        return execute(*call.long)
