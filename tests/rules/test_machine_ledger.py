"""The ledger in step with a naive one, through every operation in any order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from in_step import InStep
from ledgers import learn

from balancer.models import Account, AccountTable
from balancer.rules.ledger import Changes
from balancer.rules.records import LeaseRecord, SlotRequest

IDS = ("a", "b", "c")
JOBS = ("j1", "j2", "j3")
ids = st.sampled_from(IDS)
jobs = st.sampled_from(JOBS)
scopes = st.sampled_from((None, "s1", "s2"))
subsets = st.sampled_from((None, None, *map(frozenset, ("a", "b", "ab", "bc", "abc", "x", ""))))
draws = st.floats(0, 1, exclude_max=True)
lengths = st.sampled_from((0.0, 1.0, 5.0, 30.0, 700.0))
entries = st.sampled_from(((1, None), (2, None), (3, None), (3, None), (3, "bad"), None))
tables = st.fixed_dictionaries(dict.fromkeys(IDS, entries)).map(
    lambda table: {id: entry for id, entry in table.items() if entry}
)
pick = st.integers(0, 100)


class LedgerMachine(InStep):
    def row(self, number: int) -> LeaseRecord:
        return self.ledger.records[self.model.leases[number % len(self.model.leases)].key]

    @initialize(config=tables, cooled=st.booleans(), scope=scopes)
    def load(self, config, cooled, scope):
        self.configure(config)
        if cooled:
            for number in range(len(config)):
                self.cool(number, scope, 1.0, worth_waiting=True)
            self.move_the_clock(1.0)

    # -- operations -------------------------------------------------------------------------------

    @rule(draw=draws, accounts=subsets, max_jobs=st.none() | st.integers(1, 4), scope=scopes)
    def acquire_with_constraints(self, draw, accounts, max_jobs, scope):
        self.acquire(draw, accounts, max_jobs, scope)

    @rule(draws=st.lists(draws, min_size=1, max_size=3))
    def acquire_any(self, draws):
        for draw in draws:
            self.acquire(draw, None, None, None)

    @rule(draw=draws, scope=scopes)
    def acquire_for_a_scope(self, draw, scope):
        self.acquire(draw, None, None, scope)

    def acquire(self, draw, accounts, max_jobs, scope):
        self.keys += 1
        row = LeaseRecord(self.keys, scope=scope)
        if max_jobs is not None:
            row.max_jobs = max_jobs
        slot_request = SlotRequest(row, draw, accounts, max_jobs)
        expected = self.model.eligible(accounts, max_jobs, scope)
        assert self.ledger.hopeless(slot_request) is self.model.hopeless(accounts, scope)
        taken = {
            id: len(account_state.held) + account_state.external
            for id, account_state in self.ledger.account_states.items()
        }
        granted = self.ledger.take(slot_request, self.now)
        assert granted is bool(expected)
        if not granted:
            return
        account = row.account_state.id
        assert account in expected
        assert taken[account] < self.model.bound(account, max_jobs)
        if accounts is not None or max_jobs is not None:
            assert account == expected[int(draw * len(expected))]
        self.model.grant(self.keys, account, scope, max_jobs)
        assert self.ledger.take(slot_request, self.now), "a live lease is granted already"
        assert row.account_state.id == account

    @precondition(lambda self: self.model.leases)
    @rule(number=pick, abandoned=st.booleans())
    def release(self, number, abandoned):
        row = self.row(number)
        lease = self.model.lease(row.key)
        if abandoned:
            self.ledger.end(row, self.now)
            self.model.end(lease)
        else:
            self.ledger.end(row, self.now, released=True)
            self.model.release(lease)
        assert row.state == "ended"

    @rule(job=jobs)
    def release_by_job(self, job):
        row, _ = self.ledger.end_job(job, self.now)
        lease = self.model.release_job(job)
        assert (row.key if row else None) == (lease.key if lease else None)
        if row:
            self.ledger.end(row, self.now, released=True)

    @precondition(lambda self: self.model.leases)
    @rule(number=pick, job=jobs, ttl=lengths)
    def bind(self, number, job, ttl):
        row = self.row(number)
        expected = self.model.bind(self.model.lease(row.key), job, self.now + ttl)
        if expected is None:
            with pytest.raises(ValueError, match="job_id"):
                self.ledger.bind(row, (job,), self.now + ttl, self.now)
        else:
            assert self.ledger.bind(row, (job,), self.now + ttl, self.now) is expected

    @precondition(lambda self: self.model.leases)
    @rule(number=pick, ttl=lengths)
    def doubt(self, number, ttl):
        row = self.row(number)
        self.ledger.doubt(row, self.now + ttl, self.now)
        self.model.doubt(self.model.lease(row.key), self.now + ttl)

    @precondition(lambda self: any(lease.end is not None for lease in self.model.leases))
    @rule(number=pick, ttl=lengths, listed=st.booleans())
    def renew(self, number, ttl, listed):
        ending = [lease for lease in self.model.leases if lease.end is not None]
        lease = ending[number % len(ending)]
        row, end = self.ledger.records[lease.key], self.now + ttl
        if listed:
            self.ledger.prolong(row, end)
        else:
            self.ledger.set_end(row, end)
        lease.end = max(lease.end, end) if listed else end

    @precondition(lambda self: self.model.leases)
    @rule(number=pick, accepted=st.booleans())
    def report(self, number, accepted):
        row = self.row(number)
        lease = self.model.lease(row.key)
        if accepted:
            self.ledger.accept(row, self.now)
            self.model.accept(lease)
        else:
            self.ledger.decline(row, self.now)
            self.model.decline(lease)
            row.adverse = lease.adverse = True

    @precondition(lambda self: self.model.leases)
    @rule(number=pick)
    def refuse(self, number):
        self.refuse_one(self.row(number))

    def refuse_one(self, row):
        lease = self.model.lease(row.key)
        assert learn(self.ledger, row, self.now) is self.model.refuse(lease)
        self.ledger.decline(row, self.now)
        self.model.decline(lease)
        row.adverse = lease.adverse = True

    @precondition(lambda self: self.model.lessons)
    @rule(number=pick, draw=draws, answer=st.sampled_from(("taken", "refused", "none")))
    def try_one_more(self, number, draw, answer):
        account = sorted(self.model.lessons)[number % len(self.model.lessons)]
        lesson = self.model.lessons[account]
        self.move_the_clock(max(0.0, lesson.since + lesson.wait - self.now))
        if account not in self.model.lessons:
            return
        self.acquire(draw, frozenset({account}), None, None)
        if answer != "none" and self.keys in self.ledger.records:
            row = self.ledger.records[self.keys]
            if answer == "taken":
                self.ledger.accept(row, self.now)
                self.model.accept(self.model.lease(row.key))
            else:
                self.refuse_one(row)

    @precondition(lambda self: self.ledger.account_states)
    @rule(number=pick, scope=scopes, seconds=lengths, worth_waiting=st.booleans())
    def cool_down(self, number, scope, seconds, worth_waiting):
        self.cool(number, scope, seconds, worth_waiting=worth_waiting)

    def cool(self, number, scope, seconds, *, worth_waiting):
        account = sorted(self.ledger.account_states)[number % len(self.ledger.account_states)]
        until = self.now + seconds
        self.ledger.cool(self.ledger.account_states[account], scope, until, "because", worth_waiting)
        self.model.cool(account, scope, until, worth_waiting)

    @precondition(lambda self: any(not c.over for c in self.model.cooldowns))
    @rule()
    def let_a_cooldown_end(self):
        self.move_the_clock(max(0.0, min(c.until for c in self.model.cooldowns if not c.over) - self.now))

    @precondition(lambda self: any(c.over for c in self.model.cooldowns))
    @rule(number=pick, draw=draws, adverse=st.booleans())
    def probe(self, number, draw, adverse):
        probing = [c for c in self.model.cooldowns if c.over]
        cooldown = probing[number % len(probing)]
        self.acquire(draw, frozenset({cooldown.account}), None, cooldown.scope)
        if self.model.leases and self.model.leases[-1].key == self.keys:
            self.ledger.records[self.keys].adverse = self.model.leases[-1].adverse = adverse

    @precondition(lambda self: self.ledger.account_states)
    @rule(number=pick)
    def reset(self, number):
        account = sorted(self.ledger.account_states)[number % len(self.ledger.account_states)]
        self.ledger.reset(self.ledger.account_states[account])
        self.model.reset(account)

    @rule(config=tables)
    def fetch(self, config):
        self.configure(config)

    def configure(self, config):
        entries = {id: Account(id, capacity, broken=bad) for id, (capacity, bad) in config.items()}
        table = AccountTable(entries)
        self.ledger.configure(Changes.between(self.table, table))
        self.table = table
        self.model.configure(config)

    @rule(external=st.sampled_from(({}, {}, {"a": 1}, {"a": 3, "c": 1}, {"b": 1, "x": 1})))
    def list_jobs_of_others(self, external):
        self.ledger.set_external(external)
        self.model.external = external
        self.model.forget()

    @rule(seconds=lengths)
    def let_time_pass(self, seconds):
        self.move_the_clock(seconds)

    def move_the_clock(self, seconds):
        before = {lease.key for lease in self.model.leases}
        self.model.move(seconds)
        expired, _ = self.ledger.due(self.now)
        assert {row.key for row in expired} == before - {lease.key for lease in self.model.leases}

    @rule()
    def recount(self):
        self.ledger.recount()


@pytest.mark.parametrize("lower_only", [False, True])
@pytest.mark.parametrize("strategy", ["random", "least_loaded"])
def test_ledger_equals_a_naive_one_after_every_step(strategy, lower_only):
    """Whatever happens in whatever order: no grant over capacity, and nothing derived drifts (P-14, P-24)."""
    machine = type("Machine", (LedgerMachine,), {"strategy": strategy, "lower_only": lower_only})
    run_state_machine_as_test(machine, settings=settings(max_examples=80, stateful_step_count=40))
