"""The Redis backend against real servers: what it keeps, what it costs, and what survives."""

from __future__ import annotations

import json
import math
import random
import re
import threading
from collections import Counter

import pytest
from redis.cluster import key_slot
from redis_backends import backends, commands, configure, granted, name_of, rows, server, spent, take
from redis_server import GROWN
from stepping import until

from balancer.rules import operations as ops
from balancer.stores.redis import codec
from balancer.stores.redis.codec import FORMS, Packer
from balancer.stores.redis.scripts import ALWAYS, KEYS, base_of
from balancer.testing import ManualClock

__all__ = ["backends", "server"]


# -- one script call an operation -------------------------------------------------------------------------


def test_a_pair_is_two_script_calls_of_less_than_a_kilobyte_each(server, backends):
    """P-44: taking and giving back costs two commands and under 1 KiB each, whatever the numbers."""
    backend = backends(namespace="user:1234567/google-flow")
    configure(backend, {f"somebody{n}@example.com": 3 for n in range(20)})
    granted(backend)
    client = server.client()
    backend.call(ops.Release(key=granted(backend)))  # from now on the scripts are known

    def pair():
        backend.call(ops.Release(key=granted(backend, draw=random.random())))

    used = spent(client, pair)
    assert used["cmdstat_evalsha"] == 2
    assert "cmdstat_eval" not in used
    before = client.info("stats")["total_net_input_bytes"]
    pair()
    assert client.info("stats")["total_net_input_bytes"] - before < 2 * 1024


def test_the_cost_of_a_pair_does_not_depend_on_accounts_or_foreign_keys(server, backends):
    """P-44: the same number of commands for 10 and for 5,000 accounts, beside 10,000 foreign keys."""
    client, clock, used = server.client(), ManualClock(), []
    for size in (10, 5_000):
        backend = backends(namespace=f"user:9/{size}", now=clock)
        configure(backend, {f"a{n}": 2 for n in range(size)})
        granted(backend)
        with client.pipeline() as pipe:
            for n in range(size * 2):
                pipe.set(f"foreign:{size}:{n}", n)
            pipe.execute()
        used.append(spent(client, lambda one=backend: one.call(ops.Release(key=granted(one, draw=0.5)))))
    assert used[0] == used[1]
    assert sum(used[0].values()) < 60


def test_no_script_looks_for_keys_or_lets_the_server_draw(server, backends):
    """No SCAN, no KEYS, no SRANDMEMBER (which is not uniform) in any script."""
    for form in FORMS.values():
        for word in ("SCAN", "'KEYS'", "RANDMEMBER", "RANDOMKEY", "MATH.RANDOM"):
            assert word not in form.script.text.upper(), form.script.name


def test_keys_of_a_pool_are_declared_fixed_and_in_one_slot():
    """P-42: all keys of a namespace have one hash tag, whatever its characters; others have others."""
    for namespace in ("user:1/x", "a{b}c/d", "}{", "x" * 500, "token:0123456789abcdef/minimax/images"):
        names = [base_of(namespace) + key for key in KEYS]
        assert len({key_slot(name.encode()) for name in names}) == 1
        assert all(len(name) < 70 for name in names)
    assert base_of("user:1/x") != base_of("user:2/x") != base_of("user:2/y")
    assert base_of("x" * 500) != base_of("x" * 501)


def test_a_hot_call_stays_below_a_kilobyte_with_the_longest_names():
    """P-44: long namespaces, owners, labels and job ids do not break the bound."""
    settings = ops.Settings("token:0123456789abcdef/" + "x" * 60, "least_loaded", True, 60.0, 3600.0, 600.0)
    packer = Packer(settings, ops.Owner("f" * 12, "a-rather-long-host-name.example.com:123456"), None)
    packer.answered(1_764_266_400_123)
    key = "f" * 12 + "-1234567"
    job = "user:1234-minimax:someone@example.com-job:0123456789abcdef"
    for hot in (
        ops.Acquire(
            key=key, draw=1 / 3, label="nightly batch", scope="model-x", then_wants=(), else_wants=()
        ),
        ops.Release(key=key),
        ops.Release(job_id=job),
        ops.Bind(key, (job,), 3600.0),
    ):
        assert len(packer.call(hot).packed) < 1024


def test_customers_and_services_share_no_key_and_nothing_but_their_namespace_names_them(server, backends):
    """Two customers count apart, and every key begins with its namespace."""
    client = server.client(decode_responses=True)
    one, other = backends(namespace="user:71/kling"), backends(namespace="user:72/kling")
    for backend in (one, other):
        configure(backend, {"a": 1})
        granted(backend)
    assert take(one)[1] is None
    keys = [*client.scan_iter("{balancer:3:user:7*")]
    assert {key.partition("}:")[0] for key in keys} == {
        "{balancer:3:user:71/kling",
        "{balancer:3:user:72/kling",
    }
    assert len(keys) > 20


def test_leases_are_readable_for_an_operator(server, backends):
    """The rows are JSON that says which account, since when, by which process and for what job."""
    backend = backends()
    configure(backend, {"acc\x00ount:1": 2})
    key = granted(backend, label='nightly "7"', scope="m")
    backend.call(ops.Bind(key, ("job-1",), 30.0))
    row = json.loads(server.client().hget(name_of(backend, "rows"), key))
    assert not {"other_jobs", "ended_jobs"} & row.keys(), "one job needs no place for others"
    assert row["account"] == "acc\x00ount:1"
    assert (row["state"], row["job"], row["label"], row["process"]) == (
        "bound",
        "job-1",
        'nightly "7"',
        "host:1",
    )
    assert row["ends"] - row["state_since"] == 30_000


# -- uniform choice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "removed"), [(10, 0), (200, 0), (1_000, 300), (5_000, 2_000)])
def test_every_account_with_room_is_equally_likely(backends, size, removed):
    """Chi-square of choices by the caller's draw, also after accounts were removed and filled."""
    backend = backends()
    configure(backend, {f"a{n}": 2 + n % 5 for n in range(size)})
    if removed:
        configure(backend, {f"a{n}": 2 + n % 5 for n in range(size) if n % size >= removed})
    draw = random.Random(size).random
    left = size - removed
    rounds = max(2_000, 2 * left)
    picks: Counter[str] = Counter()
    for _ in range(rounds):
        key, answer = take(backend, draw=draw())
        picks[answer.account] += 1
        backend.call(ops.Release(key=key))
    mean = rounds / left
    chi = sum((picks[f"a{n}"] - mean) ** 2 / mean for n in range(removed, size))
    assert sum(picks.values()) == rounds
    assert set(picks) <= {f"a{n}" for n in range(removed, size)}
    # Five standard deviations of the distribution with left - 1 degrees of freedom.
    assert abs(chi - (left - 1)) < 5 * math.sqrt(2 * (left - 1))


# -- what the server loses --------------------------------------------------------------------------------


def test_scripts_are_loaded_again_after_a_script_flush(server, backends):
    """P-40: NOSCRIPT is answered by sending the script's text, once."""
    backend = backends()
    configure(backend, {"a": 2})
    key = granted(backend)
    client = server.client()
    client.script_flush()
    used = spent(client, lambda: backend.call(ops.Release(key=key)))
    assert (used["cmdstat_evalsha"], used["cmdstat_eval"]) == (1, 1)
    assert rows(backend) == {}


def test_a_forgotten_owner_is_told_and_brings_its_leases_back_over_capacity(server, backends):
    """P-26, P-36: after FLUSHALL held leases return, over capacity, and no grant until it drains."""
    clock = ManualClock()
    one, other = backends(now=clock), backends(now=clock)
    configure(one, {"a": 2})
    keys = [granted(one), granted(one)]
    saved = tuple(rows(one).values())
    server.client().flushall()
    configure(other, {"a": 2})
    clock.advance(GROWN)
    late = granted(other)
    assert not one.call(ops.Heartbeat()).result.known
    assert not one.call(ops.Heartbeat()).result.known, "the answer may have been lost"
    assert one.call(ops.Register(saved)).result == ()
    assert one.call(ops.Heartbeat()).result.known
    assert set(rows(one)) == {*keys, late}
    assert [take(other)[1] for _ in range(3)] == [None] * 3
    for key in (*keys[:1], late):
        assert one.call(ops.Release(key=key)).result.key == key
    assert take(other)[1] == ops.Granted("a")


def test_an_operation_between_a_flush_and_a_beat_does_not_hide_the_loss(server, backends):
    """P-26: an owner whose leases were forgotten hears of it, though it has acted since."""
    clock = ManualClock()
    backend = backends(now=clock)
    configure(backend, {"a": 2})
    granted(backend)
    server.client().flushall()
    configure(backend, {"a": 2})
    clock.advance(GROWN)
    granted(backend)
    assert not backend.call(ops.Heartbeat()).result.known


@pytest.mark.parametrize("lost", KEYS)
def test_any_one_key_may_vanish_without_lasting_harm(server, backends, lost):
    """P-26: whichever key is deleted, what is known stays counted, and nothing blocks for ever."""
    clock = ManualClock()
    backend, other = backends(now=clock), backends(now=clock)
    configure(backend, {"a": 2, "b": 1})
    held = granted(backend, accounts=("a",))
    bound = granted(backend, accounts=("a",))
    backend.call(ops.Bind(bound, ("job",), 600.0))
    saved = rows(backend)
    server.client().delete(name_of(backend, lost))
    other.call(ops.Heartbeat())
    if not backend.call(ops.Heartbeat()).result.known:
        backend.call(ops.Register((saved[held],)))
    configure(other, {"a": 2, "b": 1})
    live = rows(other)
    assert held in live
    assert (bound in live) == (lost != "rows")
    clock.advance(GROWN)
    if lost != "rows":
        assert take(other, accounts=("a",))[1] is None
        assert other.call(ops.Release(job_id="job")).result.key == bound
    assert other.call(ops.Release(key=held)).result.key == held
    assert backend.call(ops.Release(key=held)).result is None
    got = [take(other)[1] for _ in range(4)]
    assert Counter(answer and answer.account for answer in got) == {"a": 2, "b": 1, None: 1}


@pytest.mark.parametrize("lost", sorted({*KEYS} - {"rows", "done"}))
def test_jobs_of_one_lease_are_told_apart_after_the_loss_of_a_key(server, backends, lost):
    """P-26: those that are over stay so, and the slot is free with the last of those that run."""
    backend = backends()
    configure(backend, {"a": 1})
    key = granted(backend)
    backend.call(ops.Bind(key, ("x", "y", "z"), 600.0))
    assert backend.call(ops.Release(job_id="x")).result is None
    server.client().delete(name_of(backend, lost))
    assert backend.call(ops.Release(job_id="x")).result is None
    assert backend.call(ops.Release(job_id="z")).result is None
    assert ((rows(backend)[key].job_id, *rows(backend)[key].other_jobs), rows(backend)[key].ended_jobs) == (
        ("x", "y", "z"),
        ("x", "z"),
    )
    assert backend.call(ops.Release(job_id="y")).result.key == key


@pytest.mark.parametrize("job", ["7", 'a"b', "\u00e9\\", ",", ":1,", "x" * 300])
def test_an_adopted_job_leaves_the_others_whatever_its_id_looks_like(backends, job):
    """The count of others falls by one for a job that the list told, once, and for no other."""
    backend = backends()
    configure(backend, {"a": 9})
    number = backend.call(ops.Claim("survey", 0, 60)).result.number
    listed = tuple((each, "a", "") for each in (job, "p", "q", job))
    backend.call(ops.Apply(number=number, external={"a": 4}, listed=listed))

    def external():
        return backend.call(ops.ReadAll()).result.external, backend.call(ops.ReadSome(("a",))).result.external

    for serial, other in enumerate((f"{job}{job}", job[1:] + '"', '","')):
        backend.call(ops.Adopt(f"k-{serial}", other, "a", 60.0))
    assert external() == ({"a": 4}, {"a": 4})
    for _ in range(2):
        assert backend.call(ops.Adopt("k-9", job, "a", 60.0)).result.live
        assert external() == ({"a": 3}, {"a": 3})


@pytest.mark.parametrize("lost", ["timers", "rows", "room", "line", "owners"])
def test_what_was_learned_and_when_it_changes_survives_the_loss_of_a_key(server, backends, lost):
    """P-26: the next trial comes, an account is not left alone for ever, and no lost lease is a trial."""
    clock = ManualClock()
    one = backends(now=clock, lease_ttl=1e6)
    configure(one, {"a": 6, "b": 6, "c": 6})
    for account, trial in (("a", False), ("b", True)):
        taken = [granted(one, accounts=(account,)) for _ in range(3)]
        one.call(ops.Report(key=taken[-1], account=account, seconds=9.0, teaches=True))
        one.call(ops.Release(key=taken[-1]))
        if trial:
            clock.advance(60)
            granted(one, accounts=(account,))
    granted(one, accounts=("c",), spacing=30.0)
    saved = tuple(rows(one).values())
    server.client().delete(name_of(one, lost))
    if not one.call(ops.Heartbeat()).result.known:
        one.call(ops.Register(saved if lost == "rows" else ()))
    told = {each.account: each for each in one.call(ops.ReadAll()).result.restrictions}
    assert {id: each.jobs for id, each in told.items()} == {"a": 2, "b": 2, "c": None}
    assert (told["a"].due, told["b"].trial is None, told["c"].spaced_for) == (True, lost == "rows", 30.0)
    clock.advance(29)
    assert take(one, accounts=("c",))[1] is None
    clock.advance(1)
    assert take(one, accounts=("c",))[1] is not None
    clock.advance(60)
    again = [take(one, accounts=(account,))[1] is not None for account in ("a", "a", "b", "b")]
    assert again == [True, False, False, False]


def test_versions_and_claims_of_before_a_flush_never_come_again(server, backends):
    """P-52: a table put in force after the loss has another version, and an old claim stays void."""
    clock = ManualClock()
    backend = backends(now=clock)
    version = configure(backend, {"a": 1})
    claim = backend.call(ops.Claim("fetch", 0, 60)).result
    server.client().flushall()
    clock.advance(0.01)
    fresh = backend.call(ops.Claim("fetch", 0, 60)).result
    assert fresh.go
    assert fresh.number != claim.number
    backend.call(ops.Fail("fetch", claim.number, "SourceUnavailable", "late", 60.0))
    assert not backends(now=clock).call(ops.Claim("fetch", 0, 60)).result.go
    backend.call(ops.Fail("fetch", fresh.number, "SourceUnavailable", "x", 0.0))
    assert configure(backend, {"b": 1}) > version


def test_a_claim_passes_on_when_its_owner_listens_no_more_and_not_before(backends):
    """P-5: who lives listens while it fetches, which takes a moment to begin; the fetch takes its time."""
    clock = ManualClock()
    fetcher, other = backends(now=clock), backends(now=clock)
    assert fetcher.call(ops.Claim("fetch", 0, 60)).result.go
    clock.advance(2.9)
    assert not other.call(ops.Claim("fetch", 0, 60)).result.go
    fetcher.listen(0.0)
    clock.advance(30.0)
    assert not other.call(ops.Claim("fetch", 0, 60)).result.go
    fetcher.close()
    until(lambda: other.call(ops.Claim("fetch", 0, 60)).result.go)


# -- what ends by itself ----------------------------------------------------------------------------------


def test_ten_thousand_dead_leases_do_not_slow_a_call(server, backends):
    """P-40: they end in bounded batches, and each call stays short."""
    clock = ManualClock()
    dead, living = backends(now=clock), backends(now=clock)
    configure(dead, {f"a{n}": 1_000 for n in range(11)})
    for _ in range(10_000):
        granted(dead)
    client = server.client()
    clock.advance(61)
    sizes, calls = [], 0
    while True:
        count = sum(spent(client, lambda: sizes.append(living.call(ops.Heartbeat()))).values())
        calls += 1
        assert count < 1_200
        assert len(sizes[-1].expired) <= 50
        if not sizes[-1].expired:
            break
        assert sizes[-1].due == 0.0 or calls == 200
    assert sum(len(reply.expired) for reply in sizes) == 10_000
    assert rows(living) == {}


def test_traffic_of_others_does_not_prolong_a_dead_lease_and_it_comes_back_once(backends):
    """P-5, P-6: under steady traffic a dead owner's slot is regained at its time, exactly once."""
    clock = ManualClock()
    dead, living = backends(now=clock), backends(now=clock)
    configure(dead, {"a": 2})
    lost, key = granted(dead), granted(living)
    expired = []
    for _ in range(180):
        clock.advance(1)
        expired += living.call(ops.Release(key=key)).expired
        key = granted(living)
    assert set(rows(living)) == {key}
    assert [row.key for row in expired] == [lost]
    assert take(living)[1] is not None
    assert take(living)[1] is None


def test_an_end_that_comes_late_does_not_free_a_newer_lease(backends):
    """P-23: a holder that outlived its lease ends by id, so the newer holder keeps its slot."""
    clock = ManualClock()
    slow, quick, third = backends(now=clock), backends(now=clock), backends(now=clock)
    configure(slow, {"a": 1})
    old = granted(slow)
    clock.advance(61)
    new = granted(quick)
    assert slow.call(ops.Release(key=old)).result is None
    assert take(third)[1] is None
    assert set(rows(third)) == {new}


@pytest.mark.parametrize("shift", [-120.0, 120.0])
def test_the_clock_of_a_process_does_not_matter(backends, monkeypatch, shift):
    """P-39: with its wall clock two minutes off, nothing of a process or of others ends early or late."""
    right = backends()
    configure(right, {"a": 3})
    first = granted(right)
    right.call(ops.Bind(first, ("job",), 30.0))
    import time

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    wrong = backends()
    second = granted(wrong)
    wrong.call(ops.Bind(second, ("other",), 30.0))
    live = rows(wrong)
    assert set(live) == {first, second}
    assert all(25 < row.expires_in <= 30 for row in live.values())
    assert all(0 <= row.age < 5 for row in live.values())


@pytest.mark.parametrize("jump", [1.5, 2.9, 10.0])
def test_a_clock_that_is_put_right_by_and_by_ends_nobodys_leases(backends, monkeypatch, jump):
    """P-36, P-39: a stopped server finds calls of each moment of its absence; the silent had no chance."""
    uptime = [0.0]
    monkeypatch.setattr(codec, "_uptime", lambda: uptime[0])
    silent, speaks = backends(lease_ttl=4.0), backends(lease_ttl=4.0)
    configure(speaks, {"a": 1})
    key = granted(silent)
    for _ in range(8):
        uptime[0] += jump
        assert take(speaks)[1] is None
    assert set(rows(speaks)) == {key}


@pytest.mark.parametrize("knows", [True, False])
def test_a_clock_that_is_put_right_after_a_loss_opens_the_store_to_nobody(
    server, backends, monkeypatch, knows
):
    """P-36, P-39: the server's clock was set back, and what it was off by is lost with all else."""
    uptime = [0.0]
    monkeypatch.setattr(codec, "_uptime", lambda: uptime[0])
    holder, first = backends(), backends()
    configure(first, {"a": 1})
    uptime[0] += codec._TRUSTED - 10.0
    assert granted(holder)
    assert holder.call(ops.Heartbeat()).result.known
    if knows:
        first.call(ops.ReadTable())
    uptime[0] += 20.0
    server.client().flushall()
    configure(first, {"a": 1})
    assert take(first)[1] is None
    holder.call(ops.Register(()))
    assert take(first)[1] is None
    assert take(holder)[1] is None


# -- races ------------------------------------------------------------------------------------------------


def test_of_two_contenders_for_one_slot_exactly_one_wins(backends):
    """P-25: nobody adds himself first and backs off later, so each round has one winner."""
    both = backends(), backends()
    configure(both[0], {"a": 1})
    barrier, results = threading.Barrier(2), []

    def contend(backend):
        for _ in range(150):
            barrier.wait(30)
            key, answer = take(backend)
            results.append(answer)
            barrier.wait(30)
            if answer:
                backend.call(ops.Release(key=key))

    threads = [threading.Thread(target=contend, args=(backend,)) for backend in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 300
    assert sum(answer is not None for answer in results) == 150


def test_a_grant_asked_for_twice_is_answered_twice_and_made_once(backends):
    """P-1: a Take whose answer was lost may be sent again."""
    backend = backends()
    configure(backend, {"a": 3, "b": 3})
    first = take(backend, number=1, draw=0.1)[1]
    assert [take(backend, number=1, draw=0.9)[1] for _ in range(5)] == [first] * 5
    assert len(rows(backend)) == 1


def test_every_script_declares_what_it_is_given():
    """Each is a function with a parameter for each field of its operation, and says what it answers."""
    for form in FORMS.values():
        assert ALWAYS <= form.script.keys <= len(KEYS)
        assert "-- KEYS" in form.script.text
        above, _, function = form.script.text.partition(f"\nlocal function {form.script.name}(")
        assert "-- Answer" in above.rpartition("\n\n")[2]
        parameters = re.findall(r"\w+", function.partition(")")[0])
        assert len(parameters) == len(form.script.arguments), form.script.name


def test_commands_are_counted_at_all(server):
    """The yardstick of the tests above sees what the server does."""
    client = server.client()
    assert spent(client, client.ping) == {"cmdstat_ping": 1}
    assert commands(client)["cmdstat_ping"] >= 1


def test_what_is_empty_at_the_end_is_not_sent():
    """Each argument costs the client and the server, and most callers of an operation ask for little."""
    settings = ops.Settings("user:1/x", "random", False, 60.0, 3600.0, 600.0)
    packer = Packer(settings, ops.Owner("f" * 12, "host:1"), None)

    def sent(operation):
        return packer.call(operation).short[-len(FORMS[type(operation)].arguments(operation)) :]

    assert sent(ops.Acquire("key", 0.5)) == (b"key", b"0.5", b"", b"0")
    assert sent(ops.Release("key")) == (b"=key",)
    assert sent(ops.Cool(account="a", seconds=1.0, scope="", worth_waiting=False)) == (b"a", b"1000", b"=")


def test_what_the_servers_clock_should_read_is_told_as_long_as_it_can_be_known(monkeypatch):
    """P-39: by the last answer and what has passed since; not for one never answered, or hours ago."""
    uptime = [100.0]
    monkeypatch.setattr(codec, "_uptime", lambda: uptime[0])
    settings = ops.Settings("user:1/x", "random", False, 60.0, 3600.0, 600.0)
    packer = Packer(settings, ops.Owner("f" * 12, "host:1"), None)

    def told():
        return packer.call(ops.Heartbeat()).short[-2]

    assert told() == b""
    packer.answered(5_000)
    uptime[0] += 7.5
    assert told() == b"12500"
    uptime[0] += 7 * 3600
    assert told() == b"-"
