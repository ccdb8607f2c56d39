"""Clients of the user's own: a cluster of three nodes, a sentinel that fails over, TLS left to redis-py."""

from __future__ import annotations

import asyncio
import pathlib
import time

import pytest
import redis
import redis.asyncio.cluster
from redis.cluster import key_slot
from redis.sentinel import Sentinel
from redis_backends import backends, configure, granted, rows, server, take
from redis_server import RedisServer, free_port
from stepping import until

from balancer.errors import StoreUnavailable
from balancer.rules import operations as ops

__all__ = ["backends", "server"]

SLOTS = 16384


@pytest.fixture(scope="module")
def nodes():
    """Three masters that have met and share the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
    running = [RedisServer(*options, port=free_port(beside=10_000)) for _ in range(3)]
    clients = [node.client() for node in running]
    for number, client in enumerate(clients):
        first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
        client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last))
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", running[0].port)
    for client in clients:
        until(lambda client=client: b"cluster_state:ok" in _cluster_info(client), 60)
    yield running
    for client in clients:
        client.close()
    for node in running:
        node.close()


def _cluster_info(client):
    answer = client.execute_command("CLUSTER", "INFO")
    return str(answer).replace("'cluster_state': 'ok'", "cluster_state:ok").encode()


@pytest.fixture
def cluster(nodes):
    for node in nodes:
        node.empty()
    with redis.RedisCluster("127.0.0.1", nodes[0].port) as client:
        yield client


def _pool_cycle(backend, other):
    configure(backend, {"a": 1})
    key = granted(backend)
    assert take(other)[1] is None
    backend.call(ops.Bind(key, ("job",), 60.0))
    assert other.call(ops.Release(job_id="job")).result.key == key
    assert take(other)[1] == ops.Granted("a")


def test_pools_of_a_cluster_live_on_the_node_of_their_slot(nodes, cluster, backends):
    """P-42: pools whose slots lie on different nodes work, also after each node forgot its scripts."""
    met = set()
    for customer in range(1, 9):
        namespace = f"user:{customer}/kling"
        met.add(key_slot(f"balancer:{namespace}".encode()) * 3 // SLOTS)
        one, other = (backends(cluster, namespace=namespace) for _ in range(2))
        _pool_cycle(one, other)
        if customer == 4:
            for node in nodes:
                node.client().script_flush()
    assert met == {0, 1, 2}


def test_offers_reach_processes_on_any_node_of_a_cluster(cluster, backends):
    """P-28: what a script publishes on one node is heard by a listener on another."""
    for customer in range(11, 17):
        namespace = f"user:{customer}/kling"
        holder, waiting = (backends(cluster, namespace=namespace) for _ in range(2))
        configure(holder, {"a": 1})
        key = granted(holder)
        waiting.listen(0.0)
        take(waiting, else_wants=())
        holder.call(ops.Release(key=key))
        assert waiting.listen(10) == ("a",)


def test_event_loops_reach_a_cluster_with_and_without_an_asynchronous_client(nodes, cluster, backends):
    """P-9: calls from a loop work either way, and cancelled ones leave the client usable."""

    async def use(backend):
        tasks = [
            asyncio.create_task(backend.acall(ops.Acquire(key=f"{backend.owner.name}-{n:x}")))
            for n in range(50)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, asyncio.CancelledError | ops.Reply) for r in results)
        return (await backend.acall(ops.Acquire(key=f"{backend.owner.name}-ffff"))).result

    async def with_client(namespace):
        async with redis.asyncio.cluster.RedisCluster("127.0.0.1", nodes[1].port) as client:
            backend = backends(cluster, async_client=client, namespace=namespace)
            configure(backend, {"a": 100})
            return await use(backend)

    assert asyncio.run(with_client("user:21/kling")) == ops.Granted("a")
    backend = backends(cluster, namespace="user:22/kling")
    configure(backend, {"a": 100})
    assert asyncio.run(use(backend)) == ops.Granted("a")


# -- sentinel -----------------------------------------------------------------------------------------------


@pytest.fixture
def failover(tmp_path):
    """A master, a replica, and a sentinel that promotes the replica when the master is gone."""
    with RedisServer() as master, RedisServer() as replica:
        master.empty()
        replica.client().replicaof("127.0.0.1", master.port)
        until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        port = free_port()
        config = pathlib.Path(tmp_path, "sentinel.conf")
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor pool 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds pool 300\nsentinel failover-timeout pool 2000\n",
            "utf-8",
        )
        with RedisServer(binary=[master.binary, str(config), "--sentinel"], port=port):
            sentinel = Sentinel([("127.0.0.1", port)], socket_timeout=1)
            until(lambda: sentinel.discover_slaves("pool"))
            yield master, sentinel
            for client in sentinel.sentinels:
                client.close()


def test_a_failover_keeps_what_the_replica_knew_and_brings_held_leases_back(failover, backends):
    """P-40: after a sentinel's failover calls go to the new master, and what it lost is registered again."""
    master, sentinel = failover
    client = sentinel.master_for("pool", socket_timeout=1)
    backend, other = backends(client), backends(client)
    configure(backend, {"a": 2})
    kept = granted(backend)
    assert master.client().wait(1, 5000) == 1
    saved = tuple(rows(backend).values())
    master.kill()

    def again():
        try:
            return backend.call(ops.Heartbeat())
        except StoreUnavailable:
            time.sleep(0.05)
            return None

    reply = until(again, 60)
    if not reply.result.known:
        assert backend.call(ops.Register(saved)).result == ()
    assert set(rows(backend)) == {kept}
    assert take(other)[1] is None, "it may lack the last grants"
    until(lambda: take(other)[1] == ops.Granted("a"))
    assert take(other)[1] is None
