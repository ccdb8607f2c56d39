"""Several real processes over one file: never one too many, and nobody's death costs a slot."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest
from backends import configure, dump, in_file, told
from sqlite_workers import Log, connect, processes, until

from balancer.rules import operations as ops

CAPACITIES = {"a": 1, "b": 2, "c": 3}
SLOTS = sum(CAPACITIES.values())
TTL = 0.5


@pytest.fixture
def log(tmp_path):
    """Return an empty log."""
    return Log(tmp_path / "log")


@pytest.fixture
def start(path, log):
    """Return a function that starts worker processes."""
    with processes(path, log) as start_one:
        yield start_one


@pytest.fixture
def watcher(path):
    """Return a backend of this process, with the accounts in force."""
    backend = connect(path, "watcher", lease_ttl=TTL)
    backend._now = backend._machine_now  # so that no instant is rounded on its way
    configure(backend, CAPACITIES)
    yield backend
    backend.close()


def audit(watcher, path):
    """Check that a replica that followed everything is what the file says to whoever reads it anew."""
    watcher.call(ops.Heartbeat())
    assert told(watcher._feed.fleet) == told(in_file(path))


def take_all(backend):
    """Take every free slot at once; return how many there were."""
    taken = 0
    while backend.call(ops.Acquire(key=f"watcher-{taken:x}", draw=0.5)).result is not None:
        taken += 1
    return taken


def test_processes_that_hammer_never_exceed_a_capacity_and_are_served_alike(start, watcher, log, path):
    """P-22: eight processes on six slots, counted by an independent log, with least / most served >= 0.6."""
    workers = [start("hammer", f"w{n}", 4.0) for n in range(8)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    peaks, served = log.peaks()
    assert dict(peaks) == CAPACITIES, "each slot was used, and none more"
    assert len(served) == 8
    assert min(served.values()) >= 0.6 * max(served.values()), served
    assert not dump(watcher).rows
    audit(watcher, path)


def test_slots_of_killed_processes_come_back_once(start, watcher, log, path):
    """P-5: 200 processes killed at random moments leave no slot taken, and none is given back twice."""
    chance = random.Random(7)
    for turn in range(10):
        breeder = start("breed", f"k{turn}", 20, lease_ttl=TTL)
        until(lambda turn=turn: len(log.find("p")) == 20 * (turn + 1))
        served = len(log.find("+"))
        until(lambda served=served: len(log.find("+")) > served + 20)
        for (child,) in log.find("p")[-20:]:
            time.sleep(chance.random() * 0.005)
            os.kill(int(child), signal.SIGKILL)
        breeder.join(30)
        assert breeder.exitcode == 0
    killed_at = time.monotonic()

    def drained():
        for gone in watcher.call(ops.Heartbeat()).expired:
            log.write("x", gone.key, gone.account)
        state = dump(watcher)
        return not state.rows and not state.offers

    until(drained)
    assert time.monotonic() - killed_at < TTL + ops.OFFER_SECONDS + 5.0
    ended = [key for key, _ in log.find("x")]
    assert ended
    assert len(ended) == len(set(ended)), "a lease ended twice"
    audit(watcher, path)
    assert take_all(watcher) == SLOTS


def test_a_dead_holder_is_found_under_steady_traffic(start, watcher, log):
    """P-6: traffic does not prolong the life of a dead process's lease: one slot comes back, once."""
    configure(watcher, {"a": 1, "b": 1})
    holder = start("hold", "holder", lease_ttl=TTL)
    until(lambda: log.find("+"))
    workers = [start("hammer", f"w{n}", 3 * TTL, lease_ttl=TTL) for n in range(2)]
    holder.kill()
    holder.join()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    ended = [key for key, _ in log.find("x")]
    ended += [gone.key for gone in watcher.call(ops.Heartbeat()).expired]
    assert ended.count("holder-1") == 1
    assert take_all(watcher) == 2


def test_a_living_process_keeps_its_lease_however_long_it_says_nothing(start, watcher, log):
    """P-37, P-38: a process that only computes, or sleeps, is never taken for dead."""
    start("hold", "holder", lease_ttl=TTL)
    until(lambda: log.find("+"))
    end = time.monotonic() + 3 * TTL
    while time.monotonic() < end:
        assert not watcher.call(ops.Heartbeat()).expired
        time.sleep(0.02)
    assert len(dump(watcher).rows) == 1


def test_a_killed_waiter_blocks_nobody(start, watcher, log):
    """P-29: a slot passes by the dead who stand first in line, long before anybody asks after them."""
    configure(watcher, {"a": 1})
    key = "watcher-1"
    assert watcher.call(ops.Acquire(key=key)).result is not None
    dead = [start("wait", f"dead{n}", lease_ttl=3600.0) for n in range(3)]
    until(lambda: len(log.find("w")) == 3)
    time.sleep(0.1)
    living = start("wait", "living", lease_ttl=3600.0)
    until(lambda: len(log.find("w")) == 4)
    time.sleep(0.1)
    for process in dead:
        process.kill()
        process.join()
    watcher.call(ops.Release(key=key))
    until(lambda: log.find("+"))
    assert [key for key, _ in log.find("+")] == ["living-1"]
    assert living.is_alive()


def test_a_freed_slot_is_won_by_exactly_one_of_two(start, watcher, log):
    """P-25: two processes that ask at the same time never both give way, nor both win."""
    configure(watcher, {"a": 1})
    workers = [start("hammer", f"w{n}", 1.5, 0.0) for n in range(2)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    peaks, served = log.peaks()
    assert peaks == {"a": 1}
    assert min(served.values()) > 50, "they took turns all the time"


def test_a_hundred_kills_and_stops_lose_nothing(start, watcher, log, path):
    """P-5, P-38: killed or stopped at any point: the others go on, and every slot comes back."""
    chance, number = random.Random(11), 0
    workers = []
    for _ in range(100):
        while len(workers) < 6:
            workers.append(start("hammer", f"c{number}", 60.0, lease_ttl=TTL))
            number += 1
        victim = chance.choice(workers)
        os.kill(victim.pid, signal.SIGSTOP)
        time.sleep(chance.random() * 0.05)
        os.kill(victim.pid, signal.SIGCONT)
        time.sleep(chance.random() * 0.03)
        victim = chance.choice(workers)
        victim.kill()
        victim.join()
        workers.remove(victim)
        state = dump(watcher)
        live = Counter(row.account for row in state.rows) + Counter(state.offers)
        assert all(live[id] <= most for id, most in CAPACITIES.items()), live
    assert all(worker.is_alive() for worker in workers), "the others went on"
    for worker in workers:
        worker.kill()
        worker.join()
    until(lambda: not dump(watcher).rows and not dump(watcher).offers)
    assert len(log.find("+")) > 100
    audit(watcher, path)
    assert take_all(watcher) == SLOTS
