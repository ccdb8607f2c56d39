"""Passing signals on to a command that runs in our place."""

from __future__ import annotations

import os
import signal
import subprocess
from types import FrameType

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


class InterruptedBeforeError(Exception):
    """A signal came before there was a command to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class SignalForwarder:
    """What the process does with signals, in three stages: end the waiting, keep them, pass them on.

    Mutable: the stage, the command, and what came while it was being started.
    """

    def __init__(self) -> None:
        self._holding = False
        self._command: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        for number in SIGNALS:
            # What is ignored stays ignored, here and in the command: that is how nohup works.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        self._woken = _wakeup_pipe()

    def hold(self) -> None:
        """From now on there is a slot to be given back: keep signals for the command."""
        self._holding = True

    def attach(self, command: subprocess.Popen[bytes]) -> None:
        """Pass on to ``command`` what came and what comes."""
        self._command = command
        while self._early:
            command.send_signal(self._early.pop(0))

    def wait(self, command: subprocess.Popen[bytes]) -> int:
        """Return what a command ended with, as :class:`subprocess.Popen` tells it, and pass signals on.

        The system may deliver a signal to any thread, and waiting for the command alone would not end then.
        """
        while (status := command.poll()) is None:
            os.read(self._woken, 1024)
        return status

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._holding:
            raise InterruptedBeforeError(number)
        if self._command is None:
            self._early.append(number)
        elif not (number in _FROM_KEYBOARD and _in_foreground()):
            self._command.send_signal(number)


def _wakeup_pipe() -> int:
    """Return a file descriptor that can be read once a signal has come, the end of the command included."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _in_foreground() -> bool:
    """Return whether a keyboard's Ctrl-C reaches this process, and so the command beside it too."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
