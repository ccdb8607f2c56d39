"""Grants, ends and the configuration, one rule at a time."""

from __future__ import annotations

from ledgers import Desk

from balancer.rules.records import HELD, LeaseRecord, SlotRequest

# -- capacity ---------------------------------------------------------------------------------------


def test_an_account_is_granted_up_to_its_capacity_and_not_beyond():
    """The slot after the last one is refused, and is there again after one release (P-14)."""
    desk = Desk(a=2)
    first, second = desk.take(), desk.take()
    assert first.state == second.state == HELD
    assert desk.take() is None
    desk.release(first)
    assert desk.take() is not None
    assert desk.take() is None


def test_jobs_of_others_take_room():
    """External jobs count against the capacity as ours do, and no longer once they are gone."""
    desk = Desk(a=3)
    desk.ledger.set_external({"a": 2})
    assert desk.take() is not None
    assert desk.take() is None
    desk.ledger.set_external({})
    assert desk.take() is not None


def test_more_jobs_of_others_than_the_capacity_leave_nothing_to_give():
    """Free is never negative: one job less of theirs does not make a slot of ours."""
    desk = Desk(a=2)
    desk.ledger.set_external({"a": 5})
    assert desk.ledger.account_states["a"].free == 0
    desk.ledger.set_external({"a": 2})
    assert desk.take() is None


def test_max_jobs_replaces_the_capacity_for_one_decision_only():
    """A figure above the capacity lets one more in, one below keeps it out, and neither stays behind."""
    desk = Desk(a=2)
    desk.take()
    assert desk.take(max_jobs=1) is None
    assert desk.take(max_jobs=2) is not None
    assert desk.take() is None
    assert desk.take(max_jobs=3) is not None
    assert desk.take(max_jobs=3) is None
    assert desk.in_flight("a") == 3


def test_max_jobs_is_compared_with_our_jobs_and_those_of_others():
    """The account takes so many in all, whoever runs them."""
    desk = Desk(a=5)
    desk.ledger.set_external({"a": 1})
    assert desk.take(max_jobs=2) is not None
    assert desk.take(max_jobs=2) is None


def test_max_jobs_cannot_raise_a_capacity_that_requests_cannot_raise():
    """Where the request has no such field, a higher figure is worth no more than the capacity."""
    desk = Desk(lower_only=True, a=2)
    assert desk.take(max_jobs=3) is not None
    assert desk.take(max_jobs=1) is None
    assert desk.take(max_jobs=3) is not None
    assert desk.take(max_jobs=3) is None


def test_max_jobs_does_not_open_an_account_that_is_broken_or_draining_or_cooling():
    """It replaces the capacity and nothing else."""
    desk = Desk(a=1, b=(1, "signed out"), c=1)
    desk.cool("a", 10)
    desk.take("c")
    desk.configure(a=1, b=(1, "signed out"))
    assert desk.state("c") == "draining"
    assert desk.take(max_jobs=9) is None


def test_only_the_named_accounts_are_used():
    """A ticket for some accounts never gets another, and one for unknown accounts gets none."""
    desk = Desk(a=1, b=1, c=1)
    assert {desk.take("a", "b", draw=0.99).account_state.id, desk.take("a", "b").account_state.id} == {
        "a",
        "b",
    }
    assert desk.take("a", "b") is None
    assert desk.take("nobody") is None
    assert desk.take("c") is not None


def test_a_lease_that_is_live_is_not_granted_twice():
    """Asking again for a granted lease leaves it where it is and takes no second slot."""
    desk = Desk(a=1, b=1)
    slot_request = SlotRequest(LeaseRecord("key"))
    assert desk.ledger.take(slot_request, 0.0)
    account = slot_request.record.account_state.id
    assert desk.ledger.take(slot_request, 0.0)
    assert (desk.in_flight("a") + desk.in_flight("b"), slot_request.record.account_state.id) == (1, account)


def test_least_loaded_goes_by_share_of_capacity_and_counts_jobs_of_others():
    """1 of 4 is less than 1 of 2, and an external job weighs like one of ours."""
    desk = Desk("least_loaded", small=2, large=4)
    desk.take("small")
    desk.take("large")
    assert desk.take().account_state.id == "large"
    desk.ledger.set_external({"large": 1})
    assert desk.take().account_state.id == "small"


def test_least_loaded_obeys_constraints_before_load():
    """The least loaded of those that may be used, not the least loaded of all."""
    desk = Desk("least_loaded", a=2, b=2, c=4)
    desk.take("a")
    assert desk.take("a", "b").account_state.id == "b"
    assert desk.take("a", "b", "c", draw=0.99).account_state.id == "c"
