"""A batch of jobs on a thread pool: more threads than slots, and the pool keeps them in line.

Each thread submits a job, waits for its end by polling, and frees the slot only when it has seen a final
status. Should polling fail, the slot stays with the job that may still run: reconciliation ends it when
the job is gone from the server's list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from balancer import SERVICES, AccountPool, Lease

FINAL = SERVICES["flowmusic"].final["status"]


class Studio:
    """Makes songs: one call of :meth:`song` for each, from any number of threads."""

    def __init__(self, pool: AccountPool, base_url: str, token: str, poll_every: float = 10.0) -> None:
        self.pool, self.url, self.poll_every = pool, f"{base_url}/v1/flowmusic", poll_every
        self.headers = {"Authorization": f"Bearer {token}"}

    def song(self, prompt: str) -> dict[str, Any]:
        """Return the finished job."""

        def create(lease: Lease) -> requests.Response:
            fields = {**lease.params, "prompt": prompt}
            return requests.post(f"{self.url}/music", headers=self.headers, json=fields, timeout=30)

        job_id = self.pool.run(create, bind="jobid", label=prompt).json()["jobid"]
        job = self.finished(job_id)
        self.pool.release(job_id=job_id)
        return job

    def finished(self, job_id: str) -> dict[str, Any]:
        """Poll until the status is final; return the job."""
        while True:
            answer = requests.get(f"{self.url}/jobs/{job_id}", headers=self.headers, timeout=30)
            answer.raise_for_status()
            job: dict[str, Any] = answer.json()
            if job["status"] in FINAL:
                return job
            time.sleep(self.poll_every)


def songs(studio: Studio, prompts: Iterable[str], threads: int = 32) -> list[dict[str, Any]]:
    """Return the finished job of each prompt, in order."""
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(studio.song, prompts))
