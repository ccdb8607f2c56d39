"""Everything that can befall a Redis, at once, under a fleet that works: no account is ever one over.

``BALANCER_CHAOS_SECONDS=60`` makes it a thorough run, of every server there is with and without persistence.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from places import SUPPORT
from redis_server import BINARIES, Proxy, RedisServer
from server_clock import COMPILER, SteppedServer
from stepping import until

from balancer import AccountPool
from balancer.testing import FakeUseapi

WORKERS = str(SUPPORT.joinpath("chaos_workers.py"))
THOROUGH = os.environ.get("BALANCER_CHAOS_SECONDS")
SECONDS = float(THOROUGH or 20)
SIZE = 16 if THOROUGH else 10
"""Processes: each has to be heard within three seconds, however busy the machine is."""
TTL = 8.0
"""Seconds that leases live; the server is away for longer too."""
ACCOUNTS = {"a@example.com": 1, "b@example.com": 2, "c@example.com": 3, "d@example.com": 6}
MEMORIES = {"forgetful": (), "persistent": ("--appendonly", "yes", "--appendfsync", "everysec")}
EVERY = list(itertools.product(sorted(BINARIES), MEMORIES))
CASES = EVERY if THOROUGH else list(zip(itertools.cycle(sorted(BINARIES)), MEMORIES, strict=False))
_pause = threading.Event()


class Fleet:
    """Processes that run jobs until told to stop."""

    def __init__(self, **what):
        command = [sys.executable, WORKERS, json.dumps(what)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        assert self._hear() == "running"

    def _hear(self):
        line = self.process.stdout.readline().strip()
        assert line, "the fleet has died"
        return line

    def _say(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def stop(self):
        """Have every process finish what it is at; return what they counted."""
        self._say()
        return Counter(json.loads(self._hear()))

    def end(self):
        """Have every process end; return how many ended well."""
        self._say()
        return int(self._hear())

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Trouble:
    """What befalls the server and the road to it. Mutable: how often each did."""

    def __init__(self, server, proxy):
        self.server, self.proxy = server, proxy
        self.struck = Counter()
        self.rng = random.Random()
        self.losses = self.flush, self.flush_unseen, self.restart, self.stop
        self.hitches = (
            self.cut,
            self.cut_off,
            self.slow,
            self.hang,
            self.freeze,
            self.forget_scripts,
            self.forget,
        )
        self.outages = self.away_for_long, self.frozen_for_long
        if isinstance(server, SteppedServer):
            self.hitches += (self.step,)

    def strike(self, seconds):
        """Let one thing after the other happen: each loss of memory, each outage, hitches between them."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outages = iter(self.rng.sample(self.outages, len(self.outages)))
            for loss in self.rng.sample(self.losses, len(self.losses)):
                for kind in (*self.rng.sample(self.hitches, 2), *itertools.islice(outages, 1), loss):
                    self._wait(0.2, 1.0)
                    kind()
                    self.struck[kind.__name__] += 1
                self._wait(0.0, 2.0)

    def _wait(self, shortest, longest):
        _pause.wait(self.rng.uniform(shortest, longest))

    def flush(self):
        with self.server.client() as client:
            client.flushall()

    def restart(self):
        self.server.restart()

    def stop(self):
        self.server.kill()
        self._wait(0.2, 2.0)
        self.server.start()

    def cut(self):
        self.proxy.cut()

    def cut_off(self):
        with self._away():
            self._wait(0.2, 2.0)

    def away_for_long(self):
        self.outage(TTL * self.rng.uniform(0.5, 1.5), hung=False)
        self._wait(3.0, 4.0)  # a loss of memory while some are still on their way back is another matter

    def frozen_for_long(self):
        self.outage(TTL * self.rng.uniform(0.5, 1.5), hung=True)
        self._wait(3.0, 4.0)

    def outage(self, seconds, *, hung):
        if hung:
            self.server.pause()
            _pause.wait(seconds)
            self.server.go_on()
            return
        with self._away():
            _pause.wait(seconds)

    def step(self):
        self.server.step = self.rng.choice((-3600, -61, 0, 61, 3600))

    def forget(self):
        self.proxy.forget()
        self._wait(TTL / 3 + 3.0, TTL / 3 + 4.0)  # until the last has found out

    def flush_unseen(self):
        with self._away():
            self.flush()
            self._wait(0.0, 1.0)

    @contextlib.contextmanager
    def _away(self):
        self.proxy.away = True
        self.proxy.cut()
        yield
        self.proxy.away = False

    def slow(self):
        self.proxy.delay = self.rng.uniform(0.005, 0.03)
        self._wait(0.5, 1.5)
        self.proxy.delay = 0.0

    def hang(self):
        self.proxy.hanging = True
        self._wait(0.2, 1.5)
        self.proxy.hanging = False

    def freeze(self):
        self.server.process.send_signal(signal.SIGSTOP)
        self._wait(0.2, 1.5)
        self.server.process.send_signal(signal.SIGCONT)

    def forget_scripts(self):
        with self.server.client() as client:
            client.script_flush()


def job_seconds():
    """Return the length of a job: most are over soon, some outlast whatever happens."""
    return random.uniform(0.05, 0.4) if random.random() < 0.8 else random.uniform(1.0, 4.0)


def server_of(binary, memory):
    """Start a server, with a clock that can be stepped if a compiler is there."""
    kind = SteppedServer if COMPILER else RedisServer
    return kind(*MEMORIES[memory], binary=BINARIES[binary])


def told_of(fake, counts, free, trouble):
    """Say in one line what has happened."""
    over = [(one.account, one.running, one.limit) for one in fake.audit().over]
    struck = ", ".join(f"{kind} {times}" for kind, times in sorted(trouble.struck.items()))
    return f"{dict(counts)}, over {over}, free {free}; {struck}"


@contextlib.contextmanager
def a_fleet_at_work(fake, server, proxy, *, size, callers, options):
    """Run a fleet while the block lasts; then see that it ended well, and that all slots are free."""
    what = {"url": fake.url, "token": fake.token, "store": proxy.url, "callers": callers, "options": options}
    others = {"strategy": "least_loaded", "lease_ttl": 1.5 * options["lease_ttl"]}
    with contextlib.closing(Fleet(size=size, others=others, **what)) as fleet:
        seen = {}
        yield seen
        counts = seen["counts"] = fleet.stop()
        with AccountPool(
            "flowmusic", token=fake.token, base_url=fake.url, store=server.url, **options
        ) as pool:
            until(lambda: pool.stats().in_flight == 0, 20)
            seen["free"] = pool.stats().free
        assert fleet.end() == size
    assert counts.keys() <= {"created", "AcquireTimeout", "StoreUnavailable"}
    assert counts["created"] == fake.audit().accepted


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize(("binary", "memory"), CASES)
def test_no_account_is_ever_over_and_no_slot_lost_whatever_befalls_the_server(binary, memory, tell):
    """P-22, P-26, P-27, P-36: sixteen processes with wrong clocks; an independent count of jobs running."""
    with (
        FakeUseapi({"flowmusic": ACCOUNTS}, job_seconds=job_seconds, enforce=False) as fake,
        server_of(binary, memory) as server,
        Proxy(server.port) as proxy,
    ):
        trouble = Trouble(server, proxy)
        options = {"lease_ttl": TTL, "reconcile_every": None}
        with a_fleet_at_work(fake, server, proxy, size=SIZE, callers=2, options=options) as seen:
            trouble.strike(SECONDS)
        tell(f"{binary}, {memory}: {told_of(fake, seen['counts'], seen['free'], trouble)}")
        assert fake.audit().over == ()
        assert seen["counts"]["created"] > SECONDS
        assert seen["free"] == sum(ACCOUNTS.values())


STEPS = 0, 61, -61, 3600, -3600
"""Seconds by which the server's clock is off in one outage after the other; 0: it is right."""
OUTAGES = [(step, 0) * 10 for step in STEPS] if THOROUGH else [(*STEPS, 0)]
THIRTY = {f"{name}@example.com": 6 for name in "abcde"}


def long_job_seconds():
    """Return the length of a job: many outlast an outage."""
    return random.uniform(0.5, 12.0)


@pytest.mark.timeout(720)
@pytest.mark.parametrize("steps", OUTAGES, ids=str)
def test_twelve_processes_on_thirty_slots_are_never_over_after_outages(steps, tell):
    """P-36, P-39: the store is away for half to one and a half lives of a lease; its clock may be set."""
    if any(steps) and not COMPILER:
        pytest.skip("the clock is stepped by a compiled library")
    with (
        FakeUseapi({"flowmusic": THIRTY}, job_seconds=long_job_seconds, enforce=False) as fake,
        server_of("wheel", "forgetful") as server,
        Proxy(server.port) as proxy,
    ):
        trouble = Trouble(server, proxy)
        options = {"lease_ttl": 6.0, "reconcile_every": None}
        with a_fleet_at_work(fake, server, proxy, size=12, callers=4, options=options) as seen:
            for number, step in enumerate(steps):
                if any(steps):
                    trouble.server.step = step
                trouble.outage(6.0 * random.uniform(0.5, 1.5), hung=bool(number % 2))
                _pause.wait(5.0)
        tell(f"steps {steps}: {told_of(fake, seen['counts'], seen['free'], trouble)}")
        assert fake.audit().over == ()
        assert seen["free"] == 30
