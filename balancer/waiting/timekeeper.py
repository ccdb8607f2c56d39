"""Who looks around when something becomes due while everybody waits."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable

from balancer.clock import Clock

_LINGER = 5.0
"""Real seconds without anybody waiting after which the thread ends: starting one for each wait costs more."""


class Timekeeper:
    """A thread of its own while anybody waits, so that no loop that is busy or has stopped holds others up.

    It sleeps until the earliest of what it was told is due, and calls ``on_due``. That says when it is to
    look again; None: nobody waits any more.

    Mutable, by any thread: when it means to wake, and the thread.
    """

    def __init__(self, clock: Clock, on_due: Callable[[], float | None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.wakes_at = math.inf
        """What the clock reads when it looks around next."""
        self._idle = False
        """Nobody waited when it looked last."""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def running(self) -> bool:
        """Whether there is a thread that will look around."""
        return self._thread is not None

    def arm(self, at: float) -> None:
        """Have it look around when the clock reads ``at``, or earlier. It must be running.

        What it finds out itself while it looks around is in what ``on_due`` returns.
        """
        thread = self._thread
        inside = thread is not None and thread.ident == threading.get_ident()
        if at < self.wakes_at and not inside:
            self.wakes_at = at
            self.nudge()

    def nudge(self) -> None:
        """Have it look around now. From anywhere: it waits for no lock and never raises."""
        try:
            self._gate.release()
        except RuntimeError:  # it was nudged already
            pass

    def ensure_running(self) -> bool:
        """Start the thread if there is none. False: none is to be had, as when the process is ending."""
        if self._thread is not None:
            if self._idle:
                self.nudge()
            return True
        if sys.is_finalizing() or not self._starting.acquire(blocking=False):
            return self._thread is not None  # whoever starts one sees to it
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="balancer-timekeeper", daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except BaseException as error:
                    self._thread = None
                    if not isinstance(error, RuntimeError):
                        raise
                    return False
            return True
        finally:
            self._starting.release()

    def close(self) -> None:
        """Have the thread end as soon as nobody waits: no caller will come who would need it."""
        self._closed = True
        self.nudge()

    def after_fork(self) -> None:
        """Begin anew in a child: the thread stayed behind in the parent."""
        self._begin()

    def _run(self) -> None:
        # One whose start was interrupted is not the timekeeper, though it may run.
        while self._thread is threading.current_thread():
            self.wakes_at = math.inf  # first: what is armed from here on opens the gate
            due = self._on_due()
            if due is None:
                self._linger()
                continue
            self.wakes_at = due
            seconds = self._clock.sleep_for(due)
            self._gate.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def _linger(self) -> None:
        """Wait for somebody who needs it, and end if nobody comes."""
        self._idle = True
        if self._on_due() is None and not self._gate.acquire(timeout=0 if self._closed else _LINGER):
            self._end()
        self._idle = False

    def _end(self) -> None:
        self._thread = None  # from here on whoever needs one starts another,
        if self._on_due() is not None:  # and who found this one still there is seen here
            self.ensure_running()
