"""The ways of sending many jobs to a few accounts that the demo compares."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from balancer import AccountPool, AsyncAccountPool, Verdict
from balancer.cli.demo.stage import ACCOUNTS, RETRY_SECONDS, SERVICE, Stage

Worker = Callable[[], None]
Way = Callable[[Stage], AbstractContextManager[list[Worker]]]
"""Prepares what is needed, and gives the workers, each of which is to run in a thread of its own."""


@contextmanager
def guessing(stage: Stage) -> Iterator[list[Worker]]:
    """As people do it today: a random account, and the documented wait after each 429."""

    def work() -> None:
        with stage.session() as session:
            while stage.score.take():
                while stage.create(session, _anybody()).status_code == 429:
                    time.sleep(random.uniform(*RETRY_SECONDS) / stage.plan.speed)

    yield [work] * stage.plan.threads


@contextmanager
def asking(stage: Stage) -> Iterator[list[Worker]]:
    """Ask the pool for an account that has room; give the slot back when the job is over."""
    with AccountPool(SERVICE.key, token=stage.fake.token, base_url=stage.fake.url, store="memory://") as pool:
        stage.on_final = lambda job_id: pool.release(job_id=job_id)

        def send() -> Verdict:
            with pool.acquire(timeout=60) as lease:
                answer = stage.create(session, lease.params)
                verdict = lease.report(answer)
                if verdict is Verdict.ACCEPTED:
                    lease.bind(answer.json()["jobid"])
                return verdict

        def work() -> None:
            while stage.score.take():
                while send() is not Verdict.ACCEPTED:
                    pass

        with stage.session() as session:
            yield [work] * stage.plan.threads


@contextmanager
def asking_async(stage: Stage) -> Iterator[list[Worker]]:
    """As :func:`asking`, from as many tasks of one event loop."""
    pool = AsyncAccountPool(SERVICE.key, token=stage.fake.token, base_url=stage.fake.url, store="memory://")

    async def send() -> Verdict:
        async with pool.acquire(timeout=60) as lease:
            answer = await asyncio.to_thread(stage.create, session, lease.params)
            verdict = await lease.report(answer)
            if verdict is Verdict.ACCEPTED:
                await lease.bind(answer.json()["jobid"])
            return verdict

    async def work() -> None:
        while stage.score.take():
            while await send() is not Verdict.ACCEPTED:
                pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stage.on_final = lambda job_id: asyncio.run_coroutine_threadsafe(pool.release(job_id=job_id), loop)
        await asyncio.gather(*(work() for _ in range(stage.plan.threads)))
        await asyncio.to_thread(stage.score.over.wait)
        await pool.close()

    with stage.session() as session:
        yield [lambda: asyncio.run(main())]


def _anybody() -> dict[str, str]:
    return {SERVICE.selector: random.choice(list(ACCOUNTS))}
