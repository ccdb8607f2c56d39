"""What a step costs, in steps of the interpreter: more accounts or more callers in line make it no dearer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from itertools import combinations, islice

import pytest
from stepping import SteppedLoop

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, NoAccounts
from balancer.engine import reports

EXHAUSTED = (412, {}, '{"error": "Not enough credits"}')
BROKEN = (596, {}, '{"error": "session"}')
FEW, MANY = 100, 10_000
"""Accounts; both are more than a text shows."""


class Steps:
    """Counts the lines and the calls that this thread carries out, of whatever code."""

    def __init__(self):
        self.count = 0

    def profile(self, frame, event, argument):
        self.count += 1

    def trace(self, frame, event, argument):
        self.count += 1
        return self.trace


def steps(act):
    """Return how many steps ``act`` takes; what is left by a traced run before ours is put back."""
    counter, before = Steps(), sys.gettrace()
    gc.disable()
    sys.settrace(counter.trace)
    sys.setprofile(counter.profile)
    try:
        act()
    finally:
        sys.setprofile(None)
        sys.settrace(before)
        gc.enable()
    return counter.count


def least(act, times=5):
    """Return the steps of the shortest of several runs."""
    return min(steps(act) for _ in range(times))


def full_pool(accounts, **options):
    """Return a pool without a free slot, and the leases that have them."""
    pool = AccountPool(source={f"a{n}": 1 for n in range(accounts)}, ttl=1e9, reconcile_every=None, **options)
    pool.refresh()
    return pool, [pool.acquire() for _ in range(accounts)]


def turned_away(pool, **wish):
    """Return what is turned away, and nothing else."""

    def act():
        with contextlib.suppress(AcquireTimeout, NoAccounts):
            pool.acquire(**wish)
            raise AssertionError("there was room")

    return act


def held(pool, leases):
    """Leave them as they are."""


def bound(pool, leases):
    """Have a job on each account: the text says how many there are, and since when."""
    for number, lease in enumerate(leases):
        lease.bind(f"job-{number}")


def cooling(pool, leases):
    """Have each account cool down, so that the text says when the first of them can be tried again."""
    for number in range(len(leases)):
        pool.cool(f"a{number}", 60 + number)


@pytest.mark.parametrize("state", [held, bound, cooling])
@pytest.mark.parametrize(
    "wish",
    [{"timeout": 0}, {"timeout": 0.001}, {"timeout": 0, "account": "a7"}, {"timeout": 0, "scope": "s"}],
    ids=["at once", "after a wait", "one account", "scope"],
)
def test_a_refusal_costs_no_more_the_more_accounts_there_are(state, wish):
    """A text shows at most 20 accounts, and no other one is worked out for it."""
    counts = []
    for accounts in (FEW, MANY):
        pool, leases = full_pool(accounts)
        state(pool, leases)
        counts.append(least(turned_away(pool, **wish), times=3))
        pool.close()
    assert counts[1] <= 1.2 * counts[0], f"{FEW:,} accounts: {counts[0]:,} steps, {MANY:,}: {counts[1]:,}"


@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
def test_leaving_out_an_account_costs_no_more_the_more_accounts_there_are(strategy):
    """Nobody lists the others: they are all but one."""
    counts = []
    for accounts in (FEW, MANY):
        pool = AccountPool(source={f"a{n}": 1 for n in range(accounts)}, ttl=1e9, strategy=strategy)
        pool.refresh()
        counts.append(least(lambda pool=pool: pool.acquire(timeout=0, exclude=["a7"]).release()))
        pool.close()
    assert counts[1] <= 1.2 * counts[0], f"{FEW:,} accounts: {counts[0]:,} steps, {MANY:,}: {counts[1]:,}"


def test_a_refusal_for_good_costs_no_more_the_more_accounts_there_are():
    """Where no account can be used the text shows 20 of them too, and works out no more."""
    counts = []
    for accounts in (FEW, MANY):
        entry = {"maxJobs": 1, "error": "expired"}
        pool = AccountPool(source={f"a{n}": entry for n in range(accounts)}, ttl=1e9, reconcile_every=None)
        with contextlib.suppress(NoAccounts):
            pool.acquire(timeout=0)
        counts.append(least(turned_away(pool, timeout=0), times=3))
        pool.close()
    assert counts[1] <= 1.2 * counts[0], f"{FEW:,} accounts: {counts[0]:,} steps, {MANY:,}: {counts[1]:,}"


def test_a_refusal_names_twenty_accounts():
    """As many as fit a text; how many there are in all it need not say one by one."""
    pool, _leases = full_pool(FEW)
    with pytest.raises(AcquireTimeout) as refused:
        pool.acquire(timeout=0)
    assert len(refused.value.accounts) == 20
    assert sum(f"a{n}: " in str(refused.value) for n in range(FEW)) == 20


class CountingLoop(SteppedLoop):
    """A loop that counts who is woken from outside of it; two threads may wake the same at once."""

    def __init__(self):
        super().__init__()
        self.woken = set()

    @property
    def wakes(self):
        return len(self.woken)

    def call_soon_threadsafe(self, callback, *args, **options):
        self.woken.add(callback)
        return super().call_soon_threadsafe(callback, *args, **options)


class Crowd:
    """Tasks that stand in line for a pool, each with its wish, on a loop that is stepped by hand."""

    def __init__(self, loop, pool, wishes):
        self.loop, self.pool = loop, AsyncAccountPool(pool=pool)
        self.tasks = [loop.create_task(self.wait(wish)) for wish in wishes]
        loop.tick(3)
        assert pool.stats().waiting == len(wishes)
        loop.woken.clear()

    async def wait(self, wish):
        return await self.pool.acquire(**wish)

    def ended(self):
        """Return the tasks that wait no more, after the loop has had its turn."""
        self.loop.tick(5)
        return [task for task in self.tasks if task.done()]

    def leave(self):
        """Have everybody go."""
        for task in self.tasks:
            task.cancel()
        self.loop.tick(5)
        for task in self.tasks:
            if not task.cancelled() and task.exception() is None:
                self.loop.run_until_complete(task.result().release())


def excluding(number):
    """Return so many wishes, each of which excludes two accounts of its own choice."""
    pairs = combinations([f"a{n}" for n in range(1, 60)], 2)
    return [{"exclude": pair} for pair in islice(pairs, number)]


def scoped(number):
    """Return so many wishes, each for a scope of its own."""
    return [{"scope": f"model-{n}"} for n in range(number)]


def several(number):
    """Return so many wishes, each for some accounts of its own choice, the one that comes free among them."""
    pairs = combinations([f"a{n}" for n in range(1, 60)], 2)
    return [{"where": lambda account, ids=("a0", *pair): account.id in ids} for pair in islice(pairs, number)]


@pytest.mark.parametrize("wishes", [excluding, scoped, several])
def test_a_release_costs_no_more_the_more_wishes_stand_in_line(wishes):
    """It serves one caller, the first who can use the slot, and looks at few others."""
    counts = []
    for number in (10, 1_000):
        pool, leases = full_pool(60)
        lease = next(lease for lease in leases if lease.account.id == "a0")
        with CountingLoop() as loop:
            crowd = Crowd(loop, pool, wishes(number))
            counts.append(steps(lease.release))
            served = crowd.ended()
            assert served == crowd.tasks[:1]
            crowd.leave()
        pool.close()
    assert counts[1] <= 2 * counts[0], f"10 in line: {counts[0]:,} steps, 1,000: {counts[1]:,}"


@pytest.mark.parametrize("answer", [EXHAUSTED, BROKEN], ids=["exhausted", "broken"])
def test_an_account_that_is_out_wakes_only_those_for_whom_hope_has_ended(answer):
    """Whoever can wait for another account sleeps on; who waited for this one alone is told at once."""
    pool = AccountPool(source={"a": 1, "b": 1}, ttl=1e9, reconcile_every=None)
    pool.refresh()
    lease, other = pool.acquire(account="a"), pool.acquire(account="b")
    with CountingLoop() as loop:
        doomed = [{"account": "a"}, {"exclude": ["b"]}, {"account": "a", "scope": "s"}]
        crowd = Crowd(loop, pool, [{}] * 200 + [{"scope": f"s{n}"} for n in range(20)] + doomed)
        lease.report(answer)
        woken = loop.wakes
        ended = crowd.ended()
        assert ended == crowd.tasks[-len(doomed) :]
        assert all(isinstance(task.exception(), NoAccounts) for task in ended)
        assert woken <= len(doomed) + 1, f"{woken} were woken"  # one may keep the time
        crowd.leave()
    assert lease.release()
    assert other.release()


@pytest.mark.parametrize("answer", [EXHAUSTED, BROKEN], ids=["exhausted", "broken"])
def test_a_verdict_costs_no_more_the_more_callers_stand_in_line(answer):
    """Nothing is done for each of those who have another account to hope for."""
    counts = []
    for number in (20, 2_000):
        pool = AccountPool(source={"a": 1, "b": 1}, ttl=1e9, reconcile_every=None)
        pool.refresh()
        lease, _other = pool.acquire(account="a"), pool.acquire(account="b")
        with CountingLoop() as loop:
            crowd = Crowd(loop, pool, [{}] * number)

            def report(lease=lease, loop=loop):
                lease.report(answer)
                loop.tick(3)

            counts.append(steps(report))
            crowd.leave()
        pool.close()
    assert counts[1] <= 2 * counts[0], f"20 in line: {counts[0]:,} steps, 2,000: {counts[1]:,}"


def test_callers_who_run_out_of_time_cost_alike_however_many_accounts_there_are():
    """A crowd that is turned away together works out no more than each of its texts shows."""
    counts = []
    for accounts in (FEW, 2_000):
        pool, _leases = full_pool(accounts)
        tasks = AsyncAccountPool(pool=pool)

        async def crowd(tasks=tasks):
            waits = [_waited(tasks.acquire(timeout=0.01)) for _ in range(20)]
            ends = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(end, AcquireTimeout) for end in ends)

        counts.append(least(lambda crowd=crowd: asyncio.run(crowd()), times=3))
        pool.close()
    assert counts[1] <= 1.3 * counts[0], f"{FEW} accounts: {counts[0]:,} steps, 2,000: {counts[1]:,}"


async def _waited(acquiring):
    return await acquiring


def test_stats_of_many_accounts_are_made_outside_the_lock(monkeypatch):
    """Others wait for the numbers to be read, and not for the objects that people are given."""
    pool = AccountPool("x", source={f"a{number}": 3 for number in range(500)}, reconcile_every=None)
    pool.stats()
    pool.cool("a7", 60, "by hand")
    store, inside = pool._core.store, []
    usual = reports.AccountStats

    def made(**fields):
        inside.append(store.is_inside())
        return usual(**fields)

    monkeypatch.setattr(reports, "AccountStats", made)
    accounts = pool.stats().accounts
    assert (len(inside), sum(inside)) == (500, 1)
    assert list(accounts) == [f"a{number}" for number in range(500)]
    assert accounts["a7"].state == "cooldown"
