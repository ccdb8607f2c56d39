"""Backends in step with the ledger: same draws, choices from the same accounts, same ends, same states."""

from __future__ import annotations

import dataclasses

import pytest
from backends import WORLDS, settings_for
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.rules.fleet_ledger import FleetLedger, owner_of
from balancer.rules.records import LeaseRecord, SlotRequest

IDS = ("a", "b", "c", "d")
ids = st.sampled_from(IDS)
jobs = st.sampled_from(("j1", "j2", "j3"))
names_of_no_job = st.sampled_from(("#1", "#2"))
scopes = st.sampled_from((None, "s1", "s2", ""))
draws = st.floats(0, 1, exclude_max=True)
lengths = st.sampled_from((0, 1, 5, 30, 700))
wants = st.none() | st.just(()) | st.lists(ids, min_size=1, max_size=3, unique=True).map(tuple)
orders = st.none() | st.lists(ids, unique=True).map(tuple)
tables = st.dictionaries(ids, st.tuples(st.integers(1, 3), st.sampled_from((None, None, None, "bad"))))
priorities = st.sampled_from((0, 0, 0, 1, -1, 10**6))
pick = st.integers(0, 100)
some = st.lists(pick, max_size=3)


class Model(FleetLedger):
    """The rules; where a store may choose, they are told what it chose, and say whether it was free to."""

    granted = told = number = None
    """Of the operation that is compared: the account granted, who tells of offers, a number that was made."""

    def _grant(self, owner, take):
        if take.accounts is None:
            eligible = self.eligible(take)
            assert self.granted in eligible or (self.granted is None and not eligible), (
                f"{self.granted}: {eligible}"
            )
            take = take._replace(accounts=() if self.granted is None else (self.granted,))
        return super()._grant(owner, take)

    def eligible(self, take):
        """Return the accounts that a lease may be granted on."""
        slot_request = SlotRequest(LeaseRecord(take.key, scope=take.scope), max_jobs=take.max_jobs)
        fitting = [
            account_state
            for account_state in self.ledger.account_states.values()
            if self.ledger.fits(slot_request, account_state)
        ]
        return [account_state.id for account_state in self.ledger.selector.among(fitting)]

    def choose_offer(self, process, draw):
        free = {
            id
            for id, account_state in self.ledger.account_states.items()
            if account_state.fits() and (not process.wants or id in process.wants)
        }
        if not free or not self._lives_still(process):
            return next(iter(free), None)
        id = self.told(process.name)
        assert id in free, f"{process.name} was offered {id}, and could have been offered {free}"
        return id

    def _lives_still(self, process):
        return self._lives is None or self._lives(process.name)

    def _higher(self, last):
        assert self.number > last
        return self.number


class Lockstep(RuleBasedStateMachine):
    """Owners of one pool, and one who only looks."""

    World = None
    changes = {}  # noqa: RUF012  # set by the test

    def __init__(self):
        super().__init__()
        self.world = self.World()
        self.dead, self.met = set(), set()
        lives = None if self.world.beats else lambda name: name not in self.dead
        self.model = Model(settings_for(**self.changes), lives=lives)
        self.model.told = self.told
        self.owners, self.names, self.heard, self.ears = {}, 0, {}, {}
        self.keys, self.used = 0, set()
        self.ended = ["nobody-1"]
        self.watcher = self.open("watcher")
        for _ in range(3):
            self.new_owner()

    def teardown(self):
        self.world.close()

    def open(self, name):
        self.owners[name] = self.ears[name] = backend = self.world.open(name, **self.changes)
        return backend

    @property
    def now(self):
        return self.world.clock()

    def until(self, length):
        """Return a length such that nothing else ends at the same moment."""
        while self.now + length in self.used:
            length += 1
        self.used.add(self.now + length)
        return float(length)

    def someone(self, number):
        living = [name for name in self.owners if name != "watcher"]
        return living[number % len(living)]

    def some_key(self, number):
        """Return the key of a live lease, and now and then of one that has ended."""
        keys = [key for key in self.model.ledger.records if not key.endswith("-offer")]
        keys += self.ended[-2:]
        return keys[number % len(keys)]

    # -- one step -----------------------------------------------------------------------------------

    def ask(self, name, operation):
        """Carry out an operation, and see that all that comes of it is as the rules have it."""
        reply, model = self.owners[name].call(operation), self.model
        model.granted = reply.result.account if isinstance(reply.result, ops.Granted) else None
        model.number = self.number_of(operation, reply.result)
        owner = ops.Owner(name, f"host:{name}")
        expected = model.carry_out(owner, operation, self.now, lambda: 0.0, met=name in self.met)
        self.met.add(name)
        assert sorted(reply.expired, key=repr) == sorted(expected.expired, key=repr)
        assert (reply.due, reply.loose) == (expected.due, expected.loose)
        assert (reply.version, reply.ruling) == (expected.version, expected.ruling)
        assert reply.limits == expected.limits
        if isinstance(operation, ops.Acquire):
            self.same_hope(operation, reply.hope, expected.hope)
        self.ended += [gone.key for gone in reply.expired]
        if not isinstance(operation, ops.ReadAll | ops.ReadSome):
            assert alike(reply.result) == alike(expected.result)
        self.reply, self.expected = reply, expected.result
        return reply.result

    def same_hope(self, take, said, expected):
        """Check what whoever got nothing was told: Redis looks closely only where accounts are named."""
        assert expected or not said
        if take.accounts is not None and not self.model.barred(take.key):
            assert bool(said) == bool(expected)

    def number_of(self, operation, result):
        """Return the number that an operation made, of a claim or of a table."""
        if isinstance(operation, ops.Claim):
            return result.number
        return result if isinstance(operation, ops.Configure) else None

    def told(self, name):
        heard = self.heard.setdefault(name, [])
        heard += self.ears[name].listen(0)
        assert heard, f"{name} was offered nothing"
        return heard.pop(0)

    # -- operations ---------------------------------------------------------------------------------

    @initialize(config=tables)
    def load(self, config):
        self.configure(0, config, stale=False)

    @rule(
        who=pick, draw=draws, offered=st.booleans(), then=wants, otherwise=wants,
        then_priority=priorities, else_priority=priorities,
    )  # fmt: skip
    def take(self, who, then, otherwise, **options):
        self.acquire(who, then_wants=then, else_wants=otherwise, **options)

    @rule(
        who=pick, draw=draws, accounts=orders, max_jobs=st.none() | st.integers(1, 4), scope=scopes,
        offered=st.booleans(), otherwise=wants,
    )  # fmt: skip
    def take_with_constraints(self, who, otherwise, **options):
        self.acquire(who, else_wants=otherwise, **options)

    def acquire(self, who, key=None, **options):
        name = self.someone(who)
        self.keys += 1
        if self.changes["spaced"]:
            options["spacing"] = self.until(30)
        self.ask(name, ops.Acquire(key=key or f"{name}-{self.keys:x}", label="l", **options))

    @rule(who=pick, number=pick)
    def ask_twice(self, who, number):
        self.acquire(who, key=self.some_key(number), draw=0.5)

    @rule(who=pick, number=pick, draw=draws, then=st.none() | st.just(()))
    def wait_and_be_served(self, who, number, draw, then):
        """One takes any account until it has to wait, a lease ends, and it takes what it is offered."""
        for _ in range(12):
            self.acquire(who, draw=draw, else_wants=())
            if self.reply.result is None:
                break
        key = self.some_key(number)
        owner = owner_of(key)
        self.over(owner if owner in self.owners else self.someone(number), ops.Release(key=key))
        self.acquire(who, draw=draw, offered=True, then_wants=then, else_wants=())

    @rule(who=pick, number=pick)
    def end(self, who, number):
        self.over(self.someone(who), ops.Release(key=self.some_key(number)))

    @rule(who=pick, job=jobs)
    def end_by_job(self, who, job):
        self.over(self.someone(who), ops.Release(job_id=job))

    def over(self, name, end):
        self.ask(name, end)
        self.ended.append(end.key or "nobody-2")

    @rule(number=pick, some_jobs=st.lists(jobs, min_size=1, unique=True).map(tuple), ttl=lengths)
    def bind(self, number, some_jobs, ttl):
        self.ask(self.someone(number), ops.Bind(self.some_key(number), some_jobs, self.until(ttl)))

    @rule(who=pick, job=jobs, account=ids, ttl=lengths)
    def adopt(self, who, job, account, ttl):
        name = self.someone(who)
        self.keys += 1
        self.ask(name, ops.Adopt(f"{name}-{self.keys:x}", job, account, self.until(ttl)))

    @rule(number=pick, job=st.none() | jobs, ttl=st.none() | lengths)
    def renew(self, number, job, ttl):
        key = self.some_key(number) if job is None else None
        self.ask(self.someone(number), ops.Renew(key, job, None if ttl is None else self.until(ttl)))

    @rule(
        number=pick, accepted=st.booleans(), doubt=st.booleans(), adverse=st.booleans(),
        seconds=st.none() | lengths, scope=scopes, other=ids, named=st.booleans(), teaches=st.booleans(),
    )  # fmt: skip
    def judge(self, number, seconds, other, teaches, **said):
        length, key = None if seconds is None else self.until(seconds), self.some_key(number)
        record = self.model.ledger.records.get(key)
        account = other if record is None else record.account_state.id
        teaches = teaches and not (said["accepted"] or said["doubt"]) and length is not None
        report = ops.Report(
            key=key, account=account, seconds=length, reason="because", teaches=teaches, **said
        )
        self.ask(self.someone(number), report)

    @rule(account=ids, seconds=lengths, scope=scopes, worth_waiting=st.booleans())
    def cool(self, account, seconds, scope, worth_waiting):
        cool = ops.Cool(
            account=account, seconds=self.until(seconds), scope=scope, reason="r", worth_waiting=worth_waiting
        )
        self.ask(self.someone(0), cool)

    @rule(account=ids)
    def reset(self, account):
        self.ask(self.someone(1), ops.Reset(account))

    @rule(
        who=pick, what=st.sampled_from(("fetch", "survey")), max_age=st.sampled_from((0, 5, 60)),
        fails=st.none() | st.sampled_from((0.0, 30.0)), stale=st.booleans(),
    )  # fmt: skip
    def claim_and_perhaps_fail(self, who, what, max_age, fails, stale):
        number = self.claim(self.someone(who), what, max_age)
        if fails is not None:
            self.ask(self.someone(who), ops.Fail(what, number - stale, "SourceUnavailable", "away", fails))

    def claim(self, name, what, max_age=0):
        return self.ask(name, ops.Claim(what, max_age, 40.0)).number

    @rule(who=pick, config=tables, stale=st.booleans())
    def configure(self, who, config, stale):
        name = self.someone(who)
        number = self.claim(name, "fetch")
        old = self.model.table.accounts if self.model.version else {}
        new = {
            id: Account(id, capacity, {"n": 1, "s": "x"}, broken=bad)
            for id, (capacity, bad) in config.items()
        }
        put = tuple(account for account in new.values() if old.get(account.id) != account)
        gone = tuple(id for id in old if id not in new)
        before = self.model.version
        version = self.ask(name, ops.Configure(number, before - stale, AccountTable(new), put, gone))
        assert version is None or (version != before) is bool(put or gone or not before)

    @rule(
        who=pick, external=st.dictionaries(ids, st.integers(1, 3)), bind=some, prolong=some, reclaim=some,
        resolve=some, missed=some, job=jobs, age=st.sampled_from((0.0, 2.0, 40.0)),
        listed=st.dictionaries(jobs | names_of_no_job, st.tuples(ids, st.none() | pick)),
    )  # fmt: skip
    def apply(self, who, external, bind, missed, *, job, listed, age, **keys):
        name = self.someone(who)
        number = self.claim(name, "survey")
        plan = ops.Apply(
            number=number,
            external=external,
            listed=tuple(
                (job, account, "" if number is None else self.some_key(number))
                for job, (account, number) in listed.items()
            ),
            age=age,
            bind=tuple((self.some_key(n), job) for n in bind),
            missed={self.some_key(n): 1 + n % 2 for n in missed},
            **{what: tuple({self.some_key(n): 0 for n in numbers}) for what, numbers in keys.items()},
        )
        self.ask(name, plan)

    @rule(who=pick)
    def beat(self, who):
        self.ask(self.someone(who), ops.Heartbeat())

    @rule(who=pick, numbers=some, account=ids, scope=scopes)
    def register(self, who, numbers, account, scope):
        name = self.someone(who)
        self.keys += 1
        known = [account for account in IDS if account in self.model.ledger.account_states]
        keys = {self.some_key(n): 0 for n in numbers} | {f"{name}-{self.keys:x}": 0}
        states = tuple(
            ops.LeaseState(key=key, account=account, state="held", age=3.0, label="again", scope=scope)
            for key in keys
            if account in known
        )
        self.ask(name, ops.Register(states))

    @rule(who=pick, accounts=st.lists(ids, unique=True).map(tuple))
    def read_some(self, who, accounts):
        state = self.ask(self.someone(who), ops.ReadSome(accounts))
        self.same(state, self.expected)
        told = state.detached, state.next_end, state.closed
        assert told == (self.expected.detached, self.expected.next_end, self.expected.closed)

    @rule(who=pick, wanted=wants, priority=priorities)
    def wait(self, who, wanted, priority):
        self.ask(self.someone(who), ops.SetWanted(wanted, priority))

    @rule(seconds=st.sampled_from((1, 2, 5, 30, 61, 700)))
    def move_the_clock(self, seconds):
        self.world.clock.advance(seconds)

    @precondition(lambda self: len(self.owners) > 2)
    @rule(who=pick)
    def kill(self, who):
        name = self.someone(who)
        self.world.kill(self.owners.pop(name))
        self.dead.add(name)

    @rule()
    def new_owner(self):
        if len(self.owners) < 4:
            self.names += 1
            self.open(f"o{self.names}")
            self.ask(f"o{self.names}", ops.SetWanted(None))

    # -- what must hold after each --------------------------------------------------------------------

    @invariant()
    def same_state(self):
        state = self.ask("watcher", ops.ReadAll())
        self.same(state, self.expected)
        assert set(state.owners) == {owner_of(row.key) for row in self.expected.rows}

    def same(self, state, expected):
        assert by_key(state.rows) == by_key(expected.rows)
        assert set(map(as_left, state.cooldowns)) == set(map(as_left, expected.cooldowns))
        assert set(map(as_due, state.restrictions)) == set(map(as_due, expected.restrictions))
        assert state.table == expected.table
        assert {a.id for a in state.draining} == {a.id for a in expected.draining}
        assert dict(state.external) == dict(expected.external)
        assert dict(state.done) == dict(expected.done)
        assert dict(state.offers) == dict(expected.offers)
        assert state.version == expected.version

    @invariant()
    def nothing_derived_drifts(self):
        self.world.audit()


def by_key(rows):
    """Return leases by their keys."""
    return {row.key: row for row in rows}


def as_left(pause):
    """Return a cooldown; how long ago it ended is nobody's business."""
    return dataclasses.replace(pause, left=max(0.0, pause.left))


def as_due(restriction):
    """Return a restriction; when a trial would have come that is due or under way is nobody's business."""
    still = not restriction.due and restriction.trial is None
    return dataclasses.replace(restriction, next_trial_in=restriction.next_trial_in if still else 0.0)


def alike(result):
    """Return an answer in a form in which the order of keys does not count."""
    if isinstance(result, ops.HeartbeatReply):
        return result.known, sorted(result.ended)
    return sorted(result) if type(result) is tuple else result


@pytest.mark.parametrize(
    ("strategy", "lower_only", "spaced"),
    [
        ("random", False, False),
        ("random", True, True),
        ("least_loaded", False, True),
        ("least_loaded", True, False),
    ],
)
@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_backend_equals_the_ledger_after_every_step(kind, strategy, lower_only, spaced):
    """Whatever several owners ask in whatever order, a backend does what the ledger would (P-14, P-24)."""
    changes = {"strategy": strategy, "lower_only": lower_only, "spaced": spaced}
    machine = type("Machine", (Lockstep,), {"World": WORLDS[kind], "changes": changes})
    run_machine(
        machine, settings=settings(max_examples=25, stateful_step_count=30, report_multiple_bugs=False)
    )
