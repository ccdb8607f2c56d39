"""Processes of a fleet over one store, and pools of this process beside them."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys

import pytest

from balancer import AccountPool

WORKERS = str(pathlib.Path(__file__).with_name("redis_workers.py"))


class Worker:
    """A process of the fleet."""

    def __init__(self, role, what):
        command = [sys.executable, WORKERS, role, json.dumps(what)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def hear(self):
        words = self.process.stdout.readline().split()
        assert words, "the process has died"
        return words

    def say(self, text="go"):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.kill()
        self.process.stdout.close()


@pytest.fixture
def worker(store):
    """Return a function that starts a process over the store."""
    started = []

    def start(role, **what):
        started.append(Worker(role, {"store": store, **what}))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def pool(store):
    """Return a function that opens pools of this process over the store."""
    opened = []

    def open_pool(accounts, **options):
        opened.append(AccountPool("custom", source=accounts, **{"store": store, **options}))
        return opened[-1]

    yield open_pool
    for one in opened:
        one.close()
