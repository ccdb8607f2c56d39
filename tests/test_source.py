"""Reading the configuration over real HTTP: what is asked, what is understood, what is refused."""

from __future__ import annotations

import os
import socketserver
import threading

import pytest
import requests
from crew import shown

from balancer import (
    HttpSource,
    InvalidConfiguration,
    SourceUnavailable,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.http import BODY_LIMIT, PatientRetry
from balancer.testing import CANARY

pytest_plugins = ["balancer.testing.plugin"]

ACCOUNTS = "GET /v1/flowmusic/accounts"
SECRET = "kept-to-ourselves"


@pytest.fixture
def fake(fake_useapi):
    """Start a stand-in with two accounts."""
    return fake_useapi({"flowmusic": {"a@example.com": 2, "b@example.com": 1}})


@pytest.fixture
def naps(monkeypatch):
    """Have retries follow each other at once, and return what they asked to wait."""
    taken = []

    def sleep(retry, response=None):
        taken.append(response and retry.get_retry_after(response))

    monkeypatch.setattr(PatientRetry, "sleep", sleep)
    return taken


@pytest.fixture
def plain():
    """Return a session that never retries."""
    with requests.Session() as session:
        yield session


def source_of(fake, **options):
    """Return a source that reads from the stand-in."""
    return HttpSource("flowmusic", **{"token": fake.token, "base_url": fake.url, **options})


class Scripted(socketserver.ThreadingTCPServer):
    """A server that writes what a test says, in its own time, and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, pieces, pause=0.0):
        self.asked, self.stop = [], threading.Event()
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                server.asked.append(self.request.recv(65536))
                try:
                    for piece in pieces:
                        self.request.sendall(piece)
                        if server.stop.wait(pause):
                            return
                except OSError:
                    pass  # the client has had enough

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.shutdown()
        self.server_close()


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


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_get_is_tried_four_times_and_then_given_up(fake, naps, status):
    """A server that is away stays so: four requests, then an error that names the status."""
    fake.fault("*/accounts", times=None, status=status)
    with pytest.raises(SourceUnavailable, match=str(status)):
        source_of(fake).accounts()
    assert fake.audit().requests[ACCOUNTS] == 4
    assert len(naps) == 3


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"cut": "before"}, {"cut": "after"}], ids=["503", "cut before", "cut after"]
)
def test_a_passing_fault_is_not_seen(fake, naps, fault):
    """Reading is safe to repeat, so one failure is made good."""
    fake.fault("*/accounts", times=2, **fault)
    assert len(source_of(fake).accounts()) == 2
    assert fake.audit().requests[ACCOUNTS] == 3


def test_only_reading_is_repeated(fake, naps):
    """A POST through the source's session would be sent once, whatever comes back."""
    fake.fault("POST *", times=None, status=503)
    session = source_of(fake)._http._session
    assert session.post(f"{fake.url}/v1/flowmusic/music", json={}, timeout=5).status_code == 503
    assert fake.audit().requests["POST /v1/flowmusic/music"] == 1


def test_a_body_that_breaks_off_is_an_outage(fake, naps):
    """Half an answer is none: it is not taken for a shorter list."""
    fake.fault("*/accounts", cut="midbody")
    with pytest.raises(SourceUnavailable):
        source_of(fake).accounts()


def test_nobody_listening_is_an_outage(fake, plain):
    """A refused connection is named by its kind."""
    fake.close()
    with pytest.raises(SourceUnavailable, match="ConnectionError"):
        source_of(fake, session=plain).accounts()


def test_a_short_retry_after_is_waited_for(fake, naps):
    """The pause between two tries is the one that the server asked for."""
    fake.fault("*/accounts", status=503, headers={"Retry-After": "2"})
    assert len(source_of(fake).accounts()) == 2
    assert naps == [2.0]


def test_a_long_retry_after_ends_the_fetch_and_is_passed_on(fake, naps):
    """What would not end within the deadline is not begun: the figure is for the next refresh."""
    fake.fault("*/accounts", times=None, status=503, headers={"Retry-After": "3600"})
    with pytest.raises(SourceUnavailable) as caught:
        source_of(fake).accounts()
    assert caught.value.retry_after == 3600
    assert fake.audit().requests[ACCOUNTS] == 1
    assert naps == []


@pytest.mark.parametrize("nonsense", ["soon", "-5", "nan", ""])
def test_a_retry_after_of_nonsense_is_ignored(fake, naps, nonsense):
    """P-51: what cannot be read does not hide the status, and does not change the tries."""
    fake.fault("*/accounts", times=None, status=503, headers={"Retry-After": nonsense})
    with pytest.raises(SourceUnavailable, match="503"):
        source_of(fake).accounts()
    assert naps == [None, None, None]


def test_no_try_is_begun_that_could_not_end_in_time(fake, naps):
    """Each try may last as long as its timeouts: what is left of the deadline must hold one more."""
    fault = fake.fault("*/accounts", times=None, hang=True)
    with pytest.raises(SourceUnavailable):
        source_of(fake, timeout=(0.1, 0.1), deadline=0.25).accounts()
    fault.lift()
    assert fake.audit().requests[ACCOUNTS] == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_drips_is_given_up_at_the_deadline(plain, chunked):
    """Pieces that each come in time do not keep a fetch for ever."""
    head = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000000"
    drop = b"1\r\n \r\n" if chunked else b" "
    pieces = [b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", *[drop] * 10_000]
    with Scripted(pieces, pause=0.005) as server:
        source = HttpSource("flowmusic", token="user:1-x", base_url=server.url, session=plain, deadline=0.1)
        with pytest.raises(SourceUnavailable, match="did not end in time"):
            source.accounts()
        assert len(server.asked) == 1


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
    """Services say in a 400 or 404 that nothing is configured."""
    fake.fault("*", status=status, body={"error": "No accounts"})
    assert source_of(fake).jobs().jobs == ()


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
