"""What one process does for all, by itself: what it asks of a store, and what it makes of the answers."""

from __future__ import annotations

import pytest

from balancer.errors import SourceUnavailable, StoreUnavailable, Unauthorized
from balancer.models import Account, AccountTable, JobList
from balancer.rules import operations as ops
from balancer.rules.ledger import Ledger
from balancer.rules.reconciliation import Plan
from balancer.stores.fleet_tasks import FleetTasks
from balancer.stores.snapshot import fill

TABLE = AccountTable({"a": Account("a", 2)})


class Store:
    """A store that answers as it is told: what was asked, and the answers that are left of each kind."""

    def __init__(self, **answers):
        self.answers = {getattr(ops, kind): list(given) for kind, given in answers.items()}
        self.asked, self.reconciled, self.kept_alive = [], [], 0
        self.tasks = FleetTasks(
            call=self.call,
            ledger=lambda state: fill(Ledger("random", self.now), state, self.now()),
            now=self.now,
            keep_alive=self.keep_alive,
            on_reconciled=lambda plan, ended: self.reconciled.append((plan, ended)),
        )

    def now(self):
        return 1000.0

    def keep_alive(self):
        self.kept_alive += 1

    def call(self, operation, patience):
        self.asked.append(operation)
        answer = self.answers[type(operation)].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def kinds(self):
        return [type(operation).__name__ for operation in self.asked]


def test_who_has_the_claim_asks_the_source_and_puts_the_table_in_force():
    """The claim is held while the source is asked, and given back with the table."""
    store = Store(Claim=[ops.Claimed(True, 7)], ReadTable=[None], Configure=[3])
    claims = []

    def ask():
        claims.append(store.tasks.claims)
        return TABLE

    table, age = store.tasks.fetch(ask, max_age=60.0)
    assert (table.accounts, table.version, age) == (TABLE.accounts, 3, 0.0)
    assert claims == [1]
    assert (store.tasks.claims, store.kept_alive) == (0, 1)
    assert store.kinds == ["Claim", "ReadTable", "Configure"]
    configure = store.asked[-1]
    assert (configure.number, configure.base, configure.put) == (7, 0, (TABLE.accounts["a"],))


def test_what_another_process_has_fetched_is_taken_over():
    """Nobody asks the source for what is fresh."""
    store = Store(Claim=[ops.Claimed(False, age=5.0)], ReadTable=[ops.Configured(4, TABLE, 5.0)])
    table, age = store.tasks.fetch(pytest.fail, max_age=60.0)
    assert (table.version, age) == (4, 5.0)


def test_a_failure_is_told_to_all_with_a_pause_that_grows():
    """Each failure in a row doubles it, a success ends that, and what the source asked for is longer."""
    failed = SourceUnavailable("down")
    store = Store(
        Claim=[ops.Claimed(True, number) for number in range(5)],
        Fail=[None] * 4,
        ReadTable=[None],
        Configure=[1],
    )
    for _ in range(2):
        assert store.tasks.fetch(lambda: failed, 60.0) == (failed, 0.0)
    store.tasks.fetch(lambda: TABLE, 60.0)
    store.tasks.fetch(lambda: failed, 60.0)
    slow = SourceUnavailable("later")
    slow.retry_after = 90.0
    store.tasks.fetch(lambda: slow, 60.0)
    cooldowns = [operation.pause for operation in store.asked if isinstance(operation, ops.Fail)]
    assert cooldowns == [1.0, 2.0, 1.0, 90.0]


def test_what_another_process_failed_with_is_what_this_one_says():
    """The error is of the same type, with the same text."""
    store = Store(Claim=[ops.Claimed(False, retry_in=3.0, trouble=("Unauthorized", "no such token"))])
    error, _ = store.tasks.fetch(pytest.fail, 60.0)
    assert type(error) is Unauthorized
    assert "no such token" in str(error)


def test_a_store_that_is_away_is_an_answer_and_no_exception():
    """The thread that was made for it has nobody to raise it to."""
    away = StoreUnavailable("gone")
    store = Store(Claim=[away, away])
    assert store.tasks.fetch(pytest.fail, 60.0) == (away, 0.0)
    assert store.tasks.reconcile(pytest.fail, lambda: True, 30.0, 0.0) is away


def test_a_list_of_jobs_is_compared_with_what_the_store_holds_and_told():
    """What is not ours counts as external, and whoever is told hears of the ends that the store confirmed."""
    state = ops.State(version=1, table=TABLE)
    store = Store(Claim=[ops.Claimed(True, 9)], ReadAll=[state, state], Apply=[("gone-1",)])
    plan = store.tasks.reconcile(JobList, lambda: True, 30.0, 0.0)
    assert isinstance(plan, Plan)
    assert store.asked[-1].number == 9
    assert store.reconciled == [(plan, frozenset({"gone-1"}))]


def test_a_list_that_nobody_wants_any_more_changes_nothing():
    """The claim is given back, and the store is not told of the list."""
    state = ops.State(version=1, table=TABLE)
    store = Store(Claim=[ops.Claimed(True, 9)], ReadAll=[state], Fail=[None])
    outcome = store.tasks.reconcile(JobList, lambda: False, 30.0, 0.0)
    assert isinstance(outcome, SourceUnavailable)
    assert store.kinds == ["Claim", "ReadAll", "Fail"]
    assert store.reconciled == []
