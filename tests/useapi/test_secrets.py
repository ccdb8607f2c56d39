"""P-60: the token, and what the account list brings with it, reach nothing that people read."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import requests
import structlog
from crew import Played, shown
from stepping import until

from balancer import (
    SERVICES,
    AccountPool,
    BalancerError,
    HttpSource,
    InvalidConfiguration,
    SourceUnavailable,
    Unauthorized,
)
from balancer.errors import sanitized
from balancer.models import AccountTable
from balancer.testing import CANARY
from balancer.useapi.sources import Token

pytest_plugins = ["balancer.testing.plugin"]

TOKEN = f"user:4711-{CANARY}-token"
JWT = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"


@pytest.fixture
def make(fake_useapi):
    """Return what starts a stand-in whose token is a canary too, and a pool that reads from it."""
    pools = []

    def start(service="flowmusic", **options):
        fake = fake_useapi({service: {"a": 2, "b": 1}}, token=TOKEN)
        pools.append(AccountPool(service, token=TOKEN, base_url=fake.url, **options))
        return fake, pools[-1]

    yield start
    for pool in pools:
        pool.close()


def clean(*texts):
    """Assert that no canary is in any text."""
    for text in texts:
        assert CANARY not in text, text[:300]
        assert JWT not in text, text[:300]


def everything_shown(pool, lease):
    """Return all that a pool and a lease show of themselves."""
    account = lease.account
    values = [
        pool,
        lease,
        account,
        lease.params,
        pool.stats(),
        pool.explain(),
        pool.holders(),
        pool._core.options,
        pool._core.options.source,
        pool._core.refresher.configuration.table,
        [vars_of(thing) for thing in (pool._core, pool._core.options.source, pool._core.store)],
    ]
    return [show(value) for value in values for show in (repr, str)] + [f"{pool} {lease} {account}"]


def vars_of(thing):
    """Return the attributes of an object, however it keeps them."""
    return {name: getattr(thing, name, None) for name in dir(thing) if not name.startswith("__")}


@pytest.mark.parametrize(
    "service", sorted(key for key, row in SERVICES.items() if "/" not in key and row.alive)
)
def test_nothing_that_a_pool_shows_holds_a_secret(make, service):
    """P-60: reprs, stats, holders and all attributes, for the entries of every service."""
    _, pool = make(service, reconcile_every=None)
    with pool.acquire(timeout=0, label="x") as lease:
        clean(*everything_shown(pool, lease))
        lease.bind("job")
        clean(*everything_shown(pool, lease))
    clean(repr(pool), repr(pool.stats()))


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 200, "body": f"<html>{CANARY} {JWT}</html>"},
        {"status": 200, "body": b'{"a": {"jwt": "' + CANARY.encode()},
        {"status": 200, "body": [CANARY]},
        {"status": 200, "body": {"error": f"token {TOKEN} is bad"}},
        {"status": 401, "body": {"error": f"token {TOKEN} is bad"}},
        {"status": 402, "body": {"error": TOKEN}},
        {"status": 403, "body": TOKEN},
        {"status": 404, "body": f"<p>{TOKEN}"},
        {"cut": "midbody"},
        {"status": 302, "headers": {"Location": f"http://127.0.0.1:9/?token={CANARY}"}},
    ],
    ids=["html", "truncated", "array", "report", "401", "402", "403", "404", "midbody", "redirect"],
)
def test_no_error_and_no_event_holds_a_secret(make, fault, monkeypatch):
    """P-60: messages, attributes, chains, tracebacks with locals, events and stderr."""
    fake, pool = make()
    fake.fault("*/accounts", times=None, **fault)
    err, out = io.StringIO(), io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program that has not set it up
    with redirect_stderr(err), redirect_stdout(out):
        with pytest.raises(BalancerError) as caught:
            pool.acquire()
        until(lambda: "configuration_failed" in err.getvalue())  # told by the thread that fetched
    clean(shown(caught.value), err.getvalue(), out.getvalue())
    with structlog.testing.capture_logs() as events:
        with pytest.raises(BalancerError) as caught:
            pool.refresh()
        # Told by the thread that fetched.
        until(lambda: any(event["event"] == "configuration_failed" for event in events))
    clean(shown(caught.value), repr(events), repr(pool.stats()), repr(pool))


def test_the_reason_of_a_broken_account_quotes_no_secret(make):
    """P-60: an error text that repeats the entry's own token is cut."""
    fake, pool = make()
    quoted = f"login with {CANARY}-jwt-of-this-entry and {JWT} failed"
    fake.set_account("flowmusic", "a", {"maxJobs": 1, "error": quoted, "jwt": f"{CANARY}-jwt-of-this-entry"})
    with structlog.testing.capture_logs() as events:
        pool.refresh()
    reason = pool.stats().accounts["a"].reason
    assert "failed" in reason
    clean(reason, repr(events), repr(pool.explain()))


def test_an_answer_that_is_reported_leaves_nothing_behind(make):
    """P-60: bodies and headers of create answers are read and forgotten."""
    _, pool = make()
    with structlog.testing.capture_logs() as events, pool.acquire() as lease:
        for status in (200, 400, 412, 429, 500, 596):
            lease.report((status, {"X-Secret": CANARY}, f'{{"error": "{CANARY} {TOKEN}", "jwt": "{JWT}"}}'))
        clean(*everything_shown(pool, lease))
    clean(repr(events))


def test_what_the_block_raised_is_not_kept(make):
    """P-60: an exception carries its request with the header; the pool holds no trace of it."""
    _, pool = make()
    request = requests.Request("POST", "http://127.0.0.1", headers={"Authorization": TOKEN}).prepare()
    failure = requests.ReadTimeout(f"{CANARY}", request=request)
    with structlog.testing.capture_logs() as events:
        with pytest.raises(requests.ReadTimeout), pool.acquire():
            raise failure
        clean(repr(pool.stats()), repr(pool.holders()), repr(pool.explain()))
    clean(repr(events))


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_pickling_fails_and_shows_nothing(make, attempt):
    """P-60: a pool, a lease, a source and a token belong to their process; the refusal holds no secret."""
    _, pool = make()
    with pool.acquire() as lease:
        for thing in (pool, lease, pool._core.options.source, pool._core.options.token):
            with pytest.raises(TypeError) as caught:
                attempt(thing)
            clean(shown(caught.value))


def test_errors_travel_in_pickles_without_secrets(make):
    """P-60: an error that goes to another process takes its facts and nothing else with it."""
    fake, pool = make()
    fake.fault("*/accounts", times=None, status=401)
    with pytest.raises(Unauthorized) as caught:
        pool.acquire()
    pickled = pickle.dumps(caught.value)
    assert CANARY.encode() not in pickled
    assert str(pickle.loads(pickled)) == str(caught.value)


WRONG = [
    {"ttl": "soon"},
    {"ttl": -1},
    {"base_url": "not a url"},
    {"strategy": "best"},
    {"clock": 5},
    {"store": "oracle://"},
    {"default_capacity": 0},
    {"max_waiting": 1.5},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_a_constructor_that_fails_shows_no_token(wrong):
    """P-60: whichever argument is wrong, frames with locals hold the token wrapped."""
    with pytest.raises((TypeError, ValueError)) as caught:
        AccountPool("flowmusic", **{"token": TOKEN, **wrong})
    assert next(iter(wrong)) in str(caught.value)
    clean(shown(caught.value))


@pytest.mark.parametrize("bad", [f"{TOKEN}\nx", f"{TOKEN} x", f"{TOKEN}\x01", f"{TOKEN}é"])
@pytest.mark.parametrize("way", ["argument", "environment", "source"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(bad, way, monkeypatch):
    """P-60: the place of the bad character is named, from wherever the token came."""
    if way == "environment":
        monkeypatch.setenv("USEAPI_TOKEN", bad)
    make = HttpSource if way == "source" else AccountPool
    with pytest.raises(ValueError, match="token has a character at position") as caught:
        make("flowmusic", token=None if way == "environment" else bad)
    clean(shown(caught.value))


def test_a_missing_token_says_where_it_could_come_from():
    """Neither argument nor environment: the message names both."""
    with pytest.raises(ValueError, match=r"token=.*USEAPI_TOKEN"):
        AccountPool("flowmusic")
    with pytest.raises(ValueError, match="token"):
        AccountPool("flowmusic", token="")


def test_the_customer_is_named_without_the_token():
    """What stands in keys of a store: the user's number, or a fingerprint that leads nowhere back."""
    assert Token(TOKEN).customer() == "user:4711"
    odd = Token(f"{CANARY}-without-a-number").customer()
    clean(odd)
    assert odd == Token(f" {CANARY}-without-a-number\n").customer()
    assert odd != Token(f"{CANARY}-another").customer()


def test_foreign_causes_lose_request_response_and_body(make):
    """P-60: what another library raised is chained by type and text, tokens of a known form cut out."""
    response = requests.Response()
    response._content = CANARY.encode()
    request = requests.Request("GET", "http://127.0.0.1", headers={"Authorization": TOKEN}).prepare()
    stand_in = sanitized(requests.HTTPError(f"refused {TOKEN} {JWT}", request=request, response=response))
    clean(shown(stand_in))
    assert "requests.exceptions.HTTPError: refused" in str(stand_in)
    source = Played()
    source.trouble = requests.HTTPError(f"refused {TOKEN}", request=request, response=response)
    pool = AccountPool(source=source)
    with pytest.raises(SourceUnavailable) as caught:
        pool.acquire()
    clean(shown(caught.value))


def test_a_table_of_the_users_own_is_cleaned_like_the_vendors():
    """P-60: an own source may pass the vendor's entries on as they are."""
    entry = {"maxJobs": 2, "jwt": {"token": CANARY}, "cookie": CANARY, "password": 4711, "plan": CANARY}
    pool = AccountPool("flowmusic", source={"a": entry})
    with pool.acquire() as lease:
        clean(*everything_shown_of_own(pool, lease))
        assert dict(lease.account.fields) == {"maxJobs": 2}


def everything_shown_of_own(pool, lease):
    """Return what a pool over a mapping of the user's shows; the mapping itself is the user's."""
    return [repr(pool), repr(lease), repr(lease.account), repr(pool.stats()), repr(pool._core.store.table)]


def test_no_memory_of_the_list_outlives_the_fetch(make):
    """P-60: once the table is read, no object of the pool holds the body any more."""
    import gc

    _, pool = make()
    pool.refresh()
    gc.collect()
    assert isinstance(pool._core.store.table, AccountTable)
    seen, stack = set(), [pool._core.store, pool._core.refresher, pool._core.options.source.service]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, type(sys)) or callable(thing):
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes):
            clean(thing if isinstance(thing, str) else thing.decode("latin-1"))
        elif not isinstance(thing, Token):
            stack += gc.get_referents(thing)
    assert len(seen) > 100


def test_nothing_is_written_to_files_or_streams(tmp_path, fake_useapi):
    """P-60: a whole run in a process of its own leaves no file and no output with a secret."""
    fake = fake_useapi({"flowmusic": {"a": 1}}, token=TOKEN)
    script = (
        "from balancer import AccountPool\n"
        f"pool = AccountPool('flowmusic', base_url={fake.url!r})\n"
        "pool.acquire(); print(pool, pool.stats(), pool.holders())\n"
        "pool.acquire(account='nobody')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "USEAPI_TOKEN": TOKEN, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "NoAccounts" in run.stderr
    assert "<AccountPool flowmusic" in run.stdout
    clean(run.stdout, run.stderr)
    assert list(tmp_path.iterdir()) == []


def test_invalid_configuration_chains_nothing_of_the_body():
    """P-60: JSONDecodeError keeps the whole document; it is not in the chain."""
    from balancer.useapi import parsing

    with pytest.raises(InvalidConfiguration) as caught:
        parsing.body(f'{{"a": "{CANARY}'.encode(), "application/json")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    clean(shown(caught.value))
