"""The clock that all processes of one machine share, and that nobody can set."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# It goes on while the machine is suspended, as the jobs on the server do.
machine_now = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Return seconds since the machine was started."""


def boot_id() -> str:
    """Return what names this start of the machine; empty where the system has no name for it."""
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return ""
