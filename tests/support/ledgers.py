"""A ledger to try things on: accounts by name and capacity, a clock that is a number, leases by key."""

from __future__ import annotations

import itertools

from balancer.models import Account, AccountTable, Job, JobList
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.reconciliation import Snapshot, reconcile_jobs
from balancer.rules.records import LeaseRecord, SlotRequest
from balancer.stores.base import report_of
from balancer.useapi.verdicts import Verdict, VerdictDetails

INTERVAL = 30.0
"""Seconds between two reconciliations."""
TTL = 3600.0
"""Seconds that a bound lease is given."""


class Desk:
    """A ledger as its owner uses it: what is due is settled before anything is decided."""

    def __init__(self, strategy="random", *, lower_only=False, **accounts):
        self.now = 0.0
        self.ledger = Ledger(strategy, lambda: self.now, lower_only=lower_only)
        self.keys = itertools.count(1)
        self.table = None
        self.configure(**accounts)

    def configure(self, **accounts):
        """Put accounts in force: a capacity, or (capacity, why it is broken)."""
        entries = {}
        for id, entry in accounts.items():
            capacity, broken = entry if isinstance(entry, tuple) else (entry, None)
            entries[id] = Account(id, capacity, broken=broken)
        table = AccountTable(entries)
        self.ledger.configure(Changes.between(self.table, table))
        self.table = table

    def at(self, now):
        """Move the clock and settle what is due. Return the rows that expired."""
        self.now = now
        return self.ledger.due(now)[0]

    def take(self, *accounts, draw=0.0, max_jobs=None, scope=None):
        """Return the row of a new lease, or None where there is no room."""
        row = LeaseRecord(next(self.keys), scope=scope)
        slot_request = SlotRequest(row, draw, frozenset(accounts) if accounts else None, max_jobs)
        return row if self.ledger.take(slot_request, self.now) else None

    def hopeless(self, *accounts, scope=None):
        only = frozenset(accounts) if accounts else None
        return self.ledger.hopeless(SlotRequest(LeaseRecord(0, scope=scope), accounts=only))

    def cool(self, account, seconds, scope=None, *, worth_waiting=True, reason="busy"):
        self.ledger.cool(
            self.ledger.account_states[account], scope, self.now + seconds, reason, worth_waiting
        )

    def bind(self, row, job, ttl=3600.0):
        return self.ledger.bind(row, (job,), self.now + ttl, self.now)

    def release(self, row):
        self.ledger.end(row, self.now, released=True)

    def release_job(self, job):
        row, _ = self.ledger.end_job(job, self.now)
        if row is not None:
            self.release(row)
        return row is not None

    def state(self, account):
        return self.ledger.account_states[account].state

    def in_flight(self, account):
        return len(self.ledger.account_states[account].held)


class Matching(Desk):
    """A desk that compares itself with lists, and acts on them as a store does."""

    def snapshot(self):
        return Snapshot.of(self.ledger, self.now)

    def compare(self, *jobs, before=None, counts=None, complete=True, interval=INTERVAL):
        listing = JobList(tuple(jobs), counts or {}, complete)
        return reconcile_jobs(listing, before or self.snapshot(), self.ledger, interval, str)

    def apply(self, plan):
        self.ledger.set_external(plan.external, plan.listed)
        for row, job in plan.bind:
            self.bind(row, job)
        for row in plan.prolong:
            self.ledger.prolong(row, self.now + TTL)
        for row in (*plan.reclaim, *plan.resolve):
            self.ledger.end(row, self.now)

    def bound(self, job, account="a"):
        row = self.take(account)
        self.bind(row, job)
        return row

    def unsure(self, account="a"):
        row = self.take(account)
        self.ledger.doubt(row, self.now + 600.0, self.now)
        return row


def ours(job, account="a"):
    """Return a listed job as a list without references has it."""
    return Job(job, account)


def learn(ledger, row, now):
    """Have a ledger learn from a lease's refusal, as a store would. True: the account is only full."""
    if not report_of(row, VerdictDetails(Verdict.BUSY, teaches=True)).teaches:
        return False
    return ledger._learn(row.key, row.account_state, now)
