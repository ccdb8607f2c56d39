"""When the configuration is fetched, by whom, and who waits for it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
import requests
from crew import Played, crew, error, in_line, queued, result, start
from stepping import until

from balancer import (
    AccountPool,
    AcquireTimeout,
    HttpSource,
    InvalidConfiguration,
    PoolClosed,
    SourceUnavailable,
    SubscriptionRequired,
    Unauthorized,
)

pytest_plugins = ["balancer.testing.plugin"]

ACCOUNTS = "GET /v1/flowmusic/accounts"
REFUSED = [Unauthorized("401"), SubscriptionRequired("402")]


@pytest.fixture
def clock(manual_clock):
    """Return the clock that a test moves."""
    return manual_clock


@pytest.fixture
def over_http(fake_useapi, clock):
    """Return what starts a stand-in and a pool that reads from it, without retries of its own."""
    sessions = []

    def make(accounts, **options):
        fake = fake_useapi({"flowmusic": accounts})
        sessions.append(requests.Session())
        source = HttpSource("flowmusic", token=fake.token, base_url=fake.url, session=sessions[-1])
        return fake, AccountPool(source=source, clock=clock, **{"reconcile_every": None, **options})

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def play(clock):
    """Return what makes a played source and a pool that reads from it."""
    sources = []

    def make(source=None, **options):
        sources.append(source or Played(a=1))
        return sources[-1], AccountPool(source=sources[-1], clock=clock, reconcile_every=None, **options)

    yield make
    for source in sources:
        source.let_go()
    until(lambda: not any(thread.name == "balancer_fetch" for thread in threading.enumerate()))


def fetches(fake):
    """Return how many times the accounts were asked for."""
    return fake.audit().requests.get(ACCOUNTS, 0)


# -- fresh and not ---------------------------------------------------------------------------------


def test_a_fresh_table_is_not_fetched_again(over_http, clock):
    """Until ttl is over nothing is asked, whatever is acquired and looked at."""
    fake, pool = over_http({"a": 2}, ttl=60)
    for _ in range(20):
        with pool.acquire(account="a"):
            pool.stats()
            pool.explain()
    clock.advance(59.9)
    pool.acquire().release()
    assert fetches(fake) == 1


@pytest.mark.parametrize("ttl", [0, 0.001])
def test_no_ttl_is_so_short_that_callers_ask_for_ever(play, clock, ttl):
    """Who awaited a table goes on with it, and those in line do not have it fetched at speed."""
    source, pool = play(ttl=ttl)
    for want in ({}, {"timeout": 0}, {"account": "a"}):
        pool.acquire(**want).release()
    assert source.calls == 1
    clock.advance(1)
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    assert source.calls == 2
    lease.release()
    assert result(waiter)


def test_an_old_table_is_fetched_once_and_awaited_by_who_found_out(over_http, clock):
    """The caller who finds the table old starts the fetch, and is served by what it brings."""
    fake, pool = over_http({"a": 1}, ttl=60)
    pool.acquire().release()
    fake.set_account("flowmusic", "b", 1)
    fake.remove_account("flowmusic", "a")
    clock.advance(60)
    assert pool.acquire().account.id == "b"
    assert fetches(fake) == 2


@pytest.mark.parametrize("age", [None, 60], ids=["first load", "at expiry"])
def test_five_hundred_callers_cause_one_request(over_http, clock, age):
    """P-55: however many need the table at once, one fetch serves all of them."""
    fake, pool = over_http({"a": 500}, ttl=60)
    if age is not None:
        pool.refresh()
        clock.advance(age)
    before = fetches(fake)
    fault = fake.fault("*/accounts", delay=10.0)
    callers = crew(500, pool.acquire)
    assert fault.hit.wait(30)
    if age is None:
        until(lambda: len(pool._core.upkeep.watching) == 500)
    fault.lift()
    assert {result(caller).account.id for caller in callers} == {"a"}
    assert fetches(fake) - before == 1
    assert pool.stats().in_flight == 500


def test_the_others_do_not_wait_for_a_refresh(play, clock):
    """While one caller awaits the fetch, the next ones go on with the old table."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire)
    until(lambda: source.calls == 2)
    others = [pool.acquire(timeout=0), pool.acquire(account="a", timeout=0)]
    assert len(others) == 2
    assert not leader.done()
    source.let_go()
    assert result(leader).account.id == "a"
    assert source.calls == 2


def test_who_awaits_a_refresh_goes_on_after_five_seconds(play, clock):
    """A source that hangs costs one caller 5 s, and then the old table serves."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire)
    until(lambda: pool._core.upkeep.watching)
    clock.advance(4.9)
    assert not leader.done()
    clock.advance(0.1)
    assert result(leader).account.id == "a"
    source.let_go()


def test_who_awaits_a_refresh_waits_no_longer_than_its_timeout(play, clock):
    """A caller in a hurry is served from the old table when its time is over."""
    source, pool = play(Played(a=9))
    pool.refresh()
    clock.advance(60)
    source.hold()
    leader = start(pool.acquire, timeout=2)
    until(lambda: pool._core.upkeep.watching)
    clock.advance(2)
    assert result(leader).account.id == "a"
    source.let_go()


def test_those_who_wait_for_a_slot_start_the_refresh_that_is_due(play, clock):
    """P-33: nobody else need come along for a raised capacity to be found out."""
    source, pool = play()
    lease = pool.acquire()
    (waiter,) = in_line(pool, 1)
    source.table = {"a": 2}
    clock.advance(60)
    assert result(waiter).account.id == "a"
    assert source.calls == 2
    assert lease.release()


def test_a_refresh_by_hand_asks_whatever_the_age(over_http):
    """An operator who has just added an account need not wait for the ttl."""
    fake, pool = over_http({"a": 1}, ttl=3600)
    pool.refresh()
    fake.set_account("flowmusic", "b", 3)
    assert set(pool.stats().accounts) == {"a"}
    pool.refresh()
    assert set(pool.stats().accounts) == {"a", "b"}
    assert fetches(fake) == 2


def test_a_mapping_is_read_again_at_each_refresh(clock):
    """The user's own mapping may change while the pool runs."""
    accounts = {"a": 1}
    pool = AccountPool(source=accounts, clock=clock)
    lease = pool.acquire()
    accounts["b"] = 2
    clock.advance(60)
    assert pool.acquire().account.id == "b"
    assert pool.stats().capacity == 3
    assert lease.release()


# -- the first load ----------------------------------------------------------------------------------


def test_the_first_load_is_awaited_by_all_within_their_timeouts(play, clock):
    """Without a table there is nothing to go by: each waits as long as it said."""
    source, pool = play(Played(a=9))
    source.hold()
    patient, hasty = start(pool.acquire), start(pool.acquire, timeout=2)
    until(lambda: len(pool._core.upkeep.watching) == 2)
    clock.advance(2)
    assert isinstance(error(hasty), AcquireTimeout)
    assert hasty.exception().timeout == 2
    assert not patient.done()
    source.let_go()
    assert result(patient).account.id == "a"


def test_a_timeout_of_zero_awaits_the_first_load(play, clock):
    """Zero means no wait for a slot; the first table is awaited up to the deadline of a fetch."""
    source, pool = play()
    source.hold()
    caller = start(pool.acquire, timeout=0)
    until(lambda: pool._core.upkeep.watching)
    clock.advance(59)
    assert not caller.done()
    source.let_go()
    assert result(caller).account.id == "a"


def test_a_first_load_that_never_ends_is_given_up(play, clock):
    """After the deadline of a fetch the caller learns that there is no configuration."""
    source, pool = play()
    source.hold()
    caller = start(pool.acquire, timeout=0)
    until(lambda: pool._core.upkeep.watching)
    clock.advance(60)
    assert isinstance(error(caller), SourceUnavailable)
    source.let_go()


def test_a_failed_first_load_is_not_repeated_for_each_caller(over_http, clock):
    """P-56: the failure is told to all who come within the pause, without asking again."""
    fake, pool = over_http({"a": 1})
    fake.fault("*/accounts", times=None, status=503)
    errors = [error(caller) for caller in crew(50, pool.acquire)]
    assert {type(failure) for failure in errors} == {SourceUnavailable}
    assert len({id(failure) for failure in errors}) == 50, "each caller needs an error of its own"
    assert fetches(fake) == 1
    clock.advance(1)
    with pytest.raises(SourceUnavailable):
        pool.acquire()
    assert fetches(fake) == 2


def test_a_thread_that_cannot_be_had_is_an_outage(play, clock, monkeypatch):
    """A process at its limit of threads is told so, and tries again later."""
    _, pool = play()
    spawned = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(SourceUnavailable, match="thread"):
        pool.acquire(timeout=1)
    monkeypatch.setattr(threading.Thread, "start", spawned)
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "a"


# -- failures ------------------------------------------------------------------------------------------


def test_an_old_table_serves_while_refreshes_fail_and_not_for_ever(play, clock):
    """P-56: stale_if_error seconds beyond the ttl; after that the failure is raised."""
    source, pool = play(Played(a=9), ttl=60, stale_if_error=600)
    pool.refresh()
    source.trouble = SourceUnavailable("away")
    clock.advance(659)
    assert pool.acquire().account.id == "a"
    stats = pool.stats()
    assert (stats.stale, stats.age, stats.last_error) == (True, 659, "SourceUnavailable: away")
    assert stats.refresh_failures == 1
    clock.advance(1)
    with pytest.raises(SourceUnavailable, match="away"):
        pool.acquire()
    source.trouble = None
    clock.advance(30)
    assert pool.acquire().account.id == "a"
    stats = pool.stats()
    assert (stats.stale, stats.age, stats.last_error) == (False, 0, None)


def test_those_in_line_are_told_when_the_old_table_may_serve_no_longer(play, clock):
    """A queue is not left standing on a table that has become too old."""
    source, pool = play(ttl=60, stale_if_error=600)
    lease = pool.acquire()
    waiters = in_line(pool, 2)
    source.trouble = SourceUnavailable("away")
    clock.advance(60)
    until(lambda: pool.stats().refresh_failures == 1)
    assert not any(waiter.done() for waiter in waiters)
    clock.advance(600)
    for waiter in waiters:
        assert isinstance(error(waiter), SourceUnavailable)
    assert lease.release()


def test_failing_refreshes_pause_for_longer_each_time(play, clock):
    """P-56: 1 s doubling to 30 s between two failures, however many callers there are."""
    source, pool = play(Played(a=9), ttl=60)
    pool.refresh()
    source.trouble = SourceUnavailable("away")
    clock.advance(60)
    asked = []
    for _ in range(130):
        pool.acquire().release()
        pool.acquire(account="a").release()
        asked.append(source.calls)
        clock.advance(1)
    steps = [second for second in range(1, 130) if asked[second] > asked[second - 1]]
    assert steps == [1, 3, 7, 15, 31, 61, 91, 121]


def test_a_long_retry_after_becomes_the_time_of_the_next_refresh(over_http, clock):
    """A server that names its time is not asked before it."""
    fake, pool = over_http({"a": 9}, ttl=60)
    pool.refresh()
    fake.fault("*/accounts", status=503, headers={"Retry-After": "900"})
    clock.advance(60)
    for _ in range(90):
        pool.acquire().release()
        clock.advance(9.99)
    assert fetches(fake) == 2
    clock.advance(1)
    pool.acquire().release()
    assert fetches(fake) == 3
    assert not pool.stats().stale


@pytest.mark.parametrize("trouble", REFUSED)
def test_a_refused_token_is_told_to_acquirers_and_to_those_in_line(play, clock, trouble):
    """401 and 402 are no outages: nobody goes on with the old table, and leases out stay valid."""
    source, pool = play(Played(a=1, b=1))
    lease, other = pool.acquire(), pool.acquire()
    waiters = in_line(pool, 3)
    source.trouble = trouble
    clock.advance(60)
    for waiter in waiters:
        assert isinstance(error(waiter), type(trouble))
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert lease.release()
    other.bind("job")
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert pool.release(job_id="job")
    source.trouble = None
    clock.advance(30)
    assert pool.acquire(timeout=0)


@pytest.mark.parametrize("trouble", REFUSED)
def test_a_refused_token_is_backed_off_like_any_failure(play, clock, trouble):
    """A wrong token is not tried once for each caller."""
    source, pool = play()
    source.trouble = trouble
    for _ in range(5):
        with pytest.raises(type(trouble)):
            pool.acquire(timeout=0)
    assert source.calls == 1
    clock.advance(1)
    with pytest.raises(type(trouble)):
        pool.acquire(timeout=0)
    assert source.calls == 2


def test_a_refresh_by_hand_raises_what_it_failed_with(play):
    """The operator sees the error, and the old table stays in force."""
    source, pool = play()
    pool.refresh()
    for trouble in (SourceUnavailable("away"), InvalidConfiguration("odd"), *REFUSED):
        source.trouble = trouble
        with pytest.raises(type(trouble)):
            pool.refresh()
        assert pool.stats().capacity == 1


def test_a_source_may_raise_what_it_likes(play, clock):
    """An error of the user's own source is an outage; its text is in the chain, its frames are not."""
    source, pool = play()
    source.trouble = KeyError("somewhere")
    with pytest.raises(SourceUnavailable, match="KeyError") as caught:
        pool.acquire()
    assert "somewhere" in str(caught.value.__cause__)
    assert caught.value.__cause__.__traceback__ is None
    source.trouble, source.table = None, [1, 2]
    clock.advance(1)
    with pytest.raises(InvalidConfiguration, match="mapping"):
        pool.acquire()


# -- attempts that die -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_source_that_exits_or_is_cancelled_is_an_outage_at_once(play, kind):
    """P-55: nobody waits a minute for a fetch that is known to have ended."""
    source, pool = play()
    source.trouble = kind()
    with pytest.raises(SourceUnavailable, match=kind.__name__):
        pool.acquire()
    with pytest.raises(SourceUnavailable, match=kind.__name__):
        pool.refresh()


def test_a_fetcher_that_died_does_not_block_the_next_fetch(play, clock, monkeypatch):
    """P-55: a thread that never reports back is given up after a minute."""
    source, pool = play()
    died = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(pool._core.upkeep, "_land_fetch", lambda *_: died.set())
        caller = start(pool.acquire)
        assert died.wait(30)
    until(lambda: source.calls == 1 and pool._core.upkeep.watching)
    clock.advance(60)
    assert isinstance(error(caller), SourceUnavailable)
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "a"


@pytest.mark.parametrize("late", [SourceUnavailable("late"), Unauthorized("late"), None])
def test_what_an_attempt_given_up_brings_at_last_changes_nothing(play, clock, late):
    """P-55: an answer of yesterday, good or bad, does not replace the newer one."""
    source, pool = play(Played(old=1), ttl=60)
    source.trouble = late
    source.hold()
    caller = start(pool.acquire)
    until(lambda: source.calls == 1 and pool._core.upkeep.watching)
    hung = next(thread for thread in threading.enumerate() if thread.name == "balancer_fetch")
    clock.advance(60)
    error(caller)
    opener, source._open = source._open, threading.Event()
    source._open.set()
    source.trouble, source.table = None, {"new": 1}
    clock.advance(1)
    assert pool.acquire(timeout=0).account.id == "new"
    opener.set()
    hung.join(30)
    stats = pool.stats()
    assert set(stats.accounts) == {"new"}
    assert (stats.refreshes, stats.last_error) == (1, None)


def test_interrupting_the_leader_does_not_harm_the_others(play, clock):
    """P-55: who started the fetch may go away: the fetch lives on, and its result reaches the others."""
    source, pool = play(Played(a=9))
    source.hold()

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    def strike():
        until(lambda: len(pool._core.upkeep.watching) == 1)
        followers = crew(5, pool.acquire)
        until(lambda: len(pool._core.upkeep.watching) == 6)
        os.kill(os.getpid(), signal.SIGUSR1)
        return followers

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        striker = start(strike)
        with pytest.raises(Interrupted):
            pool.acquire()
    finally:
        signal.signal(signal.SIGUSR1, before)
    source.let_go()
    assert {result(caller).account.id for caller in result(striker)} == {"a"}
    assert source.calls == 1
    assert pool.stats().in_flight == 5


def test_closing_the_pool_sends_those_away_who_wait_for_the_table(play):
    """Close reaches every caller, whatever it waits for."""
    source, pool = play()
    source.hold()
    callers = [start(pool.acquire), start(pool.acquire, timeout=0), start(pool.acquire, account="a")]
    until(lambda: len(pool._core.upkeep.watching) == 3)
    pool.close()
    for caller in callers:
        assert isinstance(error(caller), PoolClosed)
    source.let_go()


# -- counts survive every change of the table ---------------------------------------------------------------


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
        until(lambda: not pool._core.upkeep.in_flight)
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
