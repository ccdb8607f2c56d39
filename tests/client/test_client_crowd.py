"""Many jobs of one client at once, among faults; how often it asks; what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from api import Receiver
from forks import in_child
from stepping import until

from balancer import (
    AccountPool,
    AmbiguousOutcome,
    AsyncAccountPool,
    AsyncClient,
    AttemptsFailed,
    Client,
    JobFailed,
    JobRefused,
)
from balancer.testing import FakeUseapi, Reply

A, B = "a@example.com", "b@example.com"
JOBS = 60


def replies(rng):
    """Return callbacks that come twice, late, early or not at all."""
    forms = (Reply(final=2), Reply(delay=0.5), Reply(early=True), Reply(progress=0, final=0), Reply())
    return lambda fields: rng.choice(forms)


FAULTS = ({"status": 500}, {"cut": "after"}, {"status": 429, "headers": {"Retry-After": "1"}})
TOLD = (AmbiguousOutcome, JobRefused, JobFailed, AttemptsFailed)


class Crowd:
    """Threads and tasks that each want the result of one prompt; what they were told is kept."""

    def __init__(self, pool, url):
        self.pool, self.url, self.told = pool, url, {}

    def note(self, prompt, said):
        self.told[prompt] = said
        if isinstance(said, AmbiguousOutcome):
            self.pool.reset(said.account)  # a doubt cools its account for longer than a test should take

    def fields(self, prompt):
        return {"prompt": prompt, "replyUrl": self.url}

    def thread(self, client, prompt):
        try:
            self.note(prompt, client.submit("music", self.fields(prompt), timeout=60).result(timeout=60))
        except TOLD as error:
            self.note(prompt, error)

    async def tasks(self, prompts):
        client = AsyncClient(pool=AsyncAccountPool(pool=self.pool), poll=(0.1, 0.4))

        async def one(prompt):
            try:
                job = await client.submit("music", self.fields(prompt), timeout=60)
                self.note(prompt, await job.result(timeout=60))
            except TOLD as error:
                self.note(prompt, error)

        await asyncio.gather(*map(one, prompts))
        await client.close()

    def those(self, kind):
        return {prompt for prompt, said in self.told.items() if isinstance(said, kind)}


@pytest.mark.parametrize("lag", [0.0, 0.5], ids=["prompt list", "lagging list"])
def test_sixty_jobs_among_faults_are_paid_once_each_and_every_one_is_accounted_for(naps, lag, tell):
    """P-57, P-58: 5xx and cuts on create and status, callbacks of every kind, a list that fails and lags."""
    rng, prompts = random.Random(7), [f"prompt {n}" for n in range(JOBS)]
    accounts = {"flowmusic": {A: 4, B: 3, "c@example.com": 2}}
    world = {"rng": rng, "lag": lag, "replies": replies(rng), "failures": 0.1}
    with (
        FakeUseapi(accounts, job_seconds=(0.1, 0.6), **world) as fake,
        Receiver() as receiver,
        AccountPool("flowmusic", token=fake.token, base_url=fake.url, ambiguous_ttl=2) as pool,
        Client(pool=pool, poll=(0.1, 0.4)) as client,
    ):
        for fault in ({"status": 502}, {"cut": "after"}, {"cut": "midbody"}, {"cut": "before"}):
            fake.fault("POST */music", times=2, **fault)
        for fault in FAULTS:
            fake.fault("GET */jobs/*", times=6, **fault)
            fake.fault("GET */jobs", times=3, **fault)
        threading.Thread(target=callbacks, args=(receiver, client), daemon=True).start()
        crowd = Crowd(pool, receiver.url)
        with ThreadPoolExecutor(JOBS // 2) as executor:
            threads = [executor.submit(crowd.thread, client, prompt) for prompt in prompts[: JOBS // 2]]
            asyncio.run(crowd.tasks(prompts[JOBS // 2 :]))
            assert [thread.result() for thread in threads] == [None] * len(threads)
        paid = [job.request["prompt"] for job in fake._state._jobs.values()]
        assert sorted(paid) == sorted(set(paid))
        assert set(crowd.told) == set(prompts)
        lost, good = crowd.those(AmbiguousOutcome), crowd.those(dict)
        assert len({crowd.told[prompt]["jobid"] for prompt in good}) == len(good)
        assert set(paid) >= set(prompts) - lost - crowd.those(AttemptsFailed)
        assert (fake.audit().refused, fake.audit().over) == (0, ())
        until(lambda: pool.stats().in_flight == 0, patience=10)
        tell(f"{JOBS} jobs, lag {lag}: {len(good)} results, {len(lost)} ambiguous, {len(paid)} paid")


def callbacks(receiver, client):
    """Give each callback to the client, as a web application does."""
    while (body := receiver.bodies.get()) is not None:
        client.settle(body)


def test_status_calls_do_not_grow_with_the_time_that_jobs_take(tell):
    """100 jobs of 3 minutes, sixty times as fast: the list is asked, and each job once, at its end."""
    counts = {}
    for listed in (True, False):
        accounts = {"flowmusic": {f"{n}@example.com": 10 for n in range(10)}}
        with (
            FakeUseapi(accounts, job_seconds=(3, 3)) as fake,
            Client("flowmusic", token=fake.token, base_url=fake.url, poll=(5 / 60, 15 / 60)) as client,
        ):
            if not listed:
                fake.fault("GET */jobs", status=500, times=None)
            jobs = list(client.map("music", ({"prompt": str(n)} for n in range(100))))
            assert {job.status for job in jobs} == {"completed"}
            asked = fake.audit().requests
            counts[listed] = asked.get("GET /v1/flowmusic/jobs/*", 0), asked.get("GET /v1/flowmusic/jobs", 0)
    tell(f"100 jobs of 3 minutes: {counts[True]} status calls and lists; one by one {counts[False]}")
    assert counts[True][0] <= 110
    assert counts[True][1] <= 60
    assert counts[False][0] > 2 * counts[True][0]


def test_the_pause_that_the_service_asks_for_is_kept():
    """A Retry-After of a poll: the job is left alone for so long."""
    with (
        FakeUseapi({"flowmusic": {A: 1}}, job_seconds=(0.05, 0.05)) as fake,
        Client("flowmusic", token=fake.token, base_url=fake.url, poll=0.1, reconcile_every=None) as client,
    ):
        fake.fault("GET */jobs", status=429, headers={"Retry-After": "1"})
        job = client.submit("music", {"prompt": "x"}, timeout=5)
        with pytest.raises(TimeoutError):
            job.result(timeout=0.8)
        assert job.result(timeout=10)


def names():
    """Return the names of this library's threads."""
    return [one.name for one in threading.enumerate() if one.name.startswith("balancer-")]


@pytest.fixture
def slow():
    """Stand in for a service whose jobs end when the test says so."""
    with FakeUseapi({"flowmusic": {A: 2}}, job_seconds=(600, 600)) as fake:
        yield fake


def test_a_client_that_is_dropped_is_collected_and_leaves_no_thread(slow):
    """With a job that runs and with none: nobody could hear of its end any more."""
    client = Client("flowmusic", token=slow.token, base_url=slow.url, poll=0.05)
    job = client.submit("music", {"prompt": "x"}, timeout=5)
    gone = weakref.ref(client)
    del client, job
    gc.collect()
    assert gone() is None
    until(lambda: "balancer-poller" not in names())


def test_a_job_keeps_its_client_alive(slow):
    """Who holds the job can wait for it."""
    job = Client("flowmusic", token=slow.token, base_url=slow.url, poll=0.05).submit("music", {"prompt": "x"})
    gc.collect()
    slow.finish(job.id)
    assert job.result(timeout=10)


def test_the_poller_ends_with_its_last_job_and_comes_back(slow):
    """No thread stands around."""
    with Client("flowmusic", token=slow.token, base_url=slow.url, poll=0.05) as client:
        for _ in range(2):
            job = client.submit("music", {"prompt": "x"}, timeout=5)
            assert "balancer-poller" in names()
            slow.finish(job.id)
            job.result(timeout=10)
            until(lambda: "balancer-poller" not in names())


def test_a_wait_that_is_cancelled_leaves_nothing_behind(slow):
    """The job runs on; nobody is woken who has gone."""

    async def main():
        async with AsyncClient("flowmusic", token=slow.token, base_url=slow.url, poll=0.05) as client:
            job = await client.submit("music", {"prompt": "x"}, timeout=5)
            waiting = asyncio.ensure_future(job.result())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert job._state.wakes == []
            assert not job.done
            filling = await client.submit("music", {"prompt": "y"}, timeout=5)
            line = asyncio.ensure_future(client.submit("music", {"prompt": "z"}))
            await asyncio.sleep(0.1)
            line.cancel()
            with pytest.raises(asyncio.CancelledError):
                await line
            stats = await client.pool.stats()
            assert (stats.in_flight, stats.waiting, filling.done) == (2, 0, False)

    asyncio.run(main())
    assert slow.audit().accepted == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_client_of_its_own(slow):
    """It asks over connections of its own, and follows the parent's job once somebody waits for it there."""
    with Client("flowmusic", token=slow.token, base_url=slow.url, poll=0.05) as client:
        job = client.submit("music", {"prompt": "x"}, timeout=5)

        def use():
            other = client.submit("music", {"prompt": "y"}, timeout=5)
            for one in (job, other):
                url = f"{slow.url}/v1/flowmusic/jobs/{one.id}"
                session = requests.Session()
                session.trust_env = False
                session.delete(url, headers={"Authorization": f"Bearer {slow.token}"}, timeout=10)
            failed = []
            for one in (job, other):
                try:
                    one.result(timeout=20)
                except JobFailed as error:
                    failed.append(error.job_id)
            return [len(failed), os.getpid()]

        assert in_child(use)[0] == 2
        with pytest.raises(JobFailed):
            job.result(timeout=10)
        assert client.pool.stats().in_flight == 0
