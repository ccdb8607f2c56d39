"""A server, a pool and a list that lags behind, in any order of events."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledgers import INTERVAL, Matching

from balancer.models import Job
from balancer.rules.records import AMBIGUOUS, BOUND, ENDED, HELD

ACCOUNTS = ("a", "b")
accounts = st.sampled_from(ACCOUNTS)
pick = st.integers(0, 50)
FOR_EVER = 1e9


@dataclass(eq=False)
class Remote:
    """A job on the server."""

    id: str
    account: str
    started: float
    ref: str | None
    finished: float | None = None
    missing_from: int = 0
    """Lists in a row that could have freed its bound lease."""

    def listed(self, seen_at):
        return self.started <= seen_at and (self.finished is None or self.finished > seen_at)


class MatchingMachine(RuleBasedStateMachine):
    with_refs = False

    def __init__(self):
        super().__init__()
        self.desk = Matching(a=3, b=3)
        self.jobs = {}
        """Row -> its job, once it was submitted."""
        self.strangers = []
        self.numbers = 0
        self.single_flight = None

    @initialize(lag=st.sampled_from((0.0, 1.0, INTERVAL - 1)))
    def choose_the_lag(self, lag):
        self.lag = lag

    def live(self, *states):
        return [row for row in self.desk.ledger.records.values() if row.state in states]

    def start(self, account, ref):
        self.numbers += 1
        return Remote(f"job-{self.numbers}", account, self.desk.now, ref)

    # -- the pool's users -------------------------------------------------------------------------

    @rule(account=accounts, submitted=st.booleans())
    def hold(self, account, submitted):
        self.acquire(account, "submitted" if submitted else "held")

    def acquire(self, account, outcome):
        row = self.desk.take(account)
        if row is None:
            return
        if outcome in ("submitted", "bound", "lost with its job"):
            self.jobs[row] = self.start(account, str(row.key) if self.with_refs else None)
        if outcome == "bound":
            self.desk.bind(row, self.jobs[row].id, FOR_EVER)
        if outcome.startswith("lost"):
            self.desk.ledger.doubt(row, FOR_EVER, self.desk.now)

    @rule(account=accounts)
    def run_a_job(self, account):
        self.acquire(account, "bound")

    @rule(account=accounts, started=st.booleans())
    def lose_an_answer(self, account, started):
        self.acquire(account, "lost with its job" if started else "lost without")

    @precondition(lambda self: [row for row in self.live(HELD, AMBIGUOUS) if row in self.jobs])
    @rule(number=pick)
    def bind(self, number):
        ready = [row for row in self.live(HELD, AMBIGUOUS) if row in self.jobs]
        row = ready[number % len(ready)]
        self.desk.bind(row, self.jobs[row].id, FOR_EVER)

    @precondition(lambda self: self.running())
    @rule(number=pick, told=st.booleans())
    def finish(self, number, told):
        running = self.running()
        job = running[number % len(running)]
        job.finished = self.desk.now
        if told:
            self.desk.release_job(job.id)

    @precondition(lambda self: self.live(HELD))
    @rule(number=pick)
    def give_up_before_submitting(self, number):
        fresh = [row for row in self.live(HELD) if row not in self.jobs]
        if fresh:
            self.desk.release(fresh[number % len(fresh)])

    # -- the rest of the world ----------------------------------------------------------------------

    @rule(account=accounts)
    def stranger_starts(self, account):
        if len(self.strangers) < 6:
            self.strangers.append(self.start(account, None))

    @precondition(lambda self: [job for job in self.strangers if job.finished is None])
    @rule(number=pick)
    def stranger_finishes(self, number):
        running = [job for job in self.strangers if job.finished is None]
        running[number % len(running)].finished = self.desk.now

    @rule(seconds=st.sampled_from((0.5, INTERVAL / 2, INTERVAL, 2 * INTERVAL)))
    def let_time_pass(self, seconds):
        self.desk.at(self.desk.now + seconds)

    # -- the list -----------------------------------------------------------------------------------

    def running(self):
        return [job for job in self.jobs.values() if job.finished is None]

    @precondition(lambda self: self.single_flight is None)
    @rule()
    def request(self):
        seen_at = self.desk.now - self.lag
        listed = [job for job in (*self.jobs.values(), *self.strangers) if job.listed(seen_at)]
        rows = tuple(Job(job.id, job.account, job.ref) for job in listed)
        self.single_flight = (self.desk.snapshot(), rows)

    @precondition(lambda self: self.single_flight is not None)
    @rule()
    def land(self):
        before, rows = self.single_flight
        self.single_flight = None
        bound = {row: row.state_since for row in self.live(BOUND)}
        plan = self.desk.compare(*rows, before=before)
        self.desk.apply(plan)
        for row in plan.reclaim:
            assert self.jobs[row].finished is not None, "the slot of a running job was freed"
        for row, since in bound.items():
            self.count_lists_that_could_free(row, before.requested_at - since >= INTERVAL, rows)

    @precondition(lambda self: self.single_flight is None)
    @rule(times=st.integers(1, 3))
    def reconcile_at_once(self, times):
        for _ in range(times):
            self.request()
            self.land()
            self.check_external()

    def check_external(self):
        if self.lag or self.live(HELD, AMBIGUOUS):
            return
        strange = [job for job in (*self.running(), *self.strangers) if job.id not in self.desk.ledger.jobs]
        for account in ACCOUNTS:
            expected = sum(job.account == account and job.finished is None for job in strange)
            assert self.desk.ledger.account_states[account].external == expected

    def count_lists_that_could_free(self, row, had_its_time, rows):
        job = self.jobs[row]
        # A job may end in the very instant after the list was made that still has it.
        if had_its_time and job.finished is not None and job.id not in {listed.id for listed in rows}:
            job.missing_from += 1
            assert job.missing_from < 2 or row.state == ENDED, "a slot outlived two lists without its job"

    # -- what must hold -------------------------------------------------------------------------------

    @invariant()
    def every_running_job_of_ours_has_its_slot(self):
        for account in ACCOUNTS:
            running = sum(job.account == account for job in self.running())
            account_state = self.desk.ledger.account_states[account]
            assert running <= len(account_state.held) + account_state.external
            assert len(account_state.held) <= account_state.account.capacity

    def teardown(self):
        """Once all jobs are over and two lists have said so, nothing but unbound leases is left."""
        for job in (*self.running(), *self.strangers):
            job.finished = self.desk.now if job.finished is None else job.finished
        self.single_flight = None
        for _ in range(2):
            self.desk.at(self.desk.now + 2 * INTERVAL)
            self.request()
            self.land()
        assert self.live(BOUND, AMBIGUOUS) == []
        assert self.desk.ledger.external == {}


@pytest.mark.parametrize("with_refs", [True, False], ids=["with replyRef", "without"])
def test_no_running_job_is_freed_and_every_finished_one_is_within_two_lists(with_refs):
    """Reconciliation may neither free what runs nor keep what is over, however lists lag (P-58)."""
    machine = type("Machine", (MatchingMachine,), {"with_refs": with_refs})
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=40))
