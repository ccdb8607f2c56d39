"""Work on an asset must run on the account that made it: pin it there, and it waits for that account alone.

Ids of results carry their account, and the server would refuse or misroute a job sent elsewhere. A
pinned caller holds nobody up: those behind it get the slots of the other accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

from balancer import AccountPool, Lease


def create(lease: Lease, url: str, token: str, **fields: Any) -> str:
    """Submit a job on ``lease`` and return its id."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(url, headers=headers, json={**lease.params, **fields}, timeout=30)
    lease.report(answer)
    answer.raise_for_status()
    job_id: str = answer.json()["jobid"]
    lease.bind(job_id)
    return job_id


def song_and_video(
    pool: AccountPool, url: str, token: str, prompt: str, finished: Callable[[str], None]
) -> tuple[str, str, str]:
    """Make a song anywhere, and its video where the song is; return the account and both job ids.

    ``finished`` returns once a job is over: a poller, or a wait for its callback.
    """
    with pool.acquire(timeout=600) as lease:
        account = lease.account.id
        song = create(lease, url, token, prompt=prompt)
    finished(song)
    pool.release(job_id=song)
    with pool.acquire(account=account, timeout=600) as lease:
        video = create(lease, url, token, prompt=f"video of {song}")
    return account, song, video
