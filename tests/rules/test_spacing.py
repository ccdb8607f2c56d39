"""Grants on one account kept apart in time, cooldowns kept short, and who is served first."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from ledgers import Desk
from stepping import until

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, Verdict
from balancer.rules.records import LeaseRecord, SlotRequest
from balancer.testing import at_rest


def test_between_two_grants_on_an_account_goes_by_what_was_asked_for(clock):
    """Meanwhile it is full, with nothing free, and ``until`` and ``retry_at`` say how long."""
    with AccountPool(source={"a": 3}, clock=clock, spacing=5) as pool:
        pool.acquire(timeout=0).release()
        account = pool.stats().accounts["a"]
        assert (account.state, account.free, account.in_flight) == ("full", 0, 0)
        assert (account.until - pool.stats().fetched_at).total_seconds() == 5
        assert pool.stats().free == 0
        why = "full: left alone for a moment after its last grant"
        assert pool.explain() == {"a": why}
        with pytest.raises(AcquireTimeout, match=why) as caught:
            pool.acquire(timeout=0)
        assert caught.value.retry_at == account.until
        clock.advance(4.9)
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        clock.advance(0.1)
        assert (pool.stats().free, pool.stats().accounts["a"].until) == (3, None)
        assert pool.acquire(timeout=0)


@pytest.mark.parametrize("options", [{"account": "a"}, {"max_jobs": 9}, {"scope": "m"}])
def test_spacing_holds_for_whatever_is_asked_for(clock, options):
    """A pin, a capacity of its own or a scope is no way around it."""
    with AccountPool(source={"a": 3}, service="pixverse", clock=clock, spacing=5) as pool:
        held = pool.acquire()
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0, **options)
        clock.advance(5)
        assert pool.acquire(timeout=0, **options)
        assert held.release()


def test_each_account_is_spaced_by_itself(clock):
    """Two accounts give two slots at once."""
    with AccountPool(source={"a": 3, "b": 3}, clock=clock, spacing=5) as pool:
        assert {pool.acquire(timeout=0).account.id for _ in range(2)} == {"a", "b"}


def test_a_pair_is_drawn_from_each_time(clock):
    """The pool's own random numbers decide."""
    draws = [0.0]
    with AccountPool(source={"a": 9}, clock=clock, random=lambda: draws[0], spacing=(2, 6)) as pool:
        for draw, gap in ((0.0, 2.0), (0.5, 4.0), (0.75, 5.0)):
            draws[0] = draw
            pool.acquire(timeout=0)
            assert (pool.stats().accounts["a"].until - pool.stats().fetched_at).total_seconds() == (
                clock() + gap
            )
            clock.advance(gap)


def test_who_waits_is_woken_when_the_spacing_is_over(clock):
    """Threads get the slots one after the other, and nobody has to ask."""
    with AccountPool(source={"a": 3}, clock=clock, spacing=5, ttl=1e6, reconcile_every=None) as pool:
        leases = [pool.acquire()]
        threads = [threading.Thread(target=lambda: leases.append(pool.acquire(timeout=99))) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: pool.stats().waiting == 2)
        assert pool._core.store.next_housekeeping_at == 5
        clock.advance(5)
        until(lambda: len(leases) == 2)
        assert pool._core.store.next_housekeeping_at == 10
        clock.advance(5)
        until(lambda: len(leases) == 3)
        for thread in threads:
            thread.join(10)


def test_without_spacing_the_fast_path_is_open_and_with_it_it_is_not():
    """It costs nothing where it is not asked for."""
    with AccountPool(source={"a": 1}) as plain, AccountPool(source={"a": 1}, spacing=1) as spaced:
        assert plain._core.take.__name__ == "take"
        assert spaced._core.take.__name__ == "never"


@pytest.mark.parametrize(
    ("spacing", "error"),
    [
        (-1, ValueError),
        ((5, 2), ValueError),
        ((1, 2, 3), ValueError),
        ("5", TypeError),
        (True, TypeError),
        (math.inf, ValueError),
    ],
)
def test_spacing_is_checked(spacing, error):
    """Seconds or a pair of them, from small to large."""
    with pytest.raises(error, match="spacing"):
        AccountPool(source={"a": 1}, spacing=spacing)


# -- max_cooldown


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [((429, {"Retry-After": "86400"}, ""), 90), ((412, {}, ""), 90), ((429, {"Retry-After": "50"}, ""), 50)],
)
def test_no_answer_asks_for_a_longer_cooldown_than_is_allowed(clock, answer, seconds):
    """Shorter ones are as they are."""
    with AccountPool(source={"a": 1}, clock=clock, max_cooldown=90) as pool:
        with pool.acquire() as lease:
            lease.report(answer)
        account = pool.stats().accounts["a"]
        assert (account.until - pool.stats().fetched_at).total_seconds() == seconds


def test_a_busy_account_whose_cooldown_was_shortened_is_worth_waiting_for(clock):
    """A day would not be, and a minute and a half is."""
    with AccountPool(source={"a": 1}, clock=clock, max_cooldown=90) as pool:
        with pool.acquire() as lease:
            assert lease.report((429, {"Retry-After": "86400"}, "")) is Verdict.BUSY
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)


# -- priority


def served(pool, priorities):
    """Have callers of these priorities wait; free a slot for one after the other. Return their order."""
    first, order = pool.acquire(), []

    def wait(number, priority):
        with pool.acquire(timeout=1000, priority=priority):
            order.append(number)

    threads = []
    for number, priority in enumerate(priorities):
        threads.append(threading.Thread(target=wait, args=(number, priority)))
        threads[-1].start()
        until(lambda: pool.stats().waiting == len(threads))
    first.release()
    for thread in threads:
        thread.join(10)
    return order


def test_who_waits_is_served_by_priority_and_then_by_arrival():
    """The highest first; among equals who came first."""
    with AccountPool(source={"a": 1}) as pool:
        assert served(pool, [0, 1, 0, 5, 1, -2, 5]) == [3, 6, 1, 4, 0, 2, 5]


def test_priority_counts_among_tasks_and_between_different_wishes(clock):
    """Who is pinned to the account and who takes any stand in one line."""

    async def scene():
        async with AsyncAccountPool(source={"a": 1}, clock=clock) as pool:
            first, order = await pool.acquire(), []

            async def wait(name, **options):
                async with pool.acquire(**options):
                    order.append(name)

            wishes = {
                "any": {},
                "pinned": {"account": "a", "priority": 2},
                "where": {"where": lambda account: True, "priority": 1},
                "high": {"priority": 3},
            }
            tasks = [asyncio.ensure_future(wait(name, **wish)) for name, wish in wishes.items()]
            await at_rest(pool, callers=len(tasks))
            await first.release()
            await asyncio.gather(*tasks)
            return order

    assert asyncio.run(scene()) == ["high", "pinned", "where", "any"]


@pytest.mark.parametrize("priority", ["high", 1.5, None])
def test_priority_is_checked(priority):
    """A whole number."""
    with AccountPool(source={"a": 1}) as pool, pytest.raises(TypeError, match="priority"):
        pool.acquire(priority=priority)


# -- asset

ASSETS = {
    "minimax": ("user:1-minimax:111-file:9", "111"),
    "google-vids": ("user:1-a@b.c-image:9", "a@b.c"),
}


@pytest.mark.parametrize("store", ["memory://", "sqlite://{}/leases"])
@pytest.mark.parametrize("service", ASSETS)
def test_an_asset_pins_the_account_that_its_id_names(service, store, tmp_path):
    """Work on an upload runs where the upload lives."""
    asset, home = ASSETS[service]
    source = {home: 1, "x": 9, "y": 9}
    with AccountPool(service, source=source, store=store.format(tmp_path)) as pool:
        lease = pool.acquire(asset=asset)
        assert lease.account.id == home
        assert pool.explain(asset=asset)["x"] == f"pinned to {home}"
        with pytest.raises(AcquireTimeout):
            pool.acquire(asset=asset, timeout=0)


def test_an_asset_may_be_given_to_run_and_with_lease_and_tasks(clock):
    """All take what ``acquire`` takes."""
    asset, home = ASSETS["minimax"]
    with AccountPool("minimax", source={home: 1, "x": 9}, clock=clock) as pool:
        assert pool.run(lambda lease: lease.account.id, asset=asset) == home
        assert pool.with_lease(asset=asset)(lambda *, lease: lease.account.id)() == home

        async def scene():
            async with AsyncAccountPool(pool=pool).acquire(asset=asset) as lease:
                return lease.account.id

        assert asyncio.run(scene()) == home


@pytest.mark.parametrize(
    ("service", "options", "error", "words"),
    [
        ("minimax", {"asset": "nonsense"}, ValueError, "no id of minimax"),
        ("minimax", {"asset": ASSETS["minimax"][0], "account": "222"}, ValueError, "lives on 111"),
        ("minimax", {"asset": 9}, TypeError, "asset must be"),
        ("own", {"asset": "x"}, ValueError, "it is not known how ids of own"),
    ],
)
def test_an_asset_that_names_no_account_is_a_wrong_argument(service, options, error, words):
    """The id, the row and ``account=`` have to agree."""
    with AccountPool(service, source={"111": 1}) as pool, pytest.raises(error, match=words):
        pool.acquire(**options)


def test_an_asset_and_its_own_account_agree():
    """To name both is no mistake."""
    asset, home = ASSETS["minimax"]
    with AccountPool("minimax", source={home: 1}) as pool:
        assert pool.acquire(asset=asset, account=home).account.id == home


# -- the ledger


def test_a_spaced_account_of_the_ledger_is_found_again_after_a_recount():
    """What was cut short must not leave it alone for ever."""
    desk = Desk(a=2)
    record = LeaseRecord("k")
    record.spacing = 4.0
    assert desk.ledger.take(SlotRequest(record), 0.0)
    desk.ledger.recount()
    assert desk.take() is None
    desk.at(4)
    assert desk.take() is not None
