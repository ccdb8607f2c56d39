"""What the HTTP source does about a network and a server that fail, dawdle or ask to wait."""

from __future__ import annotations

import pytest
from http_sources import Scripted, source_of

from balancer import HttpSource, SourceUnavailable

pytest_plugins = ["balancer.testing.plugin"]

ACCOUNTS = "GET /v1/flowmusic/accounts"


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
