"""``run`` and ``with_lease``: which answer is returned, which is tried elsewhere, which is an error."""

import threading

import pytest
from desk import BROKEN, BUSY, EXHAUSTED, JOB, SUBSCRIPTION, Desk, pool_of, states
from faces import both_faces
from stepping import until

from balancer import (
    AcquireTimeout,
    AmbiguousOutcome,
    AttemptsFailed,
    JobRefused,
    NoAccounts,
    SubscriptionRequired,
    Unauthorized,
    Verdict,
)


@both_faces
@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_accepted_answer_is_returned_as_it_came(face, status):
    """ACCEPTED ends the run, and the slot unless it is bound."""
    pool, _, sync = pool_of(face, a=1)
    answer = (status, {}, "{}")
    assert face.do(pool.run(face.work(Desk(answer)))) is answer
    assert states(sync) == []


@both_faces
@pytest.mark.parametrize("value", [None, "a video", {"id": 1}, 3.5, [201]])
def test_a_value_that_is_no_answer_counts_as_accepted(face, value):
    """What a call returns in place of a response is its own affair."""
    pool, _, sync = pool_of(face, a=1)
    assert face.do(pool.run(face.work(Desk(value)))) == value
    assert states(sync) == []


@both_faces
def test_a_call_that_never_went_out_is_tried_again(face):
    """NOT_SENT is proof that nothing was accepted; the account is not to blame (P-57, P-8)."""
    pool, _, sync = pool_of(face, a=1)
    desk = Desk(ConnectionRefusedError("no"), ConnectionRefusedError("no"))
    assert face.do(pool.run(face.work(desk))) == JOB
    assert desk.asked == ["a"] * 3
    assert sync.stats().accounts["a"].state == "ready"


@both_faces
@pytest.mark.parametrize("answer", [BUSY, EXHAUSTED, BROKEN])
def test_an_account_that_cannot_take_the_job_is_left_for_another(face, answer):
    """BUSY, EXHAUSTED and BROKEN: the account cools, the job goes elsewhere."""
    pool, _, sync = pool_of(face, a=1, b=1)
    desk = Desk(answer)
    assert face.do(pool.run(face.work(desk))) == JOB
    assert sorted(desk.asked) == ["a", "b"]
    assert sync.stats().accounts[desk.asked[0]].state == "cooldown"


@both_faces
@pytest.mark.parametrize("answer", [EXHAUSTED, BROKEN])
def test_an_exhausted_or_broken_account_is_not_asked_again_in_this_run(face, answer):
    """Not even if somebody resets it meanwhile; a new run may ask it again."""
    pool, _, sync = pool_of(face, a=1, b=1)

    def reset_the_other(lease):
        sync.reset(desk.asked[0])
        return ConnectionRefusedError("no")

    desk = Desk(answer, reset_the_other)
    assert face.do(pool.run(face.work(desk))) == JOB
    first, second, third = desk.asked
    assert first != second == third
    assert face.do(pool.run(face.work(Desk()), account=first)) == JOB


@both_faces
def test_a_busy_account_is_asked_again_when_its_cooldown_has_ended_and_not_before(face):
    """BUSY: the run waits in line for the end of the pause that the answer named."""
    pool, clock, sync = pool_of(face, a=1)
    desk, came = Desk(BUSY), []
    thread = threading.Thread(target=lambda: came.append(face.do(pool.run(face.work(desk)))))
    thread.start()
    until(lambda: sync.stats().waiting)
    clock.advance(6.9)
    until(lambda: sync.stats().waiting)
    assert desk.asked == ["a"]
    clock.advance(0.2)
    thread.join()
    assert came == [JOB]
    assert desk.asked == ["a", "a"]


@both_faces
@pytest.mark.parametrize(
    ("answer", "kind"), [((401, {}, ""), Unauthorized), (SUBSCRIPTION, SubscriptionRequired)]
)
def test_a_refused_token_is_nobodys_account_and_makes_a_refresh_due(face, answer, kind):
    """TOKEN: no account suffers, no other one is asked, the next caller fetches anew."""
    pool, _, sync = pool_of(face, a=1, b=1)
    desk = Desk(answer)
    with pytest.raises(kind):
        face.do(pool.run(face.work(desk)))
    assert len(desk.asked) == 1
    stats = sync.stats()
    assert (stats.free, stats.refreshes) == (2, 1)
    face.block(pool.acquire(timeout=5))
    assert sync.stats().refreshes == 2


@both_faces
@pytest.mark.parametrize("status", [302, 400, 403, 404, 408, 409, 410, 418, 422])
def test_a_refused_job_is_never_sent_elsewhere(face, status):
    """REFUSED: another account would refuse it too."""
    pool, _, sync = pool_of(face, a=1, b=1)
    desk = Desk((status, {}, '{"error": "prompt"}'))
    with pytest.raises(JobRefused) as refused:
        face.do(pool.run(face.work(desk)))
    assert refused.value.account == desk.asked[0]
    assert refused.value.response[0] == status
    assert len(desk.asked) == 1
    assert sync.stats().free == 2


@both_faces
@pytest.mark.parametrize("answer", [(500, {}, ""), (502, {}, "<html>"), (504, {}, ""), TimeoutError("read")])
def test_a_job_that_may_run_is_never_sent_again_and_keeps_its_slot(face, answer):
    """P-57: AMBIGUOUS ends the run with the lease's id, and the account rests."""
    pool, clock, sync = pool_of(face, a=1, b=1)
    desk = Desk(answer)
    with pytest.raises(AmbiguousOutcome) as doubt:
        face.do(pool.run(face.work(desk)))
    assert len(desk.asked) == 1
    (holder,) = sync.holders()
    assert (holder.id, holder.state) == (doubt.value.lease_id, "ambiguous")
    assert sync.stats().accounts[desk.asked[0]].state == "cooldown"
    clock.advance(600)
    assert states(sync) == []


@both_faces
def test_the_last_attempt_is_the_last(face):
    """``attempts`` bounds the calls; the error tells them all."""
    pool, _, _ = pool_of(face, a=1, b=1, c=1)
    desk = Desk(BUSY, EXHAUSTED, BUSY)
    with pytest.raises(AttemptsFailed) as failed:
        face.do(pool.run(face.work(desk), attempts=2))
    tries = failed.value.tries
    assert [(each.account, each.verdict, each.status) for each in tries] == [
        (desk.asked[0], Verdict.BUSY, 429),
        (desk.asked[1], Verdict.EXHAUSTED, 412),
    ]
    assert len(desk.asked) == 2


@both_faces
def test_running_out_of_accounts_is_told_with_the_attempts(face):
    """Once something was tried, the reasons per account come with it as the cause."""
    pool, _, _ = pool_of(face, a=1, b=1)
    with pytest.raises(AttemptsFailed) as failed:
        face.do(pool.run(face.work(Desk(EXHAUSTED, BROKEN)), attempts=5))
    assert len(failed.value.tries) == 2
    assert isinstance(failed.value.__cause__, NoAccounts)


@both_faces
def test_without_any_attempt_the_error_of_acquire_is_the_error(face):
    """No account fits: that is no failure of attempts."""
    pool, _, _ = pool_of(face, a=1)
    desk = Desk()
    with pytest.raises(NoAccounts):
        face.do(pool.run(face.work(desk), account="elsewhere"))
    assert desk.asked == []


@both_faces
def test_the_timeout_covers_the_waiting_of_all_attempts(face):
    """P-15: what the first attempt used up is missing to the second."""
    pool, clock, sync = pool_of(face, a=1)

    def slow(lease):
        clock.advance(6)
        return BUSY  # 7 seconds more, of which 4 are left

    came = []

    def run():
        try:
            face.do(pool.run(face.work(Desk(slow)), timeout=10))
        except AcquireTimeout as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: sync.stats().waiting)
    clock.advance(3.9)
    until(lambda: sync.stats().waiting)
    clock.advance(0.2)
    thread.join()
    assert len(came) == 1


@both_faces
def test_an_error_of_the_call_itself_passes_through_once(face):
    """It says nothing about the job: not repeated, not wrapped, the slot freed."""
    pool, _, sync = pool_of(face, a=1)
    error, desk = KeyError("my own"), None
    desk = Desk(error)
    with pytest.raises(KeyError) as raised:
        face.do(pool.run(face.work(desk)))
    assert raised.value is error
    assert desk.asked == ["a"]
    assert states(sync) == []
    assert sync.stats().free == 1


@both_faces
@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": True}, {"attempts": None}, {"bind": 3}, {"timeout": -1}]
)
def test_wrong_arguments_are_named_before_anything_is_sent(face, wrong):
    """The error names the argument; nothing was acquired."""
    pool, _, _ = pool_of(face, a=1)
    desk = Desk()
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        face.do(pool.run(face.work(desk), **wrong))
    assert desk.asked == []
