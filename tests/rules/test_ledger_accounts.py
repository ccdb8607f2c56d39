"""What a new configuration does to a ledger, and when waiting cannot help."""

from __future__ import annotations

import pytest
from ledgers import Desk

# -- the configuration --------------------------------------------------------------------------------


def test_counts_survive_every_change_of_the_table():
    """Lowered, raised, broken, mended, gone and back: the leases still count (P-52)."""
    desk = Desk(a=3, b=1)
    rows = [desk.take("a") for _ in range(3)]
    for entry in (1, 3, (3, "bad"), 3, 2):
        desk.configure(a=entry)
        assert desk.in_flight("a") == 3
        assert desk.take("a") is None
    desk.configure()
    assert desk.state("a") == "draining"
    assert desk.take() is None
    desk.configure(a=4)
    assert (desk.state("a"), desk.in_flight("a")) == ("ready", 3)
    assert desk.take("a") is not None
    assert desk.take("a") is None
    for row in rows:
        desk.release(row)
    assert desk.in_flight("a") == 1


def test_capacity_lowered_below_in_flight_gives_nothing_until_it_drains():
    """Not one grant until fewer run than the new capacity (P-14)."""
    desk = Desk(a=3)
    rows = [desk.take() for _ in range(3)]
    desk.configure(a=2)
    desk.release(rows[0])
    assert desk.take() is None
    desk.release(rows[1])
    assert desk.take() is not None
    assert desk.take() is None


def test_an_account_that_is_gone_is_forgotten_with_its_last_lease():
    """It drains: nothing new runs on it, and what runs ends well (P-52)."""
    desk = Desk(a=2, b=1)
    first, second = desk.take("a"), desk.take("a")
    desk.configure(b=1)
    desk.release(first)
    assert desk.state("a") == "draining"
    desk.release(second)
    assert list(desk.ledger.account_states) == ["b"]


def test_an_account_that_comes_back_brings_its_jobs_of_others_and_its_cooldown():
    """Gone and back within a cooldown is no way out of it, nor out of what others run there."""
    desk = Desk(a=2, b=2)
    desk.ledger.set_external({"a": 1, "b": 1})
    desk.cool("a", 60)
    desk.configure()
    assert list(desk.ledger.account_states) == ["a"]
    desk.configure(a=2, b=2)
    assert desk.state("a") == "cooldown"
    assert [desk.take("b") is not None for _ in range(2)] == [True, False]
    desk.at(60)
    assert desk.take("a") is not None


def test_a_cooldown_does_not_keep_a_gone_account_for_ever():
    """Once its cooldown is over there is nothing left to remember it for."""
    desk = Desk(a=1)
    desk.cool("a", 60)
    desk.configure()
    desk.at(60)
    assert desk.ledger.account_states == {}


# -- when waiting cannot help -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "hopeless"),
    [
        (lambda desk: None, False),
        (lambda desk: desk.take("a"), False),
        (lambda desk: desk.ledger.set_external({"a": 9}), False),
        (lambda desk: desk.cool("a", 30, worth_waiting=True), False),
        (lambda desk: desk.cool("a", 3600, worth_waiting=False), True),
        (lambda desk: desk.cool("a", 3600, "model", worth_waiting=False), True),
        (lambda desk: desk.configure(a=(1, "signed out")), True),
        (lambda desk: (desk.take("a"), desk.configure()), True),
        (lambda desk: desk.configure(), True),
        (lambda desk: (desk.take("a"), desk.configure(a=1, b=(1, "bad"))), False),
        (lambda desk: (desk.cool("a", 9, worth_waiting=False), desk.at(9)), False),
    ],
    ids=[
        "ready", "full", "full of others", "busy", "exhausted", "a scope exhausted", "broken", "draining",
        "gone", "one full, one broken", "exhausted until now",
    ],
)  # fmt: skip
def test_waiting_is_hopeless_exactly_if_nothing_can_come_free_by_itself(spoil, hopeless):
    """Ready, full and cooling after BUSY are worth a wait; exhausted, broken and gone are not (P-53)."""
    desk = Desk(a=1)
    spoil(desk)
    assert desk.hopeless() is hopeless


def test_one_account_worth_waiting_for_is_enough_unless_it_may_not_be_used():
    """Hope is judged among the candidates only."""
    desk = Desk(a=1, b=(1, "bad"))
    desk.take("a")
    assert desk.hopeless() is False
    assert desk.hopeless("b") is True
    assert desk.hopeless("nobody") is True
    assert desk.hopeless("a", "b") is False


def test_an_exhausted_model_leaves_hope_for_another():
    """The cooldown of one scope dooms only jobs of that scope, and jobs that name none."""
    desk = Desk(a=1)
    desk.cool("a", 3600, "veo", worth_waiting=False)
    assert desk.hopeless(scope="veo") is True
    assert desk.hopeless(scope="imagen") is False
    assert desk.hopeless() is True
