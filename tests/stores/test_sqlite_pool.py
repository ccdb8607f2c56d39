"""Pools of many processes over one file, with processes killed and messages lost."""

from __future__ import annotations

import gc
import os
import sqlite3
import time

import pytest
from backends import settings_for
from stepping import until
from structlog.testing import capture_logs

from balancer import AccountPool, AcquireTimeout, StoreUnavailable
from balancer.rules.fleet_ledger import FleetLedger
from balancer.stores.sqlite import notify_pipe
from balancer.stores.sqlite.change_feed import ChangeFeed
from balancer.testing import FakeUseapi


@pytest.fixture
def store(path):
    """Return the URL of an empty store."""
    return f"sqlite://{path}"


def test_eight_processes_never_take_an_account_over_its_maximum(store, worker):
    """P-22: the server's own count finds no account over and refuses no call; one process fetches for all."""
    accounts = {"a@example.com": 1, "b@example.com": 2, "c@example.com": 3}
    with FakeUseapi({"flowmusic": accounts}, job_seconds=(0.02, 0.08)) as fake:
        fleet = worker("fleet", size=8, url=fake.url, token=fake.token, jobs=6)
        assert fleet.hear() == ["ready"]
        fleet.say()
        assert fleet.hear() == ["done", "8"]
        audit = fake.audit()
        assert (audit.over, audit.refused, audit.accepted) == ((), 0, 48)
        assert {id: seen.peak for id, seen in audit.accounts["flowmusic"].items()} == accounts
        assert audit.requests["GET /v1/flowmusic/accounts"] == 1
        with AccountPool("flowmusic", token=fake.token, base_url=fake.url, store=store) as here:
            until(lambda: here.stats().in_flight == 0)
            assert here.stats().free == 6


def test_slot_of_a_killed_process_comes_back_within_the_life_of_a_lease(worker, pool):
    """P-5: a caller who waits gets the slot of a process that was killed, without anybody's help."""
    holder = worker("hold", accounts={"a": 1}, lease_ttl=1.0, count=1)
    (lost,) = holder.hear()
    here = pool({"a": 1}, lease_ttl=1.0)
    with pytest.raises(AcquireTimeout):
        here.acquire(timeout=0)
    holder.kill()
    with capture_logs() as logs:
        here.acquire(timeout=30).release()
    assert [entry["lease"] for entry in logs if entry["event"] == "lease_expired"] == [lost]
    assert here.stats().in_flight == 0


def test_a_killed_waiter_blocks_nobody_behind_it(worker, pool, path):
    """P-29: the oldest waiting process is killed; the next one is served as soon as a slot is freed."""
    here = pool({"a": 1}, lease_ttl=3600.0)
    lease = here.acquire(timeout=30)
    waiting = []
    for number in (1, 2):
        waiting.append(worker("wait_for_one", accounts={"a": 1}, lease_ttl=3600.0))
        assert waiting[-1].hear() == ["waiting"]
        until(lambda number=number: in_line(path) == number)
    waiting[0].kill()
    lease.release()
    assert waiting[1].hear() == ["a"]


def in_line(path):
    """Return how many processes wait."""
    file = sqlite3.connect(path)
    try:
        ((number,),) = file.execute("SELECT number FROM pool").fetchall()
        fleet = FleetLedger(settings_for())
        ChangeFeed(file, number, fleet).catch_up(file, 0.0)
        return len(fleet.waiting)
    finally:
        file.close()


def test_a_lost_message_strands_nobody(worker, pool, path, monkeypatch):
    """P-28: nobody tells the waiting process of its slot, and it looks by itself."""
    here = pool({"a": 1})
    lease = here.acquire(timeout=30)
    waiting = worker("wait_for_one", accounts={"a": 1}, lease_ttl=60.0)
    assert waiting.hear() == ["waiting"]
    until(lambda: in_line(path) == 1)
    lost = []
    monkeypatch.setattr(notify_pipe, "post", lambda *message: lost.append(message))
    lease.release()
    assert waiting.hear() == ["a"]
    assert lost


def test_a_lease_outlives_a_blocked_event_loop(worker, pool):
    """P-35: a coroutine that blocks its loop for three lives of a lease keeps its slot."""
    blocked = worker("block_the_loop", accounts={"a": 1}, lease_ttl=0.4, seconds=1.2)
    (id,) = blocked.hear()
    here = pool({"a": 1}, lease_ttl=0.4)
    for _ in range(3):
        with pytest.raises(AcquireTimeout):
            here.acquire(timeout=0.25)
        assert [holder.id for holder in here.holders()] == [id]
    assert blocked.hear() == ["awake"]
    assert [holder.id for holder in here.holders()] == [id]


def test_lease_is_released_from_another_process_once(worker, pool):
    """P-10: an operator ends the lease of another process; its own release then does nothing."""
    holder = worker("hold", accounts={"a": 1}, lease_ttl=60.0, count=1)
    (id,) = holder.hear()
    here = pool({"a": 1})
    assert here.holders()[0].owner.rpartition(":")[2] == str(holder.process.pid)
    assert here.release(id)
    assert not here.release(id)
    with here.acquire(timeout=5):
        holder.say()
        assert holder.hear() == ["0"]
        assert here.stats().in_flight == 1


def test_a_slot_passes_between_processes_both_ways(worker, pool):
    """A freed slot goes to the process that waits for it, and comes back from there."""
    here = pool({"a": 1})
    lease = here.acquire(timeout=30)
    waiting = worker("wait_for_one", accounts={"a": 1}, lease_ttl=60.0)
    assert waiting.hear() == ["waiting"]
    until(lambda: not lease.release() or waiting)
    assert waiting.hear() == ["a"]
    waiting.say()
    with here.acquire(timeout=30) as again:
        assert again.account.id == "a"


def test_cooldowns_and_jobs_are_common_to_all_pools_at_once(pool):
    """P-50, P-58: what one process learns of an account or a job, the next pick of another one knows."""
    first, second = pool({"a": 1, "b": 1}), pool({"a": 1, "b": 1})
    first.cool("a", 600, "by hand")
    lease = second.acquire(timeout=0)
    assert lease.account.id == "b"
    assert not first.release(job_id="job-1")
    lease.bind("job-1")
    lease = second.acquire(timeout=0)
    lease.bind("job-2")
    assert first.release(job_id="job-2")
    assert second.stats().in_flight == 0


def test_child_of_a_fork_has_slots_of_its_own(pool):
    """P-45, P-46: after a fork the parent's lease stays the parent's, and the child takes another."""
    here = pool({"a": 1, "b": 1})
    lease = here.acquire(timeout=30)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with here.acquire(timeout=30) as mine:
                said = f"{mine.account.id != lease.account.id} {lease.release()} {here.stats().in_flight}"
        except BaseException as error:  # noqa: BLE001  # nothing of the child may reach pytest
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "True False 2"
    os.waitpid(child, 0)
    assert here.stats().in_flight in (1, 2), "the child ended without closing its pool"
    assert lease.release()


def test_file_that_cannot_be_used_is_a_store_that_is_away(tmp_path):
    """P-43: nothing is guessed: acquire says what is wrong with the file."""
    (tmp_path / "pool.db").write_bytes(b"no database" * 1000)
    begun = time.monotonic()
    with (
        AccountPool("custom", source={"a": 1}, store=f"sqlite://{tmp_path}/pool.db") as pool,
        pytest.raises(StoreUnavailable, match=r"pool\.db"),
    ):
        pool.acquire(timeout=0)
    assert time.monotonic() - begun < 30


def test_no_secret_reaches_the_file(path, store):
    """P-60: neither token nor the accounts' secrets are in any file of the store."""
    token = "user:4321-s3cr3t-t0ken"
    entry = {"maxJobs": 2, "jwt": "jwt-c4nary", "cookie": "c00kie-canary", "error": None}
    with (
        FakeUseapi({"flowmusic": {"a": entry}}, token=token) as fake,
        AccountPool("flowmusic", token=token, base_url=fake.url, store=store) as pool,
        pool.acquire(timeout=30) as lease,
    ):
        lease.bind("job-1")
        files = [file for file in path.parent.iterdir() if file.is_file()]
        everything = b"".join(file.read_bytes() for file in files)
    assert b"user:4321" in everything
    for secret in (b"s3cr3t", b"jwt-c4nary", b"c00kie-canary"):
        assert secret not in everything


def test_pools_that_are_set_differently_are_told_and_never_over(pool, store):
    """A rolling deploy: strategies and ttls differ for a while; what an account takes does not."""
    first = pool({"a": 2, "b": 2}, strategy="random")
    held = [first.acquire(timeout=30) for _ in range(2)]
    with capture_logs() as logs:
        second = pool({"a": 2, "b": 2}, strategy="least_loaded", job_ttl=60.0)
        held += [second.acquire(timeout=30) for _ in range(2)]
    (told,) = [entry for entry in logs if entry["event"] == "settings_differ"]
    assert (told["strategy"], told["job_ttl"]) == ("random", 3600.0)
    for each in (first, second):
        with pytest.raises(AcquireTimeout):
            each.acquire(timeout=0)
        with pytest.raises(AcquireTimeout):
            each.acquire(timeout=0, max_jobs=2)
    assert sorted(lease.account.id for lease in held) == ["a", "a", "b", "b"]


def spy(monkeypatch, backend):
    """Return a list in which the operations are noted that a backend is asked from now on."""
    asked, call = [], backend.call
    monkeypatch.setattr(backend, "call", lambda operation, _=None: asked.append(operation) or call(operation))
    return asked


def test_a_refusal_costs_no_more_the_more_accounts_there_are(pool, store, monkeypatch):
    """Nothing is worked out that is not shown: a refused caller holds up nobody."""
    cost = {}
    for number in (20, 4000):
        here = pool(dict.fromkeys([f"{number}-{n}" for n in range(number)], 1), store=f"{store}-{number}")
        leases = [here.acquire(timeout=30) for _ in range(number)]

        def refuse(here=here):
            with pytest.raises(AcquireTimeout) as caught:
                here.acquire(timeout=0)
            return caught.value

        assert len(refuse().accounts) == 20
        asked = spy(monkeypatch, here._core.store.backend)
        refuse()
        assert len(asked) == 2, "one try, one look at why"
        begun = time.process_time()
        for _ in range(20):
            refuse()
        cost[number] = time.process_time() - begun
        for lease in leases:
            lease.release()
    assert cost[4000] < 3 * cost[20], cost


@pytest.mark.parametrize("dropped", ["before", "after"])
def test_a_lease_that_is_dropped_when_its_pool_is_closed_comes_back(tmp_path, dropped):
    """P-3, P-20: nobody comes by any more who would end it."""
    store = f"sqlite://{tmp_path}/slots.db"
    with AccountPool("custom", source={"a": 1}, store=store) as other:
        pool = AccountPool("custom", source={"a": 1}, store=store)
        lease = pool.acquire()
        if dropped == "after":
            pool.close()
        del lease
        gc.collect()
        pool.close()
        until(lambda: other.stats().free == 1, patience=4)
