"""A fleet of processes that run jobs until told to stop: ``chaos_workers.py JSON``, told by stdin.

Every second process runs its callers in threads, the others in an event loop; and each believes that
it is another time.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import threading
import time
import traceback
from collections import Counter

import requests
from redis_workers import heard, say

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, StoreUnavailable

APART = 120.0
"""Seconds by which clocks may be wrong."""


def fleet(size, **what):
    """Fork ``size`` processes; tell what they counted once they are idle, and end when told to."""
    stop, told, end = os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(stop[1])
                os.close(end[1])
                shift_clocks(APART * (2 * number / (size - 1) - 1))
                worker = Worker(number, stop[0], told[1], end[0], **what)
                worker.threads() if number % 2 else asyncio.run(worker.tasks())
                code = 0
            except BaseException as error:  # noqa: BLE001  # nobody should wait for it
                traceback.print_exception(error)
                os.write(told[1], b'{"died": 1}\n')
            finally:
                os._exit(code)
        children.append(child)
    os.close(told[1])
    say("running")
    heard()
    os.close(stop[1])
    total = Counter()
    with os.fdopen(told[0]) as lines:
        for _ in range(size):
            total.update(json.loads(lines.readline()))
    say(json.dumps(total))
    heard()
    os.close(end[1])
    say(sum(os.waitpid(child, 0)[1] == 0 for child in children))


def shift_clocks(seconds):
    """Have this process believe that it is so much later."""
    for name in ("time", "monotonic"):
        right = getattr(time, name)
        setattr(time, name, lambda right=right: right() + seconds)


class Worker:
    """One process of the fleet. Mutable: what has happened to its callers."""

    def __init__(self, number, stop, told, end, *, url, token, store, callers, options, others):
        # Every third was made with other settings, as in a rolling deploy.
        options = {**options, **others} if number % 3 == 0 else options
        self.options = {"token": token, "base_url": url, "store": store, **options}
        self.callers = callers
        self.url, self.stop, self.told, self.end = f"{url}/v1/flowmusic", stop, told, end
        self.counts = Counter()
        self.local = threading.local()
        self.headers = {"Authorization": f"Bearer {token}"}

    @property
    def stopped(self):
        return bool(select.select([self.stop], [], [], 0)[0])

    def threads(self):
        """Run jobs in threads."""
        pool = AccountPool("flowmusic", **self.options)
        crew = [threading.Thread(target=self.call, args=(pool,)) for _ in range(self.callers)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        self.idle()
        pool.close()

    def call(self, pool):
        """Take a slot and run a job in it, again and again."""
        while not self.stopped:
            try:
                with pool.acquire(timeout=10) as lease:
                    made = self.create(lease.params)
                    lease.report(made)
                    self.follow(made)
            except Exception as error:  # noqa: BLE001  # the test looks at what there was
                self.met(error)

    async def tasks(self):
        """Run jobs in tasks of an event loop."""
        pool = AsyncAccountPool("flowmusic", **self.options)
        await asyncio.gather(*(self.acall(pool) for _ in range(self.callers)))
        await asyncio.to_thread(self.idle)
        await pool.close()

    async def acall(self, pool):
        """Take a slot and run a job in it, again and again, and never block the loop."""
        while not self.stopped:
            try:
                async with pool.acquire(timeout=10) as lease:
                    made = await asyncio.to_thread(self.create, lease.params)
                    await lease.report(made)
                    await asyncio.to_thread(self.follow, made)
            except Exception as error:  # noqa: BLE001  # the test looks at what there was
                self.met(error)

    def met(self, error):
        """Count what a caller met, and show it if that should not be."""
        self.counts[type(error).__name__] += 1
        if not isinstance(error, AcquireTimeout | StoreUnavailable):
            traceback.print_exception(error)

    @property
    def site(self):
        """The session of this thread."""
        if not hasattr(self.local, "site"):
            self.local.site = requests.Session()
            self.local.site.trust_env = False
            self.local.site.headers.update(self.headers)
        return self.local.site

    def create(self, params):
        """Start a job."""
        made = self.site.post(f"{self.url}/music", json={**params, "prompt": "x"}, timeout=20)
        self.counts["created" if made.ok else f"answered {made.status_code}"] += 1
        return made

    def follow(self, made):
        """Return when the job has ended."""
        if made.ok:
            job = f"{self.url}/jobs/{made.json()['jobid']}"
            while self.site.get(job, timeout=20).json()["status"] not in ("completed", "failed"):
                time.sleep(0.05)

    def idle(self):
        """Say what was counted; return when it is time to end."""
        os.write(self.told, json.dumps(self.counts).encode() + b"\n")
        os.read(self.end, 1)


if __name__ == "__main__":
    fleet(**json.loads(sys.argv[1]))
