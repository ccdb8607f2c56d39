"""Bytes become JSON, or an error that shows nothing of them."""

from __future__ import annotations

import json
import traceback

import pytest
from bodies import BODIES, TEXTS

from balancer.errors import InvalidConfiguration
from balancer.services import SERVICES
from balancer.useapi import parsing

FLOW = SERVICES["flowmusic"]
CANARY = "s3cr3t-canary-0001"
A, B = "a@example.com", "b@example.com"


class TestBody:
    """Bytes become JSON, or an error that says what they are instead."""

    @pytest.mark.parametrize("name", sorted(BODIES))
    def test_every_example_comes_through(self, name):
        """Each example body survives the way over the wire."""
        raw = json.dumps(BODIES[name], ensure_ascii=False).encode()
        assert parsing.body(raw, "application/json; charset=utf-8") == BODIES[name]

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (b"", "empty"),
            (b" \n", "empty"),
            (b"<!doctype html><p>x</p>", "HTML page"),
            (TEXTS["_common/html_502"].encode(), "HTML page"),
            (TEXTS["riffusion/accounts_404"].encode(), "no valid JSON: Expecting value (line 1, column 1)"),
            (TEXTS["riffusion/accounts_malformed"].encode(), "(line 7, column 7)"),
            (b'{"a": {"maxJobs": 6}', "cut off (line 1, column 21)"),
            (b'{"a": {"tok', "cut off"),
            (b'{"a": 6,}', "no valid JSON"),
            (b"\xff\xfe{}", "no UTF-8 text (byte 0)"),
            (b"[" * 200_000, "nested too deeply"),
            (b'{"a":' * 200_000, "nested too deeply"),
        ],
    )
    def test_what_is_no_json_is_named(self, raw, words):
        """P-52: HTML, truncated, malformed, empty, too deep and not UTF-8 each have words of their own."""
        with pytest.raises(InvalidConfiguration) as caught:
            parsing.body(raw, None)
        assert words in str(caught.value)

    def test_the_content_type_tells_of_html(self):
        """A sentence that is declared as HTML is called an HTML page."""
        with pytest.raises(InvalidConfiguration, match="HTML page"):
            parsing.body(b"Bad Gateway", "text/html; charset=utf-8")

    def test_json_counts_whatever_it_is_declared_as(self):
        """A wrong content type does not make valid JSON unusable."""
        assert parsing.body(b"\xef\xbb\xbf{}", "text/html") == {}

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"a": {"token": "' + CANARY.encode() + b'",}}',
            b'{"token": "' + CANARY.encode(),
            b'{"token": "' + CANARY.encode() + b'\xff"}',
            b"<p>" + CANARY.encode() + b"</p>",
        ],
    )
    def test_an_error_shows_nothing_of_the_body(self, raw):
        """P-60: neither message, chain nor attributes of what is raised carry the document."""
        with pytest.raises(InvalidConfiguration) as caught:
            parsing.body(raw, None)
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [frame for frame in shown.stack if frame.filename == parsing.__file__]
        assert frames
        assert CANARY not in "".join([str(error), repr(vars(error)), *(str(f.locals) for f in frames)])

    def test_absurd_numbers_cost_one_account(self):
        """A number of a million digits is over the limit of the account that states it, and no more."""
        raw = b'{"a": {"maxJobs": ' + b"9" * 1_000_000 + b'}, "b": {"maxJobs": 1e999}, "c": {"maxJobs": 2}}'
        accounts = parsing.table(parsing.body(raw, None), FLOW, None).accounts
        assert [accounts[id].broken is None for id in "abc"] == [False, False, True]
