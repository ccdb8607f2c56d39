"""What every store promises, by both faces of a pool: one suite, the same for all."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from stores import *  # noqa: F403  # fixtures
from worlds import wait_until, waiting

from balancer import (
    AcquireTimeout,
    Job,
    LeaseLost,
    NoAccounts,
    PoolClosed,
    TooManyWaiting,
    Verdict,
)

BUSY, GONE, BROKEN = (429, {"Retry-After": "60"}, ""), (412, {}, ""), (596, {}, "")


def in_flight(pool):
    """Return the live leases of each account."""
    return {id: account.in_flight for id, account in pool.stats().accounts.items()}


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
    assert pool.stats().expired == 1


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


# -- verdicts ---------------------------------------------------------------------------------------


def test_a_busy_account_rests_and_is_then_tried_by_one(world):
    """P-50, P-54: the pause is everybody's at once; after it one lease probes."""
    one, two = world.pool(), world.pool()
    with one.acquire(account="a") as lease:
        assert lease.report(BUSY) is Verdict.BUSY
    other = two.acquire(timeout=0)
    assert other.account.id == "b"
    assert two.stats().accounts["a"].state == "cooldown"
    with pytest.raises(AcquireTimeout):
        two.acquire(timeout=0)
    world.clock.advance(61)
    probe = two.acquire(timeout=0)
    assert probe.account.id == "a"
    with pytest.raises(AcquireTimeout):
        one.acquire(timeout=0)
    probe.report((201, {}, "{}"))
    assert one.acquire(timeout=0).account.id == "a"


def test_a_probe_that_fails_sends_the_account_back_to_rest(world):
    """P-62: and one that just ends proves it well."""
    pool = world.pool()
    pool.cool("a", 60)
    world.clock.advance(61)
    with pool.acquire(account="a", timeout=0) as probe:
        probe.report(BUSY)
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="a", timeout=0)
    world.clock.advance(61)
    pool.acquire(account="a", timeout=0).release()
    leases = [pool.acquire(account="a", timeout=0) for _ in range(2)]
    assert pool.stats().in_flight == len(leases)


def test_the_longer_cooldown_wins(world):
    """P-49: whichever came first."""
    pool = world.pool()
    pool.cool("a", 100)
    pool.cool("a", 10)
    pool.cool("b", 10)
    pool.cool("b", 100)
    world.clock.advance(50)
    states = {id: account.state for id, account in pool.stats().accounts.items()}
    assert states == {"a": "cooldown", "b": "cooldown"}
    world.clock.advance(51)
    assert pool.acquire(timeout=0)


def test_a_cooldown_may_concern_one_model_only(world):
    """P-53: jobs of another scope go on; a job without scope takes it as the account's."""
    pool = world.pool(service="google-flow", source={"a": 5, "b": 5})
    quota = (429, {}, '{"error": {"details": [{"reason": "PUBLIC_ERROR_PER_MODEL_DAILY_QUOTA_REACHED"}]}}')
    with pool.acquire(account="a", scope="veo") as lease:
        assert lease.report(quota) is Verdict.EXHAUSTED
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", scope="veo", timeout=0)
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", timeout=0)
    assert pool.acquire(account="a", scope="imagen", timeout=0)
    assert {pool.acquire(scope="veo", timeout=0).account.id for _ in range(5)} == {"b"}


def test_reset_ends_a_cooldown(world):
    """P-62: by hand, at once, for everybody."""
    one, two = world.pool(), world.pool()
    with one.acquire(account="b", timeout=0) as lease:
        lease.report(GONE)
    with pytest.raises(NoAccounts):
        two.acquire(account="b", timeout=0)
    two.reset("b")
    assert one.acquire(account="b", timeout=0)
    with pytest.raises(ValueError, match="nobody"):
        one.cool("nobody", 5)
    with pytest.raises(ValueError, match="nobody"):
        one.reset("nobody")


def test_waiting_that_cannot_help_is_refused_with_reasons(world):
    """P-53: exhausted and broken accounts are not worth a wait; the error says why and until when."""
    pool = world.pool()
    for account, answer in (("a", GONE), ("b", BROKEN)):
        with pool.acquire(account=account) as lease:
            lease.report(answer)
    with pytest.raises(NoAccounts) as caught:
        pool.acquire(timeout=0)
    assert set(caught.value.reasons) == {"a", "b"}
    assert caught.value.retry_at.timestamp() == pytest.approx(world.clock.time() + 900)
    assert pool.explain()["a"].startswith("cooldown")


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


# -- waiting ----------------------------------------------------------------------------------------


def test_callers_wait_in_order(world):
    """First come, first served."""
    world.accounts = {"a": 1}
    pool = world.pool()
    lease = pool.acquire()
    with waiting(pool, 4) as got:
        lease.release()
        for number in range(4):
            wait_until(lambda number=number: len(got) > number)
            assert got[number][0] == number
            got[number][1].release()
    assert pool.stats().in_flight == 0


def test_a_caller_who_cannot_be_served_holds_nobody_up(world):
    """P-34: the one behind it gets the slot that it could not use, and it gets its own in turn."""
    pool = world.pool()
    on = {}
    for _ in range(3):
        lease = pool.acquire()
        on.setdefault(lease.account.id, []).append(lease)
    with waiting(pool, account="b") as pinned, waiting(pool) as free:
        on["a"][0].release()
        wait_until(lambda: free)
        assert not pinned
        on["b"][0].release()
    assert free[0][1].account.id == "a"
    assert pinned[0][1].account.id == "b"


@pytest.mark.parametrize("cause", ["release", "raised", "new", "healed", "cooldown", "reset"])
def test_whatever_makes_room_wakes_who_waits(world, cause):
    """P-33: one caller for each cause."""
    world.accounts = {"a": 1, "b": {"maxJobs": 1, "error": "gone"}}
    pool = world.pool()
    lease = pool.acquire()
    if cause in ("cooldown", "reset"):
        lease.release()
        pool.cool("a", 30)
    with waiting(pool) as got:
        if cause == "release":
            lease.release()
        elif cause == "cooldown":
            world.clock.advance(31)
        elif cause == "reset":
            pool.reset("a")
        else:
            changed = {"raised": {"a": 2}, "new": {"a": 1, "c": 1}, "healed": {"a": 1, "b": 1}}
            world.accounts.clear()
            world.accounts.update(changed[cause])
            pool.refresh()
    assert got[0][1].account.id == {"new": "c", "healed": "b"}.get(cause, "a")


def test_a_caller_leaves_at_its_deadline(world):
    """P-7, P-32: with its own number in the error, and without a slot."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool, timeout=30) as got:
        world.clock.advance(31)
    error = got[0][1]
    assert isinstance(error, AcquireTimeout)
    assert isinstance(error, TimeoutError)
    assert error.timeout == 30
    for lease in leases:
        lease.release()
    stats = pool.stats()
    assert (stats.in_flight, stats.waiting, stats.timeouts, stats.free) == (0, 0, 1, 3)


def test_the_queue_can_be_bounded(world):
    """P-31: over the bound, at once."""
    pool = world.pool(max_waiting=1)
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool) as got:
        with pytest.raises(TooManyWaiting):
            pool.acquire()
        leases[0].release()
    assert got[0][1].account


def test_closing_sends_away_who_waits_and_leaves_leases_alone(world):
    """Leases can still be released."""
    pool = world.pool()
    leases = [pool.acquire() for _ in range(3)]
    with waiting(pool, 2) as got:
        pool.close()
    assert [type(error) for _, error in got] == [PoolClosed, PoolClosed]
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert [lease.release() for lease in leases] == [True] * 3
    pool.close()


# -- the configuration ----------------------------------------------------------------------------------


def test_counts_survive_every_change_of_the_configuration(world):
    """P-52: lowered, gone, back again, broken, healed: leases go on, grants obey."""
    pool = world.pool()

    def becomes(accounts):
        world.accounts.clear()
        world.accounts.update(accounts)
        pool.refresh()

    leases = [pool.acquire(account="a") for _ in range(2)]
    becomes({"a": 1, "b": 1})
    assert in_flight(pool) == {"a": 2, "b": 0}
    leases.pop().release()
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="a", timeout=0)
    becomes({"b": 1})
    assert pool.stats().accounts["a"].state == "draining"
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", timeout=0)
    becomes({"a": 2, "b": 1})
    assert in_flight(pool) == {"a": 1, "b": 0}
    leases.append(pool.acquire(account="a", timeout=0))
    becomes({"a": {"maxJobs": 8, "error": "expired"}})
    assert pool.stats().accounts["a"].state == "broken"
    for lease in leases:
        lease.release()
    becomes({"a": 2})
    assert pool.stats().free == 2


def test_a_change_seen_by_one_is_obeyed_by_all(world):
    """At their next acquire."""
    one, two = world.pool(), world.pool()
    two.stats()
    world.accounts.clear()
    world.accounts.update({"c": 1})
    one.refresh()
    assert two.acquire(timeout=0).account.id == "c"
    assert {id for id, each in two.stats().accounts.items() if each.state != "draining"} == {"c"}


# -- the server's list --------------------------------------------------------------------------------


class Server:
    """A source that lists jobs."""

    def __init__(self):
        self.running = []

    def accounts(self):
        return {"a": 2, "b": 1}

    def jobs(self):
        return list(self.running)


def test_jobs_of_others_take_room_from_the_first_grant_on(world):
    """A process that was started again finds its old jobs still running."""
    server = Server()
    server.running = [Job("old-1", "a"), Job("old-2", "b")]
    pool = world.pool(source=server)
    lease = pool.acquire(timeout=0)
    assert lease.account.id == "a"
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert pool.stats().external == 2
    lease.release()
    server.running.clear()
    world.clock.advance(31)
    assert pool.reconcile().adopted == {}
    assert pool.stats().free == 3


def test_a_lost_callback_is_made_up_for_by_two_lists(world):
    """A bound job that two lists in a row do not name is over; one that is named goes on."""
    server = Server()
    pool = world.pool(source=server, job_ttl=100)
    lost, running = pool.acquire(account="a"), pool.acquire(account="b")
    lost.bind("lost")
    running.bind("running")
    server.running = [Job("running", "b")]
    world.clock.advance(60)
    assert pool.reconcile().reclaimed == ()
    world.clock.advance(30)
    assert pool.reconcile().reclaimed == (lost.id,)
    world.clock.advance(60)
    assert in_flight(pool) == {"a": 0, "b": 1}
    assert pool.stats().reclaimed == 1


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
