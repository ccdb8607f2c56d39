"""The page of messages is what the code says today, and each message says what its reader needs."""

from __future__ import annotations

import pytest
from events_table import documented
from messages import FETCHING, FILE, SITUATIONS, WAITING, page, said

import balancer
from balancer import BalancerError


def test_the_page_is_what_the_code_says_today():
    """``make messages`` makes it anew."""
    assert page() == FILE.read_text("utf-8")


@pytest.mark.parametrize("section", [WAITING, FETCHING])
def test_whoever_is_turned_away_reads_which_service_host_or_file_it_was(section):
    """On a pager there is nothing but the text."""
    texts = {situation: said(bring_about) for situation, bring_about in SITUATIONS[section].items()}
    named = ("flowmusic", "kling", "https://api", "/var/lib/app", "Database", "useapi.net")
    assert [text for text in texts.values() if not any(name in text for name in named)] == []


ONCE_A_SERVER_DIES = {
    *("bind_delayed", "lease_lost", "leases_registered_again", "store_away", "store_back", "store_emptied"),
}
"""Events of a store that goes away: other tests bring those about, and no two runs say the same."""


def test_every_error_and_every_event_is_on_the_page():
    """A new one is to be read side by side with the others."""
    text = FILE.read_text("utf-8")
    kinds = [getattr(balancer, name) for name in balancer.__all__]
    errors = {kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, BalancerError)}
    assert {name for name in errors - {"BalancerError", "SourceError"} if f"{name}: " not in text} == set()
    assert {name for name in documented() if f" {name} " not in text} == ONCE_A_SERVER_DIES


def test_no_message_shows_an_address_of_an_object_or_fails_to_be_made():
    """Neither is of use to anybody."""
    text = FILE.read_text("utf-8")
    assert " at 0x" not in text
    assert "AssertionError" not in text
    assert "Traceback" not in text
