"""What every backend promises beyond being in step with the ledger: chance, order, memory, limits."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from backends import configure, dump, rows, world

from balancer.models import AccountTable
from balancer.rules import operations as ops

__all__ = ["world"]


@pytest.fixture
def one(world):
    """Return the backend of one owner."""
    return world.open("one")


@pytest.fixture
def two(world):
    """Return the backend of another owner."""
    return world.open("two")


def take(backend, key, **options):
    """Take a lease; return its account or None."""
    granted = backend.call(ops.Acquire(key=key, **options)).result
    return granted and granted.account


def chi_square(counts, accounts, draws):
    """Return chi-square over its expectation: about 1 if all are equally likely."""
    expected = draws / accounts
    counted = [*counts.values(), *[0] * (accounts - len(counts))]
    return sum((n - expected) ** 2 / expected for n in counted) / (accounts - 1)


@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
def test_choice_is_uniform_whatever_was_taken_and_given_back(world, strategy):
    """P-20: ties are broken evenly, after accounts have gone and come back in any order."""
    chance = random.Random(5)
    backend = world.open("one", strategy=strategy)
    ids = [f"a{n}" for n in range(20)]
    configure(backend, dict.fromkeys(ids, 1))
    keys = iter(range(10**6))
    for _ in range(40):  # shuffle what the store keeps inside
        held = [f"one-{next(keys):x}" for _ in range(chance.randrange(20))]
        for key in held:
            take(backend, key, draw=chance.random())
        for key in chance.sample(held, len(held)):
            backend.call(ops.Release(key=key))
    picked = Counter()
    for _ in range(1500):
        key = f"one-{next(keys):x}"
        picked[take(backend, key, draw=chance.random())] += 1
        backend.call(ops.Release(key=key))
    assert 0.3 < chi_square(picked, 20, 1500) < 2.0, picked


def test_least_loaded_is_told_by_shares_after_leases_have_ended(world):
    """One of four slots taken is less than one of two, also if it is what is left of more."""
    backend = world.open("one", strategy="least_loaded")
    configure(backend, {"small": 2, "large": 4})
    taken = {key: take(backend, key, accounts=("large",)) for key in ("one-1", "one-2")}
    assert set(taken.values()) == {"large"}
    assert take(backend, "one-3", accounts=("small",)) == "small"
    backend.call(ops.Release(key="one-1"))
    assert take(backend, "one-4", draw=0.9) == "large"


def test_scoped_choice_is_uniform_over_all_that_fit(one):
    """An account that cools for another scope is as likely as one that does not cool at all."""
    configure(one, dict.fromkeys("abcdef", 1))
    for account in "abc":
        one.call(ops.Cool(account=account, seconds=1000, scope="other"))
    one.call(ops.Cool(account="d", seconds=1000, scope="mine"))
    one.call(ops.Cool(account="e", seconds=0, scope="mine"))
    chance, picked = random.Random(6), Counter()
    for number in range(1000):
        picked[take(one, f"one-{number:x}", draw=chance.random(), scope="mine")] += 1
        one.call(ops.Release(key=f"one-{number:x}"))
    assert set(picked) == set("abcef")
    assert chi_square(picked, 5, 1000) < 3.0, picked


def test_slots_are_offered_to_the_oldest_waiting_process_first(world, one):
    """P-34: the line is kept between processes, and who is granted something goes to the back."""
    configure(one, {"a": 1})
    assert take(one, "one-0") == "a"
    waiting = [world.open(f"w{n}") for n in range(3)]
    for number, backend in enumerate(waiting):
        assert take(backend, f"w{number}-0", else_wants=()) is None
    last, order = (one, "one-0"), []
    for turn in range(6):
        last[0].call(ops.Release(key=last[1]))
        told = [number for number, backend in enumerate(waiting) if backend.listen(0) == ("a",)]
        assert len(told) == 1, "one slot, one offer"
        key = f"w{told[0]}-{turn + 1:x}"
        assert take(waiting[told[0]], key, offered=True, then_wants=(), else_wants=()) == "a"
        last = waiting[told[0]], key
        order += told
    assert order == [0, 1, 2, 0, 1, 2]


def test_reserved_slot_is_nobody_elses(one, two):
    """P-13, P-14: between the offer and its taking nobody barges in; after a second it passes on."""
    configure(one, {"a": 1})
    assert take(one, "one-1") == "a"
    assert take(two, "two-1", else_wants=()) is None
    one.call(ops.Release(key="one-1"))
    assert take(one, "one-2") is None
    assert dump(one).offers == {"a": 1}
    assert take(two, "two-1", offered=True) == "a"
    assert dump(one).offers == {}


def test_offer_that_is_not_taken_passes_on(world, one, two):
    """A process that does not come for its slot within a second loses it to the next."""
    configure(one, {"a": 1})
    assert take(one, "one-1") == "a"
    third = world.open("three")
    assert take(two, "two-1", else_wants=()) is None
    assert take(third, "three-1", else_wants=()) is None
    one.call(ops.Release(key="one-1"))
    assert two.listen(0) == ("a",)
    world.clock.advance(ops.OFFER_SECONDS)
    one.call(ops.Heartbeat())
    assert third.listen(0) == ("a",)
    assert take(third, "three-1", offered=True) == "a"


def test_late_release_of_an_ended_lease_frees_nobody_elses_slot(one, two):
    """P-23: a lease is ended by its own name only."""
    configure(one, {"a": 1})
    assert take(one, "one-1") == "a"
    one.call(ops.Bind("one-1", ("job",), 5.0))
    assert one.call(ops.Renew(job_id="job", ttl=0.0)).result is True
    assert take(two, "two-1") == "a"
    assert one.call(ops.Release(key="one-1")).result is None
    assert one.call(ops.Release(job_id="job")).result is None
    assert set(rows(one)) == {"two-1"}


def test_release_and_bind_in_either_order(one, two):
    """P-58: a callback may come before the job's id was stored, and in another process."""
    configure(one, {"a": 2})
    for key, job in (("one-1", "late"), ("one-2", "early")):
        assert take(one, key) == "a"
        if job == "late":
            assert one.call(ops.Bind(key, (job,), 60.0)).result == "bound"
            assert two.call(ops.Release(job_id=job)).result.key == key
        else:
            assert two.call(ops.Release(job_id=job)).result is None
            assert one.call(ops.Bind(key, (job,), 60.0)).result == "over"
    assert not rows(one)
    assert set(dump(one).done) == {"late", "early"}


def test_early_releases_are_the_last_ten_thousand(one):
    """Callbacks of strangers cannot fill the store: the oldest are dropped."""
    configure(one, {"a": 3})
    for number in range(10_002):
        one.call(ops.Release(job_id=f"job{number}"))
    said = {}
    for number in (0, 1, 2, 10_001):
        key = f"one-{number:x}"
        assert take(one, key) == "a"
        said[number] = one.call(ops.Bind(key, (f"job{number}",), 60.0)).result
        one.call(ops.Release(key=key))
    assert said == {0: "bound", 1: "bound", 2: "over", 10_001: "over"}


def test_memories_fade_after_ten_minutes(world, one):
    """What is over is not remembered for ever, however little happens."""
    configure(one, {"a": 5})
    one.call(ops.Release(job_id="job"))
    one.call(ops.Release(key="one-1"))
    world.clock.advance(599.0)
    assert take(one, "one-1") is None
    world.clock.advance(2.0)
    assert take(one, "one-1") == "a"
    assert one.call(ops.Bind("one-1", ("job",), 60.0)).result == "bound"


def test_owner_learns_once_what_others_ended(one, two):
    """A lease that an operator ends is lost to its process, which hears of it by its next sign of life."""
    configure(one, {"a": 3})
    for key in ("one-1", "one-2", "one-3"):
        assert take(one, key) == "a"
    one.call(ops.Bind("one-3", ("job",), 60.0))
    one.call(ops.Release(key="one-1"))
    two.call(ops.Release(key="one-2"))
    two.call(ops.Release(key="one-3"))
    assert one.call(ops.Heartbeat()).result == ops.HeartbeatReply(True, ("one-2",))
    assert one.call(ops.Heartbeat()).result == ops.HeartbeatReply(True, ())


def test_accounts_of_any_name_and_number_are_told_apart(one, two):
    """Ids with quotes, blanks, line breaks and wild cards are plain ids, in offers too."""
    ids = ["a", "a ", "A", "a\nb", "ü@x", "%", "_", "'", '"', "\\", "offer", "a-offer", "1", "01", "x" * 300]
    configure(one, dict.fromkeys(ids, 1))
    for number, id in enumerate(ids):
        assert take(one, f"one-{number:x}", accounts=(id,)) == id
    assert take(one, "one-more") is None
    for number, id in enumerate(ids):
        assert take(two, "two-1", else_wants=(id,)) is None
        one.call(ops.Release(key=f"one-{number:x}"))
        assert two.listen(0) == (id,)
        assert take(two, f"two-2{number:x}", offered=True, accounts=(id,)) == id
    assert set(dump(one).table.accounts) == set(ids)


def test_claim_of_one_process_is_respected_by_all(world, one, two):
    """P-55: one fetches for all; a failure's pause holds for all, but for those who insist."""
    claim = one.call(ops.Claim("fetch", 60, 30)).result
    assert claim.go
    refused = two.call(ops.Claim("fetch", 60, 30)).result
    assert (refused.go, refused.retry_in) == (False, 30.0)
    one.call(ops.Fail("fetch", claim.number, "SourceUnavailable", "HTTP 503", 10.0))
    refused = two.call(ops.Claim("fetch", 60, 30)).result
    assert (refused.go, refused.retry_in, refused.trouble) == (False, 10.0, ("SourceUnavailable", "HTTP 503"))
    insisting = two.call(ops.Claim("fetch", 0, 30)).result
    assert insisting.go
    world.clock.advance(30.0)
    late = ops.Fail("fetch", insisting.number, "X", "too late", 99.0)
    two.call(late)
    assert one.call(ops.Claim("fetch", 60, 30)).result.go, "a claim that is void cannot fail"


def test_a_claim_is_given_again_to_who_holds_it(world, one, two):
    """P-27, P-55: its first answer may have been lost; the number that nobody heard of is void."""
    lost = one.call(ops.Claim("fetch", 60, 30)).result
    again = one.call(ops.Claim("fetch", 60, 30)).result
    assert again.go
    assert again.number > lost.number
    one.call(ops.Fail("fetch", lost.number, "X", "void", 99.0))
    assert not two.call(ops.Claim("fetch", 60, 30)).result.go
    one.call(ops.Fail("fetch", again.number, "X", "over", 0.0))
    assert two.call(ops.Claim("fetch", 60, 30)).result.go


def cooldowns(backend):
    """Return the pauses: account, whether it cools still, and the lease that tries it out."""
    return [(pause.account, pause.left > 0, pause.probe) for pause in dump(backend).cooldowns]


def test_account_comes_back_one_lease_at_a_time(world, one, two):
    """P-54: after a cooldown one lease tries the account out, and only what speaks for it ends that."""
    configure(one, {"a": 3})
    one.call(ops.Cool(account="a", seconds=10.0))
    assert take(one, "one-1") is None
    world.clock.advance(10.0)
    assert take(two, "two-1") == "a"
    assert take(one, "one-1") is None
    assert cooldowns(one) == [("a", False, "two-1")]
    two.call(ops.Report(key="two-1", account="a", adverse=True))
    two.call(ops.Release(key="two-1"))
    assert cooldowns(one) == [("a", False, None)]
    assert take(one, "one-2") == "a"
    one.call(ops.Report(key="one-2", account="a", accepted=True))
    assert cooldowns(one) == []
    assert take(two, "two-2") == take(two, "two-3") == "a"


def test_cooldown_that_begins_while_a_lease_tries_the_account_out_stays(world, one):
    """P-49: the end of a probing lease does not end a cooldown that came in between."""
    configure(one, {"a": 3})
    one.call(ops.Cool(account="a", seconds=10.0))
    world.clock.advance(10.0)
    assert take(one, "one-1", scope="s") == "a"
    one.call(ops.Report(key="one-1", account="a", seconds=50.0, reason="again"))
    one.call(ops.Release(key="one-1"))
    assert cooldowns(one) == [("a", True, None)]
    assert one.call(ops.Cool(account="a", seconds=5.0)).result is True
    world.clock.advance(49.0)
    assert take(one, "one-2") is None
    world.clock.advance(1.0)
    assert take(one, "one-2") == "a"


def test_offer_that_lapses_says_nothing_about_an_account(world, one, two):
    """A slot of an account that is tried out goes back unproven if nobody comes for it."""
    configure(one, {"a": 3})
    one.call(ops.Cool(account="a", seconds=10.0))
    assert take(two, "two-1", else_wants=()) is None
    world.clock.advance(10.0)
    one.call(ops.SetWanted(None))
    assert two.listen(0) == ("a",)
    assert take(one, "one-1") is None
    two.call(ops.SetWanted(None))
    assert cooldowns(one) == [("a", False, None)]
    assert take(one, "one-2") == "a"
    assert take(one, "one-3") is None


def test_account_that_is_mended_is_tried_out_at_once(world, one):
    """P-62: a configuration that goes from bad to good ends the cooldown, and leaves the probing."""
    configure(one, {"a": 2}, a="bad")
    one.call(ops.Cool(account="a", seconds=1000.0))
    assert take(one, "one-1") is None
    configure(one, {"a": 2})
    assert take(one, "one-1") == "a"
    assert cooldowns(one) == [("a", False, "one-1")]
    assert take(one, "one-2") is None


def test_listed_job_keeps_the_longer_end(one):
    """A lease that was bound for a day is not cut short because its job is listed."""
    configure(one, {"a": 2})
    for key, ttl in (("one-1", 86_400.0), ("one-2", 5.0)):
        assert take(one, key) == "a"
        one.call(ops.Bind(key, (key,), ttl))
    claim = one.call(ops.Claim("survey", 0, 30)).result
    one.call(ops.Apply(number=claim.number, external={}, prolong=("one-1", "one-2")))
    assert {key: row.expires_in for key, row in rows(one).items()} == {"one-1": 86_400.0, "one-2": 3600.5}


def test_lease_that_two_others_ended_is_still_told_to_its_owner(world, one, two):
    """A second release by a stranger does not hide the first one from the owner."""
    configure(one, {"a": 1})
    assert take(one, "one-1") == "a"
    two.call(ops.Release(key="one-1"))
    world.open("three").call(ops.Release(key="one-1"))
    assert one.call(ops.Heartbeat()).result.ended == ("one-1",)


def only(state, ids):
    """Return what a state says of some accounts, and what is told beside it."""
    accounts = state.table.accounts if state.table is not None else {}
    detached = [record for record in state.rows if record.state != "held"]
    ends = [record.expires_in for record in detached if record.expires_in is not None]
    ends += [cooldown.left for cooldown in state.cooldowns if cooldown.left > 0]
    return ops.State(
        version=state.version,
        table=state.table and AccountTable({id: accounts[id] for id in ids if id in accounts}),
        draining=tuple(account for account in state.draining if account.id in ids),
        rows=tuple(record for record in state.rows if record.account in ids),
        cooldowns=tuple(each for each in state.cooldowns if each.account in ids),
        restrictions=tuple(each for each in state.restrictions if each.account in ids),
        external={id: jobs for id, jobs in state.external.items() if id in ids},
        owners=state.owners,
        offers={id: number for id, number in state.offers.items() if id in ids},
        detached=len(detached),
        next_end=min(ends, default=None),
    )


def test_of_some_accounts_the_same_is_told_as_of_all(world):
    """Who is turned away reads few accounts, and sees of them what who reads everything does."""
    backend = world.open("one")
    configure(backend, {"a": 3, "b": 2, "c": 1}, c="expired")
    for number, account in enumerate(("a", "a", "b", "b")):
        key = f"one-{number:x}"
        assert backend.call(ops.Acquire(key=key, accounts=(account,))).result == ops.Granted(account)
    backend.call(ops.Bind("one-1", ("job",), 120.0))
    backend.call(ops.Report(key="one-2", account="a", doubt=True))
    backend.call(ops.Cool(account="b", seconds=90.0, scope="m", reason="busy"))
    waiting = world.open("two")
    backend.call(ops.Release(key="one-3"))
    waiting.call(ops.Acquire(key="two-1", accounts=("c",), else_wants=("b",)))
    everything = dump(backend)
    for ids in (("a",), ("b", "c"), ("a", "b", "c", "unknown")):
        some = backend.call(ops.ReadSome(ids)).result
        expected = only(everything, ids)
        assert some.table.accounts == expected.table.accounts
        assert sorted(some.rows, key=str) == sorted(expected.rows, key=str)
        assert some.cooldowns == expected.cooldowns
        assert dict(some.offers) == dict(expected.offers)
        assert (some.detached, some.closed) == (2, None)
        assert some.next_end == pytest.approx(90.0)


def test_the_settings_rule_of_who_came_first_for_as_long_as_it_lives(world):
    """P-22: a rolling deploy. One says for all who is chosen, and the others are told what counts."""
    first = world.open("first", strategy="random")
    configure(first, {"a": 4, "b": 4})
    for number in range(2):
        first.call(ops.Acquire(key=f"first-{number}", accounts=("a",)))
    second = world.open("second", strategy="least_loaded", job_ttl=60.5)
    told = second.call(ops.Acquire(key="second-0", accounts=("a", "b"))).ruling
    assert (told["strategy"], told["job_ttl"]) == ("random", 3600.5)
    assert rows(second)["second-0"].account == "a"
    assert first.call(ops.Heartbeat()).ruling is None
    apart = world.open("apart", strategy="random", spaced=True)  # that is everybody's own affair
    assert apart.call(ops.Acquire(key="apart-0", accounts=("c",))).ruling is None
    apart.call(ops.SetWanted(None))

    world.kill(first)
    for seconds in (40, 40, 2):
        world.clock.advance(seconds)
        second.call(ops.Heartbeat())
    granted = second.call(ops.Acquire(key="second-1", accounts=("a", "b")))
    assert (granted.result, granted.ruling) == (ops.Granted("b"), None)


# -- learned limits ---------------------------------------------------------------------------------------


@pytest.fixture
def lasting(world):
    """Return the backends of two owners who need not say that they live."""
    return world.open("one", lease_ttl=1e6), world.open("two", lease_ttl=1e6)


def run(backend, *keys, account="a"):
    """Take leases whose jobs are taken."""
    for key in keys:
        assert take(backend, key, accounts=(account,)) == account
        backend.call(ops.Report(key=key, account=account, accepted=True))


def refuse(backend, key, account="a", **options):
    """Have the job of a lease refused with a 429, and end it; return the whole answer to the report."""
    told = {"key": key, "account": account, "seconds": 20.0, "reason": "busy", "teaches": True, **options}
    reply = backend.call(ops.Report(**told))
    backend.call(ops.Release(key=key))
    return reply


def limit_of(backend, account="a"):
    """Return what was learned of an account: a :class:`RestrictionState`, or None."""
    return next((each for each in dump(backend).restrictions if each.account == account), None)


def limited(backend, jobs=2, account="a"):
    """Have so many jobs run on an account that refuses one more."""
    keys = [f"one-{account}{number}" for number in range(jobs)]
    run(backend, *keys, account=account)
    assert take(backend, f"one-{account}-more", accounts=(account,)) == account
    assert refuse(backend, f"one-{account}-more", account).result == ops.Reported(True, False)
    return keys


def test_what_one_process_is_refused_bounds_the_account_for_all(one, two):
    """The refusal is told once, as what was learned, and the next job goes when one ends."""
    configure(one, {"a": 6})
    run(one, "one-1")
    run(two, "two-1")
    assert take(two, "two-2") == "a"
    reply = refuse(two, "two-2")
    assert reply.limits == (ops.LimitChange("a", 2, 6, False),)
    assert reply.result == ops.Reported(True, False)
    assert [take(backend, f"{name}-9") for name, backend in (("one", one), ("two", two))] == [None, None]
    assert one.call(ops.Heartbeat()).limits == ()
    two.call(ops.Release(key="two-1"))
    assert take(one, "one-3") == "a"
    assert take(two, "two-3") is None


def test_what_is_reserved_or_was_refused_or_is_in_doubt_is_no_job_that_runs_beside(world, one, two):
    """Such a slot is taken, but nobody knows of a job on it."""
    configure(one, {"a": 6})
    run(one, "one-1")
    for key in ("one-2", "one-3", "one-4", "one-5", "one-6"):
        assert take(one, key) == "a"
    one.call(ops.Report(key="one-2", account="a", doubt=True))
    one.call(ops.Report(key="one-3", account="a"))
    assert take(two, "two-1", else_wants=()) is None
    one.call(ops.Release(key="one-6"))
    assert dump(one).offers == {"a": 1}
    assert refuse(one, "one-4").limits == (ops.LimitChange("a", 2, 6, False),), "one-1 and one-5"


def test_a_job_beside_which_none_runs_teaches_nothing_and_its_account_cools(one):
    """So does one that was accepted before, whatever runs there."""
    configure(one, {"a": 6})
    assert take(one, "one-1") == "a"
    assert refuse(one, "one-1").result == ops.Reported(True, True)
    assert limit_of(one) is None
    one.call(ops.Reset("a"))
    run(one, "one-2", "one-3")
    assert refuse(one, "one-3").result == ops.Reported(True, True)
    assert limit_of(one) is None


def test_a_time_that_the_answer_names_is_waited_for_and_a_smaller_refusal_lowers_the_limit(world, one):
    """The account is limited and cools; later refusals never raise what was learned."""
    configure(one, {"a": 6})
    run(one, "one-1", "one-2", "one-3")
    for key in ("one-4", "one-5", "one-6"):
        assert take(one, key) == "a"
    assert refuse(one, "one-4", named=True).result == ops.Reported(True, True)
    assert (limit_of(one).jobs, cooldowns(one)) == (5, [("a", True, None)])
    one.call(ops.Release(key="one-1"))
    one.call(ops.Release(key="one-2"))
    assert refuse(one, "one-5").limits == (ops.LimitChange("a", 2, 6, False),)
    one.call(ops.Report(key="one-7", account="a", seconds=20.0, teaches=True))
    assert limit_of(one).jobs == 2, "beside one-3 and one-6, though the lease is unknown"


def test_a_trial_comes_by_itself_and_wakes_who_waits(world, lasting):
    """After 60 s at the limit one job more is let in, one at a time for the whole fleet."""
    one, two = lasting
    configure(one, {"a": 6})
    limited(one)
    assert take(two, "two-1", else_wants=()) is None
    assert one.call(ops.Heartbeat()).due == 60.0
    world.clock.advance(60.0)
    one.call(ops.Heartbeat())
    assert two.listen(0) == ("a",)
    assert limit_of(one).due, "what is reserved is not the trial yet"
    assert take(one, "one-9") is None
    assert take(two, "two-1", offered=True) == "a"
    assert (limit_of(one).trial, limit_of(one).due) == ("two-1", False)
    assert take(one, "one-9") is None


def test_an_accepted_trial_raises_the_limit_and_at_the_capacity_none_is_left(world, lasting):
    """The next comes 60 s later; a bind says as much as an answer, though its job is over already."""
    one, two = lasting
    configure(one, {"a": 5})
    limited(one)
    reports = {
        "two-1": lambda: two.call(ops.Report(key="two-1", account="a", accepted=True)),
        "two-2": lambda: two.call(ops.Bind("two-2", ("job",), 600.0)),
    }
    for number, (key, report) in enumerate(reports.items()):
        world.clock.advance(60.0)
        assert take(two, key) == "a"
        assert report().limits == (ops.LimitChange("a", 3 + number, 5, True),)
        assert take(one, "one-9") is None
    two.call(ops.Release(job_id="quick"))
    world.clock.advance(60.0)
    assert take(two, "two-3") == "a"
    reply = two.call(ops.Bind("two-3", ("quick",), 600.0))
    assert (reply.result, reply.limits) == ("over", (ops.LimitChange("a", 5, 5, True),))
    assert limit_of(one) is None
    assert take(one, "one-9") == "a"


def test_a_refused_trial_leaves_the_limit_and_doubles_the_wait(world, lasting):
    """To two hours at most; other refusals begin the wait again and leave it as long as it is."""
    one, _ = lasting
    configure(one, {"a": 6})
    limited(one)
    waits = []
    for number in range(9):
        world.clock.advance(limit_of(one).next_trial_in)
        key = f"one-t{number}"
        assert take(one, key) == "a"
        assert refuse(one, key).limits == ()
        waits.append(limit_of(one).wait)
    assert (waits, limit_of(one).jobs) == ([120, 240, 480, 960, 1920, 3840, 7200, 7200, 7200], 2)


ENDS = {
    "released": lambda one, two: two.call(ops.Release(key="two-1")),
    "declined": lambda one, two: two.call(ops.Report(key="two-1", account="a")),
    "in doubt": lambda one, two: two.call(ops.Report(key="two-1", account="a", doubt=True)),
    "ended by another": lambda one, two: one.call(ops.Release(key="two-1")),
}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_trial_that_ends_without_an_answer_is_followed_by_another_after_the_same_wait(world, lasting, end):
    """Nothing is learned, and the wait is counted from that end."""
    one, two = lasting
    configure(one, {"a": 6})
    limited(one)
    world.clock.advance(60.0)
    assert take(two, "two-1") == "a"
    world.clock.advance(7.0)
    assert ENDS[end](one, two).limits == ()
    after = limit_of(one)
    assert (after.jobs, after.trial, after.due, after.next_trial_in, after.wait) == (2, None, False, 60, 60)


def test_a_trial_of_a_dead_process_is_over(world, one, two):
    """However it died, the next comes after the same wait."""
    configure(one, {"a": 6})
    limited(one)
    for _ in range(2):
        world.clock.advance(30.0)
        one.call(ops.Heartbeat())
    assert take(two, "two-1") == "a"
    assert limit_of(one).trial == "two-1"
    world.kill(two)
    for _ in range(2):
        world.clock.advance(30.0)
        one.call(ops.Heartbeat())
    assert "two-1" not in rows(one)
    assert limit_of(one).trial is None
    assert 0 < limit_of(one).next_trial_in <= 60


def test_a_job_with_a_number_of_its_own_is_bound_by_the_limit_and_never_the_trial(world, lasting):
    """What replaces the capacity does not replace what was learned; where the limit leaves room it goes."""
    one, _ = lasting
    configure(one, {"a": 6})
    keys = limited(one)
    world.clock.advance(60.0)
    for asked in ({"max_jobs": 9}, {"max_jobs": 9, "accounts": ("a",)}, {"max_jobs": 9, "scope": "m"}):
        assert take(one, "one-9", **asked) is None
        assert limit_of(one).due
    one.call(ops.Release(key=keys[0]))
    assert take(one, "one-9", max_jobs=9) == "a"
    assert (limit_of(one).due, limit_of(one).trial) == (True, None)
    assert take(one, "one-b") == "a"
    assert limit_of(one).trial == "one-b"


def test_a_limit_is_gone_with_a_changed_capacity_with_healing_and_with_a_reset(world, lasting):
    """What was learned of another account, as it were, says nothing; the same table again leaves it."""
    one, _ = lasting
    configure(one, {"a": 6})
    for change in (
        lambda: configure(one, {"a": 5}),
        lambda: (configure(one, {"a": 5}, a="bad"), configure(one, {"a": 5})),
        lambda: one.call(ops.Reset("a")),
    ):
        keys = limited(one)
        configure(one, {"a": dump(one).table.accounts["a"].capacity, "b": 7})
        assert limit_of(one).jobs == 2
        change()
        assert limit_of(one) is None
        for key in keys:
            one.call(ops.Release(key=key))
        world.clock.advance(601.0)  # and the keys are forgotten


def test_choice_is_uniform_over_limited_and_other_accounts_whatever_is_asked(one):
    """P-20: with room under its limit an account is as likely as one that has none."""
    configure(one, dict.fromkeys("abcdef", 4))
    for account in "abc":
        for key in limited(one, account=account)[account == "c" :]:
            one.call(ops.Release(key=key))
    run(one, "one-c9", account="c")  # which stands at its limit, as the others do not
    chance = random.Random(7)
    for turn, asked in enumerate(({}, {"max_jobs": 3}, {"scope": "m"}, {"max_jobs": 6, "scope": "m"})):
        picked = Counter()
        for number in range(500):
            key = f"one-{turn}{number:x}"
            picked[take(one, key, draw=chance.random(), **asked)] += 1
            one.call(ops.Release(key=key))
        assert set(picked) == set("abdef")
        assert chi_square(picked, 5, 500) < 3.5, (asked, picked)


def test_a_lease_that_is_registered_again_is_what_it_was(world, one, two):
    """That its job was accepted, or refused, still counts for what the next refusal teaches."""
    configure(one, {"a": 6})
    told = {"account": "a", "state": "held", "age": 3.0}
    states = (
        ops.LeaseState(key="one-1", accepted=True, **told),
        ops.LeaseState(key="one-2", declined=True, **told),
    )
    one.call(ops.Register(states))
    live = rows(one)
    assert [(live[key].accepted, live[key].declined) for key in ("one-1", "one-2")] == [
        (True, False),
        (False, True),
    ]
    assert take(two, "two-1") == "a"
    assert refuse(two, "two-1").limits == (ops.LimitChange("a", 1, 6, False),)


def test_jobs_of_others_count_on_an_account_that_leases_were_registered_on_first(one, two):
    """The list came before the table that names the account; adoption goes on from what it counted."""
    configure(one, {"a": 1})
    number = one.call(ops.Claim("survey", 0, 60)).result.number
    one.call(ops.Apply(number=number, external={"b": 2}, listed=(("x", "b", ""),)))
    lease = ops.LeaseState(key="one-1", account="b", state="held", age=1.0)
    assert one.call(ops.Register((lease,))).result == ()
    configure(one, {"b": 3})
    assert take(two, "two-1") is None
    assert two.call(ops.Adopt("two-2", "x", "b", 60.0)).result.live
    assert two.call(ops.ReadAll()).result.external == {"b": 1}
    assert take(two, "two-3") is None
    assert two.call(ops.Release(key="one-1")).result
    assert take(two, "two-4") == "b"


# -- spacing ----------------------------------------------------------------------------------------------


def test_a_grant_leaves_its_account_alone_for_all_processes(world):
    """Meanwhile it is full, whatever is asked; who waits is offered it when the time is over."""
    one, two = (world.open(name, spaced=True) for name in ("one", "two"))
    configure(one, {"a": 3})
    assert take(one, "one-1", spacing=5.0) == "a"
    one.call(ops.Release(key="one-1"))
    for asked in ({}, {"accounts": ("a",)}, {"max_jobs": 9}, {"scope": "m"}):
        assert take(two, "two-1", **asked) is None
    told = two.call(ops.ReadSome(("a",))).result
    assert [each.spaced_for for each in told.restrictions] == [5.0]
    assert told.next_end == 5.0
    assert take(two, "two-1", else_wants=()) is None
    assert two.call(ops.Heartbeat()).due == 5.0
    world.clock.advance(5.0)
    one.call(ops.Heartbeat())
    assert two.listen(0) == ("a",)
    assert take(two, "two-1", offered=True, spacing=5.0) == "a"
    assert limit_of(one).spaced_for == 5.0


def test_of_a_spaced_account_one_slot_is_offered_at_a_time(world):
    """The next follows when the first was given back, or taken and its time is over."""
    one, two, three = (world.open(name, spaced=True) for name in ("one", "two", "three"))
    configure(one, {"a": 3})
    assert take(one, "one-1", spacing=5.0) == "a"
    for name, backend in (("two", two), ("three", three)):
        assert take(backend, f"{name}-1", else_wants=()) is None
    world.clock.advance(5.0)
    one.call(ops.Heartbeat())
    assert (two.listen(0), three.listen(0)) == (("a",), ())
    assert limit_of(one).spaced_for == ops.OFFER_SECONDS
    two.call(ops.SetWanted(None))
    assert three.listen(0) == ("a",)
    assert take(three, "three-1", offered=True, spacing=0.0) == "a"
    assert limit_of(one) is None


def test_a_slot_that_its_holder_gives_back_is_offered_as_the_only_one_of_its_account(world):
    """The account is left alone for the process that is told of it, whichever way the slot came free."""
    one, two = (world.open(name, spaced=True) for name in ("one", "two"))
    configure(one, {"a": 2})
    for number in range(2):
        assert take(one, f"one-{number}", spacing=5.0) == "a"
        world.clock.advance(5.0)
    assert take(two, "two-1", else_wants=()) is None
    one.call(ops.Release(key="one-0"))
    assert two.listen(0) == ("a",)
    assert limit_of(one).spaced_for == ops.OFFER_SECONDS
    assert take(one, "one-2") is None


# -- priority ---------------------------------------------------------------------------------------------


def test_the_line_goes_by_priority_and_then_by_arrival(world, one):
    """Among equals the oldest is first; what is higher than the highest is as high as that."""
    configure(one, {"a": 1})
    assert take(one, "one-0") == "a"
    priorities = {"low": -3, "first": 0, "second": 0, "highest": 1000, "higher": 10**6}
    waiting = {name: world.open(name) for name in priorities}
    for name, priority in priorities.items():
        assert take(waiting[name], f"{name}-1", else_wants=(), else_priority=priority) is None
    last, order = (one, "one-0"), []
    for _ in priorities:
        last[0].call(ops.Release(key=last[1]))
        (name,) = [name for name, backend in waiting.items() if backend.listen(0) == ("a",)]
        assert take(waiting[name], f"{name}-1", offered=True) == "a"
        last = waiting[name], f"{name}-1"
        order.append(name)
    assert order == ["highest", "higher", "first", "second", "low"]


def test_who_waits_keeps_its_place_when_its_priority_changes(world, one):
    """And whoever was granted something goes to the back of those with the same."""
    configure(one, {"a": 1})
    assert take(one, "one-0") == "a"
    waiting = {name: world.open(name) for name in ("x", "y", "z")}
    for name, backend in waiting.items():
        assert take(backend, f"{name}-1", else_wants=()) is None
    waiting["z"].call(ops.SetWanted((), 7))
    waiting["y"].call(ops.SetWanted(("a",), 7))
    last, order = (one, "one-0"), []
    for turn in range(4):
        last[0].call(ops.Release(key=last[1]))
        (name,) = [name for name, backend in waiting.items() if backend.listen(0) == ("a",)]
        key = f"{name}-{turn + 2}"
        assert take(waiting[name], key, offered=True, then_wants=(), then_priority=7 * (turn == 0)) == "a"
        last = waiting[name], key
        order.append(name)
    assert order == ["y", "z", "y", "x"]


def test_the_end_of_an_offer_lifts_no_spacing_of_another_pool(world):
    """Pools of one service may space their grants differently."""
    spaced, plain = world.open("spaced", spaced=True), world.open("plain")
    configure(plain, {"a": 3})
    plain.call(ops.SetWanted(()))  # it is offered a slot
    assert take(spaced, "spaced-1", accounts=("a",), spacing=60.0) == "a"
    world.clock.advance(1.0)
    plain.call(ops.SetWanted(None))
    assert take(spaced, "spaced-2") is None
    world.clock.advance(60.0)
    assert take(spaced, "spaced-3") == "a"


def test_a_process_that_dies_in_a_probe_has_proven_nothing(world):
    """P-49: one lease at a time goes on trying the account out."""
    one, two = world.open("one"), world.open("two")
    configure(one, {"a": 3})
    one.call(ops.Cool(account="a", seconds=10.0))
    world.clock.advance(10.0)
    assert take(one, "one-1") == "a"
    world.kill(one)
    for _ in range(4):
        world.clock.advance(20.0)
        two.call(ops.Heartbeat())
    assert take(two, "two-1") == "a"
    assert take(two, "two-2") is None


# -- what a dead process held, and the last list of jobs ---------------------------------------------------


def show(backend, *jobs, age=0.0, **external):
    """Have a list show jobs that no lease is bound to: (id, key of the lease that it names, or nothing)."""
    number = backend.call(ops.Claim("survey", 0, 60)).result.number
    listed = tuple((job, "a", key) for job, key in jobs)
    return backend.call(ops.Apply(number=number, external=external, listed=listed, age=age)).result


def outlive(world, backend, other):
    """Have another process die, and be missed."""
    world.kill(other)
    for _ in range(3):
        world.clock.advance(25.0)
        backend.call(ops.Heartbeat())


def states(backend):
    """Return the states of the live leases by key."""
    return {key: row.state for key, row in rows(backend).items()}


@pytest.mark.parametrize("named", [True, False], ids=["by its reference", "by no name"])
def test_a_job_that_the_list_shows_keeps_the_slot_of_a_dead_process(world, one, two, named):
    """P-5: it was killed between its create and its bind; the job runs on, and its slot is not given away."""
    configure(one, {"a": 2})
    assert [take(two, key) for key in ("two-1", "two-2")] == ["a", "a"]
    assert show(one, ("job", "two-1" if named else "")) == ()
    outlive(world, one, two)
    (kept,) = states(one).items()
    assert kept[1] == "ambiguous"
    assert not named or kept[0] == "two-1"
    assert take(one, "one-1") == "a"
    assert take(one, "one-2") is None
    number = one.call(ops.Claim("survey", 0, 60)).result.number
    one.call(ops.Apply(number=number, external={}, bind=((kept[0], "job"),)))
    assert one.call(ops.Release(job_id="job")).result.key == kept[0]
    assert take(one, "one-3") == "a"


def test_what_no_list_shows_ends_with_its_process(world, one, two):
    """Its slot is back at once, as it was: other accounts' jobs, and those of others, are no jobs of its."""
    configure(one, {"a": 3, "b": 1})
    assert [take(two, f"two-{number}", accounts=("a",)) for number in range(2)] == ["a", "a"]
    number = one.call(ops.Claim("survey", 0, 60)).result.number
    listed = (("elsewhere", "b", ""), ("stranger", "a", ""))
    one.call(ops.Apply(number=number, external={"a": 1, "b": 1}, listed=listed))
    outlive(world, one, two)
    assert states(one) == {}


def test_as_many_slots_of_the_dead_are_kept_as_there_are_jobs_that_the_living_do_not_explain(world, one, two):
    """Of three jobs without a name one may be the living process's; so of three dead ones two are kept."""
    configure(one, {"a": 9})
    for key in ("two-1", "two-2", "two-3"):
        assert take(two, key) == "a"
    assert take(one, "one-1") == "a"
    world.clock.advance(5.0)
    show(one, *((job, "") for job in ("x", "y", "z")))
    world.clock.advance(1.0)
    assert take(one, "one-2") == "a"  # too late to be the one that the list shows
    outlive(world, one, two)
    assert Counter(states(one).values()) == {"held": 2, "ambiguous": 2}


def test_what_was_granted_after_the_list_was_asked_for_is_on_no_list(world, one, two):
    """So a job that it shows without a name is not the dead process's; by a name it would be."""
    configure(one, {"a": 3})
    world.clock.advance(60.0)
    assert [take(two, key) for key in ("two-1", "two-2")] == ["a", "a"]
    show(one, ("x", ""), ("y", "two-2"), age=10.0)
    outlive(world, one, two)
    assert states(one) == {"two-2": "ambiguous"}


@pytest.mark.parametrize("known", ["bound", "adopted", "released"])
def test_a_job_that_has_a_lease_or_is_over_keeps_no_other(world, one, two, known):
    """What became of a listed job since is known: the dead process's lease stands for it no longer."""
    configure(one, {"a": 3})
    assert [take(backend, key) for backend, key in ((one, "one-1"), (two, "two-1"))] == ["a", "a"]
    show(one, ("job", ""), ("other", "two-1"))
    for job in ("job", "other"):
        if known == "bound":
            one.call(ops.Release(key="one-1"))
            assert take(one, f"one-{job}") == "a"
            assert one.call(ops.Bind(f"one-{job}", (job,), 3000.0)).result == "bound"
        elif known == "adopted":
            assert one.call(ops.Adopt(f"one-{job}", job, "a", 3000.0)).result.live
        else:
            one.call(ops.Release(job_id=job))
    outlive(world, one, two)
    assert "two-1" not in rows(one)


def test_a_listed_job_changes_nothing_for_a_living_process(one, two):
    """It binds its lease to whatever the answer named, or ends it."""
    configure(one, {"a": 2})
    assert [take(two, key) for key in ("two-1", "two-2")] == ["a", "a"]
    show(one, ("x", "two-1"), ("y", "two-2"))
    assert states(one) == {"two-1": "held", "two-2": "held"}
    assert two.call(ops.Bind("two-1", ("x-by-another-name", "x2"), 60.0)).result == "bound"
    assert two.call(ops.Release(key="two-2")).result.state == "held"
    assert states(one) == {"two-1": "bound"}


def test_a_process_that_was_missed_and_lives_holds_again_what_was_in_doubt(world):
    """Its heartbeats were late: the lease is its own again, and does not end before it says so."""
    if not world.beats:
        pytest.skip("the kernel knows who lives")
    one, two = world.open("one"), world.open("two")
    configure(one, {"a": 1})
    assert take(two, "two-1") == "a"
    show(one, ("job", "two-1"))
    for _ in range(3):
        world.clock.advance(25.0)
        one.call(ops.Heartbeat())
    assert states(one) == {"two-1": "ambiguous"}
    held = ops.LeaseState(key="two-1", account="a", state="held", age=75.0)
    assert two.call(ops.Register((held,))).result == ()
    assert states(one) == {"two-1": "held"}
    for _ in range(30):
        world.clock.advance(25.0)
        two.call(ops.Heartbeat())
    assert states(two) == {"two-1": "held"}
    assert two.call(ops.Report(key="two-1", account="a", doubt=True)).result.live
    two.call(ops.Register((held,)))  # was on its way when it said so
    assert states(two) == {"two-1": "ambiguous"}


def test_a_plan_from_before_a_process_was_found_dead_is_void(world, one, two):
    """It counts the job as the dead process's: the list is to be compared again."""
    configure(one, {"a": 1})
    assert take(two, "two-1") == "a"
    outlive(world, one, two)
    assert states(one) == {}
    assert show(one, ("job", "two-1")) is None
    assert show(one, ("job", ""), a=1) == ()
    assert take(one, "one-1") is None
    one.call(ops.Release(key="never-1"))
    assert show(one, ("job", "never-1")) == ()
