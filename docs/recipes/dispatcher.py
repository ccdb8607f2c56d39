"""An asyncio dispatcher: a task for each job, all started at once, and the pool is the only queue.

There is no semaphore and no sleep-and-retry around it: a task waits inside ``submit`` until an account has
room for it, and all wait in the order in which they came. A task that is cancelled while it waits leaves
no trace; cancelled while its create is under way, its slot is kept, as the job may have been accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from balancer import AsyncClient


async def songs(client: AsyncClient, prompts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the finished job of each prompt, in order. One that fails cancels the others."""

    async def song(prompt: str) -> dict[str, Any]:
        job = await client.submit("music", {"prompt": prompt}, label=prompt)
        result: dict[str, Any] = await job.result()
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(song(prompt)) for prompt in prompts]
    return [task.result() for task in tasks]
