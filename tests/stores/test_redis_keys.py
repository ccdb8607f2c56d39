"""What becomes of the keys, of pools whose settings differ, and of what a refusal costs and says."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

import pytest
from redis_backends import backends, configure, granted, rows, server, spent, take
from structlog.testing import capture_logs

from balancer import AccountPool, AcquireTimeout
from balancer.rules import operations as ops
from balancer.testing import ManualClock

__all__ = ["backends", "server"]

DAY = 86_400_000


@pytest.fixture
def pool(server):
    """Return a function that opens pools of this process, each as a process of its own would have it."""
    opened, serial = [], itertools.count(1)
    name = f"pool{time.monotonic_ns()}"

    def open_pool(accounts, **options):
        made = {"store": server.url, "ttl": 1e6, "reconcile_every": None, **options}
        opened.append(AccountPool(made.pop("service", name), source=accounts, **made))
        next(serial)
        return opened[-1]

    yield open_pool
    for one in opened:
        one.close()


# -- keys -------------------------------------------------------------------------------------------------


def test_every_key_goes_away_by_itself_and_not_before_what_it_holds_has_ended(server, backends):
    """P-41: a day after the last use, or after the last end that is to come; none is left for ever."""
    client = server.client(decode_responses=True)
    backend = backends()
    configure(backend, {"a": 3})
    key = granted(backend)
    backend.call(ops.Bind(key, ("job",), 5 * 86_400.0))
    backend.call(ops.Release(job_id="early"))
    other = granted(backend)
    backend.call(ops.Bind(other, ("other",), 60.0))
    backend.call(ops.Release(job_id="other"))
    backend.call(ops.Claim("fetch", 0, 60))
    life = {name.rpartition(":")[2]: client.pttl(name) for name in client.scan_iter(backend.base + "*")}
    assert life.keys() == {*ops_keys()}
    assert all(ms > 0 for ms in life.values()), life
    assert all(life[name] > 5 * DAY for name in ("rows", "timers", "meta", "accounts", "owners", "tombs"))
    assert max(life.values()) <= 40 * DAY


def ops_keys():
    from balancer.stores.redis.scripts import KEYS

    return KEYS


def test_use_keeps_the_keys(server, backends):
    """What is in use has its life before it, however old it is."""
    client = server.client(decode_responses=True)
    backend = backends(lease_ttl=1.0)
    configure(backend, {"a": 3})
    for name in client.scan_iter(backend.base + "*"):
        client.pexpire(name, 60_000)
    time.sleep(0.3)
    granted(backend)
    assert client.pttl(backend.base + "rows") > DAY - 60_000
    assert client.pttl(backend.base + "room") > DAY - 60_000


def test_pools_of_another_layout_have_keys_of_their_own(backends, monkeypatch):
    """The layout's number is in each key, so that no version of the library reads what it does not know."""
    from balancer.stores.redis import scripts

    old = backends()
    configure(old, {"a": 1})
    granted(old)
    monkeypatch.setattr(scripts, "LAYOUT", 999)
    new = backends()
    configure(new, {"a": 1})
    assert rows(new) == {}
    assert granted(new)


# -- settings that differ ---------------------------------------------------------------------------------


def test_of_pools_with_different_strategies_one_wins_with_a_warning(backends):
    """P-14: `max_jobs` bounds what runs on an account whatever order the accounts are kept in."""
    one = backends(strategy="random")
    other = backends(strategy="least_loaded")
    configure(one, {"a": 6})
    held = [granted(one), granted(other), granted(one)]
    for backend in (one, other):
        assert take(backend, max_jobs=2)[1] is None
        assert take(backend, max_jobs=3)[1] is None
    for backend, key in zip((other, one, other), held, strict=True):
        backend.call(ops.Release(key=key))
    for _ in range(3):
        assert take(one, max_jobs=3)[1] is not None
    for backend in (one, other):
        assert take(backend, max_jobs=3)[1] is None


def test_an_account_is_never_over_though_settings_differ(backends):
    """P-22: services whose requests can raise the capacity, and pools that choose differently."""
    one = backends(strategy="least_loaded")
    other = backends(strategy="random")
    configure(one, {"a": 4, "b": 4})
    keys = [granted(backend) for backend in (one, other) * 4]
    assert [take(backend)[1] for backend in (one, other)] == [None, None]
    assert take(one, max_jobs=4)[1] is None
    assert take(other, max_jobs=4)[1] is None
    one.call(ops.Release(key=keys[0]))
    assert take(other)[1] is not None
    assert take(one)[1] is None


def test_differing_settings_are_warned_about_once_and_the_first_pools_rule(pool):
    """A rolling deploy: the new processes are told what counts as long as an old one lives."""
    old = pool({"a": 2, "b": 2}, strategy="random")
    old.acquire(timeout=10).release()
    with capture_logs() as logs:
        new = pool({"a": 2, "b": 2}, strategy="least_loaded", lease_ttl=30.0)
        for _ in range(5):
            new.acquire(timeout=10).release()
            time.sleep(0.3)
    said = [event for event in logs if event["event"] == "settings_differ"]
    assert [(event["strategy"], event["lease_ttl"]) for event in said] == [("random", 60.0)]
    with capture_logs() as logs:
        for _ in range(5):
            old.acquire(timeout=10).release()
    assert [event for event in logs if event["event"] == "settings_differ"] == []


def test_settings_take_over_once_nobody_else_lives_who_has_others(backends, server):
    """The last of the old processes is gone: then the new settings count, for the order of accounts too."""
    client = server.client(decode_responses=True)
    old = backends(strategy="random", lease_ttl=1.0)
    configure(old, {"a": 4})
    new = backends(strategy="least_loaded", lease_ttl=1.0)
    granted(new)
    assert client.zscore(new.base + "room", "a") == 1
    end = time.monotonic() + 20
    while client.zscore(new.base + "room", "a") != 0.25:
        assert time.monotonic() < end
        time.sleep(0.2)
        new.call(ops.Heartbeat())
    assert take(new, max_jobs=1)[1] is None


def test_a_life_of_leases_is_each_processes_own(backends):
    """P-35: one that beats once a minute is not dead because others beat each second, after a repair too."""
    slow, quick = backends(lease_ttl=60.0), backends(lease_ttl=1.0)
    configure(slow, {"a": 2})
    key = granted(slow)
    quick.call(ops.Heartbeat())
    name = quick.base + "timers"
    quick._connections.command("DEL", name)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        granted_key, answer = take(quick)
        if answer is not None:
            quick.call(ops.Release(key=granted_key))
        time.sleep(0.1)
    assert key in rows(slow)


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_source_of_ones_own_needs_a_name_where_others_may_count_too(server, tmp_path, kind):
    """Two programs without names would be handed each other's accounts."""
    store = server.url if kind == "redis" else f"sqlite://{tmp_path}/pool.db"
    with pytest.raises(ValueError, match=r'AccountPool\("any-word", source='):
        AccountPool(source={"a": 1}, store=store)
    one = AccountPool("one-program", source={"a": 1}, store=store)
    other = AccountPool("other-program", source={"b": 1}, store=store)
    with one, other:
        assert one.acquire(timeout=10).account.id == "a"
        assert other.acquire(timeout=10).account.id == "b"


def test_equal_servers_are_one_however_they_are_written(server):
    """The case of a host, a dot at its end and the port that is meant anyway make no other pool."""
    from balancer.stores.opening import _namespace

    def name(url):
        with AccountPool("kling", token="user:7-x", base_url=url, store=server.url) as pool:
            return _namespace(pool._core.options)

    assert name("https://API.useapi.net") == name("https://api.useapi.net:443") == "user:7/kling"
    assert name("https://api.useapi.net.") == "user:7/kling"
    assert name("http://Proxy.local") == name("http://proxy.local:80") != name("http://proxy.local:81")
    assert name("http://api.useapi.net") != "user:7/kling"


# -- refusals ---------------------------------------------------------------------------------------------


def refusal(pool, **options):
    """Return the error of an acquire that finds nothing."""
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=0, **options)
    return caught.value


@pytest.mark.parametrize(
    "asked", [{}, {"account": "account-7"}, {"exclude": ["account-3"]}, {"max_jobs": 1}], ids=str
)
def test_a_refusal_costs_the_same_however_many_accounts_there_are(server, pool, asked):
    """A caller turned away is told of at most twenty accounts, and nobody looks at the others."""
    client, costs = server.client(), []
    for number in (25, 500):
        own = pool({f"account-{n}": 1 for n in range(number)}, service=f"size-{number}-{len(asked)}")
        leases = [own.acquire(timeout=10) for _ in range(number)]
        refusal(own, **asked)
        counts = spent(client, lambda own=own: refusal(own, **asked))
        costs.append(sum(counts.values()))
        assert len(refusal(own, **asked).accounts) <= 20
        for lease in leases:
            lease.release()
    few, many = costs
    if asked == {"exclude": ["account-3"]}:
        assert many - few < 5 * 475  # the candidates are asked for by name, and only looked up
    else:
        assert many < few + 30, costs


@pytest.mark.parametrize(
    "asked", [{}, {"max_jobs": 5}, {"scope": "m"}, {"max_jobs": 5, "scope": "m"}], ids=str
)
def test_a_limit_makes_no_search_longer(server, backends, asked):
    """Whether a trial is due or none, nobody is looked at but who is chosen, however many have a limit."""
    clock, costs = ManualClock(), []
    for number in (5, 100):
        backend = backends(now=clock, lease_ttl=1e6, namespace=f"user:1/limited-{number}-{asked}")
        ids = [f"a{n}" for n in range(number)]
        configure(backend, dict.fromkeys(ids, 6))
        for id in ids:
            granted(backend, accounts=(id,))
            refused = granted(backend, accounts=(id,))
            backend.call(ops.Report(key=refused, account=id, seconds=9.0, teaches=True))
            backend.call(ops.Release(key=refused))
        client = server.client()
        full = sum(spent(client, lambda one=backend: take(one, **asked)).values())
        clock.advance(60)
        backend.call(ops.Heartbeat())
        while backend.call(ops.Heartbeat()).due == 0.0:
            pass
        due = sum(spent(client, lambda one=backend: take(one, **asked)).values())
        costs.append((full, due))
    (few_full, few_due), (many_full, many_due) = costs
    assert many_full <= few_full + 2
    assert many_due <= few_due + 2


def test_a_refusal_tells_of_detached_jobs_and_of_the_first_end(pool):
    """What is bound on accounts that are not shown is counted, and the first end is told."""
    own = pool({f"account-{n:02}": 1 for n in range(30)})
    leases = [own.acquire(timeout=10) for _ in range(30)]
    for number, lease in enumerate(leases):
        lease.bind(f"job-{number}", ttl=100 + number)
    error = refusal(own)
    assert error.kept == 30
    assert len(error.accounts) == 20
    assert set(error.accounts.values()) == {"full: 1 in flight and 0 external of 1"}
    assert 90 < (error.retry_at - datetime.now(UTC)).total_seconds() < 101
    pinned = refusal(own, account=leases[20].account.id)
    assert 110 < (pinned.retry_at - datetime.now(UTC)).total_seconds() < 121


def test_a_caller_turned_away_by_the_pause_of_all_grants_is_told_so(server, pool):
    """P-26: after a loss of memory an account may look ready; the error says what it is waiting for."""
    own = pool({"a": 2})
    own.acquire(timeout=10).release()
    server.client().flushall()
    own.stats()
    error = refusal(own)
    assert "the store grants nothing for " in str(error)
    assert "until all processes have said what they hold" in str(error)
    assert 0 < (error.retry_at - datetime.now(UTC)).total_seconds() < 3.1
    own.acquire(timeout=10).release()
