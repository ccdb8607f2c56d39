"""A lease, for threads and tasks: every way out of its block, every way to end it."""

import asyncio
import gc
import itertools
from datetime import UTC

import pytest
import requests
from crew import result, start
from desk import pool_of, states
from faces import ThreadFace, both_faces
from stepping import until
from structlog.testing import capture_logs

from balancer import AccountPool, AsyncAccountPool, LeaseLost


def raising(error):
    """Return a block's body that raises."""

    def body(lease):
        raise error

    return body


def answered(status):
    """Return the error of ``raise_for_status`` on such an answer."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


PROVEN = [
    KeyError("x"),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    asyncio.CancelledError(),
    ConnectionRefusedError("no"),
    requests.ConnectTimeout("no"),
    answered(429),
    answered(422),
]
DOUBTFUL = [
    TimeoutError("read"),
    requests.ReadTimeout("no answer"),
    ConnectionResetError("cut"),
    answered(502),
]


@both_faces
def test_a_block_that_ends_well_frees_its_slot(face):
    """P-4: the plain way out."""
    pool, _, sync = pool_of(face, a=1)
    assert face.block(pool.acquire(), lambda lease: states(sync)) == ["held"]
    assert states(sync) == []


@pytest.mark.parametrize("error", PROVEN, ids=repr)
def test_an_error_that_proves_nothing_accepted_frees_the_slot(error):
    """P-4, P-8: whatever the exception, and it passes through as it is."""
    pool, _, _ = pool_of(ThreadFace(), a=1)
    with pytest.raises(type(error)) as raised:
        ThreadFace().block(pool.acquire(), raising(error))
    assert raised.value is error
    assert states(pool) == []


@both_faces
@pytest.mark.parametrize("error", DOUBTFUL, ids=repr)
def test_an_error_after_which_the_job_may_run_keeps_the_slot(face, error):
    """P-57: a lost answer is no proof; the slot is kept as by ``report``."""
    pool, clock, sync = pool_of(face, a=1)
    with pytest.raises(type(error)):
        face.block(pool.acquire(), raising(error))
    assert states(sync) == ["ambiguous"]
    assert sync.stats().accounts["a"].state == "cooldown"
    clock.advance(600)
    assert states(sync) == []


@both_faces
def test_a_bound_slot_outlives_its_block_however_that_ends(face):
    """The slot is the job's: not even an error of the block frees it."""
    pool, _, sync = pool_of(face, a=2)
    for job, body in (("j1", raising(KeyError("late"))), ("j2", raising(TimeoutError("read")))):
        lease = face.do(pool.acquire())
        face.do(lease.bind(job))
        with pytest.raises((KeyError, TimeoutError)):
            face.block(lease, body)
    assert states(sync) == ["bound", "bound"]


@both_faces
def test_a_lease_is_released_once_by_whomever(face):
    """P-10, P-23: True once, then False; by itself, by its id, by its job, from any thread."""
    pool, _, sync = pool_of(face, a=1)
    releases = (
        lambda lease: face.do(lease.release()),
        lambda lease: face.do(pool.release(lease.id)),
        lambda lease: face.do(pool.release(job_id=lease.job_id)),
    )
    for first, second in itertools.product(releases, repeat=2):
        lease = face.do(pool.acquire())
        face.do(lease.bind(f"{id(first)}-{id(second)}"))
        assert result(start(first, lease)) is True
        assert second(lease) is False
        assert sync.stats().free == 1


@both_faces
def test_ids_of_no_lease_release_nothing(face):
    """P-10: unknown, malformed, of another pool: False, and no count moves."""
    pool, _, sync = pool_of(face, a=1)
    stranger = pool_of(face, a=1)[2].acquire()
    own = face.do(pool.acquire())
    for wrong in ("", "x", "x-1", stranger.id, own.id.upper() + "-", "-1"):
        assert face.do(pool.release(wrong)) is False
    assert states(sync) == ["held"]
    for arguments in (
        {},
        {"lease_id": own.id, "job_id": "j"},
        {"lease_id": 3},
        {"job_id": 2.5},
        {"job_id": True},
    ):
        with pytest.raises(TypeError):
            face.do(pool.release(**arguments))


@both_faces
def test_a_release_inside_the_block_is_legal_and_final(face):
    """P-11: leaving the block afterwards ends nothing else."""
    pool, _, sync = pool_of(face, a=1)
    kept = []
    face.block(pool.acquire(), lambda lease: kept.append((sync.release(lease.id), sync.acquire(timeout=0))))
    assert states(sync) == ["held"]
    assert kept[0][1].release()


@both_faces
def test_a_lease_that_has_ended_cannot_be_entered_bound_or_renewed(face):
    """Its slot may be another's by now."""
    pool, _, _ = pool_of(face, a=1)
    lease = face.do(pool.acquire())
    face.do(lease.release())
    with pytest.raises(LeaseLost):
        face.block(lease)
    for act in (lambda: lease.bind("j"), lease.renew, lambda: pool.renew(lease.id)):
        with pytest.raises(LeaseLost):
            face.do(act())


@both_faces
def test_a_lease_says_what_it_is(face):
    """Its id is its own, its instant has a time zone, its repr no secret."""
    pool, _, _ = pool_of(face, a=3)
    leases = [face.do(pool.acquire(label="mine")) for _ in range(3)]
    assert len({lease.id for lease in leases}) == 3
    (lease, *_) = leases
    assert (lease.account.id, lease.account.capacity, lease.label, lease.job_id) == ("a", 3, "mine", None)
    assert lease.acquired_at.tzinfo is UTC
    assert repr(lease) == f"<{type(lease).__name__} {lease.id} on a, held>"


@both_faces
def test_an_abandoned_lease_is_freed_at_the_next_operation_with_a_warning(face):
    """P-19: dropped unbound, it is noticed; dropped bound, it is its job's."""
    pool, _, sync = pool_of(face, a=3)
    face.do(face.do(pool.acquire()).bind("j"))
    with capture_logs() as logs:
        lost = face.do(pool.acquire(label="lost"))
        name = lost.id
        del lost
        gc.collect()
        assert states(sync) == ["bound"]
        until(lambda: [log for log in logs if log["log_level"] == "warning"])
    warnings = [(log["event"], log["lease"], log["label"]) for log in logs if log["log_level"] == "warning"]
    assert warnings == [("lease_abandoned", name, "lost")]


def test_a_collection_in_the_middle_of_an_acquire_cannot_hang_it():
    """P-18: finalizers run while the lock is held, as often as the collector can be made to."""
    pool, _, _ = pool_of(ThreadFace(), a=3)

    class Knot:
        """Keeps a lease in a cycle, so that only the collector ends it."""

        def __init__(self):
            self.me, self.lease = self, pool.acquire(timeout=0)

    thresholds = gc.get_threshold()
    with capture_logs():
        gc.set_threshold(1, 1_000_000, 1_000_000)  # old ones are left to the call below
        try:
            for _ in range(300):
                Knot()
                gc.collect(1)
                with pool.acquire(timeout=0), pool.acquire(account="a", timeout=0):
                    pool.stats()
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        assert pool.stats().free == 3


def test_a_lease_in_an_abandoned_stream_comes_back_when_it_is_closed():
    """P-3: a consumer that stops iterating closes the generator, and with it the block."""
    sync = AccountPool(source={"a": 1}, reconcile_every=None)
    pool = AsyncAccountPool(pool=sync)

    async def stream():
        async with pool.acquire() as lease:
            for number in range(3):
                yield number, lease.id

    async def consume():
        chunks = stream()
        async for number, _ in chunks:
            if number:
                break
        assert states(sync) == ["held"]
        await chunks.aclose()
        assert states(sync) == []

    asyncio.run(consume())


@both_faces
def test_closing_the_pool_leaves_its_leases_valid(face):
    """P-33: they can be bound, renewed and released as before."""
    pool, _, sync = pool_of(face, a=2)
    lease, other = face.do(pool.acquire()), face.do(pool.acquire())
    face.do(pool.close())
    face.do(pool.close())
    face.do(lease.bind("j"))
    face.do(lease.renew(5))
    assert face.do(pool.release(job_id="j"))
    assert face.do(other.release())
    assert sync.stats().in_flight == 0
