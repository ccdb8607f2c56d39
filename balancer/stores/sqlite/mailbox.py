"""How a process is told of an offer, and how others see whether it lives.

A mailbox is a named pipe that its owner keeps open for reading. The kernel closes it at the owner's
death, however that came, and from then on nobody can open it for writing: the surest witness there
is, and no clock is involved.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import select
from pathlib import Path
from urllib.parse import quote

_MOST = 1 << 16
_ATOMIC = select.PIPE_BUF


class Mailbox:
    """The mailbox of one owner. Mutable: its descriptor, and whether somebody poked it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = _path(folder, name)
        self._file: int | None = None
        self._poked = False
        self._rest = b""

    def open(self) -> int:
        """Have the mailbox stand ready, and be seen by others. Return its descriptor. Raises OSError."""
        if self._file is not None:
            return self._file
        self._path.parent.mkdir(0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        return self._file

    def keep(self) -> None:
        """Put the mailbox back if somebody deleted it, and save it from those who delete old files."""
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self.drop()
            self.open()

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
        file = self._file
        if file is not None:
            with contextlib.suppress(OSError):  # full: then there is enough to wake up for
                os.write(file, b"\n")

    def drop(self) -> None:
        """Close it without a trace, as a child does with its parent's."""
        file, self._file = self._file, None
        self._rest = b""
        if file is not None:
            os.close(file)

    def remove(self) -> None:
        """Close it for good."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
        self.drop()


def lives(folder: Path, name: str) -> bool:
    """Whether an owner lives. Raises OSError if that cannot be known."""
    try:
        file = _dial(folder, name)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    os.close(file)
    return True


def post(folder: Path, name: str, account: str) -> None:
    """Name an account to an owner. The message may be lost."""
    line = json.dumps(account).encode() + b"\n"
    try:
        file = _dial(folder, name)
    except OSError:
        return  # it has died meanwhile
    try:
        os.write(file, line if len(line) <= _ATOMIC else b"\n")
    except OSError:
        pass  # it has more messages than it can read: it looks by itself now and then
    finally:
        os.close(file)


def _dial(folder: Path, name: str) -> int:
    """Open the mailbox of another owner for writing; ENXIO: nobody has it open for reading."""
    return os.open(_path(folder, name), os.O_WRONLY | os.O_NONBLOCK)


def clear(folder: Path, name: str) -> None:
    """Remove what a dead owner left."""
    with contextlib.suppress(OSError):
        _path(folder, name).unlink()


def _path(folder: Path, name: str) -> Path:
    return folder / quote(name, safe="")
