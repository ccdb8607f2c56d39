"""An answer says the same in whatever form it is held: other types, other encodings, headers twice, large."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
from multidict import CIMultiDict
from ruling import ruled

from balancer import SERVICES
from balancer.useapi import following
from balancer.useapi.http_response import read
from balancer.useapi.parsing import job_ids

FLOW = SERVICES["flowmusic"]
BODY = {"jobid": "j1", "prompt": "café", "status": "completed"}
TEXT = json.dumps(BODY, ensure_ascii=False)


class OfItsType:
    """A double that keeps all in its class."""

    status_code, headers, content = 201, {}, TEXT.encode()


@dataclass(slots=True)
class Slotted:
    """A double without a ``__dict__``."""

    status: int = 201
    headers: dict = field(default_factory=dict)
    body: bytes = TEXT.encode()


@pytest.mark.parametrize(
    "answer",
    [
        (201, {}, BODY),
        (201, None, MappingProxyType(BODY)),
        (201, None, bytearray(TEXT.encode())),
        (201, None, memoryview(TEXT.encode())),
        (201, None, f"\ufeff{TEXT}"),
        (201, None, TEXT.encode("utf-8-sig")),
        (201, None, TEXT.encode("latin-1")),
        (201, None, TEXT.encode("utf-16")),
        (201, [], f"\r\n {TEXT}\n".encode()),
        OfItsType(),
        Slotted(),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_a_job_is_named_in_whatever_form_the_answer_is_held(answer):
    """A job that nobody sees named is paid, and its slot is kept as for an answer that was lost."""
    details = ruled(answer, FLOW)
    assert (details.status, details.job_id, details.final, details.unread) == (201, "j1", True, False)


@pytest.mark.parametrize("value", [TEXT.encode("latin-1"), f"\ufeff{TEXT}", memoryview(TEXT.encode())])
def test_a_callback_is_read_in_whatever_form_it_comes(value):
    """What a webhook is given is no response, and settles its job all the same."""
    settlement = following.settlement(value, FLOW)
    assert (list(settlement.ended), settlement.final) == (["j1"], True)


def test_a_result_that_fills_megabytes_is_read_whole():
    """An image may stand in the answer to its create: it was paid, and nothing is left to wait for."""
    image = json.dumps({"encodedImage": "/9j/" * 4_000_000}).encode()
    answer = read((200, {}, image), whole=True)
    assert answer is not None
    assert following.outcome(answer.body, SERVICES["google-flow"]) == "succeeded"


@pytest.mark.parametrize("pauses", [("60", "10"), ("10", "60")])
@pytest.mark.parametrize(
    "form", [list, CIMultiDict, lambda pairs: [(name.encode(), value.encode()) for name, value in pairs]]
)
def test_of_a_header_that_comes_twice_the_longer_pause_counts(form, pauses):
    """A gateway adds its own to that of the service; which comes last says nothing."""
    headers = form([("Retry-After", pauses[0]), ("retry-after", pauses[1])])
    assert ruled((429, headers, None)).seconds == 60


@pytest.mark.parametrize("form", [list, CIMultiDict])
def test_the_servers_clock_is_read_where_its_date_comes_twice(form):
    """A proxy repeats it; an instant that the server names is as far away as its own clock says."""
    date = ("Date", "Wed, 14 Oct 2026 17:48:10 GMT")
    pause = ("Retry-After", "Wed, 14 Oct 2026 17:49:40 GMT")
    assert ruled((429, form([date, pause, date]), None)).seconds == 90


FLAGS = [
    ("minimax", {"videoId": "v", "statusFinal": True, "status": "2"}, "succeeded"),
    ("minimax", {"videoId": "v", "statusFinal": True, "status": 2.0}, "succeeded"),
    ("minimax", {"videoId": "v", "statusFinal": "true", "status": "2"}, "running"),
    ("minimax", {"videoId": "v", "statusFinal": 1, "status": 2}, "running"),
    ("minimax", {"videoId": "v", "statusFinal": None, "status": 2}, "running"),
    ("flowmusic", {"jobid": "j1", "status": " Completed\n"}, "succeeded"),
    ("flowmusic", {"jobid": "j1", "status": "complete"}, "running"),
    ("flowmusic", {"jobid": "j1", "status": ""}, "running"),
]


@pytest.mark.parametrize(("key", "body", "outcome"), FLAGS)
def test_a_final_word_is_known_as_text_and_as_a_number(key, body, outcome):
    """Some bring white space along, some write numbers as texts; neither is a flag for all that."""
    assert following.outcome(body, SERVICES[key]) == outcome


INLINE = [
    ("mureka", {"songs": [{"id": 1}]}, "succeeded"),
    ("mureka", {"jobid": "j1", "state": 3, "songs": [{"id": 1}]}, "succeeded"),
    ("mureka", {"jobid": "j1", "status": "running", "songs": [{"id": 1}]}, "running"),
    ("mureka", {"jobid": "j1", "status": "failed", "songs": [{"id": 1}]}, "failed"),
    ("mureka/speech", {"title": "A", "mp3_url": "https://cdn.example.com/a.mp3", "state": 3}, "succeeded"),
    ("google-flow", {"media": [{"name": "m"}]}, "succeeded"),
    ("google-flow", {"encodedImage": "/9j/", "captcha": {"durationMs": 3500}}, "succeeded"),
    ("google-flow", {"jobid": "j1", "status": "started", "media": [{"name": "m"}]}, "running"),
]


@pytest.mark.parametrize(("key", "body", "outcome"), INLINE)
def test_a_part_of_the_result_is_no_end_while_the_status_says_otherwise(key, body, outcome):
    """Only an answer without a word of its own for how the job stands is the result itself."""
    assert following.outcome(body, SERVICES[key]) == outcome


def test_what_is_made_while_one_waits_is_fetched_where_it_stands():
    """Speech is answered with its address, unless asked for otherwise."""
    url = "https://cdn.example.com/a.mp3"
    speech = SERVICES["mureka/speech"]
    assert following.results({"mp3_url": url}, speech) == (url,)
    assert following.results({"response": {"mp3_url": url}}, speech) == (url,)
    assert job_ids({"mp3_url": url}, speech) == ()
