"""A batch of jobs on a thread pool: more threads than slots, and the pool keeps them in line.

Each thread submits a job and waits for its result; the client follows all of them with one thread of its own
and frees each slot at the end of its job. ``client.map`` does as much without any thread of yours.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from balancer import Client


def songs(client: Client, prompts: Iterable[str], threads: int = 32) -> list[dict[str, Any]]:
    """Return the finished job of each prompt, in order."""

    def song(prompt: str) -> dict[str, Any]:
        job: dict[str, Any] = client.submit("music", {"prompt": prompt}, label=prompt).result()
        return job

    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(song, prompts))
