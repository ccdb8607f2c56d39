"""Cooldowns, and how an account is tried out after one."""

from __future__ import annotations

import pytest
from ledgers import Desk


def cooled(capacity=3, seconds=10.0, scope=None):
    """Return a desk whose account has just come out of a cooldown."""
    desk = Desk(a=capacity)
    desk.cool("a", seconds, scope)
    desk.at(seconds)
    return desk


def test_a_cooling_account_gets_nothing_until_its_time():
    """The cooldown ends when it was said to, not before, and frees one slot then."""
    desk = Desk(a=3)
    desk.cool("a", 10)
    assert desk.state("a") == "cooldown"
    desk.at(9.9)
    assert desk.take() is None
    desk.at(10)
    assert desk.take() is not None


def test_after_a_cooldown_one_lease_is_out_at_a_time():
    """No herd on an account that has just recovered (P-54)."""
    desk = cooled()
    assert desk.ledger.account_states["a"].free == 1
    probe = desk.take()
    assert (desk.take(), desk.state("a")) == (None, "full")
    assert "probing" in desk.ledger.account_states["a"].why_not(None, None)
    assert probe is not None


@pytest.mark.parametrize(
    "prove",
    [
        lambda desk, probe: desk.ledger.accept(probe, desk.now),
        lambda desk, probe: desk.bind(probe, "job"),
        lambda desk, probe: desk.release(probe),
        lambda desk, probe: (desk.release_job("job"), desk.bind(probe, "job")),
        lambda desk, probe: desk.ledger.end(probe, desk.now),
        lambda desk, probe: desk.ledger.reset(probe.account_state),
    ],
    ids=["accepted", "bound", "released", "bound when over", "abandoned", "reset"],
)
def test_probing_ends_when_the_probe_proves_the_account_well(prove):
    """Accepted, bound or released without an adverse verdict: then all its room is open (P-62)."""
    desk = cooled()
    probe = desk.take()
    prove(desk, probe)
    room = 3 - desk.in_flight("a")
    assert [desk.take() is not None for _ in range(room + 1)] == [True] * room + [False]


def test_a_probe_that_met_an_adverse_answer_proves_nothing():
    """Its end lets the next probe out, one again."""
    desk = cooled()
    probe = desk.take()
    probe.adverse = True
    desk.release(probe)
    second = desk.take()
    assert second is not None
    assert desk.take() is None
    desk.release(second)
    assert desk.take() is not None
    assert desk.take() is not None


def test_leases_from_before_the_cooldown_do_not_end_the_probing():
    """They say nothing about the account as it is now."""
    desk = Desk(a=3)
    old = desk.take()
    desk.cool("a", 10)
    desk.at(10)
    probe = desk.take()
    desk.release(old)
    assert desk.take() is None
    desk.release(probe)
    assert desk.take() is not None
    assert desk.take() is not None


def test_a_doubtful_probe_is_still_out():
    """While nobody knows whether its job runs, no second one is tried."""
    desk = cooled()
    desk.ledger.doubt(desk.take(), 600.0, desk.now)
    assert desk.take() is None
    desk.at(700)
    assert desk.take() is not None


# -- scopes -------------------------------------------------------------------------------------------


def test_a_scoped_cooldown_meets_jobs_of_that_scope_and_jobs_without_one():
    """Another model's jobs go on; a job that does not say what it uses might use this one."""
    desk = Desk(a=3)
    desk.cool("a", 10, "veo")
    assert desk.take(scope="veo") is None
    assert desk.take() is None
    assert desk.take(scope="imagen") is not None
    assert desk.take(scope="imagen") is not None


def test_an_account_cooldown_meets_jobs_of_every_scope():
    """It is about the account, whatever the job uses."""
    desk = Desk(a=3)
    desk.cool("a", 10)
    assert desk.take(scope="veo") is None


def test_probing_a_scope_leaves_the_others_alone():
    """One lease of that scope at a time, any number of another."""
    desk = cooled(capacity=5, scope="veo")
    desk.take(scope="veo")
    assert desk.take(scope="veo") is None
    assert desk.take() is None
    assert desk.take(scope="imagen") is not None
    assert desk.take(scope="imagen") is not None


def test_a_job_without_scope_probes_every_cooldown_at_once():
    """While it is out none of them lets another job by, and its proof ends them all."""
    desk = Desk(a=5)
    for scope in (None, "veo", "imagen"):
        desk.cool("a", 10, scope)
    desk.at(10)
    probe = desk.take()
    assert [desk.take(scope=scope) for scope in (None, "veo", "imagen", "other")] == [None] * 4
    desk.ledger.accept(probe, desk.now)
    assert desk.ledger.account_states["a"].cooldowns == {}


def test_proof_for_one_scope_is_none_for_another():
    """The cooldowns of other models stay until a job of theirs has proved them over."""
    desk = Desk(a=5)
    desk.cool("a", 10, "veo")
    desk.cool("a", 10, "imagen")
    desk.at(10)
    desk.release(desk.take(scope="veo"))
    assert list(desk.ledger.account_states["a"].cooldowns) == ["imagen"]


def test_cooldowns_of_different_scopes_end_each_at_its_own_time():
    """A longer one of a model does not prolong the account's."""
    desk = Desk(a=3)
    desk.cool("a", 10)
    desk.cool("a", 99, "veo")
    desk.at(10)
    assert desk.take(scope="imagen") is not None
    assert desk.take(scope="veo") is None
