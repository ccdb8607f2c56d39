"""Pools of many processes over one Redis, with processes killed and the server's road cut under load."""

from __future__ import annotations

import contextlib
import itertools
import threading

import pytest
from redis_server import Proxy, RedisServer, the_server
from stepping import until
from structlog.testing import capture_logs

from balancer import AccountPool, AcquireTimeout
from balancer.testing import FakeUseapi

_pause = threading.Event()


@pytest.fixture
def server():
    """Return a Redis that holds nothing."""
    the_server().empty()
    return the_server()


@pytest.fixture
def store(server):
    """Return where it is."""
    return server.url


@contextlib.contextmanager
def a_fleet(fake, worker, store, *, size, jobs):
    """Have ``size`` processes ready; they run their jobs while the block runs."""
    what = {"url": fake.url, "token": fake.token, "store": store, "jobs": jobs}
    fleet = worker("fleet", size=size, **what)
    assert fleet.hear() == ["ready"]
    fleet.say()
    yield
    assert fleet.hear() == ["done", str(size)]


def all_slots_are_back(fake, store):
    """Whether the store counts no lease once the fleet is done."""
    with AccountPool("flowmusic", token=fake.token, base_url=fake.url, store=store) as pool:
        until(lambda: pool.stats().in_flight == 0)
        return pool.stats().free == 6


def test_sixteen_processes_never_take_an_account_over_its_maximum(store, worker):
    """P-22: an independent count of jobs running finds no account over, and no call is refused."""
    accounts = {"a@example.com": 1, "b@example.com": 2, "c@example.com": 3}
    with FakeUseapi({"flowmusic": accounts}, job_seconds=(0.02, 0.08)) as fake:
        with a_fleet(fake, worker, store, size=16, jobs=4):
            pass
        audit = fake.audit()
        assert (audit.over, audit.refused, audit.accepted) == ((), 0, 64)
        assert {id: seen.peak for id, seen in audit.accounts["flowmusic"].items()} == accounts
        assert all_slots_are_back(fake, store)
        assert audit.requests["GET /v1/flowmusic/accounts"] == 1, "one fetches for all"


def test_a_road_that_is_cut_and_slow_takes_nobody_over_and_loses_no_slot(server, store, worker):
    """P-1, P-7, P-27: calls cut in the middle under load never give an account away twice, or for good."""
    accounts = {"a@example.com": 1, "b@example.com": 2, "c@example.com": 3}
    over = threading.Event()

    def trouble():
        for turn in itertools.count():
            if over.wait(0.15):
                break
            proxy.delay = (0.0, 0.003)[turn % 2]
            proxy.cut()

    with FakeUseapi({"flowmusic": accounts}, job_seconds=(0.02, 0.08)) as fake, Proxy(server.port) as proxy:
        thread = threading.Thread(target=trouble)
        with a_fleet(fake, worker, proxy.url, size=4, jobs=12):
            thread.start()
        over.set()
        thread.join()
        audit = fake.audit()
        assert (audit.over, audit.refused, audit.accepted) == ((), 0, 48)
        assert all_slots_are_back(fake, store)


def test_slots_of_a_killed_process_come_back_within_the_life_of_a_lease(store, worker, pool):
    """P-5: a holder is killed; a caller who waits in another process gets its slot without anybody's help."""
    accounts = {"a": 1}
    holder = worker("hold", accounts=accounts, lease_ttl=1.0, count=1)
    (lost,) = holder.hear()
    here = pool(accounts, lease_ttl=1.0)
    with pytest.raises(AcquireTimeout):
        here.acquire(timeout=0)
    holder.kill()
    with capture_logs() as logs:
        here.acquire(timeout=30).release()
    assert [entry["lease"] for entry in logs if entry["event"] == "lease_expired"] in ([lost], [])
    assert here.stats().in_flight == 0


def test_a_killed_waiter_blocks_nobody_behind_it(store, worker, pool):
    """P-29: the oldest waiting process is killed; the next in line is served when a slot is freed."""
    accounts = {"a": 1}
    here = pool(accounts, lease_ttl=60.0)
    lease = here.acquire(timeout=30)
    waiting = []
    for _ in range(2):
        waiting.append(worker("wait_for_one", accounts=accounts, lease_ttl=60.0))
        assert waiting[-1].hear() == ["waiting"]
        number = len(waiting)
        until(lambda number=number: in_line(store) == number)
    waiting[0].kill()
    lease.release()
    assert waiting[1].hear() == ["a"]


def test_a_fetcher_that_is_killed_holds_nobody_up_for_long(store, worker, pool):
    """P-5: another process fetches in its place, long before a fetch would be given up."""
    fetcher = worker("fetch_for_ever", store=store)
    assert fetcher.hear() == ["fetching"]
    here = pool({"a": 1})
    with pytest.raises(AcquireTimeout):
        here.acquire(timeout=0.2)
    fetcher.kill()
    here.acquire(timeout=30).release()


def in_line(store):
    """Return how many processes wait."""
    import redis

    with redis.Redis.from_url(store) as client:
        (line,) = client.keys("{balancer:*}:line")
        return client.zcard(line) - 1


def test_a_lost_message_strands_nobody(server, store, worker, pool):
    """P-28: the listening connection is cut while the slot is freed; the waiter is served all the same."""
    accounts = {"a": 1}
    here = pool(accounts)
    with Proxy(server.port) as proxy:
        lease = here.acquire(timeout=30)
        waiting = worker("wait_for_one", accounts=accounts, store=proxy.url, lease_ttl=60.0)
        assert waiting.hear() == ["waiting"]
        until(lambda: in_line(store) == 1)
        proxy.hanging = True
        lease.release()
        _pause.wait(0.1)
        proxy.cut()
        proxy.hanging = False
        assert waiting.hear() == ["a"]


def test_a_lease_outlives_a_blocked_event_loop(store, worker, pool):
    """P-35: a coroutine that blocks its loop for three lives of a lease keeps its slot."""
    accounts = {"a": 1}
    blocked = worker("block_the_loop", accounts=accounts, lease_ttl=0.6, seconds=1.8)
    (id,) = blocked.hear()
    here = pool(accounts, lease_ttl=0.6)
    while blocked.process.poll() is None:
        assert [holder.id for holder in here.holders()] == [id]
        with pytest.raises(AcquireTimeout):
            here.acquire(timeout=0.2)
        if here.stats().timeouts == 5:
            break
    assert blocked.hear() == ["awake"]
    assert [holder.id for holder in here.holders()] == [id]


def test_a_job_outlives_an_outage_and_its_slot_is_registered_again(pool):
    """P-36: Redis is down for two lives of a lease and comes back empty; the job kept its slot."""
    with RedisServer() as own:
        here = pool({"a": 1}, store=own.url, lease_ttl=0.5)
        lease = here.acquire(timeout=30)
        with capture_logs() as logs:
            own.kill()
            until(lambda: any(entry["event"] == "store_away" for entry in logs))
            _pause.wait(0.25)
            own.start()
            until(lambda: any(entry["event"] == "leases_registered_again" for entry in logs))
        assert [entry["event"] for entry in logs].count("store_away") == 1
        other = pool({"a": 1}, store=own.url, lease_ttl=0.5)
        with pytest.raises(AcquireTimeout):
            other.acquire(timeout=0)
        assert [holder.id for holder in other.holders()] == [lease.id]
        assert lease.release()
        other.acquire(timeout=30).release()


def test_no_secret_reaches_the_server(server, store):
    """P-60: neither token nor account's secrets are in any key or value."""
    token = "user:4321-s3cr3t-t0ken"
    entry = {"maxJobs": 2, "jwt": "jwt-c4nary", "cookie": "c00kie-canary", "error": None}
    with (
        FakeUseapi({"flowmusic": {"a": entry}}, token=token) as fake,
        AccountPool("flowmusic", token=token, base_url=fake.url, store=store) as pool,
    ):
        with pool.acquire(timeout=30) as lease:
            lease.bind("job-1")
            client = server.client()
            keys = client.keys("*")
            said = b"".join([*keys, *(client.dump(key) for key in keys)])
            shown = [*keys, *(repr(_content(client, key)).encode() for key in keys)]
        everything = said + b"".join(shown)
        assert b"user:4321" in everything
        for secret in (b"s3cr3t", b"jwt-c4nary", b"c00kie-canary"):
            assert secret not in everything


def _content(client, key):
    return client.hgetall(key) if client.type(key) == b"hash" else client.zrange(key, 0, -1)
