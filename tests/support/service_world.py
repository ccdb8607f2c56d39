"""One service behind the stand-in, a pool over it, and the requests that its user makes."""

from __future__ import annotations

import requests
from create_paths import create_path

from balancer import SERVICES, AccountPool, JobsEndpoint, Service, Verdict
from balancer.testing import FakeUseapi, ManualClock
from balancer.useapi.parsing import job_id

IDS = {"email": ("a-b@example.com", "c@example.com"), "user_id": ("12345", "67890")}
SLOTS = 3
INTERVAL = 30.0

TOMORROW = Service(
    key="tomorrow",
    path="/v7/tomorrow",
    accounts="seats",
    selector="seat",
    selector_required=True,
    capacity="limit",
    error=("trouble",),
    health=None,
    reply_ref=True,
    load=JobsEndpoint(path="live?all=1", rows=("seats.*.now.#",), ref="mark"),
    job_id=("made.ticket",),
    final={"phase": ("over", "lost")},
)
"""A service that is in no table."""
ROWS = {**SERVICES, TOMORROW.key: TOMORROW}


class World:
    """One service with two accounts of three slots, a pool over it, and the requests of its user."""

    def __init__(self, row, stack):
        self.row, self.clock = row, ManualClock()
        self.first, self.second = IDS.get(row.selector, ("1234567890", "2234567890"))
        accounts = {row.key: dict.fromkeys((self.first, self.second), SLOTS)}
        self.fake = stack.enter_context(
            FakeUseapi(accounts, services=[TOMORROW], clock=self.clock, job_seconds=lambda: 1e9)
        )
        self.session = stack.enter_context(requests.Session())
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.fake.token}"
        self.pool = stack.enter_context(self.new_pool(reconcile_every=INTERVAL))

    def new_pool(self, **options):
        return AccountPool(
            self.row,
            token=self.fake.token,
            base_url=self.fake.url,
            default_capacity=SLOTS,
            clock=self.clock,
            **options,
        )

    def create(self, params):
        """Send the create that the row counts, with what the lease asks to be sent."""
        return self.session.post(
            self.url(create_path(self.row.key)), json={"prompt": "x", **params}, timeout=10
        )

    def get(self, path):
        return self.session.get(self.url(path), timeout=10)

    def url(self, path):
        return f"{self.fake.url}{self.row.path}/{path}"

    def start(self, timeout=0, **options):
        """Acquire, create, report and bind, as the documentation shows it; return the lease."""
        with self.pool.acquire(timeout=timeout, **options) as lease:
            before = self.jobs()
            answer = self.create(lease.params)
            assert lease.report(answer) is Verdict.ACCEPTED
            [job] = self.jobs() - before
            assert job_id(answer.json(), self.row) == job
            lease.bind(job)
        return lease

    def jobs(self):
        return set(self.fake.running(self.row.key))

    def account(self, id):
        return self.pool.stats().accounts[id]
