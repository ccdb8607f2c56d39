"""A Redis server whose wall clock a test can step, by a library that is loaded ahead of the system's."""

from __future__ import annotations

import atexit
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from redis_server import RedisServer

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="the clock is stepped by a compiled library")
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *step; /* seconds by which the wall clock is off */

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_STEP"), O_RDONLY);
    step = mmap(0, sizeof *step, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *step;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (told) *told = exact.tv_sec;
    return exact.tv_sec;
}
"""


@cache
def _library():
    folder = Path(tempfile.mkdtemp(prefix="balancer-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = folder / "clock.c"
    source.write_text(_SOURCE)
    library = folder / "clock.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return str(library)


class SteppedServer(RedisServer):
    """One whose wall clock reads ``step`` seconds more than it should."""

    def __init__(self, *options, **kwargs):
        self._file = tempfile.NamedTemporaryFile(prefix="balancer-clock-")  # noqa: SIM115  # closed at the end
        self._file.write(struct.pack("l", 0))
        self._file.flush()
        self._step = mmap.mmap(self._file.fileno(), struct.calcsize("l"))
        self.environment = {**os.environ, "LD_PRELOAD": _library(), "CLOCK_STEP": self._file.name}
        super().__init__(*options, **kwargs)

    @property
    def step(self):
        return struct.unpack("l", self._step[:])[0]

    @step.setter
    def step(self, seconds):
        self._step[:] = struct.pack("l", seconds)

    def close(self):
        super().close()
        self._step.close()
        self._file.close()
