"""Whether the file that is open is still the one at its path: anybody may delete or replace it.

To look at a path takes longer than to look at an open file, and each operation does it. Whatever is done
to a file itself, be it deleted, moved, or replaced by another, changes how many names it has or when its
attributes were changed last. If a folder above it is moved the file does not tell; so the path is looked
at now and then as well.
"""

from __future__ import annotations

import math
import os
import time
import weakref

_O_PATH: int | None = getattr(os, "O_PATH", None)
"""Opens a file to be looked at only. To close any other descriptor takes away the locks SQLite has on it."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at the path, while the file tells of nothing."""
_TICK = 0.02
"""Seconds within which two changes may bear the same time."""


class FileWatch:
    """Watches which file is at ``path``. Mutable: which one it was, and what was seen of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: list[int] = []
        """A descriptor of the file, where one may be had without harm."""
        self._at: tuple[int, int] | None = None
        """Device and number of the file that was there at the beginning."""
        self._seen: tuple[int, int] | None = None
        self._settled_at = self._look_at = -math.inf
        closing = weakref.finalize(self, _close, self._files)
        closing.atexit = False  # until then somebody may still have a last word

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and number of the file that is watched."""
        return self._at

    def begin(self) -> None:
        """Watch the file that is there now. To be called before that is opened, so as to miss nothing."""
        self.end()
        if _O_PATH is not None:
            self._files.append(os.open(self._path, _O_PATH))
        self._at, self._look_at = self._now_there(), -math.inf

    def end(self) -> None:
        """Watch no more."""
        self._at = None
        _close(self._files)

    def moved(self) -> bool:
        """Whether another file is at the path than at the beginning, or none. Raises OSError."""
        if not self._files:
            return self._at is None or self._now_there() != self._at
        state, now = os.fstat(self._files[0]), time.monotonic()
        seen = state.st_ctime_ns, state.st_nlink
        if seen != self._seen:
            self._seen, self._settled_at = seen, now + _TICK
        if self._settled_at <= now < self._look_at:
            return False
        self._look_at = now + _LOOK_EVERY
        return self._now_there() != self._at

    def _now_there(self) -> tuple[int, int] | None:
        try:
            state = os.stat(self._path)  # noqa: PTH116  # a Path's takes twice as long
        except FileNotFoundError:
            return None
        return state.st_dev, state.st_ino


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())
