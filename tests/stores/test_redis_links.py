"""The ways to a Redis server: connections that break, hang or are refused, loops, clusters and rights."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import time
import traceback

import pytest
import redis
import redis.asyncio
from places import SUPPORT
from redis_backends import backends, configure, granted, rows, server, take
from redis_server import GROWN, Proxy, RedisServer, free_port
from stepping import until
from structlog.testing import capture_logs

from balancer.errors import StoreUnavailable
from balancer.rules import operations as ops
from balancer.stores.redis import RedisStore
from balancer.stores.redis.codec import FORMS
from balancer.stores.redis.scripts import KEYS
from balancer.testing import ManualClock

__all__ = ["backends", "server"]


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as running:
        yield running


# -- the server away --------------------------------------------------------------------------------------


def test_a_server_that_is_away_is_an_error_and_nothing_is_guessed(backends):
    """P-43: with nobody at the address each operation is StoreUnavailable, from threads and loops."""
    backend = backends(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnavailable):
        take(backend)
    with pytest.raises(StoreUnavailable):
        asyncio.run(backend.acall(ops.Heartbeat()))
    with pytest.raises(StoreUnavailable):
        backend.listen(0.0)


def test_an_operation_works_again_right_after_a_restart(backends):
    """P-40: stale connections are noticed before they are used, so no call fails that need not."""
    with RedisServer() as own:
        clock = ManualClock()
        backend = backends(own.url, now=clock)
        configure(backend, {"a": 1})
        own.restart()
        configure(backend, {"a": 1})
        clock.advance(GROWN)
        granted(backend)
        assert take(backend)[1] is None


@pytest.mark.parametrize("trouble", ["cut", "hang", "away"])
def test_a_connection_that_breaks_costs_one_error_and_no_slot(proxy, backends, trouble):
    """P-1, P-43: a call cut off, hung or refused raises; when the road is free again all is as before."""
    backend = backends(f"{proxy.url}?socket_timeout=0.2&socket_connect_timeout=0.2")
    configure(backend, {"a": 2})
    held = granted(backend)
    if trouble == "cut":
        proxy.delay = 0.1
        cutter = threading.Timer(0.05, proxy.cut)
        cutter.start()
    elif trouble == "hang":
        proxy.hanging = True
    else:
        proxy.away = True
        proxy.cut()
    key = f"{backend.owner.name}-ffff"
    with pytest.raises(StoreUnavailable):
        backend.call(ops.Acquire(key=key))
    proxy.delay, proxy.hanging, proxy.away = 0.0, False, False
    assert backend.call(ops.Acquire(key=key)).result == ops.Granted("a")
    assert set(rows(backend)) == {held, key}


def test_a_password_is_in_no_error_and_no_repr(backends):
    """P-60: neither message, cause, traceback with locals nor repr shows the URL's password."""
    with RedisServer(password="hunter2%41x") as own:
        wrong = f"redis://:s3cr%65t-word@127.0.0.1:{own.port}/0"
        backend = backends(wrong)
        with pytest.raises(StoreUnavailable) as caught:
            take(backend)
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=False).format()
        )
        shown += repr(backend) + repr(backend._connections) + str(caught.value.__cause__)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        for secret in ("s3cret-word", "s3cr%65t-word"):
            assert secret not in shown
        assert "127.0.0.1" in shown
        with pytest.raises(ValueError, match="redis://") as invalid:
            backends("redis://:pw-in-url@host:notaport/0")
        assert "pw-in-url" not in str(invalid.value)
        assert invalid.value.__suppress_context__


def test_a_full_server_is_an_error_and_leaves_nothing_half_done(server, backends):
    """P-41: out of memory without eviction, a call is refused whole and counts stay true."""
    backend = backends()
    configure(backend, {"a": 2})
    key = granted(backend)
    client = server.client()
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            take(backend)
    finally:
        client.config_set("maxmemory", 0)
    assert set(rows(backend)) == {key}
    assert take(backend)[1] is not None
    assert take(backend)[1] is None


def test_a_server_that_may_evict_is_warned_of_and_blocks_nobody(backends):
    """P-41: one warning at the start; and under pressure that evicts keys nobody is stuck for ever."""
    with RedisServer("--maxmemory-policy", "allkeys-random") as own:
        client = own.client()
        clock = ManualClock()
        backend = backends(own.url, now=clock)
        with capture_logs() as logs:
            configure(backend, {"a": 3})
        assert [(e["event"], e["policy"]) for e in logs] == [("redis_may_evict", "allkeys-random")]
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        for n in range(2_000):
            with contextlib.suppress(redis.ResponseError):
                client.set(f"filler:{n}", "x" * 500)
        assert client.info("stats")["evicted_keys"] > 0
        client.config_set("maxmemory", 0)
        configure(backend, {"a": 3})
        for key in list(rows(backend)):
            backend.call(ops.Release(key=key))
        clock.advance(GROWN)
        assert [take(backend)[1] is not None for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("policy", "warned"), [("noeviction", False), ("volatile-lru", True)])
def test_every_policy_that_may_concern_us_is_warned_of(backends, policy, warned):
    """P-41: keys of a pool expire when nobody uses them, so that volatile policies may evict them before."""
    with RedisServer("--maxmemory-policy", policy) as own, capture_logs() as logs:
        backends(own.url).call(ops.Heartbeat())
    assert [event["policy"] for event in logs] == [policy] * warned


# -- hearing of offers ------------------------------------------------------------------------------------


def test_an_offer_is_heard_by_the_process_it_is_made_to(backends):
    """P-30: a release tells one waiting process, the oldest, and nobody else."""
    holder, first, second = backends(), backends(), backends()
    configure(holder, {"a": 1})
    key = granted(holder)
    for waiting in (first, second):
        assert waiting.listen(0.0) == ()  # it subscribes
        assert take(waiting, else_wants=())[1] is None
    holder.call(ops.Release(key=key))
    assert first.listen(10) == ("a",)
    assert second.listen(0.05) == ()
    assert take(second)[1] is None
    assert take(first, offered=True)[1] == ops.Granted("a")


def test_poking_ends_listening_at_once(backends):
    """A poke ends the present call, or the next one, long before its time."""
    backend = backends()
    backend.listen(0.0)
    backend.poke()
    begun = time.monotonic()
    assert backend.listen(60) == ()
    threading.Timer(0.05, backend.poke).start()
    assert backend.listen(60) == ()
    assert time.monotonic() - begun < 30


def test_a_cut_subscription_is_made_again(proxy, backends):
    """P-28: after a cut the listener returns empty-handed, connects anew, and hears again."""
    holder, waiting = backends(), backends(proxy.url)
    configure(holder, {"a": 1})
    key = granted(holder)
    waiting.listen(0.0)
    take(waiting, else_wants=())
    proxy.cut()
    assert waiting.listen(10) == ()
    assert waiting.listen(0.0) == ()
    holder.call(ops.Release(key=key))
    assert waiting.listen(10) == ("a",)


def test_a_subscription_that_went_dead_silently_is_found_out(proxy, backends, monkeypatch):
    """P-28: a connection that only looks open is asked after a while, and given up without an answer."""
    from balancer.stores.redis import subscriber

    monkeypatch.setattr(subscriber, "QUIET", 0.05)
    backend = backends(f"{proxy.url}?socket_timeout=0.1")
    backend.listen(0.0)
    for _ in range(4):
        assert backend.listen(0.06) == ()
    first = backend._subscriber._connection
    assert first is not None, "a server that answers is not given up"
    proxy.hanging = True
    for _ in range(8):
        if backend._subscriber._connection is not first:
            break
        backend.listen(0.06)
    assert backend._subscriber._connection is not first


# -- event loops ------------------------------------------------------------------------------------------


def test_threads_and_event_loops_share_a_few_connections(server, backends):
    """P-16: successive loops, and loops in threads at once, use one backend and its connections."""
    backend = backends(server.url)
    configure(backend, {"a": 200})
    client = server.client()

    serial = itertools.count(1)

    async def pairs():
        for _ in range(5):
            keys = [f"{backend.owner.name}-{next(serial):x}" for _ in range(5)]
            got = await asyncio.gather(*(backend.acall(ops.Acquire(key=key)) for key in keys))
            assert all(reply.result == ops.Granted("a") for reply in got)
            ended = await asyncio.gather(*(backend.acall(ops.Release(key=key)) for key in keys))
            assert [reply.result.key for reply in ended] == keys
            await asyncio.sleep(0)

    for _ in range(3):
        asyncio.run(_fresh(pairs))
    threads = [threading.Thread(target=asyncio.run, args=(_fresh(pairs),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert rows(backend) == {}
    assert len(client.client_list()) <= 1 + 2 * 5
    before = {one["id"] for one in client.client_list()}
    backend.close()
    asyncio.run(_fresh(pairs))
    backend.close()
    until(lambda: len(client.client_list()) == 1)
    assert len(before) > 1


async def _fresh(work):
    await work()


def test_what_a_loop_keeps_is_there_for_the_next_one(server, backends):
    """P-16: loops keep their connections only as long as they are open: a hundred of them need one."""
    backend, client = backends(server.url), server.client()
    before = len(client.client_list())
    for _ in range(100):
        asyncio.run(_fresh(lambda: backend.acall(ops.Heartbeat())))
        backend.call(ops.Heartbeat())
    assert len(client.client_list()) <= before + 1


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_loop_that_keeps_connections_leaves_some_to_others(server, backends, most):
    """P-16: between two calls of a loop threads and another loop are served, with few connections too."""
    backend, client = backends(f"{server.url}?max_connections={most}"), server.client()
    before = len(client.client_list())

    async def call():
        await asyncio.gather(*(backend.acall(ops.Heartbeat()) for _ in range(2 * most)))
        backend.call(ops.Heartbeat())
        thread = threading.Thread(target=asyncio.run, args=(_fresh(lambda: backend.acall(ops.Heartbeat())),))
        thread.start()
        thread.join(30)
        await backend.acall(ops.Heartbeat())

    asyncio.run(call())
    assert len(client.client_list()) <= before + most


def test_a_loop_notices_that_the_server_has_hung_up(proxy, server, backends):
    """P-40: a connection cut while its loop does something else is not used, whether or not it could look."""
    backend = backends(proxy.url)

    async def call():
        await backend.acall(ops.Heartbeat())
        proxy.cut()
        await asyncio.sleep(0.02)  # the loop sees it
        await backend.acall(ops.Heartbeat())
        proxy.cut()
        time.sleep(0.02)  # noqa: ASYNC251  # the loop sees nothing
        await backend.acall(ops.Heartbeat())

    asyncio.run(asyncio.wait_for(call(), 30))


def test_closing_closes_what_loops_keep(server, backends):
    """P-45: closed in a thread while a loop goes on, which is served anew after it."""
    backend, client = backends(server.url), server.client()
    before = len(client.client_list())

    async def call():
        await backend.acall(ops.Heartbeat())
        assert len(client.client_list()) > before
        threading.Thread(target=backend.close).start()
        while len(client.client_list()) > before:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
        await backend.acall(ops.Heartbeat())

    asyncio.run(asyncio.wait_for(call(), 30))


@pytest.mark.parametrize("given", ["url", "client"])
def test_cancelled_calls_do_not_use_up_the_connections(server, backends, given):
    """P-9: of 1,000 calls cancelled at all stages none keeps one of 5 connections: one more succeeds."""

    async def storm(backend):
        tasks = []
        for n in range(1_000):
            tasks.append(asyncio.create_task(backend.acall(ops.Acquire(key=f"{backend.owner.name}-{n:x}"))))
            if n % 7 == 0:
                await asyncio.sleep(0)
            tasks[n // 2].cancel()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, asyncio.CancelledError | ops.Reply) for r in results)
        assert sum(isinstance(r, asyncio.CancelledError) for r in results) > 500
        return (await backend.acall(ops.Acquire(key=f"{backend.owner.name}-ffff"))).result

    client = f"{server.url}?max_connections=5" if given == "url" else server.client(max_connections=5)
    backend = backends(client)
    configure(backend, {"a": 2_000})
    assert asyncio.run(storm(backend)) == ops.Granted("a")
    assert len(server.client().client_list()) <= 1 + 5 + (given == "client")


def test_more_threads_than_connections_take_turns(server, backends):
    """With max_connections=2 twenty threads get all their slots, and no error."""
    backend = backends(f"{server.url}?max_connections=2")
    configure(backend, {"a": 100})
    got = []
    threads = [
        threading.Thread(target=lambda: got.extend(granted(backend) for _ in range(5))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(got)) == 100
    assert len(rows(backend)) == 100


def test_a_connection_that_an_interruption_has_lost_is_replaced(server, backends):
    """P-7: it was taken off the list, and whoever took it never came to know of it."""
    backend = backends(f"{server.url}?max_connections=1")
    configure(backend, {"a": 1})
    backend._connections._of_threads._idle.pop()
    assert granted(backend)
    assert len(rows(backend)) == 1


def test_a_sync_client_alone_serves_event_loops_too(server, backends):
    """Without an asynchronous client calls are made in threads, and answer the same."""
    backend = backends(server.client(decode_responses=True))
    configure(backend, {"ä": 1})

    async def one():
        first = await backend.acall(ops.Acquire(key=f"{backend.owner.name}-1"))
        second = await backend.acall(ops.Acquire(key=f"{backend.owner.name}-2"))
        return first.result, second.result

    assert asyncio.run(one()) == (ops.Granted("ä"), None)


# -- forks ------------------------------------------------------------------------------------------------


def test_a_forked_child_has_connections_of_its_own(server, backends):
    """P-45, P-46: the child goes on as another owner, and the parent's connections stay usable."""
    backend = backends(server.url)
    configure(backend, {"a": 2})
    mine = granted(backend)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            backend.after_fork(ops.Owner("child", "host:2"))
            answer = backend.call(ops.Acquire(key="child-1")).result
            os.write(writer, answer.account.encode())
            gc.collect()
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        assert told.read() == "a"
    assert set(rows(backend)) == {mine, "child-1"}
    assert backend.call(ops.Release(key=mine)).result.key == mine


# -- rights -----------------------------------------------------------------------------------------------

DOCS = (pathlib.Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")


def test_the_documented_rights_suffice(server, backends):
    """A user with only the commands, keys and channels of docs/redis.md can do everything."""
    client = server.client()
    _, _, rights = DOCS.partition("ACL SETUSER balancer ")
    client.execute_command("ACL", "SETUSER", "balancer", "reset", *rights.partition("```")[0].split())
    backend = backends(f"redis://balancer:password@127.0.0.1:{server.port}/0")
    configure(backend, {"a": 2, "b": 1})
    configure(backend, {"a": 2})
    key = granted(backend, else_wants=())
    backend.listen(0.0)
    survey = backend.call(ops.Claim("survey", 0, 60)).result
    for operation in (
        ops.Report(key=key, account="a", doubt=True, seconds=5.0, scope="m", reason="x"),
        ops.Bind(key, ("job",), 5.0),
        ops.Renew(job_id="job"),
        ops.Cool(account="a", seconds=1.0),
        ops.Reset("a"),
        ops.Apply(number=survey.number, external={"a": 1}, prolong=(key,), missed={key: 1}),
        ops.SetWanted(("a",)),
        ops.SetWanted(()),
        ops.ReadAll(),
        ops.Register(tuple(rows(backend).values())),
        ops.Release(job_id="job"),
        ops.Release(job_id="unknown"),
        ops.Fail("fetch", 1, "x", "y", 1.0),
        ops.ReadTable(),
    ):
        backend.call(operation)
    server.client().delete(backend.base + "room")
    backend.call(ops.Heartbeat())
    asyncio.run(backend.acall(ops.Heartbeat()))


def test_every_command_of_a_script_is_among_the_documented_rights():
    """Also those that only an unusual call needs."""
    _, _, rights = DOCS.partition("ACL SETUSER balancer ")
    allowed = {word[1:] for word in rights.partition("```")[0].split() if word.startswith("+")}
    said = {word for form in FORMS.values() for word in re.findall(r"call\('([A-Z]+)'", form.script.text)}
    assert len(said) > 20
    assert {word.lower() for word in said} <= allowed


def test_a_user_who_may_not_ask_about_the_server_or_its_listeners_is_served(server, backends):
    """`info` and `pubsub` may be left out: what nobody can find out is taken to be the worst."""
    client = server.client()
    _, _, rights = DOCS.partition("ACL SETUSER balancer ")
    words = [word for word in rights.partition("```")[0].split() if word not in ("+info", "+pubsub")]
    client.execute_command("ACL", "SETUSER", "balancer", "reset", *words)
    clock = ManualClock()
    url = f"redis://balancer:password@127.0.0.1:{server.port}/0"
    backend, other = backends(url, now=clock), backends(url, now=clock)
    configure(backend, {"a": 1})
    assert backend.call(ops.Claim("fetch", 0, 60)).result.go
    clock.advance(30)
    assert not other.call(ops.Claim("fetch", 0, 60)).result.go
    granted(backend)


def test_rights_that_do_not_reach_are_an_error(server, backends):
    """A user who may not touch the keys is told so."""
    server.client().acl_setuser(
        "stranger", enabled=True, nopass=True, commands=["+@all"], keys=["x*"], reset=True
    )
    backend = backends(f"redis://stranger:any@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreUnavailable, match="no permissions"):
        take(backend)


def test_every_key_is_explained_to_operators():
    """The page for operators tells of every key that there is."""
    _, _, table = DOCS.partition("| key | type |")
    named = table.partition("\n\n")[0]
    assert [key for key in KEYS if f"`{key}`" not in named] == []


# -- encryption -------------------------------------------------------------------------------------------

CERTIFICATE = str(SUPPORT.joinpath("loopback.pem"))


@pytest.fixture
def encrypted(server):
    """Return the port of a road to the server that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Proxy(server.port, context) as proxy:
        yield proxy.port


def test_calls_and_offers_travel_encrypted(encrypted, backends):
    """Threads, event loops and listeners work over TLS, with answers larger than a record too."""
    url = f"rediss://127.0.0.1:{encrypted}/0?ssl_ca_certs={CERTIFICATE}"
    backend, waiting = backends(url), backends(url)
    configure(backend, {f"account-{n}@example.com": 1 for n in range(2_000)})
    assert len(asyncio.run(backend.acall(ops.ReadTable())).result.table) == 2_000
    configure(backend, {"a": 1})
    key = granted(backend)
    waiting.listen(0.0)
    assert take(waiting, else_wants=())[1] is None
    assert asyncio.run(backend.acall(ops.Release(key=key))).result.key == key
    assert waiting.listen(10) == ("a",)
    assert take(waiting, offered=True)[1] == ops.Granted("a")


def test_a_server_with_a_strange_certificate_is_not_spoken_to(encrypted, backends):
    """Certificates are checked unless the URL says otherwise."""
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        take(backends(f"rediss://127.0.0.1:{encrypted}/0"))


# -- what the extra brings --------------------------------------------------------------------------------


def test_without_redis_py_the_error_names_the_extra():
    """Importing the library needs no redis-py, and using Redis without it says what to install."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "import balancer\n"
        "from balancer.stores.redis import RedisStore\n"
        "class Client:\n"
        "    def execute_command(self): ...\n"
        "try: RedisStore(Client()).open(None, None)\n"
        "except ImportError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "balancer[redis]" in said.stdout


def test_what_is_no_client_is_refused(backends, server):
    """A client that is none is a TypeError that names the argument; a store shows no address."""
    with pytest.raises(TypeError, match="client"):
        backends(object())
    with pytest.raises(TypeError, match="client must be a client of redis-py, not object"):
        RedisStore(object())
    assert repr(RedisStore(server.client())) == "RedisStore(Redis)"


@pytest.mark.parametrize("kind", [redis.asyncio.Redis, redis.asyncio.RedisCluster])
def test_a_client_of_the_other_kind_is_refused_at_once(server, kind):
    """One for event loops in the place of one for threads, or the reverse, is a TypeError that says so."""
    wrong = kind(host="127.0.0.1", port=server.port)
    with pytest.raises(TypeError, match=r"client must be .*async_client"):
        RedisStore(wrong)
    with pytest.raises(TypeError, match=r"async_client must be .*redis\.asyncio"):
        RedisStore(server.client(), server.client())
    assert RedisStore(server.client(), redis.asyncio.Redis(port=server.port)).async_client is not None
