"""Errors of a ``run`` carry what was answered, and never what was asked."""

import pickle
import traceback

import pytest
from clients import (
    Target,
    by_aiohttp,
    by_aiohttp_raising,
    by_httpx,
    by_httpx_raising,
    by_requests,
    by_requests_raising,
)

from balancer import (
    AccountPool,
    AmbiguousOutcome,
    AttemptsFailed,
    BalancerError,
    JobRefused,
    Unauthorized,
)
from balancer.testing import FakeUseapi

TOKEN = "user:1234-canary-token"
CLIENTS = (by_requests, by_requests_raising, by_httpx, by_httpx_raising, by_aiohttp, by_aiohttp_raising)


@pytest.fixture(scope="module")
def fake():
    """A stand-in whose one account has room."""
    with FakeUseapi({"flowmusic": {"a@example.com": 5}}, token=TOKEN) as running:
        yield running


def values(thing, depth=6):
    """Yield every value that can be reached through the attributes and items of ``thing``."""
    yield thing
    if depth == 0 or isinstance(thing, str | bytes | int | float | type(None) | type):
        return
    inner = list(getattr(thing, "__dict__", {}).values())
    inner += [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
    if hasattr(thing, "items"):
        inner += [part for pair in thing.items() for part in pair]
    elif isinstance(thing, list | tuple | set | frozenset):
        inner += thing
    for each in inner:
        yield from values(each, depth - 1)


def shown(error):
    """Return whatever a log, a report or a queue would make of an error, its causes and its contexts."""
    if error is None:
        return ""
    chain = [repr(error), str(error), *map(repr, values(error)), *traceback.format_exception(error)]
    return "\n".join((*chain, shown(error.__cause__), shown(error.__context__)))


def failed(fake, client, status):
    """Return the error of a run whose create is answered with ``status``."""
    with AccountPool("flowmusic", token=TOKEN, base_url=fake.url, reconcile_every=None) as pool:
        fake.fault("POST */music", status=status)
        target = Target(fake.url, TOKEN)
        try:
            pool.run(lambda lease: client(target))
        except BalancerError as error:
            return error
    raise AssertionError("the run did not fail")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("status", "kind"), [(422, JobRefused), (502, AmbiguousOutcome)])
def test_an_error_carries_its_response_without_the_request_and_the_token(fake, client, status, kind):
    """P-60: whichever client received it, status and text are there, the Authorization header is not."""
    error = failed(fake, client, status)
    assert isinstance(error, kind)
    answer = error.response
    if answer is not None:  # a client that raises may keep no answer
        assert getattr(answer, "status_code", None) or answer.status == status
    assert error.account == "a@example.com"
    assert "canary" not in shown(error)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (412, AttemptsFailed), (596, AttemptsFailed)],
)
def test_nor_is_it_in_what_was_being_handled_when_the_error_came(fake, client, status, kind):
    """A report follows the context of an error as well, and a client hangs its request on what it raises."""
    error = failed(fake, client, status)
    assert isinstance(error, kind)
    assert "canary" not in shown(error)


@pytest.mark.parametrize("client", [by_requests, by_httpx, by_aiohttp])
def test_the_answer_of_an_error_can_be_read_as_any_other(fake, client):
    """Its body was read before, and stays readable through the client's own names."""
    answer = failed(fake, client, 422).response
    text = answer._body.decode() if client is by_aiohttp else answer.text
    assert "moderation" in text


def test_the_users_own_response_keeps_its_request(fake):
    """Only the copy on the error is cut off: the object that the call made is left as it was."""
    kept = []

    def client(target):
        kept.append(by_requests(target))
        return kept[0]

    error = failed(fake, client, 422)
    assert kept[0].request is not None
    assert error.response is not kept[0]
    assert error.response.request is None


def test_the_errors_of_a_run_survive_a_pickle(fake):
    """P-60: a task queue that pickles an error writes no token, and gets the facts back."""
    error = failed(fake, by_requests, 422)
    raw = pickle.dumps(error)
    assert b"canary" not in raw
    assert pickle.loads(raw).account == "a@example.com"
