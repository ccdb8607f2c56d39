"""A dramatiq worker: many processes, one count, and no order paid twice.

The store is what the workers share: SQLite for those of one machine, Redis for a fleet. Two things would
send a paid job again. A broker retries a failed message: so the actor retries only when nothing was accepted
for sure. And a broker delivers a message again whose worker was killed, as dramatiq always does: so each
order is noted before its call leaves, where a killed worker leaves it behind, and one that was noted before
is not sent.

Celery needs both, too::

    @app.task(autoretry_for=NOTHING_ACCEPTED, max_retries=3, retry_backoff=True)

``max_retries=0`` would not retry at all. A message comes again with ``acks_late``, with
``reject_on_worker_lost``, and with Redis or SQS as the broker whenever it is unacknowledged for longer than
``visibility_timeout`` (an hour), a ``countdown`` or ``eta`` included: set that longer than any wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import dramatiq
import requests

from balancer import AccountPool, AcquireTimeout, AttemptsFailed, NoAccounts

NOTHING_ACCEPTED = (AcquireTimeout, AttemptsFailed, NoAccounts)
"""Errors after which a message may be tried again: they prove that no job was started."""


class SentBefore(Exception):
    """The order's call has left once, and nobody knows what became of it: look before you send it again."""


class Sent:
    """The orders whose calls may have left. A fleet keeps them in its database, or in Redis (``SET NX``)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._do("CREATE TABLE IF NOT EXISTS sent (order_id TEXT PRIMARY KEY)")

    def note(self, order: str) -> bool:
        """Note an order. False: it was noted already."""
        return self._do("INSERT OR IGNORE INTO sent VALUES (?)", order) == 1

    def forget(self, order: str) -> None:
        """Take an order back that was surely not accepted."""
        self._do("DELETE FROM sent WHERE order_id = ?", order)

    def _do(self, statement: str, *values: str) -> int:
        connection = sqlite3.connect(self._path, timeout=30)
        try:
            with connection:
                return connection.execute(statement, values).rowcount
        finally:
            connection.close()


def song_actor(
    pool: AccountPool, sent: Sent, url: str, token: str, broker: dramatiq.Broker
) -> Callable[..., Any]:
    """Return an actor that submits one song; its end is told to a callback, see the web application.

    ``order`` is what names the song in your own system, the same whenever its message comes.
    """

    def may_retry(retries: int, error: BaseException) -> bool:
        return retries < 3 and isinstance(error, NOTHING_ACCEPTED)

    @dramatiq.actor(broker=broker, actor_name="song", retry_when=may_retry, min_backoff=1000)
    def song(order: str, prompt: str) -> None:
        noted = False

        def create(lease: Any) -> requests.Response:
            nonlocal noted
            if not noted and not sent.note(order):
                raise SentBefore(order)
            noted = True  # a second attempt of this very run is one that ``run`` knows to be safe
            fields = {**lease.params, "prompt": prompt}
            headers = {"Authorization": f"Bearer {token}"}
            return requests.post(url, headers=headers, json=fields, timeout=30)

        try:
            pool.run(create, bind="jobid", timeout=300, label=order)
        except NOTHING_ACCEPTED:
            if noted:
                sent.forget(order)
            raise

    return song
