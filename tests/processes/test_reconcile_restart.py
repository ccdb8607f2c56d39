"""A process that is killed at full load, and the one that takes its place."""

import math
import signal
import subprocess
import sys
import time

import pytest
from api import Api
from crew import result, start
from places import SUPPORT
from reconciling import CREATES, INTERVAL, World
from stepping import until

from balancer import AccountPool, AcquireTimeout
from balancer.testing import FakeUseapi

CHILD = SUPPORT / "restarted.py"
ENTRIES = {
    "flowmusic": {"a": 3, "b": 2},
    "riffusion": {"a": 3, "b": 2},
    "kling": {"a@x.com": 3, "b@x.com": 2},
}
SLOTS = 5


def run_and_kill(service, fake, path, *more):
    """Let a process fill every slot, and kill it; return how many jobs it started."""
    command = [sys.executable, str(CHILD), service, fake.url, fake.token, path, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        started = child.stdout.readline()
        child.kill()
        assert child.wait() == -signal.SIGKILL
    return int(started)


def create_of(world):
    """Return the path of the service's create."""
    return f"{world.pool._core.service.path}/{CREATES[world.service]}"


@pytest.mark.parametrize("service", ENTRIES)
def test_no_call_of_a_process_started_again_is_refused(service):
    """P-5: it finds the jobs of the dead one before its first grant, and takes over as they finish."""
    with World(ENTRIES[service], service) as world:
        assert run_and_kill(world.service, world.fake, create_of(world)) == SLOTS
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
        assert run_and_kill(world.service, world.fake, create_of(world)) == SLOTS
        assert world.post(world.pool.acquire(timeout=0)).status_code == 429
        assert world.fake.audit().refused == 1


@pytest.fixture(params=["sqlite", "redis"])
def shared(request, tmp_path):
    """Return the URL of an empty store that processes share."""
    return (
        f"sqlite://{tmp_path}/x.db" if request.param == "sqlite" else request.getfixturevalue("empty_redis")
    )


@pytest.mark.parametrize(
    "service", ["riffusion", "flowmusic"], ids=["listed by reference", "listed by id only"]
)
def test_jobs_of_a_process_killed_before_it_bound_them_keep_their_slots_until_they_end(service, shared):
    """P-5: whoever looks while its leases end is granted nothing, and each slot once its job is over."""
    lease_ttl, every = 2.0, 0.5
    with FakeUseapi({service: {"a": 3}}, job_seconds=lambda: math.inf) as fake:
        create = f"/v1/{service}/{CREATES[service]}"
        assert run_and_kill(service, fake, create, shared, str(lease_ttl), str(every)) == 3
        time.sleep(every)  # a list that is younger would do for whoever comes next
        options = {"base_url": fake.url, "token": fake.token, "store": shared, "lease_ttl": lease_ttl}
        with AccountPool(service, reconcile_every=every, **options) as pool:

            def refused():
                with pytest.raises(AcquireTimeout):
                    pool.acquire(timeout=0)
                return {holder.state for holder in pool.holders()}

            assert refused() == {"held"}
            until(lambda: "held" not in refused())
            for job in fake.running(service):
                fake.finish(job)
                with pool.acquire(timeout=20) as lease, Api(fake, service) as api:
                    before = set(fake.running(service))
                    assert api.create(CREATES[service], **lease.params).ok
                    (new,) = set(fake.running(service)) - before
                    lease.bind(new)
        audit = fake.audit()
        assert (audit.accepted, audit.refused, audit.over) == (6, 0, ())
