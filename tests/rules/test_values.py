"""The values that users get: frozen, and fit for sets, pickles, copies and ``asdict``."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

import balancer
from balancer import (
    SERVICES,
    Account,
    AccountPool,
    AccountTable,
    CancelEndpoint,
    HttpSource,
    InvalidConfiguration,
    Job,
    JobList,
    JobsEndpoint,
    NoAccounts,
    Service,
    StatusEndpoint,
    VerdictRule,
)
from balancer.models import FrozenDict
from balancer.services import find
from balancer.useapi.sources import to_listing, to_table

OWN = Service(
    key="own",
    path="/v1/own",
    final={"status": ["done", "dead"]},
    strings=["plan"],
    rules=[VerdictRule(status=[400, 404], verdict="BUSY")],
    load=JobsEndpoint(path="jobs", rows=["jobs"], account=["account"]),
    status=[StatusEndpoint(path="jobs/{job}")],
    succeeded={"status": ["done"]},
    cancel=CancelEndpoint(path="jobs/{job}"),
    poll=[1.0, 5.0],
)


def values():
    """Return one value of each public type, as users get it or make it."""
    pool = AccountPool(source={"a": {"maxJobs": 2, "credits": 7, "ok": True}, "b": 1})
    lease = pool.acquire(account="a")
    found = {
        "Account": lease.account,
        "Account, made by hand": Account("a", 2, fields={"credits": 7}),
        "AccountTable": AccountTable({"a": lease.account}),
        "Job": Job("job", "a", "ref"),
        "JobList": JobList([Job("job", "a")], counts={"a": 1}),
        "PoolStats": pool.stats(),
        "AccountStats": pool.stats().accounts["a"],
        "Holder": pool.holders()[0],
        "ReconcileResult": balancer.ReconcileResult(adopted={"a": 1}, kept=["lease"]),
        "Attempt": balancer.Attempt("a", balancer.Verdict.BUSY, 429, "busy"),
        "Verdict": balancer.Verdict.BUSY,
        "Service": SERVICES["flowmusic"],
        "SERVICES": SERVICES,
        "Service, made by hand": OWN,
        "JobsEndpoint": OWN.load,
        "VerdictRule": OWN.rules[0],
        "StatusEndpoint": OWN.status[0],
        "CancelEndpoint": OWN.cancel,
    }
    lease.release()
    pool.close()
    return found


VALUES = values()
each = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


def test_every_public_dataclass_is_among_them():
    """A type that is new must be tried as well. A RedisStore is none of them: it holds a connection."""
    public = {name for name in balancer.__all__ if dataclasses.is_dataclass(getattr(balancer, name))}
    assert public - {"RedisStore"} <= {type(value).__name__ for value in VALUES.values()}


@each
def test_it_may_stand_in_a_set(value):
    """Equal values are one."""
    assert len({value, copy.copy(value)}) == 1


@each
def test_it_can_be_copied(value):
    """Shallow, deep, and with a change."""
    assert copy.copy(value) == copy.deepcopy(value) == value
    if dataclasses.is_dataclass(value):
        assert dataclasses.replace(value) == value


@each
def test_it_travels_in_pickles(value):
    """With every protocol, and what comes out is as frozen as what went in."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(value, protocol))
        assert twin == value
        assert hash(twin) == hash(value)


@each
def test_it_can_be_taken_apart(value):
    """``asdict`` gives what JSON can write, but for instants."""
    if dataclasses.is_dataclass(value):
        assert json.loads(json.dumps(dataclasses.asdict(value), default=str))


def test_every_row_of_the_table_is_such_a_value():
    """Not one service alone."""
    assert len({*SERVICES.values()}) == len(SERVICES)
    for row in SERVICES.values():
        assert pickle.loads(pickle.dumps(copy.deepcopy(row))) == row


def name_of(account):
    """Return the id of an account, in another process."""
    return account.id, hash(account) is not None


def test_accounts_go_to_other_processes_and_into_exclude():
    """As the account of a lease does, which is the one at hand."""
    pool = AccountPool(source={"a": {"maxJobs": 1, "credits": 7}, "b": 1})
    with pool.acquire(account="a") as lease:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as workers:
            assert workers.submit(name_of, lease.account).result(60) == ("a", True)
        with pool.acquire(exclude={lease.account}, timeout=0) as other:
            assert other.account.id == "b"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.update(a=2),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.clear(),
        lambda d: d.setdefault("b", 2),
        lambda d: d.__ior__({"b": 2}),
    ],
)
def test_what_they_hold_cannot_be_changed(change):
    """Neither by one caller for all others, nor under a hash; a dict that can change is one call away."""
    frozen = FrozenDict(a=1)
    with pytest.raises(TypeError, match="cannot be changed"):
        change(frozen)
    assert dict(frozen) | {"b": 2} == {"a": 1, "b": 2}


def test_a_source_says_why_it_cannot_be_pickled():
    """It holds the token, and a pickle is a file."""
    source = HttpSource("flowmusic", token="user:1-secret")
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r"HttpSource .* cannot be pickled: make one in each process"):
            attempt(source)


class Given:
    """A source of the user's that returns what it was made with."""

    def __init__(self, accounts):
        self.given = accounts

    def accounts(self):
        return self.given


@pytest.mark.parametrize("capacity", [0, -1, 1.5, float("nan"), True, None, "six", 10**7])
def test_a_table_of_the_users_own_is_checked_account_by_account(capacity):
    """A capacity that is none makes that account broken, with the reason; the others work."""
    table = AccountTable({"a": Account("a", capacity), "b": Account("b", 1)})
    pool = AccountPool(source=Given(table))
    with pytest.raises(NoAccounts, match=r"its capacity is .*, not a whole number"):
        pool.acquire(account="a", timeout=5)
    with pool.acquire(timeout=5) as lease:
        assert lease.account.id == "b"


def test_a_table_of_the_users_own_is_read_as_a_mapping_is():
    """Capacities that mean a number are that number, the key is the account's id, a bare number will do."""
    table = AccountTable({"a": Account("a", "6"), "b": Account("other", 2.0), "c": 3, "": Account("", 1)})
    found = to_table(table, find("flowmusic"), None).accounts
    assert {id: account.capacity for id, account in found.items()} == {"a": 6, "b": 2, "c": 3, "": 1}
    assert found["b"].id == "b"
    assert "empty" in found[""].broken


@pytest.mark.parametrize("accounts", [None, [1], "a", AccountTable(None), AccountTable([1])])
def test_what_is_no_mapping_of_accounts_is_said_to_be_none(accounts):
    """Inside a table as well."""
    said = r"accounts\(\) must return a mapping or an AccountTable, not"
    with pytest.raises(InvalidConfiguration, match=said):
        to_table(accounts, find("flowmusic"), None)


def test_a_listing_of_the_users_own_is_checked():
    """Ids become text, mappings become jobs, counts must be whole numbers."""
    listing = JobList([{"id": 7, "account": "a"}, Job(8, "b")], counts={"a": 1}, complete=False)
    assert to_listing(listing) == JobList((Job("7", "a"), Job("8", "b")), {"a": 1}, complete=False)
    for wrong in ("2", -1, 1.5, True):
        with pytest.raises(InvalidConfiguration, match="counts of jobs"):
            to_listing(JobList(counts={"a": wrong}))
