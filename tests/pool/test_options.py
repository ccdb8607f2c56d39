"""The arguments of a pool and of an acquire: what is taken, what is refused, and by which name."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from crew import result, start
from stepping import until

from balancer import SERVICES, Account, AccountPool, HttpSource, Service
from balancer.config import PoolConfig, check_int, seconds
from balancer.testing import ManualClock

HERE = {"token": "user:1-x", "base_url": "http://127.0.0.1:9"}


def pool(**options):
    """Return a pool over one account."""
    return AccountPool(**{"source": {"a": 1}, **options})


NUMBERS = ["ttl", "stale_if_error", "lease_ttl", "job_ttl", "ambiguous_ttl", "reconcile_every"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("60", TypeError),
        (True, TypeError),
        ([], TypeError),
        (Decimal(1), TypeError),
        (-1, ValueError),
        (-0.001, ValueError),
        (math.nan, ValueError),
        (-math.inf, ValueError),
    ],
)
def test_a_duration_that_is_none_is_refused_by_name(name, value, kind):
    """Every duration is a number of seconds, not negative and not NaN."""
    with pytest.raises(kind, match=name):
        pool(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_duration_of_zero_is_refused_where_it_makes_no_sense(name):
    """A ttl of 0 counts as the shortest there is; nothing else can last no time."""
    if name == "ttl":
        assert pool(ttl=0)
    else:
        with pytest.raises(ValueError, match=name):
            pool(**{name: 0})


@pytest.mark.parametrize("value", [math.inf, 10**400, 1e300])
def test_for_ever_is_a_duration(value):
    """However large the number, it is only a long time."""
    one = pool(ttl=value, job_ttl=value, clock=ManualClock())
    one.refresh()
    lease = one.acquire(timeout=value)
    lease.bind("job")
    assert one.holders()[0].expires_in == math.inf
    assert lease.release()


@pytest.mark.parametrize(
    ("options", "kind", "named"),
    [
        ({"strategy": "best"}, ValueError, "random, least_loaded"),
        ({"strategy": []}, ValueError, "strategy"),
        ({"default_capacity": 0}, ValueError, "default_capacity"),
        ({"default_capacity": 1_000_001}, ValueError, "default_capacity"),
        ({"default_capacity": 1.0}, TypeError, "default_capacity"),
        ({"default_capacity": True}, TypeError, "default_capacity"),
        ({"max_waiting": -1}, ValueError, "max_waiting"),
        ({"max_waiting": "5"}, TypeError, "max_waiting"),
        ({"random": 0.5}, TypeError, "random"),
        ({"clock": 0.5}, TypeError, "clock"),
        ({"source": 5}, TypeError, "source"),
        ({"source": ["a"]}, TypeError, "source"),
        ({"store": "oracle://x"}, ValueError, "store"),
        ({"store": 5}, ValueError, "store"),
        ({"store": "sqlite://relative.db"}, ValueError, "store"),
        ({"store": "sqlite:///:memory:"}, ValueError, "memory://"),
        ({"store": "sqlite://:memory:"}, ValueError, "memory://"),
        ({"store": "sqlite:///slots.db"}, ValueError, "root folder"),
        ({"store": "sqlite:///tmp/slots.db?mode=ro"}, ValueError, "no options"),
        ({"store": "sqlite:///tmp/slots.db#x"}, ValueError, "no options"),
        ({"store": "sqlite:///~other/slots.db"}, ValueError, "home folder"),
        ({"store": "sqlite://~"}, ValueError, "home folder"),
        ({"store": "sqlite:///tmp/folder/"}, ValueError, "absolute path"),
        ({"store": "sqlite:///"}, ValueError, "absolute path"),
    ],
)
def test_wrong_arguments_of_a_pool_are_refused_by_name(options, kind, named):
    """What could only fail later fails where it is given."""
    on_others = {"service": "custom"} if str(options.get("store")).startswith("sqlite") else {}
    with pytest.raises(kind, match=named):
        pool(**on_others, **options)


def test_unknown_arguments_are_refused():
    """A misspelt option must not be silently without effect."""
    with pytest.raises(TypeError, match="lease_tll"):
        pool(lease_tll=5)
    with pytest.raises(TypeError, match=r"acquire\(\) .* 'acount'"):
        pool().acquire(acount="a")
    with pytest.raises(TypeError, match="acount"):
        pool().explain(acount="a")


def test_a_whole_number_too_large_for_a_float_is_a_wait_for_ever():
    """Who waits that long stands in line like everybody else."""
    one = pool()
    lease = one.acquire()
    waiting = start(one.acquire, timeout=10**400)
    until(lambda: one.stats().waiting)
    lease.release()
    assert result(waiting).release()


def test_an_unknown_service_lists_near_ones():
    """A typing error is told with what was probably meant."""
    with pytest.raises(ValueError, match="flowmusic"):
        AccountPool("flowmusik", **HERE)
    with pytest.raises(TypeError, match="service is missing"):
        AccountPool(**HERE)


@pytest.mark.parametrize(
    ("want", "kind", "named"),
    [
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": math.nan}, ValueError, "timeout"),
        ({"timeout": "5"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"account": ""}, ValueError, "account"),
        ({"account": 5}, TypeError, "account"),
        ({"exclude": "a"}, TypeError, "exclude"),
        ({"exclude": b"a"}, TypeError, "exclude"),
        ({"exclude": 5}, TypeError, "exclude"),
        ({"exclude": iter(["a"])}, TypeError, "exclude"),
        ({"exclude": [5]}, TypeError, "exclude"),
        ({"exclude": None}, TypeError, "exclude"),
        ({"where": "supportVideo"}, TypeError, "where"),
        ({"max_jobs": 0}, ValueError, "max_jobs"),
        ({"max_jobs": 2.0}, TypeError, "max_jobs"),
        ({"max_jobs": True}, TypeError, "max_jobs"),
        ({"scope": 5}, TypeError, "scope"),
        ({"label": 5}, TypeError, "label"),
        ({"label": "half \ud800"}, ValueError, "label"),
    ],
)
def test_wrong_arguments_of_an_acquire_are_refused_by_name(want, kind, named):
    """Before anything is fetched, taken or waited for, and once slots are there to be had; explain alike."""
    loaded = pool()
    loaded.refresh()
    with pytest.raises(kind, match=named):
        loaded.acquire(**want)
    one = pool()
    for method in (one.acquire, one.explain):
        with pytest.raises(kind, match=named):
            method(**want)
    assert one.stats().acquired == 0


@pytest.mark.parametrize("value", [1.0, 1, -0.1, math.nan, "x", None])
def test_a_random_number_outside_its_range_reaches_its_caller_only(value):
    """An index out of range would pick a wrong account, or none."""
    one = pool(random=lambda: value)
    with pytest.raises((TypeError, ValueError), match="random"):
        one.acquire()
    assert one.stats().in_flight == 0


def test_random_decides_which_account_is_chosen():
    """The caller's own generator is the only chance in a choice."""
    draws = iter([0.0, 0.99, 0.5])
    one = AccountPool(source={"a": 9, "b": 9}, random=lambda: next(draws, 0.0))
    one.refresh()
    leases = [one.acquire() for _ in range(2)]
    assert [lease.account.id for lease in leases] in (["a", "b"], ["b", "a"])


def test_least_loaded_is_a_strategy():
    """The account with the smallest share in use comes first."""
    one = AccountPool(source={"small": 2, "large": 8}, strategy="least_loaded")
    leases = [one.acquire() for _ in range(10)]
    assert [lease.account.id for lease in leases].count("large") == 8
    share = [lease.account.id for lease in leases[:5]]
    assert share.count("small") == 1, "a fifth of the first five, as of the whole"


def test_the_environment_fills_in_what_is_not_given(monkeypatch):
    """Token, host and store may be set from outside; an argument wins."""
    monkeypatch.setenv("USEAPI_TOKEN", "user:5-env")
    monkeypatch.setenv("USEAPI_BASE_URL", "http://127.0.0.1:8/")
    monkeypatch.setenv("BALANCER_STORE", "memory://")
    options = AccountPool("flowmusic")._core.options
    assert options.token.bearer() == "Bearer user:5-env"
    assert options.source.base_url == "http://127.0.0.1:8"
    assert options.store == "memory://"
    given = AccountPool("flowmusic", **HERE)._core.options
    assert given.token.bearer() == "Bearer user:1-x"
    assert given.source.base_url == "http://127.0.0.1:9"
    monkeypatch.setenv("BALANCER_STORE", "oracle://")
    with pytest.raises(ValueError, match="store"):
        pool()
    assert pool(store="memory://")


def test_without_anything_set_the_real_host_is_asked():
    """The default host is the vendor's."""
    options = AccountPool("flowmusic", token="user:6-x")._core.options
    assert options.source.base_url == "https://api.useapi.net"


def test_a_source_of_ones_own_needs_no_token_and_no_service():
    """A mapping, or any object with accounts()."""

    class Own:
        def accounts(self):
            return {"a": 6, "b": Account("b", 2), "c": {"maxJobs": 3}}

    one = AccountPool(source=Own())
    assert {id: account.capacity for id, account in one.stats().accounts.items()} == {"a": 6, "b": 2, "c": 3}
    assert one.acquire(account="b").params == {"account": "b"}


def test_a_source_of_ones_own_may_name_the_service():
    """Then requests carry the account under the service's own name."""
    row = SERVICES["flowmusic"]
    assert row.selector in AccountPool("flowmusic", source={"a": 1}).acquire().params


def test_an_http_source_brings_its_service_and_customer_along():
    """A session of one's own changes neither the names in requests nor whose accounts are counted."""
    options = AccountPool(source=HttpSource("mureka", **HERE))._core.options
    assert options.service is SERVICES["mureka"]
    assert options.token.customer() == "user:1"
    assert not options.owns_source


def test_a_row_of_ones_own_is_a_service():
    """What the table lacks is one row away."""
    row = Service(key="own", path="/v1/own", selector="who", max_jobs="slots")
    lease = AccountPool(row, source={"a": 1}).acquire(max_jobs=2)
    assert lease.params == {"who": "a", "slots": 2}


def test_default_capacity_is_for_those_that_state_none():
    """It takes the place of the service's documented default, and the stats say so."""
    one = AccountPool(source={"a": {}, "b": {"maxJobs": 2}}, default_capacity=4)
    accounts = one.stats().accounts
    assert (accounts["a"].capacity, accounts["b"].capacity) == (4, 2)
    assert "default_capacity 4" in accounts["a"].reason


def test_options_are_frozen():
    """What was checked stays as it was."""
    options = pool()._core.options
    assert isinstance(options, PoolConfig)
    with pytest.raises(AttributeError):
        options.ttl = 5


def test_the_checks_return_what_they_checked():
    """Seconds are floats, whole numbers stay whole, None stays None."""
    assert seconds("x", 5) == 5.0
    assert isinstance(seconds("x", 5), float)
    assert check_int("x", 5, 1, 5) == 5
    assert check_int("x", None, 1, 5) is None
    with pytest.raises(ValueError, match="from 1 to 5, not 6"):
        check_int("x", 6, 1, 5)


@pytest.mark.parametrize("url", ["sqlite://~/s.db", "sqlite:///~/s.db", "sqlite:///%7E/s.db"])
def test_a_tilde_is_the_home_folder(url, tmp_path, monkeypatch):
    """As in a shell, and not a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with AccountPool("flowmusic", source={"a": 1}, store=url) as made:
        made.acquire(timeout=30).release()
    assert (tmp_path / "s.db").is_file()


def test_a_path_is_written_as_in_a_url(tmp_path):
    """Blanks, question marks and per cent signs are escaped; four slashes are as good as three."""
    with AccountPool("flowmusic", source={"a": 1}, store=f"sqlite:///{tmp_path}/a%20b%3Fc%25d.db") as made:
        made.acquire(timeout=30).release()
    assert (tmp_path / "a b?c%d.db").is_file()
