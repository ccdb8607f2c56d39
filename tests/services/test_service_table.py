"""The service table as a whole: found by key, formed well, printed."""

from __future__ import annotations

import pytest
from service_tables import table_markdown

from balancer import AccountPool
from balancer.services import GENERIC, SERVICES, find
from balancer.services.schema import JobsEndpoint, Service, StatusEndpoint, VerdictRule


class TestFind:
    """A service is found by its key, or brought along."""

    def test_a_key_finds_its_row(self):
        """Kinds have keys of their own."""
        assert find("minimax/images").key == "minimax/images"

    def test_a_row_is_itself(self):
        """A user's own row needs no entry in the table."""
        mine = Service(key="mine", path="/v1/mine")
        assert find(mine) is mine

    @pytest.mark.parametrize(
        ("key", "near"),
        [("flow-music", "flowmusic"), ("Kling", "kling"), ("runway", "runwayml"), ("zzz", "known:")],
    )
    def test_an_unknown_key_lists_near_ones(self, key, near):
        """A slip of the pen is answered with what was probably meant."""
        with pytest.raises(ValueError, match=near):
            find(key)

    def test_anything_else_is_a_type_error(self):
        """Neither a key nor a row."""
        with pytest.raises(TypeError, match="service must be"):
            find(6)


class TestForm:
    """What a row may say."""

    @pytest.mark.parametrize("field", ["key", "path", "accounts", "selector"])
    @pytest.mark.parametrize("value", ["", None, 6])
    def test_a_row_needs_its_names(self, field, value):
        """A row without key, path, list or parameter is refused where it is written."""
        with pytest.raises(ValueError, match=field):
            Service(**{"key": "x", "path": "/x", field: value})

    def test_a_path_starts_at_the_root(self):
        """The host is not part of a row."""
        with pytest.raises(ValueError, match="start with"):
            Service(key="x", path="v1/x")

    @pytest.mark.parametrize("wrong", [{"verdict": "TIRED"}, {"verdict": None}, {"until": "tomorrow"}])
    def test_a_rule_says_what_is_known(self, wrong):
        """Found with the first such answer, it would be found when a job was paid."""
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VerdictRule(**{"status": 429, "verdict": "BUSY", **wrong})

    @pytest.mark.parametrize(
        ("where", "row"),
        [
            ("VerdictRule.match", {"rules": (VerdictRule(status=429, verdict="BUSY", match="("),)}),
            ("StatusEndpoint.only", {"status": (StatusEndpoint(path="jobs/{job}", only="["),)}),
            ("JobsEndpoint.account_in_id", {"load": JobsEndpoint(path="jobs", account_in_id="*")}),
            ("Service.account_in_asset", {"account_in_asset": "("}),
        ],
    )
    def test_a_pattern_that_is_none_is_refused_with_the_pool(self, where, row):
        """Before anything is sent by it."""
        with pytest.raises(ValueError, match=where):
            AccountPool(Service(key="x", path="/v1/x", **row), source={"a": 1})

    def test_nothing_unpromised_is_sent_by_default(self):
        """A service that is not known to take replyRef or maxJobs is not sent them."""
        row = Service(key="x", path="/x")
        assert (row.reply_ref, row.max_jobs, row.load, row.alive) == (False, None, None, True)
        assert JobsEndpoint(path="jobs").covers
        assert VerdictRule(status=400, verdict="REFUSED").match is None
        assert GENERIC.key not in SERVICES


def test_the_documentations_table_has_a_line_for_each_row():
    """The table of the documentation is made from the rows, so it cannot fall behind."""
    head, rule, *lines = table_markdown().rstrip("\n").split("\n")
    assert len(lines) == len(SERVICES)
    assert len({line.count(" | ") for line in (head, rule, *lines)}) == 1
    by_key = dict(zip(SERVICES, lines, strict=True))
    assert "`email`, required" in by_key["kling"]
    assert "`GET /v2/pixverse/accounts`" in by_key["pixverse"]
    assert "discontinued on 24 June 2026" in by_key["midjourney"]
