"""Processes that share a SQLite store: what they do, how they are started, and what they wrote down.

What happens is told by a log to which every process appends whole lines. A grant is written after it
was made and a release before it is: so the log never shows more at once than there were.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

from balancer import AccountPool
from balancer.errors import StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores.sqlite import SqliteBackend
from balancer.stores.sqlite.database import Database, Session

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["balancer.stores.sqlite", "sqlite_workers"])
ACCOUNTS = {"a": 5, "b": 5}
"""Of a pool that :func:`visit` opens."""
USUAL = {
    "namespace": "customer/service",
    "strategy": "random",
    "lower_only": False,
    "lease_ttl": 60.0,
    "job_ttl": 3600.0,
    "ambiguous_ttl": 600.0,
}


def connect(path, name, **changes):
    """Return a backend on the machine's own clock."""
    return SqliteBackend(path, ops.Settings(**{**USUAL, **changes}), ops.Owner(name, f"host:{os.getpid()}"))


class Log:
    """A file that many processes append to."""

    def __init__(self, path):
        self.path = path

    def write(self, *words):
        """Append one line, as a whole."""
        with self.path.open("ab", buffering=0) as file:
            file.write(" ".join(map(str, words)).encode() + b"\n")

    def read(self):
        """Return all lines, as words."""
        if not self.path.exists():
            return []
        return [line.split() for line in self.path.read_text().splitlines()]

    def find(self, kind):
        """Return the lines of one kind, without it."""
        return [words for what, *words in self.read() if what == kind]

    def peaks(self):
        """Return the most leases at once on each account, and how many each owner was granted."""
        live, peaks, served = Counter(), Counter(), Counter()
        for what, key, *account in self.read():
            if what == "+":
                live[account[0]] += 1
                peaks[account[0]] = max(peaks[account[0]], live[account[0]])
                served[key.rpartition("-")[0]] += 1
            elif what == "-":
                live[account[0]] -= 1
        return peaks, served


class Worker:
    """One process that takes, holds and gives back; run by :func:`run` in a process of its own."""

    def __init__(self, path, name, log, **changes):
        self.name, self.log = name, log
        self.backend = connect(path, name, **changes)
        self.numbers = itertools.count(1)

    def ask(self, operation):
        """Carry out an operation, and write down whose leases ended by themselves."""
        reply = self.backend.call(operation)
        for gone in reply.expired:
            self.log.write("x", gone.key, gone.account)
        return reply

    def take(self, patience=60.0):
        """Wait for a lease; return its key and its account."""
        key = f"{self.name}-{next(self.numbers):x}"
        end = time.monotonic() + patience
        offered = False
        while time.monotonic() < end:
            reply = self.ask(ops.Acquire(key=key, draw=random.random(), offered=offered, else_wants=()))
            if reply.result is not None:
                self.log.write("+", key, reply.result.account)
                return key, reply.result.account
            offered = True
            self.backend.listen(min(1.0, max(0.005, 1.0 if reply.due is None else reply.due)))
        raise TimeoutError("no slot came")

    def give_back(self, key, account):
        """End a lease."""
        self.log.write("-", key, account)
        assert self.ask(ops.Release(key=key)).result is not None

    def hammer(self, seconds, most=0.002):
        """Take and give back as often as it goes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            key, account = self.take()
            time.sleep(random.random() * most)
            self.give_back(key, account)

    def breed(self, count):
        """Fork processes that hammer until they are killed, and write down their process ids."""
        children = set()
        for number in range(count):
            child = os.fork()
            if child == 0:
                name = f"{self.name}x{number}"
                Worker(self.backend._path, name, self.log, lease_ttl=self.backend._settings.lease_ttl).hammer(
                    60.0
                )
                os._exit(1)
            children.add(child)
            self.log.write("p", child)
        while children:
            children.discard(os.wait()[0])

    def hold(self):
        """Take one lease and keep it for ever."""
        self.take()
        signal.pause()

    def wait(self):
        """Stand in line for ever."""
        self.log.write("w", self.name)
        self.take(patience=1e9)
        signal.pause()


def run(method, made_with, changes, options):
    """Be the process of a worker."""
    getattr(Worker(*made_with, **changes), method)(*options)


def ask_as_nobody(path, answer):
    """Use a store without any right of the superuser; answer with the error."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        connect(path, "nobody").call(ops.ReadAll())
    except StoreUnavailable as error:
        answer.send(str(error))


def take_in_child(path, answer):
    """Take a slot, fork a child that goes on for ever, tell its process id, and wait to be killed."""
    backend = connect(path, "parent", lease_ttl=0.05)
    assert backend.call(ops.Acquire(key="parent-1")).result is not None
    child = os.fork()
    if child == 0:
        backend.after_fork(ops.Owner("child", "host:2"))
        backend.call(ops.Heartbeat())
    else:
        answer.send(child)
    signal.pause()


def crash_at(path, name, last, **options):
    """Be killed before the statement of that number, counted from the beginning of a grant."""
    backend = connect(path, name, lease_ttl=0.05)
    backend.call(ops.SetWanted(() if options else None))
    connection = backend._database._session.connection
    left = last

    class Fatal:
        """Counts statements."""

        def execute(self, *arguments):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return connection.execute(*arguments)

        def cursor(self):
            return self

        close = connection.close

    backend._database._session = Session.of(Fatal())
    backend._feed = None
    backend.call(ops.Acquire(key=f"{name}-1", draw=0.5, **options))


def keep_the_queue(path, answer):
    """Stand first in the queue for ever."""
    queue = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    answer.send("mine")
    signal.pause()


def hold_the_turn(path, answer):
    """Have the turn, and be stopped in it."""
    queue = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    answer.send(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    os.close(queue)
    signal.pause()


@contextlib.contextmanager
def stopped_in_its_turn(path):
    """Have a process stopped while it is its turn, as by a debugger."""
    ours, theirs = START.Pipe()
    process = START.Process(target=hold_the_turn, args=(path, theirs))
    process.start()
    pid = ours.recv()
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield pid
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def long_turn(path):
    """Have somebody take long over his turn."""
    queue = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    try:
        yield os.getpid()
    finally:
        os.close(queue)


@contextlib.contextmanager
def operators_transaction(path):
    """Have somebody's shell change the file, and think about it."""
    code = "import sqlite3,sys,time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
    code += "c.execute('BEGIN IMMEDIATE'); print('begun', flush=True); time.sleep(300)"
    shell = subprocess.Popen(["python3", "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert shell.stdout.readline() == "begun\n"
        yield shell.pid
    finally:
        shell.kill()
        shell.wait()
        shell.stdout.close()


def be_slow(path, answer, seconds, *, writes):
    """Have the turn for some time, and get on in it: write now and then, or only compute."""
    queue = os.open(f"{path}-lock", os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA synchronous = OFF")
    file.execute("CREATE TABLE slow (x)")
    end = time.monotonic() + seconds
    answer.send(os.getpid())
    while time.monotonic() < end:
        if writes:
            file.execute("INSERT INTO slow VALUES (1)")
            time.sleep(0.05)
    file.close()
    os.close(queue)


def visit(path, answers, pause):
    """Be one of a crowd: take and give back a slot, with turns that take long; tell how it went."""
    act = Database._turn

    def slowed(*arguments):
        time.sleep(pause)
        return act(*arguments)

    Database._turn = slowed
    try:
        with AccountPool("custom", source=ACCOUNTS, store=f"sqlite://{path}", reconcile_every=None) as pool:
            pool.acquire(timeout=60).release()
    except StoreUnavailable as error:
        answers.put(str(error))
    else:
        answers.put("served")


def look_in_turn(path, answer):
    """Wait for a turn, and do nothing in it."""
    database = Database(path)
    answer.send("asks")
    database.alone(database.in_turn, (lambda *_: None, None), time.monotonic() + 30.0)
    database.close()


@contextlib.contextmanager
def processes(path, log):
    """Give a function that starts a worker; those that are left are killed in the end."""
    started = []

    def start(method, name, *options, **changes):
        process = START.Process(target=run, args=(method, (path, name, log), changes, options), daemon=True)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def until(condition, seconds=30.0):
    """Wait for something to come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)
