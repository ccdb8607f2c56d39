"""The stand-in when things go wrong: scripted faults, cut connections, and lists that lag or omit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from api import Api

from balancer.testing import FakeUseapi, Fault

pytest_plugins = ["balancer.testing.plugin"]

TWO = {"a@example.com": 2, "b@example.com": 1}
CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def fake(manual_clock, fake_useapi):
    """Two accounts of Flow Music; jobs take 100 s of a clock that stands."""
    return fake_useapi({"flowmusic": TWO}, clock=manual_clock, job_seconds=(100, 100))


@pytest.fixture
def api(fake):
    """A client of the stand-in."""
    with Api(fake) as api:
        yield api


@pytest.mark.parametrize("status", [400, 401, 402, 412, 422, 429, 500, 502, 503, 504, 596])
def test_a_scripted_status_takes_the_place_of_the_answer(fake, api, status):
    """Nothing is carried out, a body comes with it, and after its times the server is itself again."""
    fake.fault("*/music", status=status, times=2, headers={"Retry-After": "7"})
    answers = [api.create() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 201]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].content
    assert fake.audit().accepted == 1


@pytest.mark.parametrize(
    ("body", "content", "kind"),
    [
        ("<html>Bad Gateway</html>", b"<html>Bad Gateway</html>", "text/html"),
        ('{"a@example.com": {', b'{"a@example.com": {', "text/plain"),
        ([1], b"[1]", "application/json"),
        (b" " * 10_000_000, b" " * 10_000_000, "text/plain"),
    ],
)
def test_a_scripted_body_is_sent_as_it_is(fake, api, body, content, kind):
    """HTML, broken JSON, another shape, ten megabytes: whatever a server may send."""
    fake.fault("GET */accounts", body=body)
    answer = api.get("accounts")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Type"].startswith(kind)


def test_a_fault_strikes_only_what_it_matches(fake, api):
    """Patterns are of the decoded path, or of method and path."""
    fake.fault("DELETE *", status=500, times=None)
    fake.fault("/v1/flowmusic/accounts/a@example.com", status=503)
    assert api.get("accounts").status_code == 200
    assert api.get("accounts/a%40example.com").status_code == 503
    assert [api.delete("jobs/1").status_code for _ in range(2)] == [500, 500]


def test_a_fault_may_wait_for_one_account(fake, api):
    """It strikes creates that land there, whoever chose it, and nothing is started."""
    fault = fake.fault("*/music", account="b@example.com", status=596, times=None)
    fake.start_stranger("flowmusic", "a@example.com")
    assert api.create(email="b@example.com").status_code == 596
    assert api.create(email="a@example.com").status_code == 201
    assert api.create().status_code == 596
    assert fake.running("flowmusic", "b@example.com") == ()
    fault.lift()
    assert api.create().status_code == 201


@pytest.mark.parametrize(("cut", "jobs"), [("before", 0), ("after", 1), ("midbody", 1)])
@pytest.mark.parametrize("account", [None, "b@example.com"])
def test_a_connection_is_cut_before_or_after_the_job_was_accepted(fake, api, cut, jobs, account):
    """The client sees a broken connection either way; only the server knows about the job. P-57."""
    fake.fault("*/music", cut=cut, account=account)
    with pytest.raises(CUT):
        api.create(email="b@example.com")
    assert len(fake.running("flowmusic")) == jobs
    assert api.create(email="a@example.com").status_code == 201


def test_half_of_a_scripted_body_can_be_sent(fake, api):
    """The answer to a GET breaks off too."""
    fake.fault("*/accounts", body={"a@example.com": {"maxJobs": 1}}, cut="midbody")
    with pytest.raises(CUT):
        api.get("accounts")


def test_a_delayed_answer_is_to_a_job_that_runs(fake, api):
    """The client gives up waiting; the job was accepted all the same."""
    fault = fake.fault("*/music", delay=3600)
    with pytest.raises(requests.ReadTimeout):
        api.create(timeout=0.05)
    assert fault.hit.is_set()
    assert len(fake.running("flowmusic")) == 1


def test_a_hang_ends_when_it_is_lifted(fake, api):
    """Then the connection is closed without an answer, and nothing was carried out."""
    fault = fake.fault("*/music", hang=True)
    with ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(api.create)
        assert fault.hit.wait(10)
        fault.lift()
        with pytest.raises(requests.ConnectionError):
            hanging.result(10)
    assert fake.running("flowmusic") == ()


def test_a_hang_ends_when_the_server_closes(manual_clock):
    """Closing waits for no client."""
    fake = FakeUseapi({"flowmusic": TWO}, clock=manual_clock).start()
    fault = fake.fault("*/accounts", hang=True)
    with Api(fake) as api, ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(api.get, "accounts")
        assert fault.hit.wait(10)
        fake.close()
        with pytest.raises(requests.ConnectionError):
            hanging.result(10)


def test_a_lie_is_an_empty_list_with_a_200(fake, api):
    """Accounts and jobs are still there a moment later."""
    api.create()
    fake.lie("*/accounts")
    fake.lie("*/jobs")
    assert [api.get("accounts").json(), api.get("jobs").json()] == [{}, {}]
    assert len(api.get("accounts").json()) == 2
    assert len(api.get("jobs").json()) == 1


@pytest.mark.parametrize("options", [{"cut": "sometimes"}, {"times": 0}])
def test_a_fault_that_could_never_strike_is_refused(options):
    """A misspelled script must not pass for a server without faults."""
    with pytest.raises(ValueError, match=r"cut|times"):
        Fault("*", **options)


def test_lists_lag_behind(fake_useapi, manual_clock):
    """They show what ran that many seconds ago, while slots are counted as of now."""
    fake = fake_useapi({"flowmusic": TWO}, clock=manual_clock, job_seconds=(10, 10), lag=5.0)
    with Api(fake) as api:
        api.create(email="b@example.com")
        assert (api.get("jobs").json(), api.create(email="b@example.com").status_code) == ({}, 429)
        manual_clock.advance(5)
        assert list(api.get("jobs").json()) == ["b@example.com"]
        manual_clock.advance(5)
        assert api.create(email="b@example.com").status_code == 201
        assert api.get("jobs").json()["b@example.com"]["running"] == 1
        manual_clock.advance(4.5)
        assert api.get("jobs").json()["b@example.com"]["running"] == 1
        manual_clock.advance(5)
        assert api.get("jobs").json()["b@example.com"]["running"] == 1


@pytest.mark.parametrize("omit", ["flowmusic", "music"])
def test_lists_may_omit_a_kind_of_job(fake_useapi, omit):
    """By the service's key or by the path of the create."""
    fake = fake_useapi({"flowmusic": TWO}, job_seconds=(600, 600), omit=(omit,))
    with Api(fake) as api:
        api.create()
        assert api.get("jobs").json() == {}
