"""The page of messages is what the code says today, and each message says what its reader needs."""

from __future__ import annotations

import pytest
from messages import FETCHING, FILE, SITUATIONS, WAITING, page, said


def test_the_page_is_what_the_code_says_today():
    """``make messages`` makes it anew."""
    assert page() == FILE.read_text("utf-8")


@pytest.mark.parametrize("section", [WAITING, FETCHING])
def test_whoever_is_turned_away_reads_which_service_host_or_file_it_was(section):
    """On a pager there is nothing but the text."""
    texts = {situation: said(bring_about) for situation, bring_about in SITUATIONS[section].items()}
    named = ("flowmusic", "kling", "https://api", "/var/lib/app", "Database", "useapi.net")
    assert [text for text in texts.values() if not any(name in text for name in named)] == []


def test_no_message_shows_an_address_of_an_object_or_fails_to_be_made():
    """Neither is of use to anybody."""
    text = FILE.read_text("utf-8")
    assert " at 0x" not in text
    assert "AssertionError" not in text
    assert "Traceback" not in text
