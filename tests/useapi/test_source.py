"""What the HTTP source understands of an answer, to whom it shows the token, and what it refuses."""

from __future__ import annotations

import os

import pytest
import requests
from crew import shown
from http_sources import Scripted, source_of

from balancer import HttpSource, InvalidConfiguration, SourceUnavailable, SubscriptionRequired, Unauthorized
from balancer.testing import CANARY
from balancer.useapi.http_response import BODY_LIMIT

pytest_plugins = ["balancer.testing.plugin"]

ACCOUNTS = "GET /v1/flowmusic/accounts"
SECRET = "kept-to-ourselves"


# -- what is understood --------------------------------------------------------------------------


def test_the_id_of_an_account_is_its_key_in_the_map(fake):
    """Whatever an entry says of itself, the map's key names the account."""
    fake.set_account("flowmusic", "a@example.com", {"maxJobs": 6, "email": "other@example.com"})
    table = source_of(fake).accounts()
    assert {id: account.capacity for id, account in table.accounts.items()} == {
        "a@example.com": 6,
        "b@example.com": 1,
    }


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {}),
        (404, "No flowmusic accounts are configured."),
        (404, {"error": "Unable to find configuration", "code": 404}),
        (404, b""),
    ],
    ids=["empty map", "404 sentence", "404 json", "404 empty"],
)
def test_no_accounts_are_an_empty_table(fake, status, body):
    """An empty map and every form of the vendor's 404 mean that nothing is configured."""
    fake.fault("*/accounts", status=status, body=body)
    assert len(source_of(fake).accounts()) == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (f"<html><body>{SECRET}</body></html>", "HTML"),
        (b'{"a@example.com": {"jwt": "%s", "maxJ' % SECRET.encode(), "cut off"),
        ([{"email": "a@example.com", "jwt": SECRET}], "an array"),
        (f'"{SECRET}"', "text"),
        (b"", "empty"),
        (f"{SECRET}: not json at all", "no valid JSON"),
        (b'{"a": "' + SECRET.encode() + b'\xff"}', "UTF-8"),
        ({"error": SECRET, "code": 500}, "error report"),
    ],
    ids=["html", "truncated", "array", "text", "empty", "no json", "no utf-8", "error report"],
)
def test_a_body_of_another_kind_is_named_and_not_shown(fake, body, said):
    """The error says what came in place of a map, and holds nothing of the body anywhere."""
    fake.fault("*/accounts", status=200, body=body)
    with pytest.raises(InvalidConfiguration, match=said) as caught:
        source_of(fake).accounts()
    assert SECRET not in shown(caught.value)


def test_a_404_page_of_some_proxy_is_not_the_vendors(fake):
    """HTML in a 404 comes from something in between, and is no statement about accounts."""
    fake.fault("*/accounts", status=404, body="<html>not found</html>")
    with pytest.raises(InvalidConfiguration, match="404"):
        source_of(fake).accounts()


def test_a_body_over_the_limit_is_not_read_to_its_end(fake):
    """Reading stops at 8 MiB, however the rest would have gone on."""
    fake.fault("*/accounts", status=200, body=b'{"a": "' + SECRET.encode() * (BODY_LIMIT // 10) + b'"}')
    with pytest.raises(InvalidConfiguration, match="larger than 8 MiB") as caught:
        source_of(fake).accounts()
    assert SECRET not in shown(caught.value)


def test_a_small_body_that_unpacks_to_more_than_the_limit_is_refused(fake):
    """The limit holds for what a compressed answer becomes."""
    import gzip

    packed = gzip.compress(b'{"a": "' + b"x" * (BODY_LIMIT + 1) + b'"}')
    fake.fault("*/accounts", status=200, body=packed, headers={"Content-Encoding": "gzip"})
    with pytest.raises(InvalidConfiguration, match="larger than 8 MiB"):
        source_of(fake).accounts()


def test_a_body_just_under_the_limit_is_read(fake):
    """The limit does not bite below its figure."""
    body = b'{"a": {"maxJobs": 3, "note": "' + b"x" * (BODY_LIMIT - 100) + b'"}}'
    fake.fault("*/accounts", status=200, body=body)
    assert source_of(fake).accounts().accounts["a"].capacity == 3


def test_no_secret_of_an_entry_is_kept(fake):
    """P-60: tokens, cookies and passwords of the list are dropped while it is read."""
    table = source_of(fake).accounts()
    listed = requests.get(
        f"{fake.url}/v1/flowmusic/accounts",
        headers={"Authorization": f"Bearer {fake.token}"},
        timeout=5,
    ).text
    assert CANARY in listed
    assert CANARY not in repr(table)


# -- the token and whom it is shown to -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (402, SubscriptionRequired)],
)
def test_a_refused_token_has_an_error_of_its_own(fake, status, kind):
    """401 and 402 are told apart, asked once, and do not show the token."""
    fake.fault("*/accounts", status=status)
    with pytest.raises(kind) as caught:
        source_of(fake).accounts()
    assert fake.token not in shown(caught.value)
    assert fake.audit().requests[ACCOUNTS] == 1


def test_a_netrc_does_not_replace_the_token(fake, tmp_path, monkeypatch):
    """The header of the library stands, whatever the user's .netrc says of that host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n", "utf-8")
    monkeypatch.setenv("NETRC", os.fspath(netrc))
    assert len(source_of(fake).accounts()) == 2


def test_the_auth_of_a_session_does_not_replace_the_token(fake, plain):
    """A session made for something else may carry its own credentials."""
    plain.auth = ("somebody", "else")
    assert len(source_of(fake, session=plain).accounts()) == 2


def test_a_redirect_to_another_host_is_not_followed(fake):
    """The token is for one host only: no other one is even asked."""
    with Scripted([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]) as other:
        fake.fault("*/accounts", status=302, headers={"Location": f"{other.url}/v1/flowmusic/accounts"})
        with pytest.raises(InvalidConfiguration, match="another host"):
            source_of(fake).accounts()
        assert other.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_the_token(fake, status):
    """A path that moved is read where it went."""
    fake.fault("*/accounts", status=status, headers={"Location": "/v1/flowmusic/accounts"})
    assert len(source_of(fake).accounts()) == 2


def test_redirects_without_end_are_given_up(fake):
    """A circle of redirects ends after a few requests."""
    fake.fault("*/accounts", times=None, status=302, headers={"Location": "/v1/flowmusic/accounts"})
    with pytest.raises(InvalidConfiguration, match="redirects"):
        source_of(fake).accounts()
    assert fake.audit().requests[ACCOUNTS] == 6


def test_a_token_from_a_callable_is_read_once_at_each_fetch(fake):
    """A rotated token is used from the next fetch on; what is checked is what is sent."""
    tokens = iter(["user:1-old", fake.token])
    source = source_of(fake, token=lambda: next(tokens))
    with pytest.raises(Unauthorized):
        source.accounts()
    assert len(source.accounts()) == 2
    assert list(tokens) == []


def test_a_callable_that_fails_is_an_outage_and_not_a_refusal(fake):
    """A vault that is away says nothing about the token: the old table may serve on."""

    def vault():
        raise RuntimeError(SECRET)

    with pytest.raises(SourceUnavailable, match="token could not be read: RuntimeError") as caught:
        source_of(fake, token=vault).accounts()
    assert SECRET not in shown(caught.value)
    assert ACCOUNTS not in fake.audit().requests


@pytest.mark.parametrize("token", [f"{SECRET}\nX-Other: 1", f"{SECRET}\r", f"a {SECRET}", "ключ-" + SECRET])
def test_a_callable_that_returns_what_a_header_cannot_carry_is_never_sent(fake, token):
    """A line break in a token would forge headers: the place is named, the token is not shown."""
    source = source_of(fake, token=lambda: token + "x")
    with pytest.raises(Unauthorized, match="character at position") as caught:
        source.accounts()
    assert SECRET not in shown(caught.value)
    assert ACCOUNTS not in fake.audit().requests


def test_white_space_around_a_token_is_cut_off(fake):
    """A token read from a file often ends with a line break."""
    assert len(source_of(fake, token=f"  {fake.token}\n").accounts()) == 2


# -- sessions --------------------------------------------------------------------------------------


def test_a_session_of_the_users_is_used_and_not_closed(fake, plain, monkeypatch):
    """It was made elsewhere and may serve others."""
    closed = []
    monkeypatch.setattr(plain, "close", lambda: closed.append(True))
    plain.headers["X-Own"] = "1"
    source = source_of(fake, session=plain)
    assert len(source.accounts()) == 2
    source.close()
    source.after_fork()
    assert closed == []
    assert source._http._session is plain


def test_the_source_closes_the_session_that_it_made(fake):
    """Connections do not outlive the source, and a child of a fork gets its own."""
    source = source_of(fake)
    source.accounts()
    before = source._http._session
    source.after_fork()
    assert source._http._session is not before
    assert len(source.accounts()) == 2
    source.close()


# -- jobs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404])
def test_no_running_jobs_are_an_empty_list(fake, status):
    """Services say in a 400 or 404 that nothing is configured; no job that runs has ended by that."""
    fake.fault("*", status=status, body={"error": "No accounts"})
    listed = source_of(fake).jobs()
    assert (listed.jobs, listed.complete) == ((), False)
    assert source_of(fake).jobs().complete


def test_a_service_without_a_list_of_jobs_asks_nothing():
    """Its source says so, and an empty list is not taken as complete."""
    from balancer import SERVICES

    row = next(row for row in SERVICES.values() if row.load is None)
    source = HttpSource(row, token="user:1-x", base_url="http://127.0.0.1:1")
    assert not source.lists_jobs
    assert not source.jobs().complete


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base_url",
    [
        "api.useapi.net",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:99999",
        "http://user:pass@127.0.0.1",
        "http://127.0.0.1/?x=1",
        "http://127.0.0.1/#x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\n",
        "http://[::1",
    ],
)
def test_a_base_url_that_leads_nowhere_is_refused_by_name(base_url):
    """A URL that could never work, or would show a password, is refused before any fetch."""
    with pytest.raises(ValueError, match="base_url") as caught:
        HttpSource("flowmusic", token="user:1-x", base_url=base_url)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "named"),
    [
        ({"base_url": 5}, TypeError, "base_url"),
        ({"token": ""}, ValueError, "token"),
        ({"token": "two words"}, ValueError, "token"),
        ({"token": 5}, ValueError, "token"),
        ({"timeout": 5}, TypeError, "timeout"),
        ({"timeout": (5, None)}, TypeError, "timeout"),
        ({"timeout": (5, 0)}, ValueError, "timeout"),
    ],
)
def test_wrong_arguments_are_named(options, kind, named):
    """Each argument is checked where it is given, not at the first fetch."""
    with pytest.raises(kind, match=named):
        HttpSource("flowmusic", **{"token": "user:1-x", **options})


def test_a_source_shows_its_place_and_not_its_token():
    """P-60: its repr and that of its token hold no secret."""
    source = HttpSource("flowmusic", token=f"user:1-{SECRET}", base_url="http://127.0.0.1:1")
    assert repr(source) == "HttpSource('flowmusic', base_url='http://127.0.0.1:1')"
    assert SECRET not in repr(source.token) + repr(vars(source))
