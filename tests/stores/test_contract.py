"""What every store promises, by both faces of a pool: counting, jobs, constraints and choice."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from stepping import until
from store_world import waiting

from balancer import AcquireTimeout, LeaseLost, NoAccounts, Verdict

# -- counting ---------------------------------------------------------------------------------------


def test_no_account_is_given_more_than_it_takes(world):
    """P-22: three slots are three, whoever asks."""
    one, two = world.pool(), world.pool()
    leases = [pool.acquire(timeout=0) for pool in (one, two, one)]
    assert Counter(lease.account.id for lease in leases) == {"a": 2, "b": 1}
    for pool in (one, two):
        with pytest.raises(AcquireTimeout) as caught:
            pool.acquire(timeout=0)
        assert caught.value.timeout == 0
        assert set(caught.value.accounts) == {"a", "b"}
    stats = two.stats()
    assert (stats.capacity, stats.in_flight, stats.free) == (3, 3, 0)


def test_a_lease_is_released_once(world):
    """P-10, P-23: the second release, or a stranger's, ends nothing."""
    one, two = world.pool(), world.pool()
    lease, other = one.acquire(), one.acquire()
    assert two.release(lease.id)
    assert not two.release(lease.id)
    assert not two.release("0123456789ab-1")
    assert two.stats().in_flight == 1
    assert other.release()
    assert not other.release()
    assert two.stats().in_flight == 0


def test_the_block_frees_the_slot(world):
    """P-4: by its end or by an exception."""
    pool = world.pool()
    with pool.acquire():
        assert pool.stats().in_flight == 1
    with pytest.raises(KeyError), pool.acquire():
        raise KeyError
    assert pool.stats().in_flight == 0
    assert pool.stats().released == 2


def test_a_lease_that_has_ended_cannot_be_entered(world):
    """The block would run without a slot."""
    lease = world.pool().acquire()
    lease.release()
    with pytest.raises(LeaseLost), lease:
        pass


def test_every_lease_is_shown_to_whoever_asks(world):
    """P-59: who holds what since when, and what becomes of it."""
    one, two = world.pool(), world.pool()
    held, bound = one.acquire(label="first"), one.acquire(label="second")
    bound.bind(17, ttl=100)
    world.clock.advance(5)
    shown = {holder.id: holder for holder in two.holders()}
    assert (shown[held.id].state, shown[held.id].label, shown[held.id].job_id) == ("held", "first", None)
    assert (shown[bound.id].state, shown[bound.id].job_id) == ("bound", "17")
    assert shown[bound.id].expires_in == pytest.approx(95)
    assert shown[held.id].age == pytest.approx(5)
    assert shown[held.id].owner.partition(":")[2].isdigit()


# -- jobs -------------------------------------------------------------------------------------------


def test_a_bound_slot_is_the_jobs(world):
    """It outlives the block, and ends with a release by the job's id, from anywhere."""
    one, two = world.pool(), world.pool()
    with one.acquire() as lease:
        lease.bind(12)
        lease.bind("12")
        with pytest.raises(ValueError, match="bound"):
            lease.bind("13")
    assert two.stats().in_flight == 1
    assert two.release(job_id=12)
    assert not two.release(job_id="12")
    assert two.stats().in_flight == 0


def test_a_job_has_one_lease(world):
    """Another lease cannot be bound to it."""
    one, two = world.pool(), world.pool()
    one.acquire().bind("job")
    with pytest.raises(ValueError, match="job"):
        two.acquire().bind("job")


def test_a_callback_may_overtake_the_bind(world):
    """P-58: the job's end is remembered for ten minutes, and the bind then frees the slot."""
    one, two = world.pool(), world.pool()
    lease, late = one.acquire(), one.acquire()
    assert not two.release(job_id="quick")
    lease.bind("quick")
    assert two.stats().in_flight == 1
    assert not two.release(job_id="forgotten")
    world.clock.advance(601)
    late.bind("forgotten")
    assert two.stats().in_flight == 1


def test_a_bound_slot_ends_by_itself(world):
    """P-33: after its ttl, and whoever waits gets it."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    leases[0].bind("job", ttl=50)
    with waiting(pool) as got:
        world.clock.advance(49)
        assert pool.stats().in_flight == 3
        world.clock.advance(2)
    assert got[0][1].account.id == leases[0].account.id
    until(lambda: pool.stats().expired == 1)  # another thread's reply told of it, and may be on its way


def test_an_end_can_be_moved(world):
    """By the lease, by its id or by the job's."""
    one, two = world.pool(), world.pool()
    lease = one.acquire()
    lease.bind("job", ttl=10)
    lease.renew(ttl=100)
    world.clock.advance(50)
    two.renew(job_id="job", ttl=100)
    world.clock.advance(90)
    two.renew(lease.id, ttl=100)
    assert two.stats().in_flight == 1
    world.clock.advance(101)
    assert two.stats().in_flight == 0
    with pytest.raises(LeaseLost):
        lease.renew(ttl=10)
    with pytest.raises(LeaseLost):
        two.renew(job_id="job")


def test_an_ambiguous_slot_is_kept_for_a_while(world):
    """P-57: a lost answer may be an accepted job."""
    pool = world.pool(ambiguous_ttl=300)
    with pool.acquire() as lease:
        assert lease.report(TimeoutError()) is Verdict.AMBIGUOUS
    assert [holder.state for holder in pool.holders()] == ["ambiguous"]
    world.clock.advance(299)
    assert pool.stats().in_flight == 1
    world.clock.advance(2)
    assert pool.stats().in_flight == 0


# -- constraints ------------------------------------------------------------------------------------


def test_constraints_narrow_the_choice(world):
    """Pinned, excluded, or chosen by what the entry says."""
    world.accounts.update({"c": {"maxJobs": 4, "supportVideo": True}})
    pool = world.pool()
    pinned = pool.acquire(account="b", timeout=0)
    assert pinned.account.id == "b"
    others = [pool.acquire(exclude={"a", "b"}, timeout=0) for _ in range(2)]
    assert {lease.account.id for lease in others} == {"c"}
    video = pool.acquire(where=lambda account: account.fields.get("supportVideo", False), timeout=0)
    assert video.account.id == "c"
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="b", timeout=0)
    with pytest.raises(NoAccounts):
        pool.acquire(account="z", timeout=0)
    explained = pool.explain(exclude=["c"])
    assert explained["a"] == "eligible"
    assert explained["c"] == "excluded"
    assert explained["b"].startswith("full")


def test_a_capacity_can_be_replaced_for_one_decision(world):
    """Raised or lowered, and told to the request."""
    pool = world.pool()
    first = pool.acquire(account="b", timeout=0)
    assert "maxJobs" not in first.params
    second = pool.acquire(account="b", max_jobs=2, timeout=0)
    assert second.params["maxJobs"] == 2
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="b", max_jobs=2, timeout=0)
    third = pool.acquire(account="a", timeout=0)
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="a", max_jobs=1, timeout=0)
    assert third.account.id == "a"


# -- choice -----------------------------------------------------------------------------------------


def test_every_account_with_room_is_equally_likely(world):
    """P-20: whatever its free room. 99.9999 % of fair pools pass."""
    world.accounts = {f"account-{n}": 1 + 9 * (n % 2) for n in range(5)}
    pool = world.pool()
    picks = Counter()
    for _ in range(500):
        with pool.acquire(timeout=0) as lease:
            picks[lease.account.id] += 1
    assert sum((count - 100) ** 2 / 100 for count in picks.values()) + 100 * (5 - len(picks)) < 35


def test_the_least_loaded_account_is_chosen_if_asked_for(world):
    """Lowest share of its capacity in use; ties at random."""
    world.accounts = {"big": 8, "small": 2}
    pool = world.pool(strategy="least_loaded")
    leases = [pool.acquire(timeout=0) for _ in range(10)]
    picks = [lease.account.id for lease in leases]
    assert Counter(picks) == {"big": 8, "small": 2}
    assert Counter(picks[:5]) == {"big": 4, "small": 1}


# -- for ever ---------------------------------------------------------------------------------------


def test_for_ever_is_a_duration_in_every_store(world):
    """Infinite ends of leases and of cooldowns are kept, told as such, and can be brought forward."""
    pool = world.pool(job_ttl=math.inf, ambiguous_ttl=math.inf)
    bound, doubtful, renewed = (pool.acquire(timeout=0) for _ in range(3))
    bound.bind("j1")
    doubtful.report(500)
    renewed.bind("j2", ttl=5)
    pool.renew(renewed.id, ttl=math.inf)
    world.clock.advance(1e7)
    assert {holder.expires_in for holder in pool.holders()} == {math.inf}
    pool.renew(job_id="j1", ttl=5)
    assert sorted(holder.expires_in for holder in pool.holders()) == [5, math.inf, math.inf]
    pool.cool("a", math.inf, "sold")
    account = pool.stats().accounts["a"]
    assert (account.state, account.reason, account.until) == ("cooldown", "sold", None)
    pool.reset("a")
    assert pool.stats().accounts["a"].state != "cooldown"
