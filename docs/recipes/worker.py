"""A dramatiq worker: many processes, one count.

The store is what the workers share: SQLite for those of one machine, Redis for a fleet. dramatiq would
run a failed message again, and a paid job must not be: so the actor retries only when nothing was
accepted for sure. The same shape serves Celery: ``max_retries=0`` and ``autoretry_for`` those errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import requests

from balancer import AccountPool, AcquireTimeout, AttemptsFailed, NoAccounts

NOTHING_ACCEPTED = (AcquireTimeout, AttemptsFailed, NoAccounts)
"""Errors after which a message may be tried again: they prove that no job was started."""


def song_actor(pool: AccountPool, url: str, token: str, broker: dramatiq.Broker) -> Callable[..., Any]:
    """Return an actor that submits one song; its end is told to a callback, see the web application."""

    def may_retry(retries: int, error: BaseException) -> bool:
        return retries < 3 and isinstance(error, NOTHING_ACCEPTED)

    @dramatiq.actor(broker=broker, actor_name="song", retry_when=may_retry, min_backoff=1000)
    def song(prompt: str) -> None:
        def create(lease: Any) -> requests.Response:
            fields = {**lease.params, "prompt": prompt}
            headers = {"Authorization": f"Bearer {token}"}
            return requests.post(url, headers=headers, json=fields, timeout=30)

        pool.run(create, bind="jobid", timeout=300, label=prompt)

    return song
