"""What a 429 teaches: how many jobs an account really bears, and when one more is tried."""

from __future__ import annotations

import asyncio
import threading

import pytest
from ledgers import Desk, Matching, learn, ours
from prometheus_client import CollectorRegistry, generate_latest
from stepping import until
from structlog.testing import capture_logs

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, Service, VerdictRule
from balancer.prometheus import PoolCollector
from balancer.rules import limits
from balancer.rules.limits import FIRST_WAIT, LONGEST_WAIT, Limit
from balancer.services import SERVICES
from balancer.useapi.verdicts import judge

BUSY = (429, {}, "")
BUSY_FOR = (429, {"Retry-After": "40"}, "")
TAKEN = (201, {}, '{"jobid": "j"}')


class Learning(Desk):
    """A ledger whose accounts refuse and accept."""

    def refuse(self, row):
        """Have a lease's job refused, as a store puts a 429 into effect; end the lease."""
        full = self.learn(row)
        self.ledger.decline(row, self.now)
        self.ledger.end(row, self.now, released=True)
        return full

    def learn(self, row):
        return learn(self.ledger, row, self.now)

    def accept(self, row):
        self.ledger.accept(row, self.now)
        return row

    def run(self, number, account="a"):
        """Return the leases of so many jobs that were taken."""
        return [self.accept(self.take(account)) for _ in range(number)]

    def limit(self, account="a"):
        found = self.ledger.account_states[account].limit
        return None if found is None else found.jobs

    def free(self, account="a"):
        return self.ledger.account_states[account].free

    def taught(self, others):
        """Have the account refuse one while so many others run; return those."""
        rows = self.run(others)
        self.refuse(self.take())
        return rows


def six(others=2):
    """Return a desk whose account says 6 and was seen to bear fewer, and the leases that run on it."""
    desk = Learning(a=6)
    return desk, desk.taught(others)


# -- arithmetic


@pytest.mark.parametrize(
    ("limit", "others", "jobs"),
    [
        (None, 2, 2),
        (None, 1, 1),
        (None, 0, None),
        (None, 6, None),
        (3, 2, 2),
        (3, 5, 3),
        (3, 0, 3),
        (3, 9, 3),
    ],
)
def test_a_limit_is_the_smallest_number_beside_which_a_job_was_refused(limit, others, jobs):
    """A refusal beside k others limits the account to k; none raises a limit, and beside none says little."""
    before = None if limit is None else Limit(limit, 0.0)
    after = limits.refused(before, 6, others, 100.0)
    assert (None if after is None else after.jobs) == jobs


def test_every_refusal_begins_the_wait_again_at_its_present_length():
    """Whatever it teaches, the next trial is a whole wait away, and that stays as long as it was."""
    limit = Limit(3, 50.0, wait=240.0, due=True)
    for others in (0, 2, 5):
        after = limits.refused(limit, 6, others, 100.0)
        assert (after.next_trial_at, after.wait, after.due) == (340.0, 240.0, False)


def test_refused_trials_double_the_wait_up_to_two_hours():
    """60 s, 2 minutes, 4 minutes and so on; an accepted one makes it 60 s again."""
    limit, waits = limits.refused(None, 6, 2, 0.0), []
    for _ in range(9):
        limit = limits.trial_refused(limit, 0.0)
        waits.append(limit.wait)
    assert waits == [120, 240, 480, 960, 1920, 3840, 7200, 7200, 7200]
    assert limit.next_trial_at == LONGEST_WAIT
    assert limits.trial_accepted(limit, 6, 0.0) == Limit(3, FIRST_WAIT)


def test_an_account_without_limit_is_bound_by_its_capacity_alone():
    """The bound is the smallest of capacity and limit, one more while a trial is due."""
    found = [limits.bound(6, limit) for limit in (None, Limit(2, 0.0), Limit(2, 0.0, due=True))]
    assert found == [6, 2, 3]
    assert limits.bound(6, Limit(2, 0.0, due=True), may_try=False) == 2
    assert limits.bound(1, Limit(2, 0.0, due=True)) == 1


# -- what teaches, and what


def test_a_refusal_beside_two_limits_the_account_to_two():
    """It is full then and not cooling; the next job goes when one ends."""
    desk, rows = six()
    assert (desk.limit(), desk.state("a"), desk.free(), desk.take()) == (2, "full", 0, None)
    assert desk.ledger.account_states["a"].cooldowns == {}
    desk.release(rows[0])
    assert (desk.state("a"), desk.free()) == ("ready", 1)
    assert desk.take() is not None


def test_a_refusal_beside_none_teaches_nothing():
    """An account that refuses its only job has to cool; a limit that it has stays as it was."""
    desk = Learning(a=6)
    assert (desk.refuse(desk.take()), desk.limit()) == (False, None)
    rows = desk.taught(2)
    for row in rows:
        desk.release(row)
    assert (desk.refuse(desk.take()), desk.limit()) == (False, 2)


def test_only_jobs_that_may_run_are_counted():
    """Leases that were refused too, and ambiguous ones, are no jobs; leases without an answer may be."""
    desk = Learning(a=10)
    desk.run(1)
    desk.take()  # no answer yet: it may run
    refused, unsure, last = desk.take(), desk.take(), desk.take()
    desk.ledger.decline(refused, 0.0)
    desk.ledger.doubt(unsure, 600.0, 0.0)
    assert desk.learn(last)
    assert desk.limit() == 2


def test_what_was_refused_first_and_taken_then_runs():
    """A lease's last answer counts, but once its job was taken no other word makes it stop to run."""
    desk = Learning(a=10)
    row = desk.take()
    desk.ledger.decline(row, 0.0)
    desk.accept(row)
    desk.ledger.decline(row, 0.0)
    assert desk.refuse(desk.take())
    assert desk.limit() == 1


def test_jobs_of_others_count():
    """External jobs run on the account like ours."""
    desk = Learning(a=6)
    desk.ledger.set_external({"a": 2})
    desk.taught(1)
    assert desk.limit() == 3
    assert desk.ledger.account_states["a"].why_not(None, None) == (
        "full: 1 in flight and 2 external, limited to 3 of 6 by a 429"
    )


@pytest.mark.parametrize("how", ["accept", "bind"])
def test_a_lease_whose_job_was_taken_teaches_nothing(how):
    """What a poll through the same lease is answered with is not about its slot."""
    desk = Learning(a=6)
    desk.run(1)
    row = desk.take()
    desk.accept(row) if how == "accept" else desk.bind(row, "job")
    assert (desk.learn(row), desk.limit()) == (False, None)


def test_a_lease_with_a_capacity_of_its_own_teaches_nothing():
    """The server refused the number that the request brought."""
    desk = Learning(a=6)
    desk.run(2)
    row = desk.take(max_jobs=9)
    row.max_jobs = 9
    assert (desk.learn(row), desk.limit()) == (False, None)


@pytest.mark.parametrize(
    ("service", "answer", "teaches"),
    [
        ("flowmusic", BUSY, True),
        ("flowmusic", (429, {"Retry-After": "30"}, ""), True),
        ("flowmusic", (429, {}, "daily quota reached"), False),
        ("flowmusic", (404, {}, "account a@b.c not found"), False),
        ("flowmusic", (503, {}, ""), False),
        ("google-flow", (429, {}, "USER_REQUESTS_THROTTLED"), False),
        ("google-flow", (429, {}, "UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC"), False),
        ("google-flow", (429, {}, "no_eligible_account"), False),
        ("google-flow", (429, {}, "PER_MODEL_DAILY_QUOTA_REACHED"), False),
        ("google-flow", (403, {}, "captcha_quality"), False),
        ("google-flow", (503, {}, '"status": "UNAVAILABLE"'), False),
        ("google-flow", BUSY, True),
        ("google-vids", BUSY, False),
    ],
)
def test_which_answers_teach(service, answer, teaches):
    """A 429 of capacity does; throttling, a model's quota, a full pool and every other code do not."""
    assert judge(answer, SERVICES[service], draw=lambda: 0.0, wall=0.0).teaches is teaches


@pytest.mark.parametrize("rule", [{"teaches": False}, {"scoped": True}, {"pool_wide": True}])
def test_a_rule_of_a_row_may_say_that_its_429_does_not_teach(rule):
    """It says so itself, or is about one model, or about all accounts."""
    row = Service(key="own", path="/v1/own", rules=(VerdictRule(status=429, verdict="BUSY", **rule),))
    assert judge(BUSY, row, draw=lambda: 0.0, wall=0.0).teaches is False


# -- trials


def test_after_a_minute_one_job_more_is_let_in():
    """It is the trial; there is one at a time."""
    desk, _ = six()
    desk.at(59.9)
    assert desk.take() is None
    desk.at(60)
    assert desk.free() == 1
    assert desk.take() is not None
    assert (desk.take(), desk.free(), desk.limit()) == (None, 0, 2)


def test_a_trial_stays_due_until_a_job_is_granted_at_the_limit():
    """Jobs below the limit are no trials, however late they come."""
    desk, rows = six()
    desk.release(rows[0])
    desk.at(1000)
    assert desk.free() == 2
    assert desk.ledger.account_states["a"].limit.trial is None
    desk.take()
    assert desk.ledger.account_states["a"].limit.due
    trial = desk.take()
    assert desk.ledger.account_states["a"].limit.trial == trial.key


@pytest.mark.parametrize("how", ["accept", "bind"])
def test_an_accepted_trial_raises_the_limit_by_one(how):
    """The next comes after 60 s again."""
    desk, _ = six()
    desk.at(60)
    trial = desk.take()
    desk.at(70)
    desk.accept(trial) if how == "accept" else desk.bind(trial, "job")
    assert (desk.limit(), desk.take()) == (3, None)
    desk.at(129.9)
    assert desk.take() is None
    desk.at(130)
    assert desk.take() is not None


def test_a_trial_whose_job_was_over_before_the_bind_is_an_accepted_one():
    """The webhook was quicker than the bind."""
    desk, _ = six()
    desk.at(60)
    trial = desk.take()
    desk.release_job("quick")
    desk.bind(trial, "quick")
    assert desk.limit() == 3


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_refused_trial_leaves_the_limit_and_doubles_the_wait(left):
    """However many ran beside it."""
    desk, rows = six()
    desk.at(60)
    trial = desk.take()
    for row in rows[left:]:
        desk.release(row)
    assert desk.refuse(trial) is (left > 0)
    assert desk.limit() == 2
    desk.run(2 - left)
    desk.at(179.9)
    assert desk.take() is None
    desk.at(180)
    assert desk.take() is not None


@pytest.mark.parametrize(
    "end",
    [
        lambda desk, trial: desk.release(trial),
        lambda desk, trial: (desk.ledger.decline(trial, desk.now), desk.release(trial)),
        lambda desk, trial: (desk.ledger.doubt(trial, 70.0, desk.now), desk.at(70)),
    ],
    ids=["no answer", "another verdict", "ambiguous"],
)
def test_whatever_else_ends_a_trial_teaches_nothing(end):
    """The next one comes after the same wait, counted from that end."""
    desk, _ = six()
    desk.at(60)
    trial = desk.take()
    desk.at(65)
    end(desk, trial)
    assert desk.limit() == 2
    desk.at(124.9)
    assert desk.take() is None
    desk.at(125)
    assert desk.take() is not None


def test_another_refusal_while_a_trial_is_under_way_still_teaches():
    """It lowers the limit; what becomes of the trial counts from there."""
    desk, rows = six()
    desk.at(60)
    trial = desk.take()
    for row in rows:
        desk.release(row)
    desk.refuse(desk.take())  # beside the trial, of which nobody knows yet that it does not run
    assert desk.limit() == 1
    desk.accept(trial)
    assert desk.limit() == 2


def test_a_lease_with_a_capacity_of_its_own_is_never_the_trial():
    """It is bound by the limit, as all are, and the trial stays due for somebody else."""
    desk, rows = six()
    desk.at(60)
    assert desk.take(max_jobs=9) is None
    desk.release(rows[0])
    row = desk.take(max_jobs=9)
    assert row is not None
    assert desk.ledger.account_states["a"].limit.due


# -- its end


def test_at_the_capacity_no_limit_is_left():
    """Five and one that was taken are the six that the account says."""
    desk, _ = six(5)
    desk.at(60)
    desk.accept(desk.take())
    assert desk.limit() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda desk: desk.configure(a=7),
        lambda desk: desk.configure(a=5),
        lambda desk: (desk.configure(a=(6, "logged out")), desk.configure(a=6)),
        lambda desk: desk.ledger.reset(desk.ledger.account_states["a"]),
    ],
    ids=["more", "fewer", "healed", "reset"],
)
def test_a_limit_ends_with_what_it_was_learned_under(change):
    """A changed ``maxJobs``, a mended account, and ``reset`` take it away; no timer stays behind."""
    desk, _ = six()
    change(desk)
    assert desk.limit() is None
    assert desk.free() > 0
    assert desk.ledger.account_states["a"] not in desk.ledger.timers


def test_a_limit_outlives_a_refresh_that_changes_nothing_of_it():
    """Another account came, this one was gone for a while: what it bears is as it was."""
    desk, _ = six()
    desk.configure(a=6, b=1)
    assert desk.limit() == 2
    desk.configure(b=1)
    desk.configure(a=6, b=1)
    assert desk.limit() == 2


def test_an_account_that_is_gone_takes_its_timer_with_it():
    """Nothing that is due later may bring a forgotten account back."""
    desk, rows = six()
    desk.configure(b=1)
    for row in rows:
        desk.release(row)
    assert "a" not in desk.ledger.account_states
    desk.at(100)
    assert [each.id for each in desk.ledger.selector.with_room()] == ["b"]


def test_a_lost_job_of_the_list_ends_what_was_learned_of_the_rest():
    """External jobs that end make room below the limit, and never more than that."""
    desk = Matching(a=6)
    desk.apply(desk.compare(ours("x"), ours("y")))
    row = desk.take()
    learn(desk.ledger, row, desk.now)
    desk.ledger.end(row, desk.now, released=True)
    assert desk.ledger.account_states["a"].left == 0
    desk.apply(desk.compare(ours("y")))
    assert desk.ledger.account_states["a"].left == 1


# -- the pool


def learned(pool, others=2):
    """Have an account refuse a job beside so many others; return the leases of those."""
    leases = [pool.acquire(timeout=0) for _ in range(others)]
    for lease in leases:
        lease.report(TAKEN)
    with pool.acquire(timeout=0) as lease:
        lease.report(BUSY)
    return leases


def test_stats_and_explain_tell_of_a_limit(clock):
    """``free`` goes by the bound, the capacity stays what the configuration says."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        leases = learned(pool)
        stats = pool.stats()
        account = stats.accounts["a"]
        assert (account.limit, account.free, account.capacity, account.state) == (2, 0, 6, "full")
        assert account.reason == "limited to 2 of 6 by a 429"
        assert (stats.free, stats.capacity) == (0, 6)
        why = "full: 2 in flight, limited to 2 of 6 by a 429"
        assert pool.explain() == {"a": why}
        with pytest.raises(AcquireTimeout, match=why) as caught:
            pool.acquire(timeout=0)
        assert (caught.value.retry_at - stats.fetched_at).total_seconds() == pytest.approx(60)
        leases[0].release()
        assert pool.stats().accounts["a"].free == 1


def test_an_account_that_only_taught_is_asked_again_as_soon_as_it_has_room(clock):
    """No cooldown is put on it, and a slot that comes free is handed out at once."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        leases = learned(pool)
        leases[0].release()
        assert pool.acquire(timeout=0).account.id == "a"


def test_a_time_that_the_answer_names_is_waited_for_all_the_same(clock):
    """The account is limited, and cools for as long as the answer says."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        kept = pool.acquire()
        with pool.acquire() as lease:
            lease.report(BUSY_FOR)
        account = pool.stats().accounts["a"]
        assert (account.limit, account.state) == (1, "cooldown")
        kept.release()
        clock.advance(39.9)
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        clock.advance(0.1)
        assert pool.acquire(timeout=0)


def test_a_refusal_beside_none_cools_the_account(clock):
    """As before limits were learned."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        with pool.acquire() as lease:
            lease.report(BUSY)
        account = pool.stats().accounts["a"]
        assert (account.limit, account.state) == (None, "cooldown")


def test_without_learning_an_account_cools_as_it_did(clock):
    """``learn_limits=False``."""
    with AccountPool(source={"a": 6}, clock=clock, learn_limits=False) as pool:
        learned(pool)
        account = pool.stats().accounts["a"]
        assert (account.limit, account.state) == (None, "cooldown")


def test_learn_limits_must_be_said_clearly():
    """A word is no answer."""
    with pytest.raises(TypeError, match="learn_limits must be True or False, not str"):
        AccountPool(source={"a": 1}, learn_limits="no")


def test_a_thread_that_waits_is_woken_when_a_trial_is_due(clock):
    """Nobody has to release or to ask: the trial becomes due by itself."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        leases, got = learned(pool), []
        thread = threading.Thread(target=lambda: got.append(pool.acquire(timeout=1000)))
        thread.start()
        until(lambda: pool.stats().waiting == 1)
        clock.advance(59)
        assert not got
        clock.advance(1)
        thread.join(10)
        assert (len(got), len(leases)) == (1, 2)


def test_the_next_trial_wakes_who_waits_after_one_that_ended_unanswered(clock):
    """The time of the next is known only when the trial ends, and who waits is woken by that."""
    with AccountPool(source={"a": 6}, clock=clock, reconcile_every=None, ttl=1e6) as pool:
        leases = learned(pool)
        clock.advance(60)
        trial, got = pool.acquire(timeout=0), []
        thread = threading.Thread(target=lambda: got.append(pool.acquire(timeout=1000)))
        thread.start()
        until(lambda: pool.stats().waiting == 1)
        trial.release()
        assert pool._core.store.next_housekeeping_at == 120
        clock.advance(60)
        thread.join(10)
        assert (len(got), len(leases)) == (1, 2)


def test_a_task_that_waits_gets_the_slot_that_an_accepted_trial_has_shown(clock):
    """The trial raises the limit, and the next trial comes a minute later."""

    async def scene():
        async with AsyncAccountPool(source={"a": 6}, clock=clock) as pool:
            leases = [await pool.acquire() for _ in range(3)]
            await leases[0].report(TAKEN)
            await leases[2].report(BUSY)
            await leases.pop().release()
            task = asyncio.ensure_future(pool.acquire())
            await asyncio.sleep(0)
            clock.advance(60)
            lease = await task
            await lease.report(TAKEN)
            return (await pool.stats()).accounts["a"].limit

    assert asyncio.run(scene()) == 3


def test_run_comes_back_to_an_account_whose_429_only_taught(clock):
    """The second attempt may go to the same account once another job there has ended."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        kept, answers, got = pool.acquire(), [BUSY, TAKEN], []
        kept.report(TAKEN)
        thread = threading.Thread(target=lambda: got.append(pool.run(lambda _: answers.pop(0), timeout=9)))
        thread.start()
        until(lambda: pool.stats().waiting == 1)
        kept.release()
        thread.join(10)
        assert (got, clock()) == ([TAKEN], 0)


def test_what_is_learned_and_what_is_raised_are_events(clock):
    """Each names the account, what it bears by now and what it says."""
    with capture_logs() as seen, AccountPool("flowmusic", source={"a": 3}, clock=clock) as pool:
        leases = learned(pool)
        clock.advance(60)
        pool.acquire(timeout=0).report(TAKEN)
        assert len(leases) == 2
    told = [event for event in seen if event["event"].startswith("limit_")]
    facts = {"service": "flowmusic", "account": "a", "capacity": 3, "log_level": "info"}
    assert told == [
        {"event": "limit_learned", "limit": 2, **facts},
        {"event": "limit_raised", "limit": 3, **facts},
    ]


def test_a_limit_is_a_gauge(clock):
    """Only of accounts that have one."""
    with AccountPool("flowmusic", source={"a": 6}, clock=clock) as pool:
        registry = CollectorRegistry()
        registry.register(PoolCollector(pool))
        assert b"balancer_account_limit_slots{" not in generate_latest(registry)
        learned(pool)
        text = generate_latest(registry).decode()
    assert 'balancer_account_limit_slots{account="a",customer="",service="flowmusic"} 2.0' in text


def test_an_account_without_limit_stays_on_the_fast_path(clock):
    """Only what has been taught, or cools, leaves it; after a reset it is back."""
    with AccountPool(source={"a": 6}, clock=clock) as pool:
        leases = learned(pool)
        state = pool._core.store.ledger.account_states["a"]
        assert not state.plain
        pool.reset("a")
        assert state.plain
        assert pool.stats().free == 6 - len(leases)
