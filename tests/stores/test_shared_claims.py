"""What one process does for all: the configuration and the list of jobs, whatever becomes of that process."""

from __future__ import annotations

import threading

import pytest
from crew import start
from shelves import Gate, owner
from stepping import until

from balancer import AcquireTimeout, Job, SourceUnavailable, Unauthorized
from balancer.rules import operations as ops


class Played:
    """A source whose answers and moments are the test's."""

    def __init__(self, **accounts):
        self.table, self.trouble, self.running = accounts, None, []
        self.fetches = self.lists = 0
        self.open = threading.Event()
        self.open.set()

    def accounts(self):
        self.fetches += 1
        assert self.open.wait(20)
        if self.trouble is not None:
            raise self.trouble
        return dict(self.table)

    def jobs(self):
        self.lists += 1
        return list(self.running)


def test_the_first_table_and_the_first_list_are_read_once_by_a_fleet(pools):
    """P-55: eight processes start at once; one asks, and nobody is granted anything before the list."""
    source = Played(a=2, b=1)
    source.running = [Job("old", "a")]
    source.open.clear()
    fleet = [pools(source=source) for _ in range(8)]
    callers = [start(pool.acquire, timeout=20) for pool in fleet]
    until(lambda: source.fetches)
    source.open.set()
    until(lambda: sum(caller.done() for caller in callers) == 2)
    assert (source.fetches, source.lists) == (1, 1)
    assert (fleet[0].stats().in_flight, fleet[0].stats().external) == (2, 1)
    source.running.clear()
    while callers:
        until(lambda: any(caller.done() for caller in callers))
        for caller in [caller for caller in callers if caller.done()]:
            caller.result().release()
            callers.remove(caller)


@pytest.mark.parametrize("kind", [ops.Claim, ops.Configure])
def test_a_claim_whose_reply_was_lost_is_in_nobodys_way(pools, shelf, kind):
    """P-27, P-55: who claims again what it holds already is given it, and the fetch goes on."""
    pool = pools(source={"a": 1})
    name = owner(pool)

    def lose(by, operation):
        if by == name and isinstance(operation, kind):
            shelf.lose_replies, shelf.before = 1, None

    shelf.before = lose
    assert pool.acquire(timeout=20).release()
    assert shelf.before is None
    assert pools(source={"a": 1}).acquire(timeout=5)


@pytest.mark.parametrize("reading", ["accounts", "jobs"])
def test_what_was_read_while_the_store_lost_its_memory_is_read_again(pools, shelf, reading):
    """P-26: accounts and old jobs are in the store before anything is granted by them."""
    source = Played(a=2)
    source.running = [Job("old", "a")]
    read = getattr(source, reading)

    def lose():
        setattr(source, reading, read)
        shelf.forget()
        return read()

    setattr(source, reading, lose)
    pool = pools(source=source)
    lease = pool.acquire(timeout=20)
    assert (pool.stats().in_flight, pool.stats().external) == (1, 1)
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert lease.release()


def test_a_refused_token_is_met_by_all_and_asked_about_once(pools):
    """P-56: the other process tells what the first one heard, and leases already out stay valid."""
    source = Played(a=2)
    one, two = pools(source=source), pools(source=source)
    lease = two.acquire(timeout=5)
    source.trouble = Unauthorized("no such token")
    with pytest.raises(Unauthorized):
        one.refresh()
    before = source.fetches
    two._core.refresher.expire()
    with pytest.raises(Unauthorized):
        two.acquire(timeout=5)
    assert source.fetches == before
    assert lease.release()


def test_a_refresh_by_hand_is_obeyed_at_the_next_acquire_of_all(pools):
    """P-52: lowered, raised, gone."""
    source = Played(a=2)
    one, two = pools(source=source, ttl=600), pools(source=source, ttl=600)
    kept = two.acquire(timeout=5)
    source.table = {"a": 1}
    one.refresh()
    with pytest.raises(AcquireTimeout):
        two.acquire(timeout=0)
    source.table = {"a": 1, "b": 1}
    one.refresh()
    lease = two.acquire(timeout=0)
    assert lease.account.id == "b"
    assert lease.account.capacity == 1
    assert source.fetches == 3
    assert kept.release()


def test_an_answer_that_speaks_against_the_table_has_it_fetched(pools):
    """P-52: that another process fetched it a moment ago, but before the answer, is no excuse."""
    source = Played(a=1)
    one, two = pools(source=source, ttl=600), pools(source=source, ttl=600)
    one.stats()
    two.stats()
    source.table = {"b": 1}
    with two.acquire(timeout=5) as lease:
        lease.report((404, {}, '{"error": "Account a not found"}'))
        lease.report((401, {}, ""))
    assert two.acquire(timeout=5).account.id == "b"
    assert source.fetches == 2


def test_an_older_table_that_lands_late_is_not_kept(pools, shelf):
    """P-55: between the reading of a table and its landing another one came into force."""
    source = Played(a=1)
    one, two = pools(source=source, ttl=600), pools(source=source, ttl=600)
    one.refresh()
    two.stats()
    gate = Gate(shelf, ops.Claim, two)
    usual = two._core.refresher._land_fetch
    read, land = threading.Event(), threading.Event()

    def late(*landed):
        read.set()
        assert land.wait(20)
        usual(*landed)

    two._core.refresher._land_fetch = late
    two._core.refresher.expire()
    caller = start(two.acquire, timeout=20)
    assert gate.reached.wait(10)
    gate.open.set()
    assert read.wait(10)
    source.table = {"a": 1, "b": 1}
    one.refresh()
    two.stats()  # this one knows already
    land.set()
    caller.result(20)
    assert two.acquire(timeout=5)
    assert set(two._core.store.table.accounts) == {"a", "b"}


def test_a_claim_of_a_process_that_stays_away_is_waited_for_and_then_done(pools, shelf):
    """P-55: a dead fetcher holds nobody up for longer than a fetch may take."""
    source = Played(a=1)
    one, two = pools(source=source), pools(source=source)
    gate = Gate(shelf, ops.Configure, one)
    first = start(one.acquire, timeout=20)
    assert gate.reached.wait(10)
    second = start(two.acquire, timeout=20)
    until(lambda: any(by == owner(two) and isinstance(o, ops.Claim) for by, o in list(shelf.calls)))
    shelf.leap += 61
    assert second.result(10).account.id == "a"
    gate.open.set()
    with pytest.raises((AcquireTimeout, SourceUnavailable)):
        one.acquire(timeout=0)
    second.result().release()
    assert first.result(10).account.id == "a"
