"""The table of events, checked against the code that makes them."""

from __future__ import annotations

from events_table import documented, made


def test_the_table_of_events_is_that_of_the_code():
    """Names, levels and keys are a promise."""
    assert len(made()) >= 20
    assert documented() == made()


def test_the_table_is_in_order():
    """Whoever looks an event up finds it."""
    assert list(documented()) == sorted(documented())
