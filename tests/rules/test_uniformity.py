"""Every eligible account is equally likely, whatever came before. Seeded, so that a red run is never luck."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest
from api import Api
from chisquare import ONE_IN_A_MILLION, alike, survival, uniform
from ledgers import Desk

from balancer import AccountPool
from balancer.testing import FakeUseapi, ManualClock

EQUAL = [4]
UNEQUAL = [1, 2, 3, 6, 12]
BINS = 20


def desk_of(number, capacities):
    """Return a desk with so many accounts, the capacities taking turns."""
    accounts = {f"account-{n:04}": capacities[n % len(capacities)] for n in range(number)}
    return Desk(**accounts)


def eligible(desk):
    """Return the accounts with room, counted afresh."""
    return [
        id
        for id, account_state in sorted(desk.ledger.account_states.items())
        if account_state.account.capacity > len(account_state.held) + account_state.external
    ]


def shake(desk, rng, rows):
    """Do one of the things that happen to a pool: a grant, an end, a new capacity, jobs of others."""
    what = rng.random()
    if what < 0.55:
        row = desk.take(draw=rng.random())
        if row is not None:
            rows.append(row)
    elif what < 0.97 and rows:
        desk.release(rows.pop(int(rng.random() * len(rows))))
    elif what < 0.99:
        id = rng.choice(sorted(desk.ledger.account_states))
        desk.ledger.set_external({id: 1})
    else:
        capacities = {id: account.capacity for id, account in desk.table.accounts.items()}
        id = rng.choice(sorted(capacities))
        desk.configure(**{**capacities, id: rng.choice(UNEQUAL)})


@pytest.mark.parametrize("capacities", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize(("number", "steps"), [(2, 20_000), (10, 20_000), (1000, 30_000)])
def test_choice_is_uniform_over_the_accounts_with_room_all_through_a_long_history(number, steps, capacities):
    """The rank of each pick among the eligible of its moment is uniform, at every step of the way (P-20)."""
    rng = random.Random(number + len(capacities))
    desk, rows, bins, tried = desk_of(number, capacities), [], Counter(), 0
    for step in range(steps):
        shake(desk, rng, rows)
        if step % (1 if number < 1000 else 30) or not (room := eligible(desk)):
            continue
        row = desk.take(draw=rng.random())
        bins[int((room.index(row.account_state.id) + rng.random()) / len(room) * BINS)] += 1
        desk.release(row)
        tried += 1
    assert tried > steps / 40
    assert uniform(bins[n] for n in range(BINS)) > ONE_IN_A_MILLION


@pytest.mark.parametrize("capacities", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("number", [2, 10, 1000])
def test_each_account_with_room_has_an_equal_share_of_the_random_number(number, capacities):
    """After a long history each of k eligible accounts is hit by exactly one of k evenly spaced draws."""
    rng = random.Random(number)
    desk, rows = desk_of(number, capacities), []
    for _ in range(5000):
        shake(desk, rng, rows)
    room = eligible(desk)
    picks = [desk.ledger.selector.pick((n + 0.5) / len(room)).id for n in range(len(room))]
    assert sorted(picks) == room


@pytest.mark.parametrize("number", [2, 10, 1000])
def test_accounts_are_chosen_equally_often_whatever_their_free_room(number):
    """One free slot or twelve: the share of an account with room is the same."""
    rng = random.Random(number)
    desk, rows, picks = desk_of(number, UNEQUAL), [], Counter()
    for _ in range(5000):
        shake(desk, rng, rows)
    room = eligible(desk)
    for _ in range(50 * len(room)):
        row = desk.take(draw=rng.random())
        picks[row.account_state.id] += 1
        desk.release(row)
    assert set(picks) <= set(room)
    assert uniform(picks[id] for id in room) > ONE_IN_A_MILLION


def mapping_pool(capacities, seed, **options):
    """Return a pool over a mapping, with seeded chance and a clock that stands."""
    return AccountPool(source=capacities, random=random.Random(seed).random, clock=ManualClock(), **options)


CAPACITIES = {f"account-{n}": 1 + n % 4 for n in range(10)}


@pytest.mark.parametrize(
    ("constraints", "left"),
    [
        ({}, range(10)),
        ({"exclude": ["account-0", "account-7"]}, (1, 2, 3, 4, 5, 6, 8, 9)),
        ({"where": lambda account: account.capacity > 1}, (1, 2, 3, 5, 6, 7, 9)),
        ({"exclude": ["account-1"], "where": lambda account: account.capacity == 2}, (5, 9)),
        ({"max_jobs": 2}, range(10)),
        ({"scope": "model"}, range(10)),
    ],
    ids=["none", "exclude", "where", "both", "max_jobs", "scope"],
)
def test_choice_is_uniform_under_constraints(constraints, left):
    """Uniform over those that satisfy them, and never one that does not (P-61)."""
    with mapping_pool(CAPACITIES, seed=1) as pool:
        picks = Counter()
        for _ in range(2500):
            with pool.acquire(**constraints) as lease:
                picks[lease.account.id] += 1
    ids = [f"account-{n}" for n in left]
    assert set(picks) == set(ids)
    assert uniform(picks[id] for id in ids) > ONE_IN_A_MILLION


@pytest.mark.parametrize("constraints", [{}, {"exclude": ["account-3"]}], ids=["none", "exclude"])
def test_least_loaded_decides_ties_at_random(constraints):
    """Among equally loaded accounts no first one gets it all (P-20)."""
    with mapping_pool(CAPACITIES, seed=2, strategy="least_loaded") as pool:
        busy = [pool.acquire(account=f"account-{n}") for n in range(4)]
        picks = Counter()
        for _ in range(3000):
            with pool.acquire(**constraints) as lease:
                picks[lease.account.id] += 1
        assert all(lease.release() for lease in busy)
    idle = [f"account-{n}" for n in range(4, 10)]
    assert set(picks) == set(idle)
    assert uniform(picks[id] for id in idle) > ONE_IN_A_MILLION


def test_counts_stay_right_under_needless_releases():
    """A second release takes nothing off anybody's count, so no account looks emptier than it is (P-20)."""
    with mapping_pool({"a": 2, "b": 2}, seed=3, strategy="least_loaded") as pool:
        first, second = pool.acquire(account="a"), pool.acquire(account="a")
        assert [first.release() for _ in range(50)] == [True] + [False] * 49
        assert pool.stats().accounts["a"].in_flight == 1
        assert pool.acquire().account.id == "b"
        assert second.release() is True
        assert pool.stats().accounts["a"].in_flight == 0


def test_our_choice_is_distributed_like_the_servers_own():
    """Over the same accounts, one of them full and others part full, nobody could tell the two apart."""
    accounts = {"u1": 1, "u2": 3, "u3": 6, "u4": 2, "u5": 1}
    taken = ["u2", "u2", "u3", "u5"]
    server, own = Counter(), Counter()
    with FakeUseapi({"riffusion": accounts}, rng=random.Random(4), job_seconds=lambda: float("inf")) as fake:
        with Api(fake, "riffusion") as api:
            for id in taken:
                assert api.create("music/create-prompt", user_id=id).ok
            for _ in range(1000):
                answer = api.create("music/create-prompt").json()
                server[answer["user_id"]] += 1
                fake.finish(answer["job_id"])
        with AccountPool(
            "riffusion",
            token=fake.token,
            base_url=fake.url,
            random=random.Random(5).random,
            reconcile_every=None,
        ) as pool:
            busy = [pool.acquire(account=id) for id in taken]
            for _ in range(3000):
                with pool.acquire() as lease:
                    own[lease.account.id] += 1
            assert len(busy) == 4
    assert set(server) == set(own) == {"u1", "u2", "u3", "u4"}
    assert alike([server[id] for id in accounts], [own[id] for id in accounts]) > ONE_IN_A_MILLION


FORKS = """
import os
from balancer import AccountPool

pool = AccountPool(source={f"account-{n}": 100 for n in range(16)})
pool.acquire().release()

def picks():
    return " ".join(pool.acquire().account.id for _ in range(20))

for _ in range(8):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, picks().encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 10_000).decode())
print(picks())
"""


def test_forked_workers_do_not_choose_alike():
    """Eight children and their parent, each with twenty picks of sixteen: nine different sequences (P-47)."""
    script = [sys.executable, "-W", "ignore", "-c", FORKS]
    lines = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert [len(line.split()) for line in lines] == [20] * 9
    assert len(set(lines)) == 9
    picks = Counter(" ".join(lines).split())
    assert len(picks) == 16


@pytest.mark.parametrize(
    ("x", "df", "p"),
    [(3.841, 1, 0.05), (11.070, 5, 0.05), (18.307, 10, 0.05), (23.928, 1, 1e-6), (149.449, 100, 0.001)],
)
def test_the_measure_itself_is_right(x, df, p):
    """Critical values from the printed tables."""
    assert survival(x, df) == pytest.approx(p, rel=2e-3)


def test_the_measure_notices_a_biased_choice():
    """A choice in proportion to capacity, or one that prefers the first, would be found out."""
    assert uniform([300, 600, 900]) < ONE_IN_A_MILLION
    assert uniform([1100, 950, 950]) > ONE_IN_A_MILLION
    assert alike([250, 250, 250, 250], [1200, 700, 600, 500]) < ONE_IN_A_MILLION
