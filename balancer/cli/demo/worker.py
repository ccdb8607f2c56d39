"""A process of the demo: it makes every video that is not made yet, the usual way or with the pool.

It is killed half-way and started again, so it keeps notes as any such program would: a file for each order.
"""

from __future__ import annotations

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from balancer import AccountPool, AmbiguousOutcome, HttpSource, Lease

SERVICE = "runwayml"
RETRY_SECONDS = (10.0, 30.0)
"""How long the vendor's pages say to wait after a 429."""
POLL_SECONDS = (5.0, 15.0)


class Studio:
    """The service as both ways use it, and the notes about what was ordered there."""

    def __init__(self, url: str, token: str, folder: str, speed: str) -> None:
        self.url, self.token, self.folder, self.speed = url, token, Path(folder), float(speed)
        self.source = HttpSource(SERVICE, token=token, base_url=url)
        # No proxy of the environment knows the stand-in.
        self._options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {token}"},
            "proxies": {"no_proxy": "127.0.0.1"},
        }

    def mark(self, order: str, what: str, text: str = "") -> None:
        """Note something of an order, in one step."""
        draft = self.folder / f"{order}.draft"
        draft.write_text(text, "utf-8")
        draft.replace(self.folder / f"{order}.{what}")

    def marked(self, order: str, what: str) -> str | None:
        """Return what was noted, if it was."""
        file = self.folder / f"{order}.{what}"
        return file.read_text("utf-8") if file.exists() else None

    def create(self, order: str, fields: Any) -> requests.Response:
        """Send a job, once. Raises what requests raises if no answer came."""
        url = f"{self.url}/v1/runwayml/gen4/create"
        return requests.post(url, json={**fields, "prompt": order}, timeout=30, **self._options)

    def finish(self, job: str) -> None:
        """Wait until a job is over."""
        over = False
        while not over:
            self.sleep(POLL_SECONDS)
            answer = requests.get(f"{self.url}/v1/runwayml/tasks/{job}", timeout=30, **self._options)
            over = answer.json()["status"] in ("SUCCEEDED", "FAILED")

    def sleep(self, seconds: tuple[float, float]) -> None:
        """Sleep by the service's clock."""
        time.sleep(random.uniform(*seconds) / self.speed)


class TheUsualWay:
    """Guess an account, wait after a 429, and send again whatever was not answered."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.accounts = studio, [*studio.source.accounts().accounts]

    def job_of(self, order: str) -> str:
        """Return the id of a new job for the order."""
        while True:
            try:
                answer = self.studio.create(order, {"email": random.choice(self.accounts)})
            except requests.RequestException:
                continue
            if answer.ok:
                return job_id(answer)
            self.studio.sleep(RETRY_SECONDS)

    def over(self, job: str) -> None:
        """Do nothing: nobody counts."""


class WithBalancer:
    """Ask the pool for an account that has room, and the server's list for what became of a lost answer."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.pool = AccountPool(
            SERVICE,
            token=studio.token,
            base_url=studio.url,
            store=f"sqlite://{studio.folder}/slots.db",  # it outlives the process
            lease_ttl=60 / studio.speed,
            reconcile_every=30 / studio.speed,
        )
        self.running = self.listed()

    def job_of(self, order: str) -> str:
        """Return the order's job: the one that was noted, or that ran when we came, or else a new one."""
        sent = self.studio.marked(order, "lease")
        job = self.studio.marked(order, "job") or self.running.get(sent) or self.submit(order)
        self.studio.mark(order, "job", job)
        return job

    def over(self, job: str) -> None:
        """Give the slot back."""
        self.pool.release(job_id=job)

    def listed(self) -> dict[str | None, str | None]:
        """Return the jobs that run by the lease that each was sent with, as the server lists them."""
        return {job.ref: job.id for job in self.studio.source.jobs().jobs if job.ref}

    def submit(self, order: str) -> str:
        """Send the order where there is room; it is noted first with which lease."""

        def create(lease: Lease) -> requests.Response:
            self.studio.mark(order, "lease", lease.id)
            return self.studio.create(order, lease.params)

        try:
            return job_id(self.pool.run(create, bind=job_id, label=order))
        except AmbiguousOutcome as lost:
            job = self.listed().get(lost.lease_id)
            self.pool.reconcile()  # the slot follows the job that the server lists
            self.pool.reset(lost.account)  # its pause is in seconds of this machine, whose time runs slower
            return job or self.submit(order)


def job_id(answer: requests.Response) -> str:
    """Return the job of a create's answer."""
    return str(answer.json()["taskId"])


def main(way: str, jobs: str, threads: str, *where: str) -> None:
    """Make every video that is not made yet."""
    studio = Studio(*where)
    sender = WithBalancer(studio) if way == "balancer" else TheUsualWay(studio)
    studio.mark("worker", "ready")

    def make(order: str) -> None:
        if studio.marked(order, "done") is None:
            job = sender.job_of(order)
            studio.finish(job)
            studio.mark(order, "done")
            sender.over(job)

    with ThreadPoolExecutor(int(threads)) as crew:
        list(crew.map(make, [f"video-{number}" for number in range(int(jobs))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
