"""The stand-in's ``replyUrl`` callbacks: once, several times, twice, late, never, too early."""

from __future__ import annotations

import threading

import pytest
from api import Api, Receiver

from balancer.testing import Reply

pytest_plugins = ["balancer.testing.plugin"]

TWO = {"a@example.com": 2, "b@example.com": 1}


@pytest.fixture
def fake(manual_clock, fake_useapi):
    """Two accounts of Flow Music; jobs take 100 s of a clock that stands."""
    return fake_useapi({"flowmusic": TWO}, clock=manual_clock, job_seconds=(100, 100))


@pytest.fixture
def api(fake):
    """A client of the stand-in."""
    with Api(fake) as api:
        yield api


@pytest.fixture
def receiver():
    """Where callbacks go."""
    with Receiver() as receiver:
        yield receiver


def test_callbacks_tell_of_progress_and_of_the_end(fake, api, receiver, manual_clock):
    """The body is that of the job's status, with the reference it was sent with."""
    job = api.create(replyUrl=receiver.url, replyRef="ref-1").json()["jobid"]
    first = receiver.next()
    manual_clock.advance(100)
    last = receiver.next()
    assert [first["status"], last["status"]] == ["pending", "completed"]
    assert {(body["jobid"], body["replyRef"]) for body in (first, last)} == {(job, "ref-1")}


def test_callbacks_follow_a_job_that_is_ended_by_hand(fake, api, receiver, manual_clock):
    """The end it would have had is not told as well."""
    job = api.create(replyUrl=receiver.url).json()["jobid"]
    told = [receiver.next()]
    fake.finish(job, "failed")
    told.append(receiver.next())
    manual_clock.advance(1000)
    other = api.create(replyUrl=receiver.url).json()["jobid"]
    told.append(receiver.next())
    assert [body["status"] for body in told] == ["pending", "failed", "pending"]
    assert [body["jobid"] for body in told] == [job, job, other]


def test_callbacks_may_be_several_and_final_ones_may_come_twice(fake_useapi, manual_clock, receiver):
    """Progress is spread over the job's life."""
    fake = fake_useapi(
        {"flowmusic": TWO}, clock=manual_clock, job_seconds=(90, 90), replies=Reply(progress=3, final=2)
    )
    with Api(fake) as api:
        api.create(replyUrl=receiver.url)
        told = []
        for seconds in (0, 30, 30, 30):
            manual_clock.advance(seconds)
            told.append(receiver.next()["status"])
    assert [*told, receiver.next()["status"]] == ["pending"] * 3 + ["completed"] * 2


def test_callbacks_may_never_come_or_come_late(fake_useapi, manual_clock, receiver):
    """Each job can have its own way; one that is late comes behind one that was later."""
    ways = {"never": Reply(progress=0, final=0), "late": Reply(progress=0, delay=50), "": Reply(progress=0)}
    fake = fake_useapi(
        {"flowmusic": TWO},
        clock=manual_clock,
        job_seconds=(10, 10),
        replies=lambda request: ways[request["replyRef"]],
    )
    with Api(fake) as api:
        for ref in ways:
            api.create(replyUrl=receiver.url, replyRef=ref)
        manual_clock.advance(10)
        assert receiver.next()["replyRef"] == ""
        manual_clock.advance(50)
        assert receiver.next()["replyRef"] == "late"
    assert receiver.bodies.empty()


def test_a_final_callback_may_overtake_the_answer_to_the_create(fake_useapi, receiver):
    """It was delivered before the client could read the job's id. P-58."""
    fake = fake_useapi({"flowmusic": TWO}, replies=Reply(progress=0, early=True))
    with Api(fake) as api:
        answer = api.create(replyUrl=receiver.url)
    told = receiver.bodies.get_nowait()
    assert (told["jobid"], told["status"]) == (answer.json()["jobid"], "completed")


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/", "http://example.com/", "https://127.0.0.1.example.com/", "file:///x", 7, "x"]
)
def test_no_callback_ever_leaves_this_machine(fake, api, url):
    """Such a create is refused, with no worker ever started."""
    assert api.create(replyUrl=url).status_code == 400
    assert "fake-useapi-callbacks" not in [thread.name for thread in threading.enumerate()]
