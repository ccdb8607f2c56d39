"""What processes of a fleet do in tests: ``redis_workers.py ROLE JSON``, told by stdin, heard on stdout."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import requests

from balancer import AccountPool, AsyncAccountPool


def say(*words):
    """Tell the test something."""
    print(*words, flush=True)  # noqa: T201


def heard():
    """Return the next line that the test says, or an empty text when it is gone."""
    return sys.stdin.readline().strip()


def fleet(size, **what):
    """Fork ``size`` processes that run jobs, and say how many ended well.

    They are forked from one, as importing the library costs each far more than its jobs.
    """
    loaded, go = os.pipe(), os.pipe()
    children = []
    for _ in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go[1])
                run_jobs(loaded[1], go[0], **what)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(loaded[1])
    for _ in range(size):
        os.read(loaded[0], 1)
    say("ready")
    heard()
    os.close(go[1])
    say("done", sum(os.waitpid(child, 0)[1] == 0 for child in children))


def run_jobs(loaded, go, *, url, token, store, jobs):
    """Run paid jobs against the stand-in, each in a slot of its own until it is over."""
    pool = AccountPool("flowmusic", token=token, base_url=url, store=store)
    pool.stats()
    os.write(loaded, b"!")
    os.read(go, 1)
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        for _ in range(jobs):
            with pool.acquire(timeout=60) as lease:
                body = {**lease.params, "prompt": "x"}
                made = session.post(f"{url}/v1/flowmusic/music", json=body, timeout=20)
                lease.report(made)
                job = f"{url}/v1/flowmusic/jobs/{made.json()['jobid']}"
                while session.get(job, timeout=20).json()["status"] not in ("completed", "failed"):
                    time.sleep(0.02)
    pool.close()


def hold(accounts, store, lease_ttl, count):
    """Take leases and hold them until told to go on."""
    pool = AccountPool("custom", source=accounts, store=store, lease_ttl=lease_ttl)
    leases = [pool.acquire(timeout=30) for _ in range(count)]
    say(*[lease.id for lease in leases])
    heard()
    say(*[int(lease.release()) for lease in leases])
    pool.close()


def fetch_for_ever(store):
    """Fetch the configuration for all, and never come to an end."""

    class Source:
        def accounts(self):
            say("fetching")
            heard()
            return {}

    AccountPool("custom", source=Source(), store=store).acquire(timeout=60)


def wait_for_one(accounts, store, lease_ttl):
    """Wait for a slot, and say when it is there."""
    pool = AccountPool("custom", source=accounts, store=store, lease_ttl=lease_ttl)
    pool.stats()
    say("waiting")
    with pool.acquire(timeout=60) as lease:
        say(lease.account.id)
        heard()
    pool.close()


def block_the_loop(accounts, store, lease_ttl, seconds):
    """Hold a lease in a coroutine that blocks its event loop for longer than the lease lives."""

    async def main():
        pool = AsyncAccountPool("custom", source=accounts, store=store, lease_ttl=lease_ttl)
        async with pool, pool.acquire() as lease:
            say(lease.id)
            time.sleep(seconds)  # noqa: ASYNC251  (that is the point)
            say("awake")
            heard()

    asyncio.run(main())


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
