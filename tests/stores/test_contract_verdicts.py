"""What every store promises, by both faces of a pool: cooldowns, probing, and what cannot help."""

from __future__ import annotations

import pytest

from balancer import AcquireTimeout, NoAccounts, Verdict

BUSY, GONE, BROKEN = (429, {"Retry-After": "60"}, ""), (412, {}, ""), (596, {}, "")


def test_a_busy_account_rests_and_is_then_tried_by_one(world):
    """P-50, P-54: the pause is everybody's at once; after it one lease probes."""
    one, two = world.pool(), world.pool()
    with one.acquire(account="a") as lease:
        assert lease.report(BUSY) is Verdict.BUSY
    other = two.acquire(timeout=0)
    assert other.account.id == "b"
    assert two.stats().accounts["a"].state == "cooldown"
    with pytest.raises(AcquireTimeout):
        two.acquire(timeout=0)
    world.clock.advance(61)
    probe = two.acquire(timeout=0)
    assert probe.account.id == "a"
    with pytest.raises(AcquireTimeout):
        one.acquire(timeout=0)
    probe.report((201, {}, "{}"))
    assert one.acquire(timeout=0).account.id == "a"


def test_a_probe_that_fails_sends_the_account_back_to_rest(world):
    """P-62: and one that just ends proves it well."""
    pool = world.pool()
    pool.cool("a", 60)
    world.clock.advance(61)
    with pool.acquire(account="a", timeout=0) as probe:
        probe.report(BUSY)
    with pytest.raises(AcquireTimeout):
        pool.acquire(account="a", timeout=0)
    world.clock.advance(61)
    pool.acquire(account="a", timeout=0).release()
    leases = [pool.acquire(account="a", timeout=0) for _ in range(2)]
    assert pool.stats().in_flight == len(leases)


def test_the_longer_cooldown_wins(world):
    """P-49: whichever came first."""
    pool = world.pool()
    pool.cool("a", 100)
    pool.cool("a", 10)
    pool.cool("b", 10)
    pool.cool("b", 100)
    world.clock.advance(50)
    states = {id: account.state for id, account in pool.stats().accounts.items()}
    assert states == {"a": "cooldown", "b": "cooldown"}
    world.clock.advance(51)
    assert pool.acquire(timeout=0)


def test_a_cooldown_may_concern_one_model_only(world):
    """P-53: jobs of another scope go on; a job without scope takes it as the account's."""
    pool = world.pool(service="google-flow", source={"a": 5, "b": 5})
    quota = (429, {}, '{"error": {"details": [{"reason": "PUBLIC_ERROR_PER_MODEL_DAILY_QUOTA_REACHED"}]}}')
    with pool.acquire(account="a", scope="veo") as lease:
        assert lease.report(quota) is Verdict.EXHAUSTED
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", scope="veo", timeout=0)
    with pytest.raises(NoAccounts):
        pool.acquire(account="a", timeout=0)
    assert pool.acquire(account="a", scope="imagen", timeout=0)
    assert {pool.acquire(scope="veo", timeout=0).account.id for _ in range(5)} == {"b"}


def test_reset_ends_a_cooldown(world):
    """P-62: by hand, at once, for everybody."""
    one, two = world.pool(), world.pool()
    with one.acquire(account="b", timeout=0) as lease:
        lease.report(GONE)
    with pytest.raises(NoAccounts):
        two.acquire(account="b", timeout=0)
    two.reset("b")
    assert one.acquire(account="b", timeout=0)
    with pytest.raises(ValueError, match="nobody"):
        one.cool("nobody", 5)
    with pytest.raises(ValueError, match="nobody"):
        one.reset("nobody")


def test_waiting_that_cannot_help_is_refused_with_reasons(world):
    """P-53: exhausted and broken accounts are not worth a wait; the error says why and until when."""
    pool = world.pool()
    for account, answer in (("a", GONE), ("b", BROKEN)):
        with pool.acquire(account=account) as lease:
            lease.report(answer)
    with pytest.raises(NoAccounts) as caught:
        pool.acquire(timeout=0)
    assert set(caught.value.reasons) == {"a", "b"}
    assert caught.value.retry_at.timestamp() == pytest.approx(world.clock.time() + 900)
    assert pool.explain()["a"].startswith("cooldown")
