"""Clients that nobody listed: a job that the server had keeps its slot, one that it never had frees it."""

import http.client
import socket

import pytest
from desk import pool_of, states
from faces import ThreadFace
from trouble import (
    CLIENTS,
    close_after_reading,
    never_answer,
    never_finish,
    raised_by,
    reset,
    serving,
    with_http_client,
)

from balancer import AmbiguousOutcome, AttemptsFailed


def kind(module, name, *bases, **members):
    """Return an exception type as that package defines it: by its bases and its name."""
    return type(name, bases, {"__module__": module, **members})


# Clients that are large, or change others when they are installed, by the shape of their errors.
_URLLIB3 = "urllib3_future.exceptions"
_NEW_CONNECTION = kind(_URLLIB3, "NewConnectionError", kind(_URLLIB3, "HTTPError", Exception))
_MAX_RETRIES = kind(_URLLIB3, "MaxRetryError", kind(_URLLIB3, "HTTPError", Exception))

_NIQUESTS = "niquests.exceptions"
NIQUESTS = kind(_NIQUESTS, "RequestException", OSError)
NIQUESTS_CONNECTION = kind(_NIQUESTS, "ConnectionError", NIQUESTS)
NIQUESTS_READ = kind(_NIQUESTS, "ReadTimeout", kind(_NIQUESTS, "Timeout", NIQUESTS))

_CURL = "curl_cffi.requests.exceptions"
CURL = kind(
    _CURL,
    "RequestException",
    kind("curl_cffi.curl", "CurlError", Exception),
    OSError,
    __init__=lambda error, text, code: setattr(error, "code", code),
)
CURL_CONNECTION = kind(_CURL, "ConnectionError", CURL)
CURL_TIMEOUT = kind(_CURL, "Timeout", CURL)

_BOTO = "botocore.exceptions"
BOTO = kind(_BOTO, "BotoCoreError", Exception)
BOTO_CLIENT = kind(_BOTO, "HTTPClientError", BOTO)
BOTO_ENDPOINT = kind(_BOTO, "EndpointConnectionError", kind(_BOTO, "ConnectionError", BOTO))

ACME_LOST = kind("acme.wire", "DeadlineTimeout", Exception)
ACME_CUT = kind("acme.wire", "PeerDisconnected", kind("acme.wire", "AcmeError", Exception))


def with_niquests(url):
    """Post, and raise what niquests does."""
    try:
        with_http_client(url)
    except ConnectionRefusedError:
        reason = _MAX_RETRIES("Max retries exceeded")
        reason.reason = _NEW_CONNECTION("refused")
        raise NIQUESTS_CONNECTION(reason) from None
    except TimeoutError as error:
        raise NIQUESTS_READ(error) from None
    except (OSError, http.client.HTTPException):
        raise NIQUESTS_CONNECTION("Connection aborted.") from None


def with_curl(url):
    """Post, and raise what curl_cffi does."""
    try:
        with_http_client(url)
    except ConnectionRefusedError:
        raise CURL_CONNECTION("curl: (7)", 7) from None
    except TimeoutError:
        raise CURL_TIMEOUT("curl: (28)", 28) from None
    except (OSError, http.client.HTTPException):
        raise CURL_CONNECTION("curl: (52)", 52) from None


def with_botocore(url):
    """Post, and raise what botocore does."""
    try:
        with_http_client(url)
    except ConnectionRefusedError:
        raise BOTO_ENDPOINT from None
    except (OSError, http.client.HTTPException):
        raise BOTO_CLIENT from None


def with_a_client_unheard_of(url):
    """Post, and raise what no list has."""
    try:
        with_http_client(url)
    except ConnectionRefusedError:
        raise
    except TimeoutError:
        raise ACME_LOST from None
    except (OSError, http.client.HTTPException):
        raise ACME_CUT from None


EVERYBODY = [*CLIENTS, with_niquests, with_curl, with_botocore, with_a_client_unheard_of]
every_client = pytest.mark.parametrize("client", EVERYBODY, ids=lambda client: client.__name__)


@every_client
@pytest.mark.parametrize(
    "trouble", [never_answer, close_after_reading, reset, never_finish], ids=lambda one: one.__name__
)
def test_a_job_that_the_server_had_is_sent_once_and_keeps_its_slot(client, trouble):
    """P-57: the timeout of a client that was not listed freed the slot of the job that it had paid for."""
    pool, _, _ = pool_of(ThreadFace(), a=2)
    asked = []
    with serving(trouble) as port:
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(AmbiguousOutcome):
            pool.run(lambda lease: asked.append(lease) or client(url))
        assert (len(asked), states(pool)) == (1, ["ambiguous"])
        error = raised_by(client, url)
    pool.reset("a")
    with pytest.raises(type(error)), pool.acquire(account="a", timeout=0):
        raise error
    assert states(pool) == ["ambiguous"] * 2


@every_client
def test_a_job_that_the_server_never_had_is_tried_again_and_frees_its_slot(client):
    """P-57: a connection that was refused is proof, whoever says it; a slot kept for it is lost."""
    pool, _, _ = pool_of(ThreadFace(), a=1)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with pytest.raises(AttemptsFailed) as failed:
            pool.run(lambda lease: client(url))
    assert len(failed.value.tries) == 3
    assert states(pool) == []


@pytest.mark.parametrize(
    "error",
    [CURL_TIMEOUT("curl: (28)", 28), CURL("curl: (1) Received HTTP/0.9", 1), BOTO_CLIENT(), ACME_LOST()],
    ids=repr,
)
def test_what_may_come_after_the_request_is_no_proof(error):
    """P-57: libcurl calls an answer that is no HTTP an unsupported protocol."""
    pool, _, _ = pool_of(ThreadFace(), a=1)
    with pytest.raises(type(error)), pool.acquire():
        raise error
    assert states(pool) == ["ambiguous"]
