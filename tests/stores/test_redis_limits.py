"""How long a call waits for a server that does not answer, and the ways there are to one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time

import pytest
import redis
import redis.asyncio
from crew import side_by_side
from redis_backends import backends, configure, granted, rows, server, take
from redis_server import Proxy, RedisServer, the_server

from balancer import AccountPool, AsyncAccountPool, RedisStore, StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores import worker
from balancer.stores.redis import connections

__all__ = ["backends", "server"]


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def used():
    """Return a function that opens one more pool, and uses it, of a server that the test may stop."""
    server = the_server()
    server.empty()
    with contextlib.ExitStack() as stack:

        def open_pool():
            pool = AccountPool("hung", source={"a": 9}, store=server.url, ttl=1e6, reconcile_every=None)
            stack.enter_context(pool).acquire(timeout=10).release()
            return pool

        yield open_pool
        server.go_on()


def test_a_callers_timeout_bounds_the_wait_for_an_answer(used):
    """P-43: a server that takes what is sent and answers nothing holds nobody up for longer than that."""

    def in_a_thread(pool, timeout):
        pool.acquire(timeout=timeout)

    def in_a_task(pool, timeout):
        async def acquire():
            await AsyncAccountPool(pool=pool).acquire(timeout=timeout)

        asyncio.run(acquire())

    def call(pool, acquire, bounds):
        timeout, least, most = bounds
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            acquire(pool, timeout)
        assert least <= time.monotonic() - begun <= most

    bounds = (0, 0.5, 2.0), (1, 0.9, 2.0), (2.5, 2.4, 4.0), (20, 4.5, 8.0)
    cases = [(used(), acquire, each) for each in bounds for acquire in (in_a_thread, in_a_task)]
    the_server().pause()
    side_by_side(call, *cases)
    the_server().go_on()
    assert all(pool.acquire(timeout=10).release() for pool, _, _ in cases)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_ending_dropped_leases_on_a_hung_server_takes_no_longer_than_anything_else(used, face):
    """P-3, P-43: however many are to be ended first, the caller's timeout bounds that wait too."""
    pool = used()
    leases = [pool.acquire(timeout=10) for _ in range(5)]
    the_server().pause()
    del leases
    gc.collect()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        _at_once(pool, face)
    assert time.monotonic() - begun <= 2.0
    the_server().go_on()
    leases = [pool.acquire(timeout=10) for _ in range(9)]
    assert all(lease.release() for lease in leases)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_reading_a_table_that_another_process_has_fetched_is_bounded_too(used, monkeypatch, face):
    """P-43: the slot was granted, and the server hangs when the table is to be read that has come since."""
    pool, source = used(), {"a": 8}
    with AccountPool("hung", source=source, store=the_server().url, reconcile_every=None) as other:
        other.refresh()
    with monkeypatch.context() as patch:
        _hang_before(patch, pool._core.store.backend, ops.ReadTable)
        begun = time.monotonic()
        lease = _at_once(pool, face)
        assert time.monotonic() - begun <= 2.0
    the_server().go_on()
    assert pool.release(lease.id)
    assert pool.stats().capacity == 8


def _at_once(pool, face):
    """Acquire without waiting, in a thread or in a task."""

    async def in_a_task():
        return await AsyncAccountPool(pool=pool).acquire(timeout=0)

    return pool.acquire(timeout=0) if face == "sync" else asyncio.run(in_a_task())


def _hang_before(monkeypatch, backend, kind):
    """Have the server stand still from the moment at which it is asked for something of a kind."""

    def hang(operation):
        if isinstance(operation, kind):
            the_server().pause()

    call, acall = backend.call, backend.acall
    monkeypatch.setattr(backend, "call", lambda asked, limit: (hang(asked), call(asked, limit))[1])
    monkeypatch.setattr(backend, "acall", lambda asked, limit: (hang(asked), acall(asked, limit))[1])


@pytest.mark.parametrize("face", ["sync", "async"])
def test_asking_whether_the_server_may_evict_is_bounded_too(proxy, backends, monkeypatch, face):
    """P-43: that is asked once, after the first operation, which is done."""
    backend = backends(proxy.url)
    evaluate, aevaluate = backend._connections.evaluate, backend._connections.aevaluate

    def then_hang(call, limit):
        answer = evaluate(call, limit)
        proxy.hanging = True
        return answer

    async def then_hang_too(call, limit):
        answer = await aevaluate(call, limit)
        proxy.hanging = True
        return answer

    monkeypatch.setattr(backend._connections, "evaluate", then_hang)
    monkeypatch.setattr(backend._connections, "aevaluate", then_hang_too)
    begun = time.monotonic()
    if face == "sync":
        backend.call(ops.Heartbeat(), 0.6)
    else:
        asyncio.run(backend.acall(ops.Heartbeat(), 0.6))
    assert time.monotonic() - begun <= 2.0
    proxy.hanging = False


@pytest.mark.parametrize("timeout", [0, 1])
@pytest.mark.parametrize("in_threads", [False, True])
def test_no_task_on_a_hung_server_pays_for_those_before_it(in_threads, timeout):
    """P-15, P-43: as many as there are, over the loop's connections as in the few threads that stand in."""
    tasks = 40

    async def ask(pool):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await pool.acquire(timeout=timeout)
        return time.monotonic() - begun

    async def main():
        pool = AsyncAccountPool("hung", source={"a": tasks}, store=store, ttl=1e6, reconcile_every=None)
        async with pool:
            await (await pool.acquire(timeout=10)).release()
            server.pause()
            try:
                assert max(await asyncio.gather(*(ask(pool) for _ in range(tasks)))) <= 2.0
            finally:
                server.go_on()
            leases = await asyncio.gather(*(pool.acquire(timeout=10) for _ in range(tasks)))
            assert all(await asyncio.gather(*(lease.release() for lease in leases)))

    server = the_server()
    server.empty()
    client = redis.Redis.from_url(server.url)
    if in_threads:
        client.connection_pool.connection_class = type("Own", (redis.Connection,), {})
    store = RedisStore(client)
    asyncio.run(main())


def test_a_call_of_a_pool_that_has_asked_for_nothing_yet_is_bounded_too():
    """P-43: the first claim on a hung server is given up as soon."""
    with RedisServer() as own:
        own.pause()
        with AccountPool("hung", source={"a": 4}, store=own.url) as pool:
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                pool.acquire(timeout=0)
            assert time.monotonic() - begun <= 2.0
        own.go_on()


def test_leaving_a_block_on_a_hung_server_takes_a_second_and_frees_the_slot_later(used):
    """P-27: what could not be said is kept, and said when the server goes on."""
    pool = used()
    lease = pool.acquire(timeout=10)
    the_server().pause()
    begun = time.monotonic()
    assert lease.release()
    assert time.monotonic() - begun < 2.0
    the_server().go_on()
    leases = [pool.acquire(timeout=10) for _ in range(9)]
    assert len({one.id for one in leases}) == 9


def test_a_process_that_ends_is_not_held_up_by_a_hung_server_for_each_of_its_pools(used):
    """P-43: they have one time for their last words, however many they are."""
    pools = [used() for _ in range(8)]
    leases = [pool.acquire(timeout=10) for pool in pools]
    the_server().pause()
    side_by_side(lambda lease: lease.release(), *((lease,) for lease in leases))
    begun = time.monotonic()
    worker._send_last_words()
    assert time.monotonic() - begun <= 3.0
    the_server().go_on()
    assert not any(pool.stats().in_flight for pool in pools)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_connections_that_were_forgotten_without_a_word_are_found_out_in_time(
    proxy, backends, monkeypatch, face
):
    """P-28, P-40: all that were idle for long lead nowhere; the first call makes another, and succeeds."""
    monkeypatch.setattr(connections, "LONG_IDLE", 0.2)
    backend = backends(proxy.url)
    configure(backend, {"a": 9})

    async def call(*numbers):
        calls = (backend.acall(ops.Acquire(key=f"{backend.owner.name}-{n}"), 3.0) for n in numbers)
        return [reply.result for reply in await asyncio.gather(*calls)]

    async def sequence():
        assert await call(1, 2, 3) == [ops.Granted("a")] * 3
        await asyncio.sleep(0.3)
        proxy.forget()
        begun = time.monotonic()
        assert await call(4, 5, 6) == [ops.Granted("a")] * 3
        assert time.monotonic() - begun < 2.5

    if face == "async":
        asyncio.run(sequence())
        return
    granted(backend)
    time.sleep(0.3)
    proxy.forget()
    begun = time.monotonic()
    assert backend.call(ops.Acquire(key=f"{backend.owner.name}-f"), 3.0).result == ops.Granted("a")
    assert time.monotonic() - begun < 2.5
    assert len(rows(backend)) == 2


def test_a_caller_gets_its_slot_though_all_connections_were_just_forgotten(server):
    """P-28: nothing says that the connections lead nowhere, but there is a second try in time."""

    async def acquire(pool, timeout, times):
        tasks = AsyncAccountPool(pool=pool)
        return await asyncio.gather(*(tasks.acquire(timeout=timeout) for _ in range(times)))

    async def in_a_task(pool, proxy, timeout):
        for lease in await acquire(pool, timeout, 3):
            await lease.release()
        proxy.forget()
        return (await acquire(pool, timeout, 1))[0]

    def in_a_thread(pool, proxy, timeout):
        proxy.forget()
        return pool.acquire(timeout=timeout)

    def forgotten(face, timeout):
        options = {"source": {"a": 9}, "ttl": 1e6, "reconcile_every": None}
        with (
            Proxy(server.port) as proxy,
            AccountPool(f"forgotten-{face}-{timeout}", store=proxy.url, **options) as pool,
        ):
            pool.acquire(timeout=10).release()
            begun = time.monotonic()
            if face == "async":
                lease = asyncio.run(in_a_task(pool, proxy, timeout))
            else:
                lease = in_a_thread(pool, proxy, timeout)
            assert time.monotonic() - begun < 4.0
            assert pool.release(lease.id)

    side_by_side(forgotten, *itertools.product(("sync", "async"), (0, 20)))


def test_a_connection_that_is_idle_for_long_and_well_is_used_again(server, backends, monkeypatch):
    """It is asked, and answers: nobody connects anew."""
    monkeypatch.setattr(connections, "LONG_IDLE", 0.01)
    backend, client = backends(server.url), server.client()

    async def twice():
        await backend.acall(ops.Heartbeat())
        before = client.info("stats")["total_connections_received"]
        for _ in range(3):
            await asyncio.sleep(0.03)
            await backend.acall(ops.Heartbeat())
            backend.call(ops.Heartbeat())
        return client.info("stats")["total_connections_received"] - before

    backend.call(ops.Heartbeat())
    assert asyncio.run(twice()) == 0


def test_a_slow_caller_does_not_inherit_the_haste_of_another(proxy, backends):
    """A connection that was made for one in a hurry waits as long for an answer as its user does."""
    backend = backends(proxy.url)
    backend.call(ops.Heartbeat(), 0.3)
    proxy.delay = 0.4
    backend.call(ops.Heartbeat())
    proxy.delay = 0.0


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_server_that_is_away_for_several_calls_is_an_error_each_time(backends, face):
    """P-40: a connection that could not be made anew is not taken for one that is there."""
    with RedisServer() as own:
        backend = backends(own.url)

        async def calls():
            for times in range(4):
                if times == 1:
                    own.kill()
                await asyncio.sleep(0.02)
                operation = ops.Heartbeat()
                if times == 0:
                    await call(operation)
                    continue
                with pytest.raises(StoreUnavailable):
                    await call(operation)
            own.start()
            assert (await call(ops.Heartbeat())).result.known is False

        async def call(operation):
            return backend.call(operation) if face == "sync" else await backend.acall(operation)

        asyncio.run(calls())


# -- ways to connect --------------------------------------------------------------------------------------


def _url(options):
    return lambda server: f"{server.url}?{options}"


WAYS = {
    "plain": lambda server: server.url,
    "resp3": _url("protocol=3"),
    "one connection": _url("max_connections=1"),
    "decoding": lambda server: server.client(decode_responses=True),
    "latin": lambda server: redis.Redis(port=server.port, decode_responses=True, encoding="latin-1"),
    "resp3 client": lambda server: redis.Redis(port=server.port, protocol=3, decode_responses=True),
    "database": lambda server: f"redis://127.0.0.1:{server.port}/3",
    "named": lambda server: redis.Redis(port=server.port, client_name="me", health_check_interval=1),
    "blocking pool": lambda server: redis.Redis(
        connection_pool=redis.BlockingConnectionPool(port=server.port, max_connections=3)
    ),
    "both faces": lambda server: RedisStore(
        server.client(), redis.asyncio.Redis(port=server.port, decode_responses=True)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_redis_py_to_connect_will_do(server, backends, way):
    """Protocols, decoding, databases, pools: threads, event loops and listeners go by each of them."""
    made = WAYS[way](server)
    client, async_client = (made.client, made.async_client) if isinstance(made, RedisStore) else (made, None)
    backend = backends(client, async_client=async_client)
    waiting = backends(client)
    configure(backend, {"ä-📀": 1})
    key = granted(backend)
    waiting.listen(0.0)
    assert take(waiting, else_wants=())[1] is None

    async def end():
        assert len((await backend.acall(ops.ReadAll())).result.rows) == 1
        return (await backend.acall(ops.Release(key=key))).result.account

    assert asyncio.run(end()) == "ä-📀"
    assert waiting.listen(10) == ("ä-📀",)
    assert take(waiting, offered=True)[1] == ops.Granted("ä-📀")
    waiting._subscriber.roll_calls = 0
    server.client().publish(waiting._subscriber._roll, "")
    waiting.listen(10)
    assert waiting.roll_calls == 1


def test_a_socket_file_and_credentials_that_change_will_do(backends, tmp_path):
    """A server that is reached by a file, by whatever name and password are in force when it connects."""

    class Credentials(redis.CredentialProvider):
        def get_credentials(self):
            return "default", "right"

    path = str(tmp_path / "redis.sock")
    with RedisServer("--unixsocket", path, password="right") as own:
        own.empty()
        client = redis.Redis(unix_socket_path=path, credential_provider=Credentials())
        backend = backends(client)
        configure(backend, {"a": 1})
        key = granted(backend)
        assert asyncio.run(backend.acall(ops.Release(key=key))).result.key == key
        assert path in repr(backend)
        assert take(backends(f"unix://{path}?password=right"))[1] is not None
        with pytest.raises(StoreUnavailable):
            take(backends(f"unix://{path}?password=wr0ng-one"))
