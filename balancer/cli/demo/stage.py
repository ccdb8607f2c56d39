"""Where the demo plays: a stand-in server, a receiver of its callbacks, and the score."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self

import requests

from balancer.services import SERVICES
from balancer.testing import FakeUseapi, Reply

SERVICE = SERVICES["flowmusic"]
ACCOUNTS: Mapping[str, int] = {
    "ann@example.com": 1,
    "ben@example.com": 2,
    "cleo@example.com": 3,
    "dora@example.com": 6,
}
JOB_SECONDS = (60.0, 180.0)
RETRY_SECONDS = (10.0, 30.0)
"""How long the vendor's pages say to wait after a 429."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, the same for every way of doing it."""

    jobs: int
    threads: int
    speed: float
    seed: int

    @property
    def slots(self) -> int:
        """Jobs that all accounts together run at once."""
        return sum(ACCOUNTS.values())

    @cached_property
    def lengths(self) -> tuple[float, ...]:
        """Seconds by the server's clock that each job takes, in the order in which they are accepted."""
        rng = random.Random(self.seed)
        return tuple(rng.uniform(*JOB_SECONDS) for _ in range(self.jobs))

    @cached_property
    def bound(self) -> float:
        """Seconds of this machine's clock that the jobs take at least, whoever hands them out."""
        return max(sum(self.lengths) / self.slots, *self.lengths) / self.speed


class Score:
    """Mutable: which jobs are on their way, and what was counted."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.refused = 0
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.began = self.ended = time.monotonic()
        self._lock = threading.Lock()
        self._untaken = total
        self._started = set[str]()
        self._early = set[str]()

    def take(self) -> bool:
        """Take one of the jobs that nobody has sent yet. False: there is none left."""
        with self._lock:
            self._untaken -= 1
            return self._untaken >= 0

    def refuse(self) -> None:
        """Count a 429."""
        with self._lock:
            self.refused += 1

    def start(self, job_id: str) -> None:
        """Note that a job was accepted. News of its end may have come first."""
        with self._lock:
            self._started.add(job_id)
            if job_id in self._early:
                self._end(job_id)

    def finish(self, job_id: str) -> None:
        """Note that a job is over."""
        with self._lock:
            if job_id in self._started:
                self._end(job_id)
            else:
                self._early.add(job_id)

    def fail(self, error: BaseException) -> None:
        """Give up: nothing that is counted from now on means anything."""
        self.error = self.error or error
        self.over.set()

    def _end(self, job_id: str) -> None:
        self._started.remove(job_id)
        self.ended = time.monotonic()
        self.done += 1
        if self.done == self.total:
            self.over.set()


class Stage:
    """The stand-in with the plan's jobs, and a receiver that tells ``on_final`` of each that is over."""

    def __init__(self, plan: Plan) -> None:
        lengths = iter(plan.lengths)
        self.plan = plan
        self.score = Score(plan.jobs)
        self.on_final: Callable[[str], Any] = str
        self.fake = FakeUseapi(
            {SERVICE.key: ACCOUNTS},
            speed=plan.speed,
            job_seconds=lambda: next(lengths),
            replies=Reply(progress=0),
        )
        self._receiver = HTTPServer(("127.0.0.1", 0), _handler(self._told))
        self._url = f"{self.fake.url}{SERVICE.path}/music"
        self._reply_url = f"http://127.0.0.1:{self._receiver.server_port}/"

    def __enter__(self) -> Self:
        self.fake.start()
        threading.Thread(target=self._receiver.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fake.close()
        self._receiver.shutdown()
        self._receiver.server_close()

    def running(self) -> dict[str, int]:
        """Return how many jobs run on each account now."""
        return {account: len(self.fake.running(SERVICE.key, account)) for account in ACCOUNTS}

    def session(self) -> requests.Session:
        """Return a client of the stand-in."""
        session = requests.Session()
        session.trust_env = False  # a proxy or .netrc of this machine is none of the stand-in's business
        session.headers["Authorization"] = f"Bearer {self.fake.token}"
        return session

    def create(self, session: requests.Session, params: Mapping[str, Any]) -> requests.Response:
        """Send a job and note what became of it."""
        fields = {**params, "prompt": "rain on tin", "replyUrl": self._reply_url}
        answer = session.post(self._url, json=fields, timeout=30)
        if answer.status_code == 429:
            self.score.refuse()
        else:
            answer.raise_for_status()
            self.score.start(answer.json()["jobid"])
        return answer

    def _told(self, body: Mapping[str, Any]) -> None:
        if any(body.get(name) in ends for name, ends in SERVICE.final.items()):
            self.on_final(body["jobid"])
            self.score.finish(body["jobid"])


def _handler(told: Callable[[Any], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    return Handler
