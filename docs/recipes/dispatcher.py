"""An asyncio dispatcher: a task for each job, all started at once, and the pool is the only queue.

There is no semaphore and no sleep-and-retry around it: a task waits inside ``run`` until an account has
room for it, and all wait in the order in which they came. A task that is cancelled while it waits leaves
no trace; cancelled while its create is under way, its slot is kept, as the job may have been accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx

from balancer import SERVICES, AsyncAccountPool, AsyncLease

FINAL = SERVICES["flowmusic"].final["status"]


class Dispatcher:
    """Runs jobs on one pool with one client, whose ``base_url`` and headers are set."""

    def __init__(self, pool: AsyncAccountPool, client: httpx.AsyncClient, poll_every: float = 10.0) -> None:
        self.pool, self.client, self.poll_every = pool, client, poll_every

    async def song(self, prompt: str) -> dict[str, Any]:
        """Return the finished job."""

        async def create(lease: AsyncLease) -> httpx.Response:
            return await self.client.post("/v1/flowmusic/music", json={**lease.params, "prompt": prompt})

        answer = await self.pool.run(create, bind="jobid", label=prompt)
        job_id = answer.json()["jobid"]
        job = await self.finished(job_id)
        await self.pool.release(job_id=job_id)
        return job

    async def finished(self, job_id: str) -> dict[str, Any]:
        """Poll until the status is final; return the job."""
        while True:
            answer = await self.client.get(f"/v1/flowmusic/jobs/{job_id}")
            job: dict[str, Any] = answer.raise_for_status().json()
            if job["status"] in FINAL:
                return job
            await asyncio.sleep(self.poll_every)

    async def songs(self, prompts: Iterable[str]) -> list[dict[str, Any]]:
        """Return the finished job of each prompt, in order. One that fails cancels the others."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.song(prompt)) for prompt in prompts]
        return [task.result() for task in tasks]
