"""When a slot ends: every way out of a block, and what follows a job instead of the block."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest
import requests
import structlog
from crew import in_line, result, start
from worlds import wait_until

from balancer import AccountPool, AcquireTimeout, LeaseLost
from balancer.testing import ManualClock

ACCEPTED = (200, {}, '{"jobid": "job-1"}')
UNKNOWN = (502, {}, "")


@pytest.fixture
def clock():
    """Return the clock that a test moves."""
    return ManualClock()


@pytest.fixture
def pool(clock):
    """Return a pool of one account with two slots, always fresh."""
    pool = AccountPool(source={"a": 2}, clock=clock, ttl=1e9)
    pool.refresh()
    return pool


def free(pool):
    """Return how many slots can be had now."""
    return pool.stats().free


class Stop(BaseException):
    """What is no Exception ends a block too."""


def returns(pool):
    """Leave the block by a return."""
    with pool.acquire():
        return 1


def breaks(pool):
    """Leave the block by a break."""
    for _ in range(3):
        with pool.acquire():
            break


def continues(pool):
    """Leave the block by a continue, three times."""
    for _ in range(3):
        with pool.acquire():
            continue


def closes_generator(pool):
    """Leave the block by GeneratorExit."""

    def stream():
        with pool.acquire():
            yield 1
            yield 2

    for _ in (generator := stream()):
        break
    generator.close()


def nests(pool):
    """Leave two blocks at once, by an error of the inner one."""
    try:
        with pool.acquire(), pool.acquire():
            {}["missing"]
    except KeyError:
        pass


def raises(error):
    """Return what leaves the block by ``error``."""

    def leave(pool):
        try:
            with pool.acquire():
                raise error
        except type(error):
            pass

    leave.__name__ = type(error).__name__
    return leave


def exits_thread(pool):
    """Leave the block by SystemExit, in a thread of its own."""

    def work():
        with pool.acquire():
            sys.exit(3)

    assert isinstance(start(work).exception(20), SystemExit)


LEAVINGS = [
    returns,
    breaks,
    continues,
    closes_generator,
    nests,
    exits_thread,
    raises(ValueError("own")),
    raises(Stop()),
    raises(KeyboardInterrupt()),
    raises(LeaseLost("another")),
    raises(requests.exceptions.MissingSchema("no URL")),
    raises(requests.exceptions.ConnectTimeout("never connected")),
]


@pytest.mark.parametrize("leave", LEAVINGS, ids=lambda leave: leave.__name__)
def test_every_way_out_of_a_block_frees_the_slot(pool, leave):
    """P-4: return, raise, BaseException, GeneratorExit, SystemExit in a thread: none keeps the slot."""
    leave(pool)
    assert free(pool) == 2
    assert pool.holders() == ()


def test_a_child_that_exits_hard_takes_no_slot_of_the_parents(pool):
    """P-4, P-46: os._exit in a forked child leaves the parent's count as it was."""
    lease = pool.acquire()
    child = os.fork()
    if child == 0:
        with pool.acquire(timeout=5):
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert free(pool) == 1
    assert lease.release()
    assert free(pool) == 2


def test_a_post_that_proves_to_have_reached_nobody_frees_at_once(pool):
    """P-8: a refused connection is proof that no job was accepted."""
    with pytest.raises(requests.ConnectionError), pool.acquire():
        requests.post("http://127.0.0.1:9/create", json={}, timeout=2)
    assert free(pool) == 2


@pytest.mark.parametrize(
    "error",
    [requests.exceptions.ReadTimeout("no answer"), requests.exceptions.ChunkedEncodingError("broke off")],
    ids=lambda error: type(error).__name__,
)
def test_a_transport_error_after_sending_keeps_the_slot(pool, clock, error):
    """P-57: the job may run, so its slot is kept for ambiguous_ttl, and the account cools."""
    with pytest.raises(type(error)), pool.acquire():
        raise error
    (holder,) = pool.holders()
    assert (holder.state, holder.expires_in) == ("ambiguous", 600)
    assert pool.stats().accounts["a"].state == "cooldown"
    clock.advance(599)
    assert pool.stats().in_flight == 1
    clock.advance(1)
    assert pool.stats().in_flight == 0


def test_a_slot_reported_ambiguous_outlives_its_block(pool, clock):
    """An answer that leaves it open whether a job runs keeps the slot like a lost answer."""
    with pool.acquire() as lease:
        lease.report(UNKNOWN)
    assert pool.holders()[0].state == "ambiguous"
    clock.advance(600)
    assert pool.stats().expired == 1
    assert free(pool) == 1, "it probes after its cooldown"


def test_a_bound_slot_follows_its_job_and_not_its_block(pool, clock):
    """The block ends, the job runs on; the release by job id ends it."""
    with pool.acquire() as lease:
        lease.bind("job-1")
    (holder,) = pool.holders()
    assert (holder.state, holder.job_id, holder.expires_in) == ("bound", "job-1", 3600)
    assert lease.job_id == "job-1"
    assert pool.release(job_id="job-1")
    assert not pool.release(job_id="job-1")
    assert free(pool) == 2


@pytest.mark.parametrize(("ttl", "end"), [(None, 3600), (50, 50)])
def test_a_bound_slot_ends_with_its_ttl(pool, clock, ttl, end):
    """A job that nobody ever reports as over gives its slot back, with one warning."""
    with pool.acquire() as lease:
        lease.bind("job-1", ttl)
    clock.advance(end - 1)
    assert free(pool) == 1
    with structlog.testing.capture_logs() as events:
        clock.advance(1)
        assert free(pool) == 2
    assert [event["event"] for event in events] == ["lease_expired"]
    assert events[0]["job_id"] == "job-1"
    assert not lease.release()


def test_the_end_of_a_bound_slot_can_be_moved(pool, clock):
    """Renewing by lease, by its id or by its job prolongs it; a lease that has ended cannot be renewed."""
    lease = pool.acquire()
    lease.bind("job-1", ttl=50)
    for renew in (
        lambda: lease.renew(100),
        lambda: pool.renew(lease.id, ttl=100),
        lambda: pool.renew(job_id="job-1", ttl=100),
        lambda: pool.renew(job_id="job-1", ttl=100),
    ):
        clock.advance(40)
        renew()
        assert pool.holders()[0].expires_in == 100
    pool.renew(lease.id)
    assert pool.holders()[0].expires_in == 3600
    assert pool.release(lease.id)
    for renew in (lease.renew, lambda: pool.renew(lease.id), lambda: pool.renew(job_id="job-1")):
        with pytest.raises(LeaseLost):
            renew()


def test_a_release_before_the_bind_frees_at_the_bind(pool, clock):
    """P-58: a callback may be quicker than the answer: the job is remembered, and the bind ends the slot."""
    lease = pool.acquire()
    assert not pool.release(job_id="job-1")
    assert free(pool) == 1
    lease.bind("job-1")
    assert free(pool) == 2
    assert not lease.release()
    lease.bind("job-1")


def test_an_early_release_is_remembered_for_ten_minutes(pool, clock):
    """P-58: after that the job is forgotten, and a bind keeps its slot."""
    first, second = pool.acquire(), pool.acquire()
    pool.release(job_id="job-1")
    pool.release(job_id="job-2")
    clock.advance(599)
    first.bind("job-1")
    assert free(pool) == 1
    clock.advance(2)
    second.bind("job-2")
    assert free(pool) == 1


def test_at_most_ten_thousand_early_releases_are_remembered(pool):
    """P-58: a flood of foreign callbacks cannot fill the memory: the oldest are dropped."""
    for number in range(10_001):
        pool.release(job_id=number)
    first, second = pool.acquire(), pool.acquire()
    first.bind(0)
    assert free(pool) == 0
    second.bind(10_000)
    assert free(pool) == 1


def test_job_ids_are_text_and_the_same_job_twice_is_one(pool):
    """A number and its digits name the same job; another job for the same lease is an error."""
    lease, other = pool.acquire(), pool.acquire()
    lease.bind(17)
    lease.bind("17")
    assert lease.job_id == "17"
    with pytest.raises(ValueError, match="job_id"):
        lease.bind("18")
    with pytest.raises(ValueError, match="another lease"):
        other.bind(17)
    assert pool.release(job_id="17")
    assert free(pool) == 1
    assert other.release()


@pytest.mark.parametrize(
    ("job_id", "kind"), [("", ValueError), (None, TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_what_is_no_job_id_is_refused(pool, job_id, kind):
    """A missing key of an answer must not become the job "None"."""
    lease = pool.acquire()
    with pytest.raises(kind, match="job_id"):
        lease.bind(job_id)
    assert lease.release()


def test_a_release_counts_once(pool):
    """P-10: releasing twice, by whatever name, frees one slot."""
    lease, other = pool.acquire(), pool.acquire()
    assert lease.release()
    assert not lease.release()
    assert not pool.release(lease.id)
    lease.__exit__(None, None, None)
    assert free(pool) == 1
    assert other.release()


def test_a_stranger_cannot_release(pool):
    """P-10, P-23: an id of another pool, of nobody, or of a lease long gone frees nothing."""
    lease = pool.acquire()
    stranger = AccountPool(source={"a": 2})
    theirs = stranger.acquire()
    for id in (theirs.id, "nobody", lease.id + "0", lease.id.upper() + "x", ""):
        assert not pool.release(id)
    assert free(pool) == 1
    with pytest.raises(TypeError, match="either"):
        pool.release()
    with pytest.raises(TypeError, match="either"):
        pool.release(lease.id, job_id="x")
    with pytest.raises(TypeError, match="lease_id"):
        pool.release(17)
    assert pool.release(lease.id)
    assert theirs.release()


def test_a_late_release_does_not_free_the_slot_of_its_successor(pool, clock):
    """P-23: a holder that outlived its ttl gives back nothing."""
    late = pool.acquire()
    late.bind("job-1", ttl=10)
    clock.advance(10)
    leases = [pool.acquire(), pool.acquire()]
    assert not late.release()
    assert not pool.release(job_id="job-1")
    assert free(pool) == 0
    assert all(lease.release() for lease in leases)


def test_a_release_in_the_middle_of_the_block_is_final(pool):
    """P-11: the slot ends with the job, not with the session around it."""
    with pool.acquire() as lease:
        assert lease.release()
        assert free(pool) == 2
        others = [pool.acquire(), pool.acquire()]
    assert free(pool) == 0
    assert all(other.release() for other in others)


def test_the_block_of_a_lease_that_has_ended_cannot_be_entered(pool):
    """Work without a slot would run over the maximum."""
    lease = pool.acquire()
    lease.release()
    with pytest.raises(LeaseLost), lease:
        raise AssertionError("the body must not run")


def test_a_lease_released_by_somebody_else_is_lost_to_its_holder(pool):
    """The operator ended it: bind and renew say so, and the block ends quietly."""
    with pool.acquire() as lease:
        assert result(start(pool.release, lease.id))
        with pytest.raises(LeaseLost):
            lease.bind("job-1")
        with pytest.raises(LeaseLost):
            lease.renew()
    assert free(pool) == 2


def test_an_accepted_job_whose_slot_ends_unbound_is_warned_about_once(pool):
    """The slot is freed, and the first time somebody is told that the job may still run."""
    with structlog.testing.capture_logs() as events:
        for _ in range(3):
            with pool.acquire() as lease:
                lease.report(ACCEPTED)
        with pool.acquire() as lease:
            lease.report(ACCEPTED)
            lease.bind("job-1")
    assert free(pool) == 1
    assert [event["event"] for event in events] == ["slot_ended_before_job"]
    assert events[0]["job_id"] == "job-1"


def test_an_abandoned_handle_gives_its_slot_back_with_one_warning(pool):
    """P-3: nobody can release it any more, so the next operation does."""
    with structlog.testing.capture_logs() as events:
        pool.acquire(label="lost")
        assert free(pool) == 2
        pool.holders()
    assert [(event["event"], event["label"]) for event in events] == [("lease_abandoned", "lost")]


def test_an_abandoned_generator_gives_its_slot_back(pool):
    """P-3: a consumer that stops iterating never closes the block inside the generator itself."""

    def stream():
        with pool.acquire():
            yield 1
            yield 2

    generator = stream()
    next(generator)
    assert free(pool) == 1
    del generator
    gc.collect()
    assert free(pool) == 2


@pytest.mark.parametrize("keep", ["bind", "ambiguous"])
def test_the_handle_of_a_bound_or_ambiguous_slot_may_go(pool, keep):
    """The slot is the job's: losing the handle changes nothing."""
    lease = pool.acquire()
    lease.bind("job-1") if keep == "bind" else lease.report(UNKNOWN)
    with structlog.testing.capture_logs() as events:
        del lease
        gc.collect()
        assert pool.stats().in_flight == 1
    assert events == []


def test_a_lease_dropped_while_all_wait_is_noticed_at_once(clock):
    """P-3, P-18: no caller is running who could notice it, and the clock stands still."""
    pool = AccountPool(source={"a": 1}, ttl=1e9, clock=clock)
    kept = [pool.acquire()]
    waiter = start(lambda: pool.acquire(timeout=60))
    wait_until(lambda: pool.stats().waiting == 1)
    store = pool._core.store
    wait_until(lambda: store.lines.keeper is not None)
    with structlog.testing.capture_logs():
        kept.clear()
        assert waiter.result(30).account.id == "a"


def test_finalizers_may_run_at_any_moment(clock):
    """P-18: leases in cycles, collected while the lock is held, neither block nor lose a slot."""
    pool = AccountPool(source={"a": 3, "b": 2}, ttl=1e9)
    pool.refresh()
    rounds, pause = 400, threading.Event()

    class Cycle:
        def __init__(self, lease):
            self.lease, self.me = lease, self

    def work():
        for number in range(rounds):
            try:
                lease = pool.acquire(timeout=20, account="a" if number % 3 else None)
            except AcquireTimeout:
                raise AssertionError("a slot was lost") from None
            if number % 2:
                Cycle(lease)
            else:
                lease.release()
            del lease
            [[] for _ in range(50)]  # enough to have a collection run

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with structlog.testing.capture_logs():
            workers = [start(work) for _ in range(4)]
            # A cycle that a collection has met alive is old, and the interpreter may leave the old alone
            # for as long as everybody waits: so somebody collects all of them, too.
            while not all(worker.done() for worker in workers):
                gc.collect()
                pause.wait(0.05)
            for worker in workers:
                worker.result(60)
            gc.collect()
            assert pool.stats().free == 5
    finally:
        gc.set_threshold(*thresholds)
    assert pool.holders() == ()


def test_capacity_comes_back_without_any_finalizer(pool, clock):
    """P-19: where handles are kept alive by a traceback, the end of the lease is what counts."""
    kept = [pool.acquire(), pool.acquire()]
    kept[0].bind("job-1", ttl=100)
    kept[1].report(UNKNOWN)
    (waiter,) = in_line(pool, 1)
    clock.advance(100)
    assert result(waiter)
    clock.advance(500)
    assert pool.stats().in_flight == 1


def test_closing_leaves_the_leases_valid(pool):
    """What runs, runs on: it can be bound, renewed and released."""
    lease, other = pool.acquire(), pool.acquire()
    with pool:
        pass
    lease.bind("job-1")
    lease.renew(100)
    assert pool.release(job_id="job-1")
    with other:
        pass
    assert not other.release()
    assert pool.holders() == ()


def test_releasing_from_many_threads_at_once_counts_once(pool):
    """P-10: of a hundred releases of one lease exactly one is the one that ended it."""
    for _ in range(20):
        lease = pool.acquire()
        gate = threading.Barrier(8)

        def release(lease=lease, gate=gate):
            gate.wait(20)
            return lease.release()

        assert sum(result(caller) for caller in [start(release) for _ in range(8)]) == 1
    assert free(pool) == 2
