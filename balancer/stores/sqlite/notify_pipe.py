"""How a process is told of an offer, and how others see whether it lives.

Each process keeps a named pipe open for reading, and has it locked. The kernel lets go of the lock at the
process's death, however that came, and anybody who may open the pipe may ask for it: the surest witness
there is, and no clock is involved.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import weakref
from pathlib import Path
from urllib.parse import quote

from balancer.stores.sqlite.file_system import share

_MOST = 1 << 16
_ATOMIC = select.PIPE_BUF


class NotifyPipe:
    """The pipe of one process. Mutable: its descriptor, and whether somebody poked it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = _path(folder, name)
        self._files: list[int] = []
        """Its descriptor, if it is open."""
        self._poked = False
        self._rest = b""
        closing = weakref.finalize(self, _close, self._files)
        closing.atexit = False  # until then somebody may still have a last word

    def open(self) -> int:
        """Have the pipe stand ready, and be seen by others. Return its descriptor. Raises OSError."""
        if self._files:
            return self._files[0]
        _make_folder(self._path.parent)
        made = True
        try:
            os.mkfifo(self._path, 0o600)
        except FileExistsError:
            made = False
        file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        if made:
            share(file, self._path.parent)
        fcntl.flock(file, fcntl.LOCK_EX)  # who asks whether we live has it for a moment
        self._files.append(file)
        return file

    def keep(self) -> None:
        """Put the pipe back if somebody deleted it, and save it from those who delete old files."""
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self.drop()
            self.open()
        except PermissionError:
            pass  # it is another user's, made for us beforehand

    def wait(self, seconds: float) -> tuple[str, ...]:
        """Wait for messages or a poke, at most ``seconds``; return the accounts that were named."""
        file = self.open()
        if not self._poked:
            waiting = select.poll()  # not select: it cannot do descriptors above 1023
            waiting.register(file, select.POLLIN)
            waiting.poll(math.ceil(max(0.0, seconds) * 1000))
        self._poked = False
        with contextlib.suppress(BlockingIOError):
            *lines, self._rest = (self._rest + os.read(file, _MOST)).split(b"\n")
            return tuple(json.loads(line) for line in lines if line)
        return ()

    def poke(self) -> None:
        """Have :meth:`wait` return now, or at once when it is called next."""
        self._poked = True
        with contextlib.suppress(OSError, IndexError):  # full: then there is enough to wake up for
            os.write(self._files[0], b"\n")

    def drop(self) -> None:
        """Close it without a trace, as a child does with its parent's."""
        self._rest = b""
        _close(self._files)

    def remove(self) -> None:
        """Close it for good."""
        if self._files:
            self._path.unlink(missing_ok=True)
        self.drop()


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        share(file, folder.parent)
    finally:
        os.close(file)


def lives(folder: Path, name: str) -> bool | None:
    """Whether a process lives; None: its pipe is gone. Raises PermissionError: it is not ours to ask."""
    try:
        file = os.open(_path(folder, name), os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def post(folder: Path, name: str, account: str) -> None:
    """Name an account to a process. The message may be lost."""
    line = json.dumps(account).encode() + b"\n"
    try:
        file = os.open(_path(folder, name), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # it has died meanwhile, or is not ours to tell: it looks by itself now and then
    try:
        os.write(file, line if len(line) <= _ATOMIC else b"\n")
    except OSError:
        pass  # it has more messages than it can read
    finally:
        os.close(file)


def _path(folder: Path, name: str) -> Path:
    return folder / quote(name, safe="")
