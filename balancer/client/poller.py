"""One thread that follows all jobs of a client, from the first one until none is left.

Mutable: the jobs that are followed, under one condition, which whoever adds a job or ends one takes; when
each is asked for next is the thread's own business. The thread holds the condition to choose what to ask,
never while it asks. It knows no client: one that is dropped is collected, and its finalizer ends the thread.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from balancer import events
from balancer.client.api import Api, pause, trouble
from balancer.client.jobs import JobState
from balancer.clock import Clock
from balancer.config import seconds
from balancer.errors import BalancerError
from balancer.services.schema import Service
from balancer.useapi import following
from balancer.useapi.http_response import Answer
from balancer.useapi.job_lists import job_list

Poll = float | str | tuple[float, float]
"""Seconds, a pair of them, or either as text: ``"2,15"``."""
_GROWTH = 1.5
_JITTER = 0.2
"""Part of a wait that chance may take away, so that processes which began together do not ask together."""
_LONGEST_PAUSE = 600.0
"""Seconds of a pause that are believed."""


class Followed:
    """One job that is followed."""

    __slots__ = ("interval", "listed", "next_at", "state")

    def __init__(self, state: JobState, interval: float, next_at: float) -> None:
        self.state, self.interval, self.next_at = state, interval, next_at
        self.listed = False
        """The last list had it: once it is missing from one, it has ended."""


class Poller:
    """Asks for jobs until they have ended, and frees their slots then."""

    def __init__(
        self,
        api: Api,
        row: Service,
        poll: tuple[float, float],
        *,
        release: Callable[[str], Any],
        clock: Clock,
    ) -> None:
        self._api, self._row, self._release, self._clock = api, row, release, clock
        self.first, self.most = poll
        self._list_at = -math.inf
        """When the list may be asked for: it has failed, or was read just now."""
        self.stopped = False
        self.after_fork()
        clock.watch(self._look)

    def after_fork(self) -> None:
        """Begin with nothing, at first and in a child: there a job is followed once somebody waits for it."""
        self._changed = threading.Condition()
        self._jobs: dict[str, Followed] = {}
        self._thread: threading.Thread | None = None

    def follow(self, state: JobState, *, soon: bool = False) -> None:
        """Follow a job from now on; ``soon``: ask for it at once."""
        with self._changed:
            if state.done or state.id is None or self.stopped:
                return
            at = self._clock.now() + (0.0 if soon else self.first)
            known = self._jobs.setdefault(state.id, Followed(state, self.first, at))
            known.next_at = min(known.next_at, at)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="balancer-poller", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def state(self, job_id: str) -> JobState | None:
        """Return what is known of a job that is followed."""
        with self._changed:
            known = self._jobs.get(job_id)
        return None if known is None else known.state

    def end(self, state: JobState, outcome: following.Outcome, body: Any) -> None:
        """Write down what was said of a job; at its end its slot is freed before anybody hears of it."""
        if outcome == "running":
            if body is not None:  # else its status call has failed, which says nothing
                state.seen_at = time.monotonic()
        elif state.id is not None:
            self._release(state.id)
            with self._changed:
                self._jobs.pop(state.id, None)
        state.see(outcome, body)

    def stop(self) -> None:
        """Follow no job any more; whoever waits for one is woken."""
        with self._changed:
            self.stopped = True
            left = [known.state for known in self._jobs.values()]
            self._changed.notify_all()
        for state in left:
            state.wake()

    def _look(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while jobs := self._await_due():
            self._ask_for(jobs)

    def _await_due(self) -> list[Followed]:
        """Return all jobs, once one of them is to be asked for; none: the thread's work is done."""
        with self._changed:
            while self._jobs and not self.stopped:
                at = max(self._list_at, min(known.next_at for known in self._jobs.values()))
                if at <= self._clock.now():
                    return list(self._jobs.values())
                pause = self._clock.sleep_for(at)
                self._changed.wait(None if pause is None else min(pause, threading.TIMEOUT_MAX))
            self._thread = None
            return []

    def _ask_for(self, jobs: list[Followed]) -> None:
        running, wait = self._listed()
        if wait:
            return  # it wants to be left alone: nobody is asked for before that
        now = self._clock.now()
        for one in jobs:
            if self.stopped or one.state.done:
                continue
            if running is not None and one.state.id in running:
                one.listed, one.state.seen_at = True, time.monotonic()
                if one.next_at <= now + self.first:  # one list serves all that would have asked soon
                    self._again(one, 0.0)
            elif one.next_at <= now or (running is not None and one.listed):
                one.listed = False
                self._again(one, self._ask(one.state))

    def _again(self, one: Followed, pause: float) -> None:
        wait = max(pause, one.interval * (1.0 - _JITTER * random.random()))
        one.next_at = self._clock.now() + wait
        one.interval = min(self.most, one.interval * _GROWTH)

    def _listed(self) -> tuple[frozenset[str] | None, float]:
        """Return the jobs that the service lists as running, and how long it wants to be left alone.

        None: it has no list, or that failed.
        """
        load = self._row.load
        if load is None:
            return None, 0.0
        try:
            answer = self._api.ask(load.path)
            failed = trouble(answer)
            # Not as in a reconciliation: who is missing is asked for, so an incomplete list does no harm.
            jobs = None if failed or answer.status >= 300 else job_list(answer.body, self._row).jobs
            wait = min(pause(answer) or 0.0, _LONGEST_PAUSE)
        except BalancerError:
            jobs, wait = None, 0.0
        except Exception as error:  # noqa: BLE001  # whatever it is, the jobs are asked for one by one
            events.emit("warning", "poll_failed", service=self._row.key, error=type(error).__name__)
            jobs, wait = None, 0.0
        self._list_at = self._clock.now() + max(wait, min(1.0, self.first / 2))
        return None if jobs is None else frozenset(job.id for job in jobs if job.id), wait

    def ask(self, state: JobState) -> Answer | None:
        """Ask for a job once, and write down what is said of it. None: nobody knows where to ask.

        Raises:
            SourceUnavailable: there is no answer. Unauthorized: there is no token to ask with.
        """
        path = None if state.id is None else following.status_path(self._row, state.id, state.account)
        if path is None:
            return None
        answer = self._api.ask(path)
        said = following.outcome(answer.body, self._row, status=answer.own_status, job=state.id)
        self.end(state, said, answer.body if answer.status < 300 else None)
        return answer

    def _ask(self, state: JobState) -> float:
        """Ask for one job; return how many seconds the service wants to be left alone with it."""
        try:
            answer = self.ask(state)
            return math.inf if answer is None else min(pause(answer) or 0.0, _LONGEST_PAUSE)
        except BalancerError:
            return 0.0  # no answer ends no job
        except Exception as error:  # noqa: BLE001  # whatever it is, the other jobs are asked for
            events.emit("warning", "poll_failed", service=self._row.key, error=type(error).__name__)
            return 0.0


def polling(given: Poll | None, row: Service) -> tuple[float, float]:
    """Return when a new job is first asked for, and how long at most between two questions, in seconds.

    Raises:
        ValueError, TypeError: ``poll`` is neither a number of seconds nor a pair of them.
    """
    if given is None:
        given = os.environ.get("BALANCER_POLL") or row.poll
    if isinstance(given, str):
        try:
            parts: Iterable[Any] = [float(part) for part in given.split(",")]
        except ValueError:
            raise ValueError(f"poll must be seconds or a pair of them (2,15), not {given!r}") from None
    else:
        parts = given if isinstance(given, tuple | list) else (given,)
    found = [seconds("poll", part, above=True) for part in parts]
    if len(found) not in (1, 2) or found[0] > found[-1]:
        raise ValueError(f"poll must be seconds or a pair of them, the shorter first, not {given!r}")
    return found[0], found[-1]
