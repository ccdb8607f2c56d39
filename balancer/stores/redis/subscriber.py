"""Hearing of offers: one subscribed connection, and a pipe by which a thread can be called off it."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from balancer.stores.redis.codec import text
from balancer.stores.redis.connections import ConnectionModel

QUIET = 10.0
"""Seconds without a message after which the server is asked whether it still hears us."""


class Subscriber:
    """The channels of one owner: its own, and that of the roll call. One thread at a time listens.

    Args:
        model: Returns how to make the connection, each time anew: another node may have the slot by then.
        own: The channel on which this owner is told of offers.
        roll: The channel on which all are asked what they hold.
    """

    def __init__(self, model: Callable[[], ConnectionModel], own: str, roll: str) -> None:
        self._model, self._own, self._roll = model, own, roll
        self._patience = 0.0
        self._connection: Any = None
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
        return tuple(self._offers())

    def _subscribe(self) -> None:
        model = self._model()
        self._patience = model.patience
        connection = self._connection = model.make()
        connection.connect()
        connection.send_command("SUBSCRIBE", self._own, self._roll, check_health=False)
        for _ in range(2):  # one answer for each channel
            if not connection.can_read(self._patience):
                raise TimeoutError("the server did not answer in time")
            self._read()
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
        if self._connection.can_read(0):  # in redis-py's own buffer
            return True
        poll = select.poll()
        poll.register(self._hearer, select.POLLIN)
        # redis-py has no public way to wait for two things at once. To have a thread of its own wait for the
        # connection, and tell this one, takes a third more from the message to whom it is for.
        poll.register(self._connection._sock, select.POLLIN)  # noqa: SLF001
        ready = [number for number, _ in poll.poll(max(0.0, seconds) * 1000)]
        if self._hearer in ready:
            os.read(self._hearer, 65536)
        return any(number != self._hearer for number in ready)

    def _offers(self) -> list[str]:
        """Return the offers in what has been said."""
        found = []
        while self._connection.can_read(0):
            said = self._read()
            if isinstance(said, list) and text(said[0]) == "message":
                if text(said[1]) == self._roll:
                    self.roll_calls += 1
                else:
                    found.append(text(said[2]))
        return found

    def _read(self) -> Any:
        return self._connection.read_response(push_request=True)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
