"""How long a cooldown lasts, and the ways out of it."""

from __future__ import annotations

from ledgers import Desk


def cooled(capacity=3, seconds=10.0, scope=None):
    """Return a desk whose account has just come out of a cooldown."""
    desk = Desk(a=capacity)
    desk.cool("a", seconds, scope)
    desk.at(seconds)
    return desk


def test_a_longer_cooldown_wins_and_a_shorter_one_never_shortens():
    """The end is the latest that any answer asked for, with the reason that goes with it (P-49)."""
    desk = Desk(a=1)
    desk.cool("a", 30, reason="first")
    desk.cool("a", 10, reason="shorter")
    assert desk.ledger.account_states["a"].cooldowns[None].reason == "first"
    desk.cool("a", 60, reason="longer", worth_waiting=False)
    assert desk.hopeless() is True
    desk.at(59.9)
    assert desk.take() is None
    assert "longer" in desk.ledger.account_states["a"].why_not(None, None)
    desk.at(60)
    assert desk.take() is not None


def test_a_short_cooldown_does_not_give_hope_for_an_exhausted_account():
    """BUSY during EXHAUSTED changes nothing: it is shorter."""
    desk = Desk(a=1)
    desk.cool("a", 3600, worth_waiting=False)
    desk.cool("a", 30, worth_waiting=True)
    assert desk.hopeless() is True


def test_a_cooldown_while_probing_starts_anew():
    """The probe was turned away: the account cools again, and is probed again after that."""
    desk = cooled()
    probe = desk.take()
    probe.adverse = True
    desk.cool("a", 20)
    desk.release(probe)
    assert desk.state("a") == "cooldown"
    desk.at(30)
    assert desk.take() is not None
    assert desk.take() is None


def test_an_old_probe_does_not_conclude_a_cooldown_that_came_after_it():
    """What it met before the second cooldown is no proof about the time after."""
    desk = cooled()
    probe = desk.take()
    desk.cool("a", 20)
    desk.release(probe)
    desk.at(30)
    desk.take()
    assert desk.take() is None


def test_reset_ends_cooldowns_and_probing_but_not_what_the_configuration_says():
    """All that answers made of it is gone; a broken account stays broken (P-62)."""
    desk = Desk(a=2, b=(2, "signed out"))
    desk.cool("a", 99)
    desk.cool("a", 99, "veo")
    desk.cool("b", 99)
    for account in "ab":
        desk.ledger.reset(desk.ledger.account_states[account])
    assert desk.take() is not None
    assert desk.take() is not None
    assert (desk.state("a"), desk.state("b")) == ("full", "broken")
    assert desk.at(99) == []


def test_a_mended_account_leaves_its_cooldown_and_is_probed():
    """The configuration's error going away ends the cooldown early, one lease at a time at first."""
    desk = Desk(a=(3, "signed out"))
    desk.cool("a", 3600, worth_waiting=False)
    desk.configure(a=3)
    assert desk.hopeless() is False
    probe = desk.take()
    assert probe is not None
    assert desk.take() is None
    desk.release(probe)
    assert desk.take() is not None
    assert desk.take() is not None


def test_a_mended_account_may_cool_again_for_less_than_before():
    """The old cooldown is over, so its far end does not count against the new one."""
    desk = Desk(a=(1, "signed out"))
    desk.cool("a", 3600)
    desk.configure(a=1)
    desk.cool("a", 10)
    assert desk.state("a") == "cooldown"
    desk.at(10)
    assert desk.take() is not None


def test_a_change_that_mends_nothing_does_not_end_a_cooldown():
    """A new capacity, or one error instead of another, is no sign of health."""
    desk = Desk(a=1, b=(1, "signed out"))
    desk.cool("a", 60)
    desk.cool("b", 60)
    desk.configure(a=2, b=(1, "banned"))
    assert desk.state("a") == "cooldown"
    desk.configure(a=2, b=1)
    assert (desk.state("a"), desk.state("b")) == ("cooldown", "ready")


def test_our_own_full_count_is_not_held_against_an_account():
    """Being full, however often somebody asks, leaves no cooldown and no probing behind (P-48)."""
    desk = Desk(a=2)
    rows = [desk.take(), desk.take()]
    assert [desk.take() for _ in range(100)] == [None] * 100
    for row in rows:
        desk.release(row)
    assert desk.ledger.account_states["a"].cooldowns == {}
    assert desk.ledger.account_states["a"].free == 2
