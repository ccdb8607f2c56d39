"""What a pool and its leases tell of themselves, and what an operator can do by hand."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from crew import in_line, result

from balancer import SERVICES, AccountPool, AcquireTimeout, NoAccounts, PoolClosed

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
UNKNOWN = (502, {}, "")


@pytest.fixture
def pool_of(clock):
    """Return what makes a pool of accounts that is always fresh."""

    def make(table, **options):
        pool = AccountPool(source=table, **{"clock": clock, "ttl": 1e9, **options})
        pool.refresh()
        return pool

    return make


# -- the lease -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key, row in SERVICES.items() if row.alive])
def test_params_name_the_account_as_the_service_does(key):
    """What is merged into the request: the selector, and the lease's id where the service lists it back."""
    row = SERVICES[key]
    lease = AccountPool(key, source={"a": 1}).acquire(label="mine")
    expected = {row.selector: "a"} | ({"replyRef": lease.id} if row.reply_ref else {})
    assert lease.params == expected
    assert lease.release()


def test_a_lease_tells_what_it_is(pool_of, clock):
    """Its account as it is configured now, when it was granted, what it is for, and its job."""
    table = {"a": {"maxJobs": 2, "supportVideo": True, "credits": 17, "jwt": "secret"}}
    pool = pool_of(table)
    clock.advance(5)
    with pool.acquire(label="lyrics") as lease:
        assert (lease.account.id, lease.account.capacity) == ("a", 2)
        assert dict(lease.account.fields) == {"maxJobs": 2, "supportVideo": True, "credits": 17}
        assert lease.acquired_at == EPOCH + timedelta(seconds=5)
        assert (lease.label, lease.job_id) == ("lyrics", None)
        assert isinstance(lease.id, str)
        assert repr(lease) == f"<Lease {lease.id} on a, held>"
        table["a"] = 7
        pool.refresh()
        assert lease.account.capacity == 7
        lease.bind(17)
        assert lease.job_id == "17"
    assert pool.release(job_id=17)
    assert "ended" in repr(lease)


def test_ids_are_never_given_twice(pool_of):
    """Over pools, leases and their ends."""
    pools = [pool_of({"a": 3}) for _ in range(3)]
    ids = [lease.id for _ in range(100) for pool in pools for lease in (pool.acquire(), pool.acquire())]
    assert len(set(ids)) == 600


def test_with_lease_wraps_functions_and_methods(pool_of):
    """The lease comes as a keyword, is released after the call, and the function keeps its name."""
    pool = pool_of({"a": 1})

    class Studio:
        @pool.with_lease(label="song", timeout=0)
        def sing(self, words, *, lease, loud=False):
            """Sing."""
            return words, loud, lease.account.id, pool.holders()[0].label

    assert Studio().sing("la", loud=True) == ("la", True, "a", "song")
    assert (Studio.sing.__name__, Studio.sing.__doc__) == ("sing", "Sing.")
    assert pool.stats().free == 1
    with pytest.raises(TypeError, match="exclude"):
        pool.with_lease(exclude="a")


def test_a_wait_on_the_thread_of_a_running_loop_is_refused(pool_of):
    """It would stop the loop; a free slot may be taken, and nothing is left behind."""
    pool = pool_of({"a": 1})

    async def inside():
        lease = pool.acquire()
        with pytest.raises(RuntimeError, match="AsyncAccountPool"):
            pool.acquire()
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        return lease.release()

    assert asyncio.run(inside())
    assert (pool.stats().free, pool.stats().waiting) == (1, 0)


# -- stats, explain, holders -------------------------------------------------------------------------


def test_stats_tell_the_fleet_and_each_account(pool_of, clock):
    """State by precedence, reason and end of each; the sums without what is broken or draining."""
    table = {"broken": {"maxJobs": 9, "error": "logged out"}, "gone": 5, "full": 1, "cool": 4, "ready": 3}
    pool = pool_of(table)
    leases = [pool.acquire(account=id) for id in ("gone", "full", "cool", "ready")]
    pool.cool("cool", 60, "by hand: testing")
    del table["gone"]
    pool.refresh()
    stats = pool.stats()
    seen = {id: (one.state, one.capacity, one.in_flight, one.free) for id, one in stats.accounts.items()}
    assert seen == {
        "broken": ("broken", 9, 0, 0),
        "gone": ("draining", 5, 1, 0),
        "full": ("full", 1, 1, 0),
        "cool": ("cooldown", 4, 1, 0),
        "ready": ("ready", 3, 1, 2),
    }
    assert (stats.service, stats.capacity, stats.in_flight, stats.external, stats.free) == (
        "custom",
        8,
        4,
        0,
        2,
    )
    assert stats.accounts["broken"].reason == "logged out"
    assert stats.accounts["cool"].reason == "by hand: testing"
    assert stats.accounts["cool"].until == EPOCH + timedelta(seconds=60)
    assert stats.accounts["ready"].reason is None
    assert (stats.fetched_at, stats.age, stats.stale) == (EPOCH, 0, False)
    with pytest.raises(AttributeError):
        stats.free = 5
    assert all(lease.release() for lease in leases)


def test_totals_count_what_this_process_did(pool_of, clock):
    """Acquired, released, expired, timeouts, refreshes, failures."""
    pool = pool_of({"a": 1})
    with pool.acquire() as lease:
        lease.bind("job", ttl=5)
    clock.advance(5)
    with pool.acquire(), pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    stats = pool.stats()
    assert (stats.acquired, stats.released, stats.expired, stats.timeouts) == (2, 1, 1, 1)
    assert (stats.refreshes, stats.refresh_failures, stats.reclaimed) == (1, 0, 0)


def test_free_is_more_than_zero_exactly_if_an_acquire_would_succeed(pool_of, clock):
    """After any history of leases, cooldowns, probing and changes of the table."""
    rng = random.Random(3)
    table = {"a": 1, "b": 2, "c": 3}
    pool, held, both = pool_of(table), [], Counter()
    for _ in range(1500):
        step = rng.randrange(8)
        if step == 0:
            pool.cool(rng.choice(list(pool.stats().accounts)), rng.choice([1, 5, 20]))
        elif step == 1:
            clock.advance(rng.choice([0.5, 3]))
        elif step == 2:
            table[rng.choice("abc")] = rng.choice([1, 3, {"maxJobs": 2, "error": "x"}])
            pool.refresh()
        elif step == 3 and held:
            held.pop(rng.randrange(len(held))).release()
        elif step == 4 and held:
            rng.choice(held).report(rng.choice([(200, {}, ""), (429, {"Retry-After": "3"}, "")]))
        free = pool.stats().free
        assert free == sum(one.free for one in pool.stats().accounts.values())
        try:
            lease = pool.acquire(timeout=0)
        except (AcquireTimeout, NoAccounts):
            assert free == 0
            both["none"] += 1
        else:
            assert free > 0
            both["some"] += 1
            held.append(lease) if rng.random() < 0.6 else lease.release()
    assert min(both["none"], both["some"]) > 200


def test_stats_load_the_configuration_if_nobody_has_yet():
    """Looking first is no mistake."""
    pool = AccountPool(source={"a": 4})
    assert pool.stats().capacity == 4
    assert AccountPool(source={"a": 4}).explain() == {"a": "eligible"}


def test_explain_gives_each_account_or_the_reason_against_it(pool_of):
    """P-61: for the options of an acquire, eligible or why not."""
    pool = pool_of({"a": 2, "b": 2, "c": {"maxJobs": 1, "error": "logged out"}, "d": 1, "e": 1})
    lease = pool.acquire(account="d")
    pool.cool("e", 60, "by hand")
    assert pool.explain() == {
        "a": "eligible",
        "b": "eligible",
        "c": "broken: logged out",
        "d": "full: 1 in flight and 0 external of 1",
        "e": "cooldown: by hand",
    }
    chosen = pool.explain(account="b", exclude=["a"])
    assert chosen["b"] == "eligible"
    assert set(chosen.values()) == {"eligible", "pinned to b"}
    assert pool.explain(exclude=["a"])["a"] == "excluded"
    assert pool.explain(where=lambda account: account.capacity > 1)["d"] == "where says no"
    assert pool.explain(max_jobs=2)["d"] == "eligible"
    assert pool.explain(max_jobs=1)["a"] == "eligible"
    assert lease.release()


def test_choices_are_uniform_over_what_explain_calls_eligible(pool_of):
    """P-61: each eligible account is equally likely, whatever its free room, constrained or not."""
    table = {"one": 1, "two": 2, "six": 6, "full": 1, "out": {"maxJobs": 3, "error": "x"}}
    pool = pool_of(table, random=random.Random(7).random)
    held = pool.acquire(account="full")
    for want in ({}, {"exclude": ["nobody"]}, {"where": lambda account: True}, {"max_jobs": 1}):
        eligible = [id for id, why in pool.explain(**want).items() if why == "eligible"]
        assert sorted(eligible) == ["one", "six", "two"]
        drawn = Counter()
        for _ in range(3000):
            with pool.acquire(timeout=0, **want) as lease:
                drawn[lease.account.id] += 1
        assert set(drawn) == set(eligible)
        chi_square = sum((count - 1000) ** 2 / 1000 for count in drawn.values())
        assert chi_square < 13.8, f"{drawn} for {want}: less likely than 1 in 1000"
    assert held.release()


def test_holders_tell_who_holds_what_since_when_and_for_how_long(pool_of, clock):
    """P-59: leaked and busy do not look alike."""
    pool = pool_of({"a": 3})
    held = pool.acquire(label="held")
    clock.advance(10)
    bound = pool.acquire(label="bound")
    bound.bind("job-1", ttl=100)
    doubtful = pool.acquire()
    doubtful.report(UNKNOWN)
    clock.advance(5)
    first, second, third = pool.holders()
    owner = f"{os.uname().nodename}:{os.getpid()}"
    assert {one.owner for one in pool.holders()} == {owner}
    assert (first.id, first.account, first.label, first.state) == (held.id, "a", "held", "held")
    assert (first.age, first.expires_in, first.job_id) == (15, None, None)
    assert (second.id, second.state, second.job_id, second.age) == (bound.id, "bound", "job-1", 5)
    assert second.expires_in == 95
    assert (third.id, third.state, third.label, third.expires_in) == (doubtful.id, "ambiguous", None, 595)
    for lease in (held, bound, doubtful):
        assert pool.release(lease.id)
    assert pool.holders() == ()


def test_a_repr_tells_the_service_the_load_and_the_queue(pool_of):
    """What a debugger or a log line shows of a pool."""
    pool = pool_of({"a": 1, "b": 1})
    leases = [pool.acquire(), pool.acquire()]
    in_line(pool, 1)
    assert repr(pool) == "<AccountPool custom: 2 in flight on 2 accounts, 1 waiting>"
    pool.close()
    assert "closed" in repr(pool)
    assert all(lease.release() for lease in leases)


# -- by hand ---------------------------------------------------------------------------------------


def test_the_longer_cooldown_wins(pool_of, clock):
    """P-49: a second, shorter one does not shorten the first, a longer one prolongs it."""
    pool = pool_of({"a": 1})
    for seconds, ends in ((60, 60), (10, 60), (90, 90), (89, 90)):
        pool.cool("a", seconds)
        assert pool.stats().accounts["a"].until == EPOCH + timedelta(seconds=ends)
    clock.advance(89)
    assert pool.stats().free == 0
    clock.advance(1)
    assert pool.stats().free == 1


def test_a_reason_that_no_store_can_keep_is_refused_by_name(pool_of):
    """Half of a character was a UnicodeEncodeError of the store, where there was one."""
    pool = pool_of({"a": 1})
    for reason, kind in (("\ud800", ValueError), (None, TypeError)):
        with pytest.raises(kind, match="reason"):
            pool.cool("a", 10, reason)
    assert pool.stats().free == 1


def test_after_a_cooldown_one_lease_at_a_time_tries_the_account(pool_of, clock):
    """P-54: no herd; once one ended well, all the room is there again."""
    pool = pool_of({"a": 5})
    pool.cool("a", 10)
    clock.advance(10)
    assert pool.stats().accounts["a"].free == 1
    probe = pool.acquire(timeout=0)
    assert pool.stats().accounts["a"].state == "full"
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    probe.report((429, {"Retry-After": "7"}, ""))
    probe.release()
    clock.advance(7)
    probe = pool.acquire(timeout=0)
    assert pool.stats().free == 0
    probe.release()
    assert pool.stats().free == 5


def test_reset_clears_what_verdicts_made_and_not_what_the_configuration_says(pool_of, clock):
    """P-62: cooldown and probing end at once; a broken account stays broken."""
    pool = pool_of({"a": 3, "b": {"maxJobs": 1, "error": "logged out"}})
    pool.cool("a", 1e6)
    pool.reset("a")
    assert pool.stats().accounts["a"].free == 3
    pool.cool("a", 10)
    clock.advance(10)
    probe = pool.acquire()
    pool.reset(probe.account)
    assert pool.stats().accounts["a"].free == 2
    pool.reset("b")
    assert pool.stats().accounts["b"].state == "broken"
    assert probe.release()


def test_a_healed_account_ends_its_cooldown(pool_of, clock):
    """P-62: when the configuration's error goes, so does the pause that came with it."""
    pool = pool_of(table := {"a": 3})
    pool.cool("a", 1e6)
    table["a"] = {"maxJobs": 3, "error": "logged out"}
    pool.refresh()
    assert pool.stats().accounts["a"].state == "broken"
    table["a"] = 3
    pool.refresh()
    assert pool.stats().accounts["a"].free == 1, "it probes"
    pool.acquire().release()
    assert pool.stats().accounts["a"].free == 3


@pytest.mark.parametrize(
    ("act", "kind", "named"),
    [
        (lambda pool: pool.cool("nobody", 5), ValueError, "nobody"),
        (lambda pool: pool.reset("nobody"), ValueError, "nobody"),
        (lambda pool: pool.cool("a", -5), ValueError, "seconds"),
        (lambda pool: pool.cool("a", "5"), TypeError, "seconds"),
        (lambda pool: pool.cool("a", 5, reason=7), TypeError, "reason"),
        (lambda pool: pool.cool(5, 5), TypeError, "account_id"),
        (lambda pool: pool.renew(ttl=5), TypeError, "lease_id"),
        (lambda pool: pool.reconcile(), ValueError, "cannot list"),
    ],
)
def test_wrong_commands_are_refused_by_name(pool_of, act, kind, named):
    """An operator's typing error changes nothing."""
    pool = pool_of({"a": 1})
    with pytest.raises(kind, match=named):
        act(pool)
    assert pool.stats().free == 1


def test_a_closed_pool_can_still_be_looked_at(pool_of):
    """Stats, holders and explain go on; only acquiring ends."""
    pool = pool_of({"a": 2})
    lease = pool.acquire()
    with pool:
        assert pool.stats().free == 1
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert pool.stats().in_flight == 1
    assert [holder.id for holder in pool.holders()] == [lease.id]
    assert pool.explain() == {"a": "eligible"}
    assert lease.release()


def test_a_pool_closed_before_its_first_load_can_be_looked_at_too():
    """Nothing is fetched any more, and nothing hangs."""
    pool = AccountPool(source={"a": 2})
    pool.close()
    assert pool.stats().capacity == 0
    assert pool.holders() == ()
    with pytest.raises(PoolClosed):
        pool.acquire()


def test_waiters_of_several_pools_do_not_know_each_other(pool_of):
    """Each pool has its own line, also over one clock."""
    one, two = pool_of({"a": 1}), pool_of({"a": 1})
    leases = [one.acquire(), two.acquire()]
    (first,), (second,) = in_line(one, 1), in_line(two, 1)
    leases[1].release()
    assert result(second).release()
    assert not first.done()
    leases[0].release()
    assert result(first).release()
