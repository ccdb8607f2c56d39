"""A Redis that loses its memory, all of it or the last of it: who is asked, and when it grants again."""

from __future__ import annotations

import pytest
from crew import result, start
from redis_backends import backends, configure, granted, rows, server, take
from redis_server import GROWN, RedisServer
from stepping import until
from structlog.testing import capture_logs

from balancer import AccountPool, AcquireTimeout
from balancer.rules import operations as ops
from balancer.testing import ManualClock

__all__ = ["backends", "server"]


@pytest.fixture
def pool():
    """Return a function that opens pools of this process, each as a process of its own would have it."""
    opened = []

    def open_pool(url, **options):
        opened.append(AccountPool("custom", source={"a": 1}, store=url, lease_ttl=600.0, **options))
        return opened[-1]

    yield open_pool
    for one in opened:
        one.close()


def heard(backend):
    """Return how often a backend was asked what it holds, once it has heard what is on its way."""
    backend.listen(0.1)
    return backend.roll_calls


# -- all of it --------------------------------------------------------------------------------------------


def test_a_store_that_is_new_grants_at_once(backends):
    """Nobody listens, nobody has been here before, and the server runs for long: there is nothing to ask."""
    backend = backends()
    configure(backend, {"a": 1})
    granted(backend)


def test_everybody_is_asked_after_a_flush_and_nothing_granted_meanwhile(server, backends):
    """P-26: who finds the store empty has all who listen asked, and they have time to answer."""
    clock = ManualClock()
    finder, holder = backends(now=clock), backends(now=clock)
    configure(finder, {"a": 2})
    held = granted(holder)
    saved = tuple(rows(holder).values())
    before = heard(holder)
    server.client().flushall()
    configure(finder, {"a": 2})
    assert heard(holder) == before + 1
    assert holder.call(ops.Register(saved)).result == ()
    clock.advance(GROWN - 0.001)
    assert take(finder)[1] is None
    clock.advance(0.001)
    granted(finder)
    assert take(finder)[1] is None
    assert held in rows(finder)


def test_a_newcomer_who_fills_an_empty_store_waits_for_those_who_listen(server, backends):
    """P-26: it has never been here before, but somebody has."""
    clock = ManualClock()
    holder, newcomer = backends(now=clock), backends(now=clock)
    configure(holder, {"a": 1})
    granted(holder)
    before = heard(holder)
    server.client().flushall()
    configure(newcomer, {"a": 1})
    assert take(newcomer)[1] is None
    assert heard(holder) == before + 1


def test_a_server_that_has_just_started_is_not_taken_for_one_that_nobody_knows(backends):
    """P-40: who listened may still be on the way back; a newcomer waits for that, and no longer."""
    with RedisServer() as own:
        newcomer = backends(own.url)
        configure(newcomer, {"a": 1})
        assert take(newcomer)[1] is None
        until(lambda: take(newcomer)[1])
        assert own.client().info("server")["uptime_in_seconds"] >= GROWN - 1


def test_who_waits_is_offered_a_slot_as_soon_as_grants_begin_again(server, backends):
    """P-28: replies tell when that is, and whoever asks then has all who wait served, the oldest first."""
    clock = ManualClock()
    first, second = backends(now=clock), backends(now=clock)
    configure(first, {"a": 1, "b": 1})
    server.client().flushall()
    configure(first, {"a": 1, "b": 1})
    heard(first), heard(second)
    for backend in (first, second):
        assert backend.call(ops.SetWanted(())).due == GROWN
    clock.advance(GROWN)
    second.call(ops.Heartbeat())
    assert {*first.listen(10), *second.listen(10)} == {"a", "b"}


def test_a_held_slot_is_never_granted_again_after_a_flush(server, pool):
    """P-26: the holder is asked and registers at once, far ahead of its next beat; who waits, waits."""
    server.empty()
    holder, other = pool(server.url), pool(server.url)
    lease = holder.acquire(timeout=30)
    with pytest.raises(AcquireTimeout):
        other.acquire(timeout=0)
    with capture_logs() as logs:
        server.client().flushall()
        waiting = start(other.acquire, timeout=60)
        until(lambda: any(entry["event"] == "leases_registered_again" for entry in logs))
        assert [one.id for one in other.holders()] == [lease.id]
        assert not waiting.done()
    assert lease.release()
    result(waiting).release()
    assert other.stats().free == 1


# -- the last of it ---------------------------------------------------------------------------------------


def test_the_first_connection_to_another_run_of_a_server_has_everybody_asked(server, backends):
    """P-40: a server that was started again with its data may lack the last of it, so nobody is granted."""
    clock = ManualClock()
    with RedisServer("--appendonly", "yes", "--appendfsync", "always", binary=server.binary) as own:
        backend = backends(own.url, now=clock)
        configure(backend, {"a": 2})
        held = granted(backend)
        own.restart()
        assert take(backend)[1] is None
        assert set(rows(backend)) == {held}
        clock.advance(GROWN)
        granted(backend)
        backend.close()
        backend.call(ops.Release(key=held))
        granted(backend)  # another connection to the same run is no news


def test_a_lease_that_an_old_snapshot_lacks_is_registered_again_before_anything_is_granted(pool):
    """P-36, P-40: the store knows the process, but not its last lease; nobody else gets that slot."""
    with RedisServer() as own:
        own.empty()
        holder, other = pool(own.url), pool(own.url)
        holder.acquire(timeout=30).release()
        other.acquire(timeout=30).release()
        own.client().save()
        lease = holder.acquire(timeout=30)
        own.restart()
        with pytest.raises(AcquireTimeout):
            other.acquire(timeout=GROWN + 2)
        assert [one.id for one in other.holders()] == [lease.id]
        assert lease.release()
        other.acquire(timeout=30).release()
