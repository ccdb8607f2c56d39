"""What one event costs a process in which many wait for a shared store, each with a wish of its own."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter

import pytest
from crew import start
from shelves import owner, waiting
from stepping import until

from balancer import AccountPool, NoAccounts, StoreUnavailable
from balancer.rules import operations as ops
from balancer.testing import at_rest
from balancer.waiting.threads import ThreadWaiter

ACCOUNTS = {f"account-{n:02}": 1 for n in range(40)}
NAMES = sorted(ACCOUNTS)
PAIRS = list(itertools.islice(itertools.combinations(NAMES[1:], 2), 500))
EXHAUSTED = (412, {}, '{"error": "Not enough credits"}')
FEW = 8
"""Questions after a release at most, whoever waits."""


def pinned(number):
    """Return so many wishes for one account each."""
    return [{"account": f"account-{n:02}"} for n in range(number)]


def excluding(number):
    """Return so many wishes for all accounts but two, no two the same."""
    return [{"exclude": pair} for pair in PAIRS[:number]]


def among_three(number):
    """Return so many wishes for one of three accounts, no two the same."""
    return [
        {"where": lambda account, three={NAMES[0], *pair}: account.id in three} for pair in PAIRS[:number]
    ]


def modest(number):
    """Return so many wishes for an account with nothing on it, no two the same."""
    return [{"max_jobs": 1, **wish} for wish in among_three(number)]


@contextlib.contextmanager
def a_crowd(pool, wishes):
    """Have a caller wait for each wish; give the list of the leases that they got, and their errors."""
    got, ended = [], threading.Event()

    def wait(wish):
        try:
            got.append(pool.acquire(timeout=600, **wish))
        except Exception as error:  # noqa: BLE001  # the test looks at it
            if not ended.is_set():
                got.append(error)

    for wish in wishes:
        start(wait, wish)
    until(lambda: pool.stats().waiting == len(wishes), 60)
    at_rest(pool, callers=len(wishes))
    try:
        yield got
    finally:
        ended.set()
        pool.close()


def asked(shelf, pool, begun):
    """Return how often each kind of operation was asked for a pool since so many had been."""
    calls = itertools.islice(shelf.calls, begun, None)
    return Counter(type(operation) for name, operation in calls if name == owner(pool))


@pytest.fixture
def woken(monkeypatch):
    """Return the callers that were woken, in order, each as often as it was."""
    found, wake = [], ThreadWaiter.wake

    def counted(waiter):
        found.append(waiter)
        wake(waiter)

    monkeypatch.setattr(ThreadWaiter, "wake", counted)
    return found


@pytest.mark.parametrize("crowd", [10, 500])
@pytest.mark.parametrize("wishes", [pinned, excluding, among_three, modest])
def test_a_release_asks_as_little_however_many_wait(pools, shelf, never_by_itself, *, woken, wishes, crowd):
    """P-30: one slot comes free; it serves one, and the store is not asked for all the others in turn."""
    accounts = {f"account-{n:02}": 1 for n in range(max(40, crowd))} if wishes is pinned else ACCOUNTS
    other, pool = (pools(source=accounts, reconcile_every=None) for _ in range(2))
    leases = {lease.account.id: lease for lease in (other.acquire(timeout=0) for _ in accounts)}
    with a_crowd(pool, wishes(crowd)) as got:
        begun = len(shelf.calls)
        woken.clear()
        ours = {*pool._core.store.wait_queue.waiters}
        leases[NAMES[0]].release()
        until(lambda: got)
        at_rest(pool, callers=crowd - 1)
        assert [lease.account.id for lease in got] == [NAMES[0]]
        assert asked(shelf, pool, begun)[ops.Acquire] <= FEW
        assert len(ours.intersection(woken)) == 1


@pytest.mark.parametrize("crowd", [10, 500])
def test_a_release_in_the_process_that_waits_asks_as_little(pools, shelf, never_by_itself, crowd):
    """P-30: who releases may call the thread off its listening, which is no reason to ask for all."""
    accounts = {f"account-{n:02}": 1 for n in range(max(40, crowd))}
    pool = pools(source=accounts, reconcile_every=None)
    leases = {lease.account.id: lease for lease in (pool.acquire(timeout=0) for _ in accounts)}
    with a_crowd(pool, pinned(crowd)) as got:
        for turn in range(5):
            begun = len(shelf.calls)
            leases[NAMES[turn]].release()
            pool._core.store.backend.poke()
            until(lambda turn=turn: len(got) == turn + 1)
            at_rest(pool, callers=crowd - turn - 1)
            assert asked(shelf, pool, begun)[ops.Acquire] <= FEW


def test_what_no_one_here_can_use_goes_to_the_others(pools, shelf, never_by_itself):
    """P-12, P-28: a crowd was offered the slot first, which is of no use to any of it."""
    accounts = {**ACCOUNTS, NAMES[0]: 2}
    other, crowded, third = (pools(source=accounts, reconcile_every=None) for _ in range(3))
    leases = [other.acquire(timeout=0) for _ in range(41)]
    lease = next(lease for lease in leases if lease.account.id == NAMES[0])
    with a_crowd(crowded, modest(200)) as got:
        caller = waiting(third, account=NAMES[0], timeout=60)
        begun = len(shelf.calls)
        lease.release()
        assert caller.result(20).account.id == NAMES[0]
        at_rest(crowded, callers=200)
        assert not got
        # It looks around for all once, and again if it is called off meanwhile: each account is refused once.
        assert asked(shelf, crowded, begun)[ops.Acquire] <= 2 * len(ACCOUNTS) + FEW


def test_everybody_is_served_in_turn_as_slots_come_free(pools, never_by_itself):
    """P-28, P-34: several slots at once, wishes of every kind: nobody is left behind, and no slot is."""
    other, pool = (pools(source=ACCOUNTS, reconcile_every=None) for _ in range(2))
    leases = [other.acquire(timeout=0) for _ in ACCOUNTS]
    wishes = [wish for kind in (pinned, excluding, among_three, modest) for wish in kind(10)]
    with a_crowd(pool, wishes) as got:
        for lease in leases:
            lease.release()
        taken = set()
        for _ in wishes:
            until(lambda: len(got) > len(taken), 20)
            lease = got[len(taken)]
            taken.add(lease.id)
            lease.release()
        assert len(taken) == len(wishes)
        until(lambda: other.stats().free == len(ACCOUNTS))


def test_a_lost_message_strands_nobody_in_a_crowd(pools, shelf, often):
    """P-28: nothing is told to a process any more; each in it is served by the time it looks around."""
    other, pool = (pools(source=ACCOUNTS, reconcile_every=None) for _ in range(2))
    leases = {lease.account.id: lease for lease in (other.acquire(timeout=0) for _ in ACCOUNTS)}
    with a_crowd(pool, pinned(20)) as got:
        shelf.lose_messages = True
        for name in (NAMES[19], NAMES[3]):
            before = len(got)
            leases[name].release()
            until(lambda before=before: len(got) > before)
            assert got[-1].account.id == name


@pytest.mark.parametrize("crowd", [10, 500])
def test_an_exhausted_account_wakes_those_alone_who_wait_in_vain(pools, shelf, never_by_itself, woken, crowd):
    """P-30, P-53: two wait for that account alone; the others may hope, and sleep on."""
    pool = pools(source=ACCOUNTS, reconcile_every=None)
    leases = {lease.account.id: lease for lease in (pool.acquire(timeout=0) for _ in ACCOUNTS)}
    doomed = [{"account": NAMES[0]}, {"account": NAMES[0], "priority": 1}]
    with a_crowd(pool, [*doomed, *among_three(crowd)]) as got:
        begun = len(shelf.calls)
        woken.clear()
        ours = {*pool._core.store.wait_queue.waiters}
        leases[NAMES[0]].report(EXHAUSTED)
        until(lambda: len(got) == 2)
        at_rest(pool, callers=crowd)
        assert [type(error) for error in got] == [NoAccounts, NoAccounts]
        assert len(ours.intersection(woken)) == 2
        assert sum(asked(shelf, pool, begun).values()) <= 2 * FEW


def test_who_waits_in_vain_hears_of_it_though_the_store_was_away_for_the_look(pools, shelf, never_by_itself):
    """P-53: the look that was asked for is made good."""
    pool = pools(source=ACCOUNTS, reconcile_every=None)
    leases = {lease.account.id: lease for lease in (pool.acquire(timeout=0) for _ in ACCOUNTS)}
    with a_crowd(pool, [{"account": NAMES[0]}, *among_three(5)]) as got:
        missed = []

        def away_for_a_look(name, operation):
            if isinstance(operation, ops.ReadAll) and not missed:
                missed.append(operation)
                raise StoreUnavailable("the shelf is away")

        shelf.before = away_for_a_look
        leases[NAMES[0]].report(EXHAUSTED)
        until(lambda: got)
        assert missed
        assert isinstance(got[0], NoAccounts)


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
def test_a_crowd_over_a_real_store_costs_as_little(store):
    """P-30: the release, then the verdict, with questions to the database counted as they are asked."""
    pool = AccountPool("custom", source=ACCOUNTS, store=store, reconcile_every=None, ttl=1e6)
    leases = {lease.account.id: lease for lease in (pool.acquire(timeout=0) for _ in ACCOUNTS)}
    backend, calls = pool._core.store.backend, []
    call = backend.call
    backend.call = lambda operation, *rest: calls.append(type(operation)) or call(operation, *rest)
    with a_crowd(pool, [*among_three(120), {"account": NAMES[1]}]) as got:
        calls.clear()
        leases[NAMES[0]].release()
        until(lambda: got)
        at_rest(pool, callers=120)
        assert calls.count(ops.Acquire) <= FEW
        calls.clear()
        leases[NAMES[1]].report(EXHAUSTED)
        until(lambda: len(got) == 2)
        at_rest(pool, callers=119)
        assert isinstance(got[1], NoAccounts)
        assert len(calls) <= 2 * FEW
        pool._core.store.held.held.clear()
