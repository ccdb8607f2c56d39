"""Grants, ends and the configuration, one rule at a time."""

from __future__ import annotations

import pytest
from ledgers import Desk

from balancer.ledger import EARLY_RELEASE_TTL, EARLY_RELEASES
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, Row, Ticket

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
    assert desk.ledger.tallies["a"].free == 0
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
    assert {desk.take("a", "b", draw=0.99).tally.id, desk.take("a", "b").tally.id} == {"a", "b"}
    assert desk.take("a", "b") is None
    assert desk.take("nobody") is None
    assert desk.take("c") is not None


def test_a_lease_that_is_live_is_not_granted_twice():
    """Asking again for a granted lease leaves it where it is and takes no second slot."""
    desk = Desk(a=1, b=1)
    ticket = Ticket(Row("key"))
    assert desk.ledger.take(ticket, 0.0)
    account = ticket.row.tally.id
    assert desk.ledger.take(ticket, 0.0)
    assert (desk.in_flight("a") + desk.in_flight("b"), ticket.row.tally.id) == (1, account)


def test_least_loaded_goes_by_share_of_capacity_and_counts_jobs_of_others():
    """1 of 4 is less than 1 of 2, and an external job weighs like one of ours."""
    desk = Desk("least_loaded", small=2, large=4)
    desk.take("small")
    desk.take("large")
    assert desk.take().tally.id == "large"
    desk.ledger.set_external({"large": 1})
    assert desk.take().tally.id == "small"


def test_least_loaded_obeys_constraints_before_load():
    """The least loaded of those that may be used, not the least loaded of all."""
    desk = Desk("least_loaded", a=2, b=2, c=4)
    desk.take("a")
    assert desk.take("a", "b").tally.id == "b"
    assert desk.take("a", "b", "c", draw=0.99).tally.id == "c"


# -- ends ---------------------------------------------------------------------------------------------


def test_an_unbound_lease_does_not_end_by_itself():
    """Its process keeps it, however long it lasts: no clock frees what is in use (P-21)."""
    desk = Desk(a=1)
    desk.take()
    assert desk.at(10**9) == []
    assert desk.take() is None


def test_a_bound_lease_ends_at_its_time_and_not_before():
    """The slot is the job's for the whole ttl, and free at its end."""
    desk = Desk(a=1)
    row = desk.take()
    assert desk.bind(row, "job", ttl=100)
    assert desk.at(99.9) == []
    assert desk.take() is None
    assert desk.at(100) == [row]
    assert row.state == ENDED
    assert desk.take() is not None


def test_renewal_moves_an_end_either_way_and_a_list_only_onwards():
    """A user may shorten a lease; a job that is still listed never does."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=100)
    desk.ledger.prolong(row, 50.0)
    assert row.end == 100
    desk.ledger.prolong(row, 150.0)
    assert row.end == 150
    desk.ledger.set_end(row, 20.0)
    assert desk.at(20) == [row]


def test_release_before_bind_frees_the_slot_at_the_bind():
    """The webhook may overtake the answer to the create (P-58)."""
    desk = Desk(a=1)
    row = desk.take()
    assert desk.release_job("job") is False
    assert desk.bind(row, "job") is False
    assert row.state == ENDED
    assert desk.take() is not None


def test_an_early_release_serves_one_bind_only():
    """The memory of it is used up by the bind that it was for."""
    desk = Desk(a=2)
    desk.release_job("job")
    desk.bind(desk.take(), "job")
    assert desk.bind(desk.take(), "job") is True


def test_early_releases_are_forgotten_after_ten_minutes():
    """A bind that comes later than that binds."""
    desk = Desk(a=1)
    desk.release_job("job")
    desk.at(EARLY_RELEASE_TTL)
    assert EARLY_RELEASE_TTL == 600
    assert desk.bind(desk.take(), "job") is True


def test_of_too_many_early_releases_the_oldest_is_dropped():
    """At most 10,000 are kept; the last of them still count."""
    desk = Desk(a=3)
    for number in range(EARLY_RELEASES + 1):
        desk.release_job(f"job-{number}")
    assert len(desk.ledger.early) == EARLY_RELEASES == 10_000
    assert desk.bind(desk.take(), "job-0") is True
    assert desk.bind(desk.take(), "job-1") is False
    assert desk.bind(desk.take(), f"job-{EARLY_RELEASES}") is False


def test_two_leases_cannot_have_one_job():
    """The second bind is refused and leaves both leases as they were."""
    desk = Desk(a=2)
    first, second = desk.take(), desk.take()
    desk.bind(first, "job")
    with pytest.raises(ValueError, match="bound to another lease"):
        desk.bind(second, "job")
    assert (first.state, second.state, second.job_id) == (BOUND, HELD, None)
    desk.release(second)
    assert desk.release_job("job") is True


def test_one_lease_cannot_have_two_jobs():
    """Another job's id is refused; the same again only moves the end."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=10)
    with pytest.raises(ValueError, match="bound to 'job' already"):
        desk.bind(row, "other")
    assert desk.release_job("other") is False
    assert desk.bind(row, "job", ttl=20) is True
    assert (row.end, desk.in_flight("a")) == (20, 1)


def test_an_early_release_of_another_job_does_not_end_a_bound_lease():
    """Only a lease that may still be bound to that job can be freed by it."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job")
    desk.release_job("other")
    with pytest.raises(ValueError, match="bound to 'job' already"):
        desk.bind(row, "other")
    assert row.state == BOUND


def test_a_doubtful_lease_keeps_its_slot_for_its_time():
    """Nobody knows whether its job runs, so the slot is taken until the end that was set."""
    desk = Desk(a=1)
    row = desk.take()
    desk.ledger.doubt(row, 600.0, desk.now)
    assert row.state == AMBIGUOUS
    desk.at(599)
    assert desk.take() is None
    assert desk.at(600) == [row]


def test_a_bound_lease_is_not_made_doubtful():
    """Its job is known to run: it keeps its longer end."""
    desk = Desk(a=1)
    row = desk.take()
    desk.bind(row, "job", ttl=3600)
    desk.ledger.doubt(row, 600.0, desk.now)
    assert (row.state, row.end) == (BOUND, 3600)


def test_a_doubtful_lease_can_be_bound():
    """Its job was found, so it is the job's from then on."""
    desk = Desk(a=1)
    row = desk.take()
    desk.ledger.doubt(row, 600.0, desk.now)
    desk.bind(row, "job", ttl=3600)
    assert desk.at(600) == []
    assert desk.release_job("job") is True


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
    assert list(desk.ledger.tallies) == ["b"]


def test_an_account_that_comes_back_brings_its_jobs_of_others_and_its_cooldown():
    """Gone and back within a cooldown is no way out of it, nor out of what others run there."""
    desk = Desk(a=2, b=2)
    desk.ledger.set_external({"a": 1, "b": 1})
    desk.cool("a", 60)
    desk.configure()
    assert list(desk.ledger.tallies) == ["a"]
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
    assert desk.ledger.tallies == {}


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
