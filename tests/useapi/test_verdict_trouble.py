"""Verdicts on real trouble between real clients and the server."""

from __future__ import annotations

import contextlib
import socket

import pytest
from clients import CLIENTS, Target, outcome
from ruling import AMBIGUOUS, NOT_SENT, ruled
from trouble import port_that_never_answers

from balancer import SERVICES, AccountPool, AmbiguousOutcome, AttemptsFailed
from balancer.testing import FakeUseapi
from balancer.useapi.verdicts import transport

FLOW = SERVICES["flowmusic"]
A, B = "a@example.com", "b@example.com"


SOON = 0.15  # seconds until a client gives up on a server that never answers


@pytest.fixture(scope="module")
def fake():
    """Two accounts with all the room that these tests may need."""
    with FakeUseapi({"flowmusic": {A: 100_000, B: 100_000}}, job_seconds=(600, 600)) as fake:
        yield fake


@pytest.fixture
def target(fake):
    """The create of the stand-in."""
    return Target(fake.url, fake.token)


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def client(request):
    """Each client in turn."""
    return request.param


@contextlib.contextmanager
def port_that_refuses():
    """Hold a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("place", [port_that_refuses, port_that_never_answers])
def test_a_connection_that_never_was_proves_that_nothing_was_sent(client, place):
    """P-57: refused, or not made in time: any account may be tried next, and none is to blame."""
    with place() as port:
        error = outcome(client, Target(f"http://127.0.0.1:{port}", "t", SOON))
    ruling = ruled(error, FLOW, 0.0)
    assert transport(error) is NOT_SENT
    assert (ruling.verdict, ruling.status, ruling.seconds) == (NOT_SENT, None, None)


def test_a_name_without_an_address_proves_that_nothing_was_sent(client, monkeypatch):
    """P-57: the resolver failed before there was anybody to send to."""

    def fail(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = outcome(client, Target("http://api.useapi.invalid", "t"))
    assert (transport(error), ruled(error, FLOW, 0.0).verdict) == (NOT_SENT, NOT_SENT)


@pytest.mark.parametrize(("fault", "jobs"), [("before", 0), ("after", 1), ("midbody", 1), ("hang", 0)])
def test_a_connection_that_broke_proves_nothing(fake, target, client, fault, jobs):
    """P-57: closed before or after the job was taken, amid the answer, or silent: the client cannot tell."""
    before = len(fake.running("flowmusic"))
    script = fake.fault("*/music", hang=True) if fault == "hang" else fake.fault("*/music", cut=fault)
    if fault == "hang":
        target.patience = SOON
    error = outcome(client, target)
    script.lift()
    ruling = ruled(error, FLOW, 0.0)
    assert transport(error) is AMBIGUOUS
    assert (ruling.verdict, ruling.status, ruling.seconds) == (AMBIGUOUS, None, 10)
    assert len(fake.running("flowmusic")) - before == jobs


@pytest.mark.parametrize("cut", ["after", "midbody"])
def test_a_job_whose_answer_was_lost_is_sent_once_and_keeps_its_slot(client, cut):
    """P-57: one paid job, one ambiguous lease, no second request."""
    with FakeUseapi({"flowmusic": {A: 5, B: 5}}, job_seconds=(600, 600)) as fake:
        fake.fault("*/music", cut=cut)
        target = Target(fake.url, fake.token)

        with AccountPool("flowmusic", token=fake.token, base_url=fake.url) as pool:
            with pytest.raises(AmbiguousOutcome):
                pool.run(lambda lease: client(target), attempts=3, timeout=10)
            assert [holder.state for holder in pool.holders()] == ["ambiguous"]
        assert fake.audit().accepted == 1
        assert fake.audit().requests["POST /v1/flowmusic/music"] == 1


def test_a_job_that_was_never_sent_is_tried_elsewhere(client):
    """P-57: three refused connections are three attempts, and no account is put aside for them."""
    with port_that_refuses() as port:
        target = Target(f"http://127.0.0.1:{port}", "t")
        with AccountPool(FLOW, source={A: 1, B: 1}) as pool:
            with pytest.raises(AttemptsFailed) as caught:
                pool.run(lambda lease: client(target), attempts=3, timeout=10)
            assert [one.verdict for one in caught.value.tries] == [NOT_SENT] * 3
            assert {one.state for one in pool.stats().accounts.values()} == {"ready"}
            assert pool.stats().in_flight == 0
