"""A batch: lines in, results out, in one event loop.

Mutable, in that loop alone: which lines wait, which run, of which nobody knows, and why it stops. What has to
outlive the process is in the :class:`balancer.batch.journal.Journal`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balancer.batch import acceptance
from balancer.batch.journal import (
    COMPLETED,
    FAILED,
    REFUSED,
    RUNNING,
    SENDING,
    UNKNOWN,
    WAITING,
    Journal,
    JournalError,
)
from balancer.batch.lines import Line
from balancer.client.client import Client
from balancer.client.crew import Crew, News, in_thread
from balancer.client.jobs import JobState, reason, refusal, save
from balancer.errors import (
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    JobRefused,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.models import JobList, PoolStats
from balancer.useapi.http_response import read
from balancer.useapi.job_lists import job_list
from balancer.useapi.parsing import job_ids
from balancer.useapi.verdicts import Verdict

# A batch is of one piece with the client that it has for itself.
# ruff: noqa: SLF001

_TURNED_AWAY = (Unauthorized, SubscriptionRequired)
"""Errors of a call that was sent which prove that nothing was accepted, beside those of one line."""
_MOST_TRIES = 10
"""How often a line may be turned away before it counts as refused, and the network be away in a row."""
_LONGEST_PAUSE = 30.0
_PATIENCE = 60.0
"""Seconds for which a list that cannot be read is asked for again for the sake of lines in doubt."""


@dataclass(frozen=True)
class Progress:
    """How far a batch has come."""

    completed: int
    failed: int
    refused: int
    unknown: int
    running: int
    sending: int
    waiting: int
    seconds: float
    """Since this run began."""
    left: float | None
    """Seconds that the rest will take if it goes on as it did; None: nothing has ended yet."""
    accounts: dict[str, int] = field(default_factory=dict)
    """Account -> lines that run on it."""

    @property
    def total(self) -> int:
        """How many lines there are."""
        return sum((self.completed, self.failed, self.refused, self.unknown)) + self.open

    @property
    def open(self) -> int:
        """How many have not ended."""
        return self.running + self.sending + self.waiting


class Batch:
    """Sends each line of a batch once, and follows it to its end.

    Args:
        client: To send them with; no other thread uses it.
        tell: Hears in a sentence what its user should know.
        stop_after: Failures in a row after which nothing more is sent.
        download: Folder for what was made.
        resubmit_unknown: Send again what nobody knows of; it may be paid twice.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        lines: tuple[Line, ...],
        *,
        tell: Callable[[str], None],
        stop_after: int | None = None,
        download: Path | None = None,
        resubmit_unknown: bool = False,
    ) -> None:
        self._client, self._journal, self._tell = client, journal, tell
        self._lines = {line.number: line for line in lines}
        self._stop_after, self._download, self._resubmit = stop_after, download, resubmit_unknown
        self._row = client.pool.service
        self._waiting: deque[Line] = deque()
        self._following: dict[int, JobState] = {}
        self._ambiguous: set[int] = set()
        self._fetching: set[asyncio.Task[list[Path]]] = set()
        self._tries: Counter[int] = Counter()
        self._failures = 0
        self._ended_now = 0
        self._line_free, self._sends = True, 0
        self._outages, self._resume_at = 0, 0.0
        self._began = time.monotonic()
        self._sent_here: set[int] = set()
        self._grace = max(acceptance.GRACE, client._poller.first / 2)
        self.stopped_by: Exception | None = None
        """Why nothing more is sent, where an error is the reason."""
        self.interrupted = False

    def progress(self) -> Progress:
        """Return how far it has come."""
        states = Counter(self._journal[number].state for number in self._lines)
        open_lines = states[WAITING] + states[SENDING] + states[RUNNING]
        seconds = time.monotonic() - self._began
        running = [self._journal[number] for number in self._following]
        return Progress(
            completed=states[COMPLETED],
            failed=states[FAILED],
            refused=states[REFUSED],
            unknown=states[UNKNOWN],
            running=states[RUNNING],
            sending=states[SENDING],
            waiting=states[WAITING],
            seconds=seconds,
            left=seconds / self._ended_now * open_lines if self._ended_now else None,
            accounts=dict(Counter(entry.account or "unknown" for entry in running)),
        )

    async def stats(self) -> PoolStats:
        """Return the pool as it is now."""
        return await self._client._tasks.stats()

    def interrupt(self) -> None:
        """Send nothing more and leave what runs alone."""
        self.interrupted = True
        self._news.put_nowait(News(None))

    async def run(self) -> None:
        """Do it all. What keeps it from going on is in ``stopped_by`` then.

        Raises:
            JournalError: it could not even begin.
        """
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Queue[News]()
        self._output_anew()
        await self._take_up()
        crew = Crew(self._submit, self._news.put_nowait)
        look_up = self._loop.create_task(self._look_up())
        look_up.add_done_callback(self._on_look_up_over)
        try:
            while self._next(crew):
                self._hear(await self._news.get())
        finally:
            crew.leave()
            look_up.cancel()
            await crew.finish()
        while not self._news.empty():  # what was being sent when it was interrupted
            self._hear(self._news.get_nowait())
        if self._fetching and not self.interrupted:
            await asyncio.wait(self._fetching)
        self._output_anew()

    # -- what is done next --------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self.interrupted or self.stopped_by is not None

    def _next(self, crew: Crew) -> bool:
        """Have the next line stand in line, if it can be. False: there is nothing left to wait for."""
        if self._stopping:
            crew.leave()
        elif self._line_free and self._waiting and time.monotonic() >= self._resume_at:
            self._line_free = False
            self._sends += 1
            crew.start(self._waiting.popleft())
        if self.interrupted:
            return False
        sending = self._sends and not (self._stopping and self._only_in_line())
        return bool(sending or self._following or self._ambiguous or (self._waiting and not self._stopping))

    def _only_in_line(self) -> bool:
        return not self._line_free and self._sends == 1

    def _hear(self, news: News) -> None:
        if news.ended:
            self._heard(self._end, news.thing, news.result)
        elif news.error is not None:
            self._sends -= 1
            self._heard(self._not_taken, news.thing, news.error)
        elif news.result is not None:
            self._sends -= 1
            self._heard(self._follow, news.thing, news.result)
        elif news.thing is not None:
            self._line_free = True

    def _heard(self, act: Callable[..., None], *args: Any) -> None:
        """Do what writes into the journal; one that cannot be written stops the sending."""
        try:
            act(*args)
        except JournalError as error:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        if self.stopped_by is None:
            self.stopped_by = error
            self._tell(f"nothing more is sent: {error}")

    # -- one line -----------------------------------------------------------------------------------------

    async def _submit(self, line: Line, granted: Callable[[], None]) -> JobState:
        number, journal = line.number, self._journal

        def sending(lease: Any) -> None:
            granted()
            journal.sending(number, lease.id, lease.account.id)  # raised from here, nothing is sent
            self._sent_here.add(number)

        def answered(answer: Any) -> None:
            found = read(answer, whole=True)
            jobs = job_ids(found.body, self._row) if found is not None and found.status < 300 else ()
            if jobs:
                try:
                    journal.running(number, jobs[0])
                except JournalError as error:  # the job runs: its slot must not be freed by this
                    self._tell(f"line {number} is job {jobs[0]}, which could not be written down")
                    self._stop(error)

        options = line.options.copy()
        options["label"] = f"line {number}"
        return await self._client._submitted(line.create, 1, options, sending=sending, answered=answered)

    def _follow(self, line: Line, state: JobState) -> None:
        self._outages = 0
        self._following[line.number] = state
        state.watch(lambda: self._wake(line, state))
        if state.id is not None and self._journal[line.number].state == SENDING:
            self._journal.running(line.number, state.id)

    def _wake(self, line: Line, state: JobState) -> None:
        with suppress(RuntimeError):  # the loop is closed: the batch is over
            self._loop.call_soon_threadsafe(self._news.put_nowait, News(line, state, ended=True))

    def _end(self, line: Line, state: JobState) -> None:
        if not state.done or self._following.get(line.number) is not state:
            return  # a wake may come twice
        good, gone = state.outcome == "succeeded", state.outcome == "gone"
        why = "the service does not have it any more" if gone else None
        del self._following[line.number]
        lived = acceptance.life(
            self._journal[line.number], state.seen_at, sent_here=line.number in self._sent_here
        )
        self._note_end(
            line.number, COMPLETED if good else FAILED, None if gone else state.body, why, life=lived
        )
        if not good:
            self._tell(f"line {line.number} has failed: {why or reason(state.body) or 'no reason given'}")
        else:
            self._fetch(line.number, state)

    def _not_taken(self, line: Line, error: Exception) -> None:
        """Write down what became of a line that is no job, as far as anybody knows."""
        number = line.number
        if isinstance(error, JournalError):
            self._waiting.appendleft(line)
            self._stop(error)
        elif isinstance(error, AmbiguousOutcome):
            self._tell(f"line {number}: {error}")
            self._mark_ambiguous(number)
        elif isinstance(error, JobRefused):
            self._note_end(number, REFUSED, None, refusal(error))
            self._tell(f"line {number} was refused: {refusal(error)}")
        elif isinstance(error, AttemptsFailed):
            self._turned_away(line, error)
        elif self._journal[number].state == SENDING and not isinstance(error, _TURNED_AWAY):
            self._stop(error)
            self._mark_ambiguous(number)
        else:
            self._stop(error)
            self._send_again(line)

    def _turned_away(self, line: Line, error: AttemptsFailed) -> None:
        if error.tries and error.tries[-1].verdict is Verdict.NOT_SENT:  # the network's fault, not the line's
            if time.monotonic() >= self._resume_at:
                self._outages += 1
                pause = min(_LONGEST_PAUSE, 2.0**self._outages)
                self._resume_at = time.monotonic() + pause
                self._loop.call_later(pause, self._news.put_nowait, News(None))
            if self._outages >= _MOST_TRIES:
                self._stop(error)
            self._send_again(line)
            return
        self._tries[line.number] += 1
        if self._tries[line.number] < _MOST_TRIES:
            self._send_again(line)
        else:
            self._note_end(line.number, REFUSED, None, str(error))

    def _send_again(self, line: Line) -> None:
        self._journal.waiting(line.number)
        self._waiting.appendleft(line)

    def _note_end(
        self, number: int, state: str, body: Any, error: str | None, *, life: float | None = None
    ) -> None:
        self._journal.ended(number, state, body, error, life=life)
        self._ended_now += 1
        self._failures = 0 if state == COMPLETED else self._failures + 1
        if self._stop_after is not None and self._failures >= self._stop_after:
            self._stop(BalancerError(f"{self._failures} lines in a row have failed"))
        try:
            self._journal.append_output(number)
        except OSError as failed:
            self._tell(
                f"{self._journal.output} cannot be written ({failed.strerror}): it is made anew at the end"
            )

    def _output_anew(self) -> None:
        try:
            self._journal.write_output()
        except OSError as error:
            self._tell(f"{self._journal.output} cannot be written ({error.strerror}): --resume makes it anew")

    def _fetch(self, number: int, state: JobState) -> None:
        folder = self._download
        if folder is None:
            return

        def fetched(done: asyncio.Task[list[Path]]) -> None:
            self._fetching.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                self._tell(f"line {number}: its results cannot be fetched: {error}")

        task = self._loop.create_task(in_thread(lambda: save(self._client._api, state, folder)))
        self._fetching.add(task)
        task.add_done_callback(fetched)

    # -- what an earlier run has left ---------------------------------------------------------------------

    async def _take_up(self) -> None:
        """Sort the lines by what the journal knows; adopt what runs before anything is granted."""
        running = []
        for line in self._lines.values():
            entry = self._journal[line.number]
            if entry.state == RUNNING:
                running.append(line)
            elif entry.state == SENDING:
                self._mark_ambiguous(line.number)
            elif entry.state == WAITING or (entry.state == UNKNOWN and self._resubmit):
                self._waiting.append(line)
            elif entry.state == COMPLETED and self._download is not None:
                state = JobState(self._row, entry.job_id, entry.account, line.create.endpoint)
                state.see("succeeded", self._journal.body(line.number))
                self._fetch(line.number, state)
        await self._look()  # first of all: what has ended is on no list
        for line in running:
            await self._adopt(line)
        if running or self._ambiguous or self._following:
            # What an earlier process had sent without knowing its job takes room that no lease stands for.
            with suppress(BalancerError, ValueError):
                await self._client._tasks.reconcile()

    async def _adopt(self, line: Line) -> None:
        entry = self._journal[line.number]
        assert entry.job_id is not None  # noqa: S101  # it is written down with the state
        state = JobState(self._row, entry.job_id, entry.account, line.create.endpoint)
        adopted = False
        with suppress(BalancerError, ValueError):  # its account may have gone: it is followed all the same
            await self._client._tasks.adopt(entry.job_id, account=entry.account or "")
            adopted = True
        self._client._follow_attached(state, adopted=adopted)
        self._follow(line, state)

    # -- lines of which nobody knows ----------------------------------------------------------------------

    def _mark_ambiguous(self, number: int) -> None:
        if self._lines[number].create.refers:
            self._ambiguous.add(number)
        else:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        self._ambiguous.discard(number)
        if self._resubmit and number not in self._sent_here:  # once in a run: it may be paid each time
            self._send_again(self._lines[number])
            return
        self._note_end(number, UNKNOWN, None, "nobody knows whether it was accepted; it was not sent again")
        self._tell(f"line {number}: nobody knows whether it was accepted; it is not sent again")

    def _on_look_up_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop(error if isinstance(error, Exception) else BalancerError(str(error)))
            for number in list(self._ambiguous):  # nobody will look for them any more
                self._heard(self._give_up, number)
            self._news.put_nowait(News(None))

    async def _look_up(self) -> None:
        """Look for lines in doubt as long as the batch runs, and judge those that are not there."""
        while True:
            await asyncio.sleep(self._grace / 4)
            await self._look()
            for number in list(self._ambiguous):
                self._heard(self._judge, number)
            self._news.put_nowait(News(None))

    async def _look(self) -> None:
        """Look for lines in doubt on the service's list, which gives the ids of their leases back."""
        ages = {number: self._journal[number].age() for number in self._ambiguous}
        if not ages:
            return
        listed = await in_thread(self._listed)
        if listed is None:
            return
        jobs = {job.ref: job.id for job in listed.jobs}
        for number, (least, most) in ages.items():
            entry = self._journal[number]
            if (job := jobs.get(entry.lease)) is not None:
                await self._found(number, job)
            elif listed.complete and least >= self._grace and entry.absent is None:
                self._heard(self._journal.absent, number, most)

    async def _found(self, number: int, job: str) -> None:
        self._heard(self._journal.running, number, job)
        self._ambiguous.discard(number)
        if number in self._sent_here:
            with suppress(BalancerError):  # the slot that was kept in doubt is the job's then
                await self._client._tasks.reconcile()
        await self._adopt(self._lines[number])

    def _judge(self, number: int) -> None:
        entry, known = self._journal[number], acceptance.lives(self._journal.entries.values())
        idle = not (self._following or self._sends or (self._waiting and not self._stopping))
        if not idle and len(known) < acceptance.ENOUGH:
            return
        if acceptance.surely_not_accepted(entry, known):
            self._client.pool.release(entry.lease)
            self._ambiguous.discard(number)
            self._send_again(self._lines[number])
        elif idle and (entry.absent is not None or entry.age()[1] > self._grace + _PATIENCE):
            self._give_up(number)

    def _listed(self) -> JobList | None:
        load = self._row.load
        assert load is not None  # noqa: S101  # asked before
        try:
            answer = self._client._api.ask(load.path)
            return job_list(answer.body, self._row) if answer.status < 300 else None
        except BalancerError:
            return None
