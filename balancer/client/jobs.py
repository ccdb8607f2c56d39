"""Jobs that run at a service, as users see them and as the client follows them.

Mutable: a :class:`JobState`. Whoever hears from the service writes what it said: the poller, ``refresh``, a
webhook. Each writes whole values, and an end is never taken back, so that no lock is needed; a reader that
registered its ``wake`` before it looked misses no end.
"""

from __future__ import annotations

import hashlib
import json
import math
import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from balancer.config import seconds
from balancer.errors import BalancerError, JobFailed
from balancer.redaction import clean
from balancer.services.schema import Service
from balancer.useapi import following
from balancer.useapi.http_response import read
from balancer.useapi.json_access import get_path

# A job is of one piece with its client.
# ruff: noqa: SLF001

_REASONS = ("error.message", "error", "errorDetails", "message", "reason")


class JobState:
    """What is known of one job."""

    __slots__ = ("account", "body", "endpoint", "error", "id", "outcome", "row", "seen_at", "wakes")

    def __init__(
        self, row: Service, id: str | None, account: str | None, endpoint: str | None, body: Any = None
    ) -> None:
        self.row, self.id, self.account, self.endpoint, self.body = row, id, account, endpoint, body
        self.outcome: following.Outcome = "running"
        self.error: BalancerError | None = None
        self.seen_at: float | None = None
        """When it was last seen to run, by the clock of the machine."""
        self.wakes: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.outcome != "running" or self.error is not None

    def see(self, outcome: following.Outcome, body: Any) -> None:
        """Write down what the service says of it."""
        if self.done:
            return
        if body is not None:
            self.body = body
        self.outcome = outcome
        if outcome != "running":
            self.wake()

    def wake(self) -> None:
        """Have everybody look who waits."""
        for wake in list(self.wakes):
            wake()

    def watch(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called once it has ended, or now if it has."""
        self.wakes.append(wake)
        if self.done:
            wake()

    def unwatch(self, wake: Callable[[], None]) -> None:
        """Undo :meth:`watch`."""
        if wake in self.wakes:
            self.wakes.remove(wake)


class BaseJob:
    """What both kinds of remote job show."""

    __slots__ = ("_client", "_state")

    _client: Any
    _state: JobState

    def __init__(self, client: Any, state: JobState) -> None:
        self._client, self._state = client, state

    def __repr__(self) -> str:
        state = self._state
        stands = type(state.error).__name__ if state.error is not None else state.outcome
        return f"<{type(self).__name__} {state.id} on {state.account}, {stands}>"

    @property
    def id(self) -> str | None:
        """The job's id; None if it was not taken, or if the answer to its create was the result."""
        return self._state.id

    @property
    def account(self) -> str | None:
        """The account that it runs on; None if that is not known."""
        return self._state.account

    @property
    def endpoint(self) -> str | None:
        """Path of its create below the service's; None of a job that was attached."""
        return self._state.endpoint

    @property
    def body(self) -> Any:
        """What the service said last; None before it has said anything."""
        return self._state.body

    @property
    def status(self) -> str | None:
        """The service's own word for how it stands; None of a job that is gone."""
        state = self._state
        return None if state.outcome == "gone" else word(state.body, state.row)

    @property
    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._state.done

    @property
    def failed(self) -> bool:
        """Whether it has ended badly, is gone, or was never taken."""
        return self._state.done and self._state.outcome != "succeeded"

    @property
    def error(self) -> BalancerError | None:
        """Why it was never taken, or nobody knows whether it was; None of a job with an id."""
        return self._state.error

    def _result(self) -> Any:
        """Return the final body of a job that has ended, or raise."""
        state = self._state
        if state.error is not None:
            raise state.error.copy_for_raise()
        if state.outcome == "succeeded":
            return state.body
        gone = state.outcome == "gone"
        why = (
            "the service does not have it any more" if gone else reason(state.body) or self.status or "failed"
        )
        raise JobFailed(
            f"job {state.id} of {state.row.key} on {state.account or 'an unknown account'} has failed: {why}",
            job_id=state.id or "",
            account=state.account,
            status=self.status,
            body=state.body,
        )

    def _save(self, folder: str | Path) -> list[Path]:
        return save(self._client._api, self._state, folder)


def patience(timeout: float | None) -> float | None:
    """Return how many seconds to wait for the end of a job; None: for ever. Raises naming the argument."""
    left = None if timeout is None else seconds("timeout", timeout)
    return None if left == math.inf else left


def word(body: object, row: Service) -> str | None:
    """Return the service's own word for how a job stands, as a status body, or one item of it, says."""
    item = body[0] if isinstance(body, list) and body else body
    said = (get_path(item, path) for path in dict.fromkeys((*row.succeeded, *row.final)))
    return next((value for value in said if isinstance(value, str)), None)


def reason(body: object) -> str | None:
    """Return why a job failed, as far as its body says, fit for a line."""
    item = body[0] if isinstance(body, list) and body else body
    said = (get_path(item, path) for path in _REASONS)
    return next((clean(value) for value in said if isinstance(value, str) and value), None)


def refusal(error: BaseException) -> str:
    """Return what an error says, and after it what the service said in the answer that it carries."""
    answer = read(getattr(error, "response", None), whole=True)
    said = None if answer is None else reason(answer.body)
    return str(error) if said is None else f"{error}: {said}"


def save(api: Any, state: JobState, folder: str | Path) -> list[Path]:
    """Fetch what a job made into a folder; files that are there already are not fetched again."""
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    # An id holds what paths must not, and a URL's own name is the same for every job.
    stem = re.sub(r"[^\w.@-]+", "_", state.id or _fingerprint(state.body)).strip(".")[-120:]

    def saved(number: int, place: str) -> Path:
        if there := [path for path in into.glob(f"{_escaped(stem)}-{number}.*") if path.suffix != ".part"]:
            return there[0]
        ending = re.fullmatch(r"\.\w{1,8}", Path(urlsplit(place).path).suffix)

        def target(content_type: str | None) -> Path:
            kind = mimetypes.guess_extension((content_type or "").partition(";")[0].strip())
            return into / f"{stem}-{number}{ending[0] if ending else kind or '.bin'}"

        fetched: Path = api.download(place, target)
        return fetched

    return [saved(n + 1, place) for n, place in enumerate(following.results(state.body, state.row))]


def _fingerprint(body: Any) -> str:
    """Return what tells the results of a job without an id from those of another."""
    text = json.dumps(body, sort_keys=True, default=str)
    return f"job-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _escaped(stem: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stem)
