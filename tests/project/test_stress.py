"""Many threads, thousands of jobs, real HTTP: no call refused, all the room used, nothing left behind."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import structlog
from crew import start
from stepping import until

from balancer import AccountPool, AcquireTimeout, SourceError
from balancer.useapi.http_client import PatientRetry

pytest_plugins = ["balancer.testing.plugin"]

MAXIMA = {"one@example.com": 1, "three@example.com": 3, "six@example.com": 6}
THREADS = 24


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    """Have the source's retries follow each other at once."""
    monkeypatch.setattr(PatientRetry, "sleep", lambda retry, response=None: None)


class Client:
    """One thread's session with the stand-in."""

    local = threading.local()

    def __init__(self, fake, service):
        self.fake, self.service = fake, service
        self.base = f"{fake.url}/v1/{service}"

    @property
    def session(self):
        """Return the session of this thread."""
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.trust_env = False
        self.local.session.headers["Authorization"] = f"Bearer {self.fake.token}"
        return self.local.session

    def create(self, lease):
        """Start a job on the lease's account."""
        body = {**lease.params, "prompt": "rain on tin"}
        return self.session.post(f"{self.base}/music", json=body, timeout=30)


def run_jobs(fake, pool, number, job, threads=THREADS):
    """Run so many jobs from 24 threads at once."""
    client = Client(fake, "flowmusic")
    tickets = itertools.count()

    def work(_):
        done = 0
        while next(tickets) < number:
            job(client, pool)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as executor:
        return sum(executor.map(work, range(threads)))


def finished_job(client, pool):
    """Start a job, have it end, and free its slot: by the block, by the lease, or by the job's id."""
    way = random.randrange(3)
    with pool.acquire(timeout=60) as lease:
        answer = client.create(lease)
        lease.report(answer)
        assert answer.status_code in (200, 201), answer.text
        job = answer.json()["jobid"]
        if way:
            lease.bind(job)
        client.fake.finish(job)
        if way == 1:
            assert lease.release()
    if way == 2:
        assert pool.release(job_id=job)
    elif way == 0:
        pool.stats()


@pytest.fixture
def fake(fake_useapi):
    """Start a stand-in whose jobs end when they are told to."""
    return fake_useapi({"flowmusic": MAXIMA}, job_seconds=lambda: float("inf"))


@pytest.fixture
def pool(fake):
    """Return a pool that reads from the stand-in."""
    with (
        AccountPool("flowmusic", token=fake.token, base_url=fake.url) as pool,
        structlog.testing.capture_logs(),
    ):
        yield pool


def assert_at_rest(fake, pool, capacity=10):
    """Assert that nothing is left in flight, on either side."""
    stats = pool.stats()
    assert (stats.in_flight, stats.waiting, stats.free) == (0, 0, capacity)
    assert pool.holders() == ()
    assert fake.running("flowmusic") == ()


def test_no_call_is_refused_and_every_account_is_used_to_its_maximum(fake, pool):
    """24 threads, 2,000 jobs, accounts of 1, 3 and 6."""
    assert run_jobs(fake, pool, 2000, finished_job) == 2000
    audit = fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other) == (2000, 0, 0)
    assert audit.over == ()
    lanes = audit.accounts["flowmusic"]
    assert {id: lane.peak for id, lane in lanes.items()} == MAXIMA
    assert not any(lane.picked for lane in lanes.values()), "the client chose each account"
    assert_at_rest(fake, pool)
    stats = pool.stats()
    assert (stats.acquired, stats.released) == (2000, 2000)


def test_no_call_is_refused_while_callers_want_different_things(fake, pool):
    """The same with pins, exclusions, predicates and callers in a hurry in one queue."""
    wants = [
        {},
        {"account": "one@example.com"},
        {"exclude": ["six@example.com"]},
        {"where": lambda account: account.capacity >= 3},
        {"timeout": 0},
        {"timeout": 0.002},
    ]

    def job(client, pool):
        want = {"timeout": 60, **random.choice(wants)}
        try:
            lease = pool.acquire(**want)
        except AcquireTimeout:
            assert want["timeout"] < 1
            return
        with lease:
            answer = client.create(lease)
            assert answer.status_code in (200, 201), answer.text
            client.fake.finish(answer.json()["jobid"])

    assert run_jobs(fake, pool, 1500, job) == 1500
    audit = fake.audit()
    assert (audit.refused, audit.refused_other, audit.over) == (0, 0, ())
    assert_at_rest(fake, pool)


FAULTS = [
    {"status": 500},
    {"status": 503, "headers": {"Retry-After": "0"}},
    {"status": 200, "body": "<html>maintenance</html>"},
    {"status": 200, "body": b'{"one@example.com": {"maxJ'},
    {"status": 200, "body": [1]},
    {"cut": "before"},
    {"cut": "midbody"},
    {"delay": 0.05},
]


def test_no_call_is_refused_while_the_list_fails_and_refreshes_run(fake, pool):
    """Refreshes all the time, most of them failing: counts hold, and no slot is granted twice."""
    stop = threading.Event()

    def meddle():
        for fault in itertools.cycle(FAULTS):
            if stop.is_set():
                return
            fake.fault("*/accounts", **fault)
            try:
                pool.refresh()
            except SourceError:
                pass

    meddler = threading.Thread(target=meddle)
    pool.refresh()
    meddler.start()
    try:
        assert run_jobs(fake, pool, 1500, finished_job) == 1500
    finally:
        stop.set()
        meddler.join()
    audit = fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other, audit.over) == (1500, 0, 0, ())
    assert pool.stats().refresh_failures > 0
    pool.refresh()
    assert_at_rest(fake, pool)


class Changing:
    """A configuration that changes all the time, each time so that a pool can know before the server acts.

    What takes room away is listed first, and enforced once the jobs beyond it are over.
    """

    def __init__(self, fake, pool):
        self.fake, self.pool = fake, pool
        self.shown = {id: {"maxJobs": maximum} for id, maximum in MAXIMA.items()}
        self.changes = 0

    def list(self, id, entry):
        """Have the list show ``entry`` for the account, or nothing, and the pool read it."""
        self.shown.pop(id) if entry is None else self.shown.update({id: entry})
        listed = self.fake.fault("*/accounts", times=None, status=200, body=dict(self.shown))
        self.pool.refresh()
        listed.lift()

    def narrow(self, id, entry, maximum):
        """Take room away: first from the pool, then, when it has drained, at the server."""
        self.list(id, entry)
        until(lambda: id not in (now := self.pool.stats().accounts) or now[id].in_flight <= maximum)
        if maximum:
            self.fake.set_account("flowmusic", id, maximum)

    def widen(self, id, maximum):
        """Give room: first at the server, then to the pool."""
        self.fake.set_account("flowmusic", id, maximum)
        self.list(id, {"maxJobs": maximum})

    def turn(self):
        """Go once through every kind of change, and end where it began."""
        self.narrow("six@example.com", {"maxJobs": 1}, 1)
        self.widen("six@example.com", 8)
        self.narrow("three@example.com", {"maxJobs": 3, "error": "logged out"}, 0)
        self.widen("new@example.com", 2)
        self.widen("three@example.com", 3)
        self.narrow("new@example.com", None, 0)
        self.narrow("six@example.com", {"maxJobs": 6}, 6)
        self.changes += 1


def test_no_call_is_refused_while_the_configuration_changes(fake, pool):
    """Accounts come, go, break, heal, grow and shrink under 24 threads: the server never says no."""
    changing, stop = Changing(fake, pool), threading.Event()

    def meddle():
        while not stop.is_set():
            changing.turn()

    pool.refresh()
    meddler = start(meddle)
    try:
        assert run_jobs(fake, pool, 1500, finished_job) == 1500
    finally:
        stop.set()
    meddler.result(30)
    assert changing.changes > 0
    audit = fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other, audit.over) == (1500, 0, 0, ())
    assert_at_rest(fake, pool)


def test_limits_race_grants_and_no_grant_goes_beyond_the_limit_in_force():
    """P-14: capacities go up and down under random acquires and releases; each grant is within the limit.

    The limit is moved only while no acquire is under way, so that the limit of each grant is known.
    """
    table = {"a": 3}
    pool = AccountPool(source=table, ttl=1e9)
    pool.refresh()
    rng, held, granted, full = random.Random(11), [], 0, 0
    for _ in range(4000):
        step = rng.random()
        if step < 0.15:
            table["a"] = rng.randint(1, 8)
            pool.refresh()
        elif step < 0.55 and held:
            assert held.pop(rng.randrange(len(held))).release()
        else:
            before = len(held)
            try:
                held.append(pool.acquire(timeout=0, account=rng.choice([None, "a"])))
                granted += 1
                assert before < table["a"]
            except AcquireTimeout:
                full += 1
                assert before >= table["a"]
        assert pool.stats().in_flight == len(held)
    assert granted > 500
    assert full > 500
