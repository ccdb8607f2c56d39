"""What a lease is told of its job: the bind, the answers, the end."""

import pytest
from desk import pool_of, states
from faces import ThreadFace, both_faces

from balancer import AccountPool, Verdict


@both_faces
def test_a_job_is_bound_once(face):
    """The same job again is a no-op, whatever type its id comes in; another one is an error."""
    pool, _, sync = pool_of(face, a=2)
    lease, other = face.do(pool.acquire()), face.do(pool.acquire())
    face.do(lease.bind(17))
    face.do(lease.bind("17"))
    with pytest.raises(ValueError, match="bound to '17' already"):
        face.do(lease.bind("18"))
    with pytest.raises(ValueError, match="another lease"):
        face.do(other.bind("17"))
    for wrong in (None, 1.5, True, b"17"):
        with pytest.raises(TypeError, match="job_id"):
            face.do(other.bind(wrong))
    with pytest.raises(ValueError, match="job_id"):
        face.do(other.bind(""))
    assert states(sync) == ["bound", "held"]
    assert lease.job_id == "17"


@both_faces
def test_a_release_that_overtakes_the_bind_is_remembered_for_ten_minutes(face):
    """P-58: the bind then frees the slot at once; after that time the job counts as new."""
    pool, clock, sync = pool_of(face, a=2)
    early, late = face.do(pool.acquire()), face.do(pool.acquire())
    assert face.do(pool.release(job_id="j1")) is False
    assert face.do(pool.release(job_id="j2")) is False
    clock.advance(599)
    face.do(early.bind("j1"))
    clock.advance(2)
    face.do(late.bind("j2"))
    assert [holder.job_id for holder in sync.holders()] == ["j2"]
    assert face.do(early.release()) is False


@both_faces
def test_a_bound_slot_ends_by_itself_unless_it_is_renewed(face):
    """``ttl`` counts from the bind, a renewal from itself."""
    pool, clock, sync = pool_of(face, a=1)
    lease = face.do(pool.acquire())
    face.do(lease.bind("j", ttl=100))
    clock.advance(90)
    face.do(lease.renew(50))
    clock.advance(49)
    face.do(pool.renew(job_id="j", ttl=10))
    clock.advance(9)
    assert states(sync) == ["bound"]
    clock.advance(1)
    assert states(sync) == []
    assert sync.stats().expired == 1


@both_faces
def test_a_report_says_the_verdict_and_never_ends_the_lease(face):
    """For a lease that is over the account is known all the same, and cools."""
    pool, _, sync = pool_of(face, a=1)
    lease = face.do(pool.acquire())
    for status, verdict in ((201, Verdict.ACCEPTED), (429, Verdict.BUSY), (422, Verdict.REFUSED)):
        assert face.do(lease.report((status, {}, ""))) is verdict
        assert states(sync) == ["held"]
    face.do(lease.release())
    sync.reset("a")
    assert face.do(lease.report((412, {}, ""))) is Verdict.EXHAUSTED
    assert (states(sync), sync.stats().accounts["a"].state) == ([], "cooldown")


def test_what_a_request_needs_is_in_the_params_of_the_lease():
    """The account under the service's own name, its reference, a replaced capacity."""
    plain, _, _ = pool_of(ThreadFace(), a=1)
    assert dict(plain.acquire().params) == {"email": "a"}
    with AccountPool("tempolor", source={"7": 1}, token="t", reconcile_every=None) as pool:
        lease = pool.acquire(max_jobs=3)
        assert dict(lease.params) == {"user_id": "7", "replyRef": lease.id, "maxJobs": 3}
