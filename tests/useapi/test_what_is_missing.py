"""Whoever gives up before the first accounts or jobs are in reads which, from where, and what failed."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import requests
from http_sources import Scripted, source_of
from redis_server import free_port
from stepping import until
from structlog.testing import capture_logs

from balancer import (
    AccountPool,
    AcquireTimeout,
    AsyncAccountPool,
    HttpSource,
    InvalidConfiguration,
    NoAccounts,
    SourceUnavailable,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.redaction import clean

pytest_plugins = ["balancer.testing.plugin"]

FLOWMUSIC = {"flowmusic": {"a": 1}}
MUREKA = {"mureka": {"1": 1}}


def pool_of(fake, service="flowmusic", **options):
    """Return a pool over the stand-in."""
    return AccountPool(service, token=fake.token, base_url=fake.url, **options)


def refused(pool, timeout):
    """Return what an acquire that times out says."""
    with pytest.raises(AcquireTimeout) as caught:
        pool.acquire(timeout=timeout)
    return str(caught.value)


def test_a_timeout_says_what_every_try_so_far_has_failed_with(fake_useapi):
    """The retries of one fetch take longer than the caller waits: the status of those that failed is told."""
    fake = fake_useapi(FLOWMUSIC)
    fake.fault("*/accounts", status=503, times=None)
    said = refused(pool_of(fake), 2)
    assert "no slot of flowmusic within 2 s" in said
    assert f"the account list is not there yet; GET {fake.url}/v1/flowmusic/accounts" in said
    assert "the server answered 503" in said


def test_a_timeout_says_that_nothing_was_answered(fake_useapi):
    """A server that takes a request and is silent."""
    fake = fake_useapi(FLOWMUSIC)
    fake.fault("*/accounts", hang=True)
    said = refused(pool_of(fake), 0.1)
    assert (
        f"the account list is not there yet; GET {fake.url}/v1/flowmusic/accounts: no answer so far" in said
    )


def test_a_timeout_says_that_it_is_the_list_of_jobs_that_is_missing(fake_useapi):
    """The accounts are there; grants wait for what runs already, and that has an address of its own."""
    fake = fake_useapi(MUREKA)
    fake.fault("*/jobs*", status=500, times=None)
    pool = pool_of(fake, "mureka")
    said = refused(pool, 2)
    assert "the list of running jobs is not there yet; GET " in said
    assert f"{fake.url}/v1/mureka/jobs" in said
    assert "the server answered 500" in said
    assert "account list" not in said


def test_an_async_caller_reads_the_same(fake_useapi):
    """One text for both faces."""
    fake = fake_useapi(FLOWMUSIC)
    fake.fault("*/accounts", status=503, times=None)

    async def main():
        async with AsyncAccountPool(pool=pool_of(fake)) as pool:
            await pool.acquire(timeout=2)

    with pytest.raises(AcquireTimeout, match=r"account list is not there yet.*answered 503"):
        asyncio.run(main())


class Slow:
    """A source of the user's that takes its time, or fails."""

    def __init__(self, error=None):
        self.error, self.over = error, threading.Event()

    def accounts(self):
        if self.error is not None:
            raise self.error
        self.over.wait(10)
        return {"a": 1}


def test_a_source_of_the_users_own_is_named():
    """By its type and method: there is no address."""
    slow = Slow()
    assert "the account list is not there yet; accounts() of Slow: no answer so far" in refused(
        AccountPool(source=slow), 0.1
    )
    slow.over.set()
    with pytest.raises(SourceUnavailable, match=r"^accounts\(\) of Slow failed: KeyError: 'no such row'$"):
        AccountPool(source=Slow(KeyError("no such row"))).acquire()


def test_no_secret_of_a_sources_own_error_is_shown():
    """It may quote a URL with a password, or a token."""
    error = OSError("cannot read https://bob:hunter2@db/accounts with user:77-secret")
    with pytest.raises(SourceUnavailable) as caught:
        AccountPool(source=Slow(error)).acquire()
    assert "hunter2" not in str(caught.value)
    assert "77-secret" not in str(caught.value)
    assert "cannot read" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"status": 401}, Unauthorized, r"did not accept the token \(401\): check token=, or USEAPI_TOKEN"),
        ({"status": 402}, SubscriptionRequired, r"subscription .* has ended \(402\): renew it"),
        ({"status": 418}, InvalidConfiguration, "the server answered 418"),
        ({"body": "<html>", "status": 200}, InvalidConfiguration, "an HTML page"),
        ({"body": [], "status": 200}, InvalidConfiguration, "not a map of accounts"),
        ({"cut": "before"}, SourceUnavailable, "ConnectionError: "),
    ],
)
def test_every_error_of_a_fetch_names_the_address(fake_useapi, fault, kind, said):
    """Whoever reads it on a pager knows which server it was."""
    fake = fake_useapi(FLOWMUSIC)
    fake.fault("*/accounts", times=None, **fault)
    with requests.Session() as session, pytest.raises(kind, match=said) as caught:
        source_of(fake, session=session).accounts()
    assert str(caught.value).startswith(f"GET {fake.url}/v1/flowmusic/accounts: ")


def test_a_server_that_is_away_is_named_with_the_reason():
    """Address, and what the system said; no addresses of objects."""
    url = f"http://127.0.0.1:{free_port()}"
    with requests.Session() as session, pytest.raises(SourceUnavailable) as caught:
        source_of_url(url, session=session).accounts()
    assert (
        str(caught.value)
        == f"GET {url}/v1/flowmusic/accounts: ConnectionError: [Errno 111] Connection refused"
    )


def source_of_url(url, **options):
    """Return a source that reads from there."""
    return HttpSource("flowmusic", token="user:1-x", base_url=url, **options)


def test_a_missing_bundle_of_certificates_is_named(monkeypatch):
    """And not just called an OSError."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(SourceUnavailable, match=r"OSError: Could not find .* /nowhere/bundle\.pem"):
        source_of_url("https://useapi.example").accounts()


def test_a_host_that_no_server_knows_is_named(monkeypatch):
    """The commonest mistake: a typo in base_url."""

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with requests.Session() as session, pytest.raises(SourceUnavailable) as caught:
        source_of_url("https://apu.useapi.example", session=session).accounts()
    assert str(caught.value) == (
        "GET https://apu.useapi.example/v1/flowmusic/accounts: ConnectionError: "
        "[Errno -2] Name or service not known"
    )


def test_nothing_configured_says_where_that_was_read(fake_useapi):
    """A wrong token or service shows like this."""
    fake = fake_useapi({"flowmusic": {}})
    with pytest.raises(NoAccounts, match=f"no account is configured .GET {fake.url}/v1/flowmusic/accounts"):
        pool_of(fake).acquire(timeout=5)


def test_stats_and_events_say_the_same(fake_useapi):
    """Whoever looks from outside reads what the caller reads."""
    fake = fake_useapi(FLOWMUSIC)
    pool = pool_of(fake)
    pool.refresh()
    fake.fault("*/accounts", status=418, times=None)
    with capture_logs() as events:
        with pytest.raises(InvalidConfiguration):
            pool.refresh()
        until(lambda: any(event["event"] == "configuration_failed" for event in events))
    [failed] = [event for event in events if event["event"] == "configuration_failed"]
    address = f"GET {fake.url}/v1/flowmusic/accounts: the server answered 418"
    assert failed["error"] == address
    assert pool.stats().last_error == f"InvalidConfiguration: {address}"


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def proxy(monkeypatch):
    """Return what sets a proxy as people do, in every spelling."""

    def use(url):
        for name in PROXIES:
            monkeypatch.setenv(name, url)

    return use


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_of_this_machine_is_not_asked_through_a_proxy(fake_useapi, proxy, host):
    """The proxy would look for it on its own machine. Accounts, jobs and callbacks go straight there."""
    told = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
    fake = fake_useapi({"mureka": {"1": 1}}, job_seconds=(0.01, 0.01))
    proxy(f"http://bob:hunter2@127.0.0.1:{free_port()}")
    url = fake.url.replace("127.0.0.1", host)
    with Scripted([told]) as receiver, AccountPool("mureka", token=fake.token, base_url=url) as pool:
        with pool.acquire(timeout=5) as lease, requests.Session() as session:
            session.trust_env = False
            fields = {**lease.params, "prompt": "rain", "replyUrl": receiver.url}
            headers = {"Authorization": f"Bearer {fake.token}"}
            answer = session.post(f"{url}/v1/mureka/music/create", json=fields, headers=headers, timeout=5)
            assert answer.status_code < 300, answer.text
        pool.reconcile()
        until(lambda: receiver.asked)


def test_a_server_elsewhere_is_asked_through_the_proxy(proxy):
    """As the environment says: the answer that comes is the proxy's."""
    body = b'{"a": {"maxJobs": 2}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Scripted([head, body]) as server:
        proxy(server.url)
        found = source_of_url("http://useapi.example").accounts()
    assert found.accounts["a"].capacity == 2
    assert server.asked[0].startswith(b"GET http://useapi.example/v1/flowmusic/accounts")


@pytest.mark.parametrize(
    "form",
    [
        "http://bob:hunter2@127.0.0.1:{port}",
        "http://hunter2@127.0.0.1:{port}",
        "http://bob:hun/ter2@127.0.0.1:{port}",
        "http://bob:hunter2@:{port}",
        "http://bob:hunter2@127.0.0.1:port",
        "http://bob:hunter2@[127.0.0.1",
        "ftp://bob:hunter2@127.0.0.1:{port}",
        "socks9://bob:hunter2@127.0.0.1:{port}",
        "bob:hunter2@127.0.0.1:{port}",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_password_of_a_proxy_is_never_shown(proxy, form, scheme):
    """However wrong the proxy's URL is: not in the error, not in its causes."""
    proxy(form.format(port=free_port()))
    with requests.Session() as session, pytest.raises(SourceUnavailable) as caught:
        source_of_url(f"{scheme}://useapi.example", session=session).accounts()
    error, shown = caught.value, []
    while error is not None:
        shown += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    assert len(shown) >= 6
    for word in ("hunter2", "ter2", "bob:", ":hun", "bob@"):
        assert word not in " ".join(shown)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("at redis://:pw@host:1/0 now", "at redis://[cut]@host:1/0 now"),
        ("see https://host/accounts/ann@example.com", "see https://host/accounts/ann@example.com"),
        ("http://a:b@c and http://d:e@f", "http://[cut]@c and http://[cut]@f"),
        ("mail ann@example.com", "mail ann@example.com"),
    ],
)
def test_users_and_passwords_are_cut_out_of_urls(text, cleaned):
    """Everything else stays readable."""
    assert clean(text) == cleaned


def test_cleaning_takes_no_longer_for_hostile_texts():
    """The text may come from anywhere."""
    began = time.monotonic()
    clean("://" * 20_000 + ":" * 20_000)
    assert time.monotonic() - began < 2
