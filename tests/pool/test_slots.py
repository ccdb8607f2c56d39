"""When a slot ends: every way out of a block, and what is kept although the block is left."""

from __future__ import annotations

import os
import sys

import pytest
import requests
from crew import start
from two_slots import free

from balancer import LeaseLost

UNKNOWN = (502, {}, "")


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
