"""What a caller may ask of the account: one, none of some, a condition, a capacity, a scope."""

from __future__ import annotations

import threading

import pytest
from crew import error, in_line, queued, result, start

from balancer import AccountPool, AcquireTimeout, NoAccounts


def test_a_pinned_account_is_named_by_id_or_by_itself(pool_of):
    """Follow-up work runs where the asset lives."""
    pool = pool_of({"a": 5, "b": 5})
    for _ in range(5):
        lease = pool.acquire(account="b")
        assert lease.account.id == "b"
        assert pool.acquire(account=lease.account).account.id == "b"
        lease.release()


def test_excluded_accounts_are_never_chosen(pool_of):
    """By id or Account, in any collection."""
    pool = pool_of({"a": 100, "b": 100, "c": 100})
    other = pool.acquire(account="a").account
    for exclude in (["a", "b"], {"a", "b"}, (other, "b"), frozenset("ab"), {"a": 1, "b": 2}):
        assert pool.acquire(exclude=exclude).account.id == "c"
    with pytest.raises(NoAccounts) as caught:
        pool.acquire(exclude=["abc", *list("abc")])
    assert caught.value.reasons == dict.fromkeys("abc", "excluded")


def test_where_is_asked_in_the_callers_thread_and_outside_the_lock(pool_of):
    """The user's function may use the pool itself, and sees the account's harmless fields."""
    pool = pool_of({"a": {"maxJobs": 3, "supportVideo": False}, "b": {"maxJobs": 3, "supportVideo": True}})
    asked = []

    def supports_video(account):
        asked.append((threading.get_ident(), account.id))
        pool.stats()
        pool.holders()
        return account.fields["supportVideo"]

    assert pool.acquire(where=supports_video, timeout=0).account.id == "b"
    assert {id for _, id in asked} == {"a", "b"}
    assert {thread for thread, _ in asked} == {threading.get_ident()}
    lease = pool.acquire(account="a")
    caller = start(pool.acquire, where=supports_video)
    result(caller)
    assert len({thread for thread, _ in asked}) == 2
    assert lease.release()


def test_an_exception_of_where_reaches_its_caller_only(pool_of):
    """Nobody else in line is disturbed, no slot is taken, and the pool goes on."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)

    def bad(account):
        raise LookupError(account.id)

    with pytest.raises(LookupError, match="a"):
        pool.acquire(where=bad)
    assert not waiter.done()
    assert pool.stats().waiting == 1
    lease.release()
    assert result(waiter).release()
    assert pool.stats().free == 1


def test_an_exception_of_where_on_a_new_table_reaches_the_caller_in_line(pool_of):
    """It is asked again of each new table, in the thread of the one who waits."""
    pool = pool_of(table := {"a": 1})
    lease = pool.acquire()
    choosy = start(pool.acquire, where=lambda account: {"a": True}[account.id])
    queued(pool, 1)
    (waiter,) = in_line(pool, 1)
    table["b"] = 1
    pool.refresh()
    assert isinstance(error(choosy), KeyError)
    assert result(waiter).account.id == "b"
    assert lease.release()


def test_max_jobs_replaces_the_capacity_for_one_decision(clock):
    """It may be lower or higher where requests can carry it, and travels in the request's parameters."""
    pool = AccountPool("riffusion", source={"a": 2}, clock=clock)
    leases = [pool.acquire(), pool.acquire()]
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    third = pool.acquire(max_jobs=3, timeout=0)
    assert third.params["maxJobs"] == 3
    assert "maxJobs" not in leases[0].params
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=3, timeout=0)
    third.release()
    leases[0].release()
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=1, timeout=0)
    assert pool.acquire(timeout=0)
    assert leases[1].release()


def test_max_jobs_may_only_be_lower_where_requests_lack_the_field(clock):
    """A figure that the server would never hear of cannot raise the account's own."""
    from balancer import SERVICES

    row = next(row for row in SERVICES.values() if row.max_jobs is None and row.alive)
    pool = AccountPool(row, source={"a": 2}, clock=clock)
    with pytest.raises(ValueError, match="max_jobs"):
        pool.acquire(max_jobs=3)
    lease = pool.acquire(max_jobs=1)
    assert row.max_jobs not in lease.params
    with pytest.raises(AcquireTimeout):
        pool.acquire(max_jobs=1, timeout=0)
    assert pool.acquire(timeout=0)
    assert lease.release()


def test_a_scoped_cooldown_hits_its_scope_and_those_without_one(clock):
    """What one model's limit says is no matter of another model."""
    from balancer import Service, VerdictRule

    row = Service(key="own", path="/own", rules=(VerdictRule(status=429, verdict="BUSY", scoped=True),))
    pool = AccountPool(row, source={"a": 5}, clock=clock)
    with pool.acquire(scope="veo") as lease:
        lease.report((429, {"Retry-After": "60"}, ""))
    assert pool.acquire(scope="imagen", timeout=0)
    for want in ({"scope": "veo"}, {}):
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0, **want)
    clock.advance(60)
    assert pool.acquire(scope="veo", timeout=0)


def test_our_own_full_count_is_never_held_against_an_account(pool_of):
    """P-48: callers turned away by a full account leave no cooldown behind."""
    pool = pool_of({"a": 1})
    lease = pool.acquire()
    for _ in range(50):
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0, account="a")
    assert pool.stats().accounts["a"].state == "full"
    lease.release()
    assert pool.stats().accounts["a"].state == "ready"
    assert pool.acquire(timeout=0)
