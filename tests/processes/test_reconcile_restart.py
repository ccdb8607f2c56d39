"""A process that is killed at full load, and the one that takes its place."""

import signal
import subprocess
import sys

import pytest
from crew import result, start
from places import SUPPORT
from reconciling import CREATES, INTERVAL, World
from stepping import until

from balancer import AcquireTimeout

CHILD = SUPPORT / "restarted.py"
ENTRIES = {
    "flowmusic": {"a": 3, "b": 2},
    "riffusion": {"a": 3, "b": 2},
    "kling": {"a@x.com": 3, "b@x.com": 2},
}
SLOTS = 5


def run_and_kill(world):
    """Let a process fill every slot, and kill it; return how many jobs it started."""
    path = f"{world.pool._core.service.path}/{CREATES[world.service]}"
    command = [sys.executable, str(CHILD), world.service, world.fake.url, world.fake.token, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        started = child.stdout.readline()
        child.kill()
        assert child.wait() == -signal.SIGKILL
    return int(started)


@pytest.mark.parametrize("service", ENTRIES)
def test_no_call_of_a_process_started_again_is_refused(service):
    """P-5: it finds the jobs of the dead one before its first grant, and takes over as they finish."""
    with World(ENTRIES[service], service) as world:
        assert run_and_kill(world) == SLOTS
        with pytest.raises(AcquireTimeout, match=f"{3} external of 3"):
            world.pool.acquire(timeout=0)
        stats = world.pool.stats()
        assert (stats.in_flight, stats.external, stats.free) == (0, SLOTS, 0)

        def work():
            with world.pool.acquire(timeout=1_000) as lease:
                answer = world.post(lease)
                lease.bind(world.job_of(answer))
                return answer.status_code

        callers = [start(work) for _ in range(SLOTS)]
        until(lambda: world.pool.stats().waiting == SLOTS)
        for left, job in enumerate(world.fake.running(service), 1):
            world.fake.finish(job)
            until(lambda left=left: world.pool.stats().waiting == SLOTS - left + 1)
            world.clock.advance(INTERVAL)
            until(lambda left=left: sum(caller.done() for caller in callers) == left)
            world.landed()
        assert {result(caller) // 100 for caller in callers} == {2}
        audit = world.fake.audit()
        assert (audit.accepted, audit.refused, audit.over) == (2 * SLOTS, 0, ())
        assert world.pool.stats().external == 0


def test_without_the_list_a_process_started_again_is_refused():
    """The control: the same restart is not harmless by itself."""
    with World(ENTRIES["flowmusic"], every=None) as world:
        assert run_and_kill(world) == SLOTS
        assert world.post(world.pool.acquire(timeout=0)).status_code == 429
        assert world.fake.audit().refused == 1
