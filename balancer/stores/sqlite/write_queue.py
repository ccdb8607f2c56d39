"""Whose turn it is to change the file.

SQLite alone would let writers starve (who finds it locked sleeps and tries again), so they queue on an
``flock`` of a file beside it, which the kernel hands on in order and takes back from the dead. Who finds it
taken tries again some times, as turns are short, and then queues in a thread of its own: no wait for a lock
can be given up, and a process that was stopped in its turn has it for as long as it is stopped.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

from balancer.stores.sqlite.file_system import a_holder_is_stopped, a_holder_runs, make

As = TypeVarTuple("As")
T = TypeVar("T")
_TRY = LOCK_EX | LOCK_NB
_STILL, _STILL_BUSY = 1.0, 2.5
"""Seconds without anybody's change after which who has the turn is taken to be stuck: if it is seen to be
stopped, and if it is not. Who would run, but for a machine that is very busy, is not stuck at all."""
_STILL_AGAIN = 0.05
"""The same, while nothing has changed since that was found last."""
MOST = 5.0
"""Seconds to wait for a turn at most, however much the others change."""
_LOOK = 0.1
_PAUSES = (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016)
"""Seconds between the tries to be lucky, before anybody queues: a turn takes a tenth of a millisecond."""
_LINGER = 2.0
"""Seconds after which the thread ends if nobody has to queue."""


class Carrier(threading.Thread):
    """Carries out operations for threads that wait for it: it is in their middle from its beginning."""


class NoTurn(Exception):
    """Our turn did not come; nothing was done.

    Args:
        busy: Others got on meanwhile, so that it is a matter of time.
    """

    def __init__(self, *, busy: bool) -> None:
        super().__init__()
        self.busy = busy


class _Job:
    """What is to be done in our turn."""

    __slots__ = ("_act", "done", "error", "result")

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self.done = threading.Lock()
        self.done.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._act()
        except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits for this
            self.error = error

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class WriteQueue:
    """The queue of one file. One thread at a time may ask. Mutable: all of it, under the guard.

    Args:
        path: Of the file that is queued for.
    """

    def __init__(self, path: Path) -> None:
        self._lock, self._log = f"{path}-lock", f"{path}-wal"
        self._files: list[int] = []
        self._look_at = -math.inf
        self.in_child()
        closing = weakref.finalize(self, _close, self._files)
        closing.atexit = False  # until then somebody may still have a last word

    def in_child(self) -> None:
        """Let go of what is the parent's."""
        _close(self._files)  # it stays locked if the parent has it locked
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Semaphore(0)
        self._job: _Job | None = None
        self._queues = False
        """The thread stands in the queue, or has its turn."""
        self.stuck_at: object = None
        self.end = math.inf
        """When whoever asks gives up waiting for its turn."""

    def close(self) -> None:
        """Close the lock's file, unless the thread still stands in the queue."""
        with self._guard:
            if not self._queues:
                _close(self._files)

    def in_turn(self, act: Callable[[Unpack[As]], T], *args: *As) -> T:
        """Wait for our turn, and do something. Raises NoTurn, OSError."""
        if not self._queues:
            files = self._files
            file = files[0] if files and time.monotonic() < self._look_at else self._open()
            try:
                try:
                    flock(file, _TRY)
                    waits = False
                except BlockingIOError:
                    waits = True
                if not waits or _locks_soon(file):
                    done = act(*args)
                    if waits:
                        _tell(file)
                    return done
            finally:
                flock(file, LOCK_UN)
        result: T = self._by_the_thread(_Job(partial(act, *args)))
        return result

    def _open(self) -> int:
        """Return the descriptor of the lock that is there now."""
        files, now = self._files, time.monotonic()
        if now >= self._look_at:  # not at each turn: to queue at a lock that is gone costs fairness, no more
            self._look_at = now + _LOOK
            if files and os.fstat(files[0]).st_nlink == 0:
                _close(files)
        if not files:
            files.append(make(Path(self._lock)))
        return files[0]

    def is_at_its_path(self) -> bool:
        """Whether others queue at the same lock as we."""
        try:
            there = os.stat(self._lock)  # noqa: PTH116
        except FileNotFoundError:
            return False
        here = os.fstat(self._files[0])
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    # -- queueing -----------------------------------------------------------------------------------

    def _by_the_thread(self, job: _Job) -> Any:
        with self._guard:
            self._job = job
            idle, self._queues = not self._queues, True
            if self._thread is None and not self._start():
                self._job, self._queues = None, False
                return self._stand_in_line(job)
            if idle and self._thread is not None:
                self._wake.release()
        try:
            self.wait(lambda seconds: job.done.acquire(timeout=seconds), self.end)
        except NoTurn:
            if self._withdraw(job):
                raise
            job.done.acquire()  # it has begun, and ends by itself
        except BaseException:
            self._withdraw(job)
            raise
        return job.outcome()

    def _start(self) -> bool:
        """Start the thread (under the guard). False: none is to be had, as the process ends."""
        thread = Carrier(target=self._serve, name="balancer-sqlite", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _stand_in_line(self, job: _Job) -> Any:
        file = self._open()
        try:
            flock(file, LOCK_EX)
            job.run()
        finally:
            flock(file, LOCK_UN)
        return job.outcome()

    def wait(self, came: Callable[[float], bool], end: float) -> None:
        """Wait for something that others have, for as long as they get on.

        Args:
            came: Waits for some seconds, and says whether it came.
            end: When to give up at the latest.

        Raises:
            NoTurn: it did not come.
        """
        now = still_since = time.monotonic()
        first = seen = self.changes()
        still = _STILL_AGAIN if self.stands_still() else _STILL
        while not came(max(0.0, min(_LOOK, still, end - now))):
            now, before, seen = time.monotonic(), seen, self.changes()
            if seen != before:
                still_since = now
            elif now - still_since >= still and a_holder_runs(self._lock):
                still, still_since = _STILL, now
            elif now - still_since >= still and (
                still == _STILL_AGAIN or now - still_since >= _STILL_BUSY or a_holder_is_stopped(self._lock)
            ):
                self.stuck_at = seen
                raise NoTurn(busy=False)
            if now >= end:
                raise NoTurn(busy=self.got_on(first))

    def stand_still(self) -> None:
        """Take note that somebody was in the way, so that others need not find it out."""
        self.stuck_at = self.changes()

    def stands_still(self) -> bool:
        """Whether nothing has changed since somebody was found to be in the way."""
        if self.stuck_at is None:
            return False
        still = self.stuck_at == self.changes()
        if not still:
            self.stuck_at = None
        return still

    def got_on(self, seen: object) -> bool:
        """Whether others get on, or have since the :meth:`changes` were ``seen``."""
        return seen != self.changes() or a_holder_runs(self._lock)

    def changes(self) -> object:
        """Return what is another whenever somebody has changed something."""
        return [_state(path) for path in (self._log, self._lock)]

    def _withdraw(self, job: _Job) -> bool:
        """Give a job up, unless it has begun."""
        with self._guard:
            waits = self._job is job
            if waits:
                self._job = None
        return waits

    def _serve(self) -> None:
        while True:
            woken = self._wake.acquire(timeout=_LINGER)
            with self._guard:
                if not woken and not self._queues:  # else whoever has a job was interrupted before it woke us
                    self._thread = None
                    return
            try:
                self._take_turns()
            except OSError as error:
                self._fail(error)

    def _take_turns(self) -> None:
        with self._guard:
            file = self._open()
        more = True
        while more:
            flock(file, LOCK_EX)
            with self._guard:
                job, self._job = self._job, None
            if job is not None:
                job.run()
                if job.error is None:
                    _tell(file)
            with self._guard:
                flock(file, LOCK_UN)
                more = self._queues = self._job is not None
            if job is not None:
                job.done.release()

    def _fail(self, error: OSError) -> None:
        """Tell whoever waits that there is nothing to queue at."""
        with self._guard:
            job, self._job, self._queues = self._job, None, False
        if job is not None:
            job.error = error
            job.done.release()


def _tell(file: int) -> None:
    """Show those who wait that the turns go on, though this one may have written nothing."""
    os.utime(file)


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        state = os.stat(path)  # noqa: PTH116  # a Path's takes twice as long
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _locks_soon(file: int) -> bool:
    """Try again for as long as some turns take: to have a thread queue takes longer than most waits do."""
    for pause in _PAUSES:
        time.sleep(pause)
        with suppress(BlockingIOError):
            flock(file, _TRY)
            return True
    return False


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())
