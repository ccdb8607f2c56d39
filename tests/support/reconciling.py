"""A pool and the server whose accounts it shares with others, on one clock that the test moves."""

import math

import requests
from api import Api

from balancer import AccountPool, AcquireTimeout, HttpSource, Verdict
from balancer.testing import FakeUseapi, ManualClock, at_rest

INTERVAL = 30.0
CREATES = {"riffusion": "music/create-prompt", "flowmusic": "music", "kling": "videos/text2video"}


class World:
    """One service over HTTP. Jobs run until the test ends them, unless ``job_seconds`` says how long."""

    def __init__(self, accounts, service="flowmusic", *, every=INTERVAL, pool=None, **fake):
        self.service, self.clock, self.options = service, ManualClock(), pool or {}
        self.every = every
        fake = {"job_seconds": lambda: math.inf, "clock": self.clock} | fake
        self.fake = FakeUseapi({service: accounts}, **fake)
        self.session = requests.Session()  # without retries, which would sleep for real

    def __enter__(self):
        self.fake.start()
        self.api = Api(self.fake, self.service)
        self.pool = self.new_pool()
        return self

    def __exit__(self, *error):
        self.pool.close()
        self.api.session.close()
        self.fake.close()
        self.session.close()

    def new_pool(self):
        """Return a pool as a process has it that was just started."""
        source = HttpSource(self.service, token=self.fake.token, base_url=self.fake.url, session=self.session)
        options = {"ttl": 1e6, "reconcile_every": self.every} | self.options
        return AccountPool(self.service, source=source, clock=self.clock, **options)

    def lists(self):
        """Return how often the server was asked for its jobs."""
        asked = self.fake.audit().requests
        load = self.pool._core.service.load.path.partition("?")[0]
        return sum(times for path, times in asked.items() if path.endswith(f"/{load.rstrip('/')}"))

    def landed(self):
        """Wait for what is on its way: that can be seen as soon as the call that set it off has returned."""
        try:
            at_rest(self.pool, timeout=0)
        except TimeoutError:
            at_rest(self.pool)

    def look(self):
        """Have a caller come by, which starts what is due, and wait for that."""
        try:
            self.pool.acquire(timeout=0).release()
        except AcquireTimeout:
            pass
        self.landed()

    def pass_interval(self, times=1):
        """Let intervals pass, with a caller at the end of each."""
        for _ in range(times):
            self.clock.advance(self.every or INTERVAL)
            self.look()

    def post(self, lease, **fields):
        """Send the create of a lease; return the answer."""
        return self.api.create(CREATES[self.service], **lease.params, **fields)

    def submit(self, **acquire_options):
        """Start a job as an application does; return its lease."""
        lease = self.pool.acquire(**{"timeout": 0} | acquire_options)
        answer = self.post(lease)
        assert lease.report(answer) is Verdict.ACCEPTED, answer.text
        lease.bind(self.job_of(answer))
        return lease

    def job_of(self, answer):
        """Return the id in the answer to a create."""
        for path in self.pool._core.service.job_id:
            found = answer.json()
            for name in path.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if found:
                return found
        raise AssertionError(f"no job in {answer.text}")

    def held(self):
        """Return the job ids of the live leases."""
        return {holder.job_id for holder in self.pool.holders()}
