"""``replyUrl``: the service's news about a job, posted by one worker thread."""

from __future__ import annotations

import heapq
import ipaddress
import itertools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from balancer.clock import Clock
from balancer.testing.state import Job

_TIMEOUT = 2.0
_Post = tuple[float, int, Job, float, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """How a job's callbacks are delivered."""

    progress: int = 1
    """Posts while it runs: the first with its start, the others spread over its time."""
    final: int = 1
    """Posts of its final status: 0 is never, 2 is twice."""
    delay: float = 0.0
    """Seconds, by the server's clock, by which each post is late."""
    early: bool = False
    """The job ends at once, and everything is delivered before its create is answered."""


Body = Callable[[Job, str], Any]
"""Makes a callback's body from a job and its status."""
Replies = Reply | Callable[[Mapping[str, Any]], Reply]


def on_loopback(url: Any) -> bool:
    """Return whether ``url`` is an HTTP address on this machine: no other is ever posted to."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and (
            host == "localhost" or ipaddress.ip_address(host).is_loopback
        )
    except (ValueError, TypeError, AttributeError):
        return False


class Callbacks:
    """Mutable: the posts that are due some day. The thread lives from the first one to ``close``."""

    def __init__(self, clock: Clock, body: Body, replies: Replies) -> None:
        self._clock, self._body, self._replies = clock, body, replies
        self._changed = threading.Condition()
        self._posts: list[_Post] = []
        self._ends: dict[str, float] = {}
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        clock.watch(self.wake)

    def reply(self, job: Job) -> Reply:
        """Return how that job's callbacks are delivered."""
        return self._replies if isinstance(self._replies, Reply) else self._replies(job.request)

    def plan(self, job: Job) -> None:
        """Note every post about ``job``, if its request asked for any."""
        if "replyUrl" not in job.request:
            return
        reply = self.reply(job)
        life = job.ends - job.started if math.isfinite(job.ends) else 0.0
        self._add(
            job, [job.started + life * step / reply.progress for step in range(reply.progress)], "running"
        )
        self.plan_final(job)

    def plan_final(self, job: Job) -> None:
        """Note the posts of the final status, now that it is known when the job ends."""
        if "replyUrl" in job.request and math.isfinite(job.ends) and self._ends.get(job.id) != job.ends:
            self._ends[job.id] = job.ends
            self._add(job, [job.ends] * self.reply(job).final, "final")

    def deliver(self, job: Job) -> None:
        """Post everything about ``job`` now, in the caller's thread."""
        reply = self.reply(job)
        for status in ["running"] * reply.progress + [job.outcome] * reply.final:
            self._send(job, status)

    def wake(self) -> None:
        """Look at the clock again."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the worker; what is still due is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _add(self, job: Job, instants: list[float], phase: str) -> None:
        delay = self.reply(job).delay
        with self._changed:
            for at in instants:
                heapq.heappush(self._posts, (at + delay, next(self._order), job, at, phase))
            if instants and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="fake-useapi-callbacks", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while (post := self._next()) is not None:
            self._send(*post)

    def _next(self) -> tuple[Job, str] | None:
        with self._changed:
            while not self._closed:
                due = self._posts[0][0] if self._posts else math.inf
                if due > self._clock.now():
                    self._changed.wait(self._clock.sleep_for(due))
                    continue
                _, _, job, at, phase = heapq.heappop(self._posts)
                if phase == "running" and at < job.ends:
                    return job, "running"
                if phase == "final" and at == job.ends:  # else the job was ended by hand, and told anew
                    return job, job.outcome
        return None

    def _send(self, job: Job, status: str) -> None:
        try:
            with requests.Session() as session:
                session.trust_env = False
                url, body = job.request["replyUrl"], self._body(job, status)
                session.post(url, json=body, timeout=_TIMEOUT, allow_redirects=False)
        except requests.RequestException:
            return  # nobody promises that a callback arrives
