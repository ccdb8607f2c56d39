"""Counts survive every change of the table."""

from __future__ import annotations

import pytest
from crew import Played, error, queued, result, start

from balancer import AcquireTimeout
from balancer.testing import at_rest

pytest_plugins = ["balancer.testing.plugin"]


class Crowd:
    """Fifty live leases of six accounts, over real HTTP."""

    def __init__(self, fake, pool, clock):
        self.fake, self.pool, self.clock = fake, pool, clock
        self.leases = [pool.acquire(timeout=0) for _ in range(50)]
        self.held = self.count()
        assert sum(self.held.values()) == 50

    def count(self):
        """Return the leases of each account, by the leases themselves."""
        counted = {}
        for lease in self.leases:
            counted[lease.account.id] = counted.get(lease.account.id, 0) + 1
        return counted

    def refresh(self):
        """Have the table fetched again, whatever comes of it."""
        self.clock.advance(60)
        try:
            self.pool.refresh()
        except Exception as failure:  # noqa: BLE001  # the faults of some tests are meant to show
            return failure
        return None

    def check(self):
        """Assert that every lease still counts where it was granted, and is not counted twice."""
        accounts = self.pool.stats().accounts
        assert {id: one.in_flight for id, one in accounts.items() if one.in_flight} == self.held
        assert len(self.pool.holders()) == len(self.leases)

    def fill_up(self):
        """Take whatever is left, and return how much that was for each account."""
        taken = {}
        while True:
            try:
                lease = self.pool.acquire(timeout=0)
            except Exception:  # noqa: BLE001  # full, or nothing to be had
                return taken
            self.leases.append(lease)
            taken[lease.account.id] = taken.get(lease.account.id, 0) + 1
            self.held = self.count()

    def leave(self):
        """Release every lease; each must be the first to end it."""
        assert all(lease.release() for lease in self.leases)
        self.leases, self.held = [], {}


SIX = {f"account-{number}": 10 for number in range(6)}


@pytest.fixture
def crowd(over_http, clock):
    """Return fifty live leases."""
    fake, pool = over_http(SIX)
    return Crowd(fake, pool, clock)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 200, "body": {}},
        {"status": 401},
        {"status": 402},
        {"status": 404, "body": b""},
        {"status": 500},
        {"status": 502, "body": "<html>bad gateway</html>"},
        {"status": 200, "body": "<html>welcome</html>"},
        {"status": 200, "body": b'{"account-0": {"maxJo'},
        {"status": 200, "body": [1, 2, 3]},
        {"status": 200, "body": b'{"a": "' + b"x" * 10_000_000 + b'"}'},
        {"cut": "before"},
        {"cut": "midbody"},
    ],
    ids=["empty", "401", "402", "404", "500", "502", "html", "truncated", "array", "10MB", "cut", "midbody"],
)
def test_counts_survive_whatever_the_server_answers(crowd, fault):
    """P-52: with 50 leases out, no answer resets or doubles a count, or lets a slot be granted twice."""
    crowd.fake.fault("*/accounts", **fault)
    crowd.refresh()
    crowd.check()
    crowd.refresh()
    crowd.check()
    assert sum(crowd.fill_up().values()) == 10
    assert {id: one.in_flight for id, one in crowd.pool.stats().accounts.items()} == SIX
    crowd.leave()
    assert crowd.pool.stats().free == 60


def test_an_account_that_is_gone_drains_and_counts_again_when_it_is_back(crowd):
    """P-52: its leases stay, no new one is granted; back again, the old ones still take room."""
    fake, pool = crowd.fake, crowd.pool
    fake.remove_account("flowmusic", "account-0")
    crowd.refresh()
    crowd.check()
    assert pool.stats().accounts["account-0"].state == "draining"
    assert pool.stats().capacity == 50
    assert "account-0" not in crowd.fill_up()
    fake.set_account("flowmusic", "account-0", 10)
    crowd.refresh()
    crowd.check()
    already = crowd.held["account-0"]
    assert crowd.fill_up() == ({"account-0": 10 - already} if already < 10 else {})
    crowd.leave()


def test_an_account_is_forgotten_once_it_is_gone_and_drained(crowd):
    """A draining account stays in the stats until its last lease ends."""
    crowd.fake.remove_account("flowmusic", "account-0")
    crowd.refresh()
    assert "account-0" in crowd.pool.stats().accounts
    crowd.leave()
    assert "account-0" not in crowd.pool.stats().accounts


def test_a_capacity_that_is_lowered_and_raised_is_counted_from_the_whole_state(crowd):
    """P-14, P-52: 6 to 1 to 8: below what is in flight nothing is granted, above it only the rest."""
    fake, pool = crowd.fake, crowd.pool
    crowd.leave()
    for id in SIX:
        fake.set_account("flowmusic", id, 6)
    crowd.refresh()
    crowd.fill_up()
    assert crowd.held == dict.fromkeys(SIX, 6)
    for capacity, granted in ((1, 0), (5, 0), (6, 0), (8, 2)):
        for id in SIX:
            fake.set_account("flowmusic", id, capacity)
        crowd.refresh()
        crowd.check()
        assert crowd.fill_up() == (dict.fromkeys(SIX, granted) if granted else {})
    for id in SIX:
        fake.set_account("flowmusic", id, 1)
    crowd.refresh()
    first = [lease for lease in crowd.leases if lease.account.id == "account-0"]
    for lease in first[:-1]:
        lease.release()
        assert pool.stats().free == 0
    first[-1].release()
    assert pool.stats().free == 1


def test_an_error_takes_an_account_out_at_once_and_its_end_brings_it_back(crowd):
    """P-52: the leases of a broken account still count, and count again when it is healed."""
    fake, pool = crowd.fake, crowd.pool
    fake.break_account("flowmusic", "account-1", "session expired")
    crowd.refresh()
    crowd.check()
    stats = pool.stats().accounts["account-1"]
    assert (stats.state, stats.reason, stats.free) == ("broken", "session expired", 0)
    assert "account-1" not in crowd.fill_up()
    fake.heal_account("flowmusic", "account-1")
    crowd.refresh()
    crowd.check()
    already = crowd.held["account-1"]
    assert crowd.fill_up() == ({"account-1": 10 - already} if already < 10 else {})


def test_the_order_of_the_list_means_nothing(crowd):
    """P-52: the same accounts in another order change no count."""
    fake = crowd.fake
    for id in reversed(SIX):
        fake.remove_account("flowmusic", id)
        fake.set_account("flowmusic", id, 10)
    crowd.refresh()
    crowd.check()
    assert sum(crowd.fill_up().values()) == 10


def test_caps_hold_when_the_clock_passes_every_end(over_http, clock):
    """P-21: with leases held, no expiry of a cached thing admits the capacity once more."""
    _, pool = over_http({"a": 2}, ttl=60, stale_if_error=600, lease_ttl=60)
    held = [pool.acquire(), pool.acquire()]
    for seconds in (59, 61, 301, 601, 3601, 90_000):
        at_rest(pool)
        clock.advance(seconds)
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        assert pool.stats().in_flight == 2
    assert [lease.release() for lease in held] == [True, True]
    assert pool.stats().free == 2


def test_a_waiter_is_served_across_a_change_of_the_table(play, clock):
    """What a pinned or choosy caller may use is worked out anew from each table."""
    source, pool = play(Played(a=1))
    lease = pool.acquire()
    choosy = start(pool.acquire, where=lambda account: account.capacity >= 5)
    pinned = start(pool.acquire, account="z")
    anybody = start(pool.acquire)
    assert {type(error(caller)).__name__ for caller in (choosy, pinned)} == {"NoAccounts"}
    queued(pool, 1)
    choosy = start(pool.acquire, exclude=["q"])
    queued(pool, 2)
    source.table = {"a": 1, "q": 1, "z": 5}
    pool.refresh()
    served = result(anybody)
    assert served.account.id in ("q", "z")
    assert result(choosy).account.id == "z"
    assert lease.release()
