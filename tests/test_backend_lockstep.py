"""Backends in step with the ledger: same draws, choices from the same accounts, same ends, same states."""

from __future__ import annotations

import pytest
from backends import WORLDS, settings_for
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from store_model import StoreModel

from balancer.models import Account, AccountTable
from balancer.rules.records import HELD
from balancer.stores import operations as ops

IDS = ("a", "b", "c", "d")
ids = st.sampled_from(IDS)
jobs = st.sampled_from(("j1", "j2", "j3"))
scopes = st.sampled_from((None, "s1", "s2", ""))
draws = st.floats(0, 1, exclude_max=True)
lengths = st.sampled_from((0, 1, 5, 30, 700))
wants = st.none() | st.just(()) | st.lists(ids, min_size=1, max_size=3, unique=True).map(tuple)
orders = st.none() | st.lists(ids, unique=True).map(tuple)
tables = st.dictionaries(ids, st.tuples(st.integers(1, 3), st.sampled_from((None, None, None, "bad"))))
pick = st.integers(0, 100)
some = st.lists(pick, max_size=3)


class Lockstep(RuleBasedStateMachine):
    """Owners of one pool, and one who only looks."""

    World = None
    changes = {}  # noqa: RUF012  # set by the test

    def __init__(self):
        super().__init__()
        self.world = self.World()
        self.model = StoreModel(settings_for(**self.changes), beats=self.world.beats)
        self.owners, self.names, self.heard, self.ears = {}, 0, {}, {}
        self.keys, self.used, self.version = 0, set(), 0
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
        """Carry out an operation; return its answer once all that comes with it is as in the model."""
        model, joins = self.model, not isinstance(operation, ops.Heartbeat | ops.Register)
        reply = self.owners[name].call(operation)
        self.expected_expired = model.settle(self.now, name, joins=joins)
        self.reply, self.caller = reply, name
        return reply.result

    def check(self):
        """Compare what was offered, what has ended, and what is due, once the operation is modelled."""
        expired = self.expected_expired + self.model.offer(self.told)
        assert sorted(self.reply.expired, key=repr) == sorted(expired, key=repr)
        assert self.reply.due == self.model.due
        assert self.reply.loose == self.model.loose
        self.ended += [gone.key for gone in expired]

    def told(self, name):
        heard = self.heard.setdefault(name, [])
        heard += self.ears[name].listen(0)
        assert heard, f"{name} was offered nothing"
        return heard.pop(0)

    # -- operations ---------------------------------------------------------------------------------

    @initialize(config=tables)
    def load(self, config):
        self.configure(0, config, stale=False)

    @rule(who=pick, draw=draws, offered=st.booleans(), then=wants, otherwise=wants)
    def take(self, who, draw, offered, then, otherwise):
        self.acquire(who, draw=draw, offered=offered, then_wants=then, else_wants=otherwise)

    @rule(
        who=pick, draw=draws, accounts=orders, max_jobs=st.none() | st.integers(1, 4), scope=scopes,
        offered=st.booleans(), otherwise=wants,
    )  # fmt: skip
    def take_with_constraints(self, who, otherwise, **options):
        self.acquire(who, else_wants=otherwise, **options)

    def acquire(self, who, key=None, **options):
        name = self.someone(who)
        self.keys += 1
        take = ops.Acquire(key=key or f"{name}-{self.keys:x}", label="l", **options)
        result = self.ask(name, take)
        self.model.take(name, take, None if result is None else result.account)
        self.check()

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
        owner = key.rpartition("-")[0]
        self.over(owner if owner in self.owners else self.someone(number), ops.Release(key=key))
        self.acquire(who, draw=draw, offered=True, then_wants=then, else_wants=())

    @rule(who=pick, number=pick)
    def end(self, who, number):
        self.over(self.someone(who), ops.Release(key=self.some_key(number)))

    @rule(who=pick, job=jobs)
    def end_by_job(self, who, job):
        self.over(self.someone(who), ops.Release(job_id=job))

    def over(self, name, end):
        result = self.ask(name, end)
        assert result == self.model.end(name, end)
        self.check()
        self.ended.append(end.key or "nobody-2")

    @rule(number=pick, job=jobs, ttl=lengths)
    def bind(self, number, job, ttl):
        bind = ops.Bind(self.some_key(number), job, self.until(ttl))
        result = self.ask(self.someone(number), bind)
        assert result == self.model.bind(bind)
        self.check()

    @rule(number=pick, job=st.none() | jobs, ttl=st.none() | lengths)
    def renew(self, number, job, ttl):
        key = self.some_key(number) if job is None else None
        renew = ops.Renew(key, job, None if ttl is None else self.until(ttl))
        result = self.ask(self.someone(number), renew)
        assert result is self.model.renew(renew)
        self.check()

    @rule(
        number=pick, accepted=st.booleans(), doubt=st.booleans(), adverse=st.booleans(),
        seconds=st.none() | lengths, scope=scopes,
    )  # fmt: skip
    def judge(self, number, seconds, **said):
        length = None if seconds is None else self.until(seconds)
        judge = ops.Report(key=self.some_key(number), seconds=length, reason="because", **said)
        result = self.ask(self.someone(number), judge)
        assert result is self.model.judge(judge)
        self.check()

    @rule(account=ids, seconds=lengths, scope=scopes, worth_waiting=st.booleans())
    def cool(self, account, seconds, scope, worth_waiting):
        cool = ops.Cool(
            account=account, seconds=self.until(seconds), scope=scope, reason="r", worth_waiting=worth_waiting
        )
        result = self.ask(self.someone(0), cool)
        assert result is self.model.cool(cool)
        self.check()

    @rule(account=ids)
    def reset(self, account):
        reset = ops.Reset(account)
        result = self.ask(self.someone(1), reset)
        assert result is self.model.reset(reset)
        self.check()

    @rule(
        who=pick, what=st.sampled_from(("fetch", "survey")), max_age=st.sampled_from((0, 5, 60)),
        fails=st.none() | st.sampled_from((0.0, 30.0)), stale=st.booleans(),
    )  # fmt: skip
    def claim_and_perhaps_fail(self, who, what, max_age, fails, stale):
        number = self.claim(self.someone(who), what, max_age)
        if fails is not None:
            fail = ops.Fail(what, number - stale, "SourceUnavailable", "away", fails)
            result = self.ask(self.someone(who), fail)
            assert result is None
            self.model.fail(fail)
            self.check()

    def claim(self, name, what, max_age=0):
        claim = ops.Claim(what, max_age, 40.0)
        result = self.ask(name, claim)
        assert result == self.model.claim(name, claim, result.number)
        self.check()
        return result.number

    @rule(who=pick, config=tables, stale=st.booleans())
    def configure(self, who, config, stale):
        name = self.someone(who)
        number = self.claim(name, "fetch")
        old = self.model.table.accounts if self.model.table else {}
        new = {
            id: Account(id, capacity, {"n": 1, "s": "x"}, broken=bad)
            for id, (capacity, bad) in config.items()
        }
        put = tuple(account for account in new.values() if old.get(account.id) != account)
        gone = tuple(id for id in old if id not in new)
        operation = ops.Configure(number, self.version - stale, AccountTable(new), put, gone)
        result = self.ask(name, operation)
        before = self.model.changes
        done = self.model.configure(operation, base_is_current=not stale)
        self.check()
        assert (result is not None) is done
        if done:
            assert (result != self.version) is (self.model.changes != before)
            self.version = result
        assert self.reply.version == self.version

    @rule(
        who=pick, external=st.dictionaries(ids, st.integers(1, 3)), bind=some, prolong=some, reclaim=some,
        resolve=some, missed=some, job=jobs,
    )  # fmt: skip
    def apply(self, who, external, bind, missed, job, **keys):
        name = self.someone(who)
        number = self.claim(name, "survey")
        plan = ops.Apply(
            number=number,
            external=external,
            bind=tuple((self.some_key(n), job) for n in bind),
            missed={self.some_key(n): 1 + n % 2 for n in missed},
            **{what: tuple({self.some_key(n): 0 for n in numbers}) for what, numbers in keys.items()},
        )
        result = self.ask(name, plan)
        expected = self.model.apply(plan)
        self.check()
        assert (result is None) == (expected is None)
        assert sorted(result or ()) == sorted(expected or ())

    @rule(who=pick)
    def beat(self, who):
        name = self.someone(who)
        result = self.ask(name, ops.Heartbeat())
        expected = self.model.beat(name)
        self.check()
        assert result.known is expected.known
        assert set(expected.ended) <= set(result.ended) <= set(self.model.told_late) | set(expected.ended)

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
        result = self.ask(name, ops.Register(states))
        expected = self.model.register(name, ops.Register(states))
        self.check()
        assert sorted(result) == sorted(expected)

    @rule(who=pick, wanted=wants)
    def wait(self, who, wanted):
        name = self.someone(who)
        result = self.ask(name, ops.SetWanted(wanted))
        assert result is None
        self.model.want(name, wanted)
        self.check()

    @rule(seconds=st.sampled_from((1, 2, 5, 30, 61, 700)))
    def move_the_clock(self, seconds):
        self.world.clock.advance(seconds)

    @precondition(lambda self: len(self.owners) > 2)
    @rule(who=pick)
    def kill(self, who):
        name = self.someone(who)
        self.world.kill(self.owners.pop(name))
        self.model.dead.add(name)

    @rule()
    def new_owner(self):
        if len(self.owners) < 4:
            self.names += 1
            self.open(f"o{self.names}")
            self.ask(f"o{self.names}", ops.SetWanted(None))
            self.check()

    # -- what must hold after each --------------------------------------------------------------------

    @invariant()
    def same_state(self):
        state = self.ask("watcher", ops.ReadAll())
        ledger, now = self.model.ledger, self.now
        real = [row for row in ledger.records.values() if not row.key.endswith("-offer")]
        assert {row.key: row for row in state.rows} == {row.key: as_state(row, now) for row in real}
        assert {
            (p.account, p.scope, max(0.0, p.left), p.reason, p.worth_waiting, p.probe)
            for p in state.cooldowns
        } == {
            (id, p.scope, max(0.0, p.until - now) if p.cooling else 0.0, p.reason, p.worth_waiting, p.probe)
            for id, account_state in ledger.account_states.items()
            for p in account_state.cooldowns.values()
        }
        assert state.table == self.model.table
        assert {a.id for a in state.draining} == {id for id, t in ledger.account_states.items() if t.draining}
        assert dict(state.external) == dict(ledger.external)
        assert dict(state.done) == {job: now - at for job, at in ledger.done.items()}
        assert set(state.owners) == {row.key.rpartition("-")[0] for row in real}
        offered = [row.account_state.id for row, _ in self.model.offers.values()]
        assert dict(state.offers) == {id: offered.count(id) for id in offered}
        assert state.version == self.version == self.reply.version
        self.check()

    @invariant()
    def nothing_derived_drifts(self):
        self.world.audit()


def as_state(row, now):
    """Return a lease of the model as a store tells of it."""
    held = row.state is HELD
    return ops.LeaseState(
        key=row.key,
        account=row.account_state.id,
        state=row.state,
        age=now - row.held_since,
        label=row.label,
        scope=row.scope,
        job_id=row.job_id,
        state_age=0.0 if held else now - row.state_since,
        expires_in=None if held else row.end - now,
        adverse=row.adverse,
        missed=row.missed,
    )


@pytest.mark.parametrize("lower_only", [False, True])
@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_backend_equals_the_ledger_after_every_step(kind, strategy, lower_only):
    """Whatever several owners ask in whatever order, a backend does what the ledger would (P-14, P-24)."""
    changes = {"strategy": strategy, "lower_only": lower_only}
    machine = type("Machine", (Lockstep,), {"World": WORLDS[kind], "changes": changes})
    run_machine(
        machine, settings=settings(max_examples=25, stateful_step_count=30, report_multiple_bugs=False)
    )
