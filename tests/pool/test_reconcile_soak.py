"""A thousand jobs among strangers who use the same accounts: what reconciliation is worth."""

import random

import pytest
from reconciling import World

from balancer import AcquireTimeout, NoAccounts, Verdict

ACCOUNTS = {f"account-{n}": 5 for n in range(8)}
JOBS = 1_000
OURS_EVERY, OURS_LAST = 5.0, (60.0, 180.0)
STRANGERS_EVERY, STRANGERS_LAST = 240.0, (300.0, 900.0)
LAG = 2.0


class Soak:
    """Seconds go by; jobs of ours and of strangers start at random, and end when their time is over."""

    def __init__(self, world, seed):
        self.world, self.rng = world, random.Random(seed)
        self.wanted = self.accepted = self.refused = self.strangers = 0
        self.ends = []

    def run(self):
        """Return refused calls per job."""
        while self.accepted < JOBS:
            self.world.clock.advance(1)
            self.hear()
            if self.rng.random() < 1 / STRANGERS_EVERY:
                self.start_stranger()
            self.wanted += self.rng.random() < 1 / OURS_EVERY
            while self.wanted and self.accepted < JOBS and self.submit():
                pass
        return self.refused / JOBS

    def hear(self):
        """Release what has ended; every callback comes, so that nothing but strangers disturbs the count."""
        now = self.world.clock()
        for end, job in [each for each in self.ends if each[0] <= now]:
            self.ends.remove((end, job))
            assert self.world.pool.release(job_id=job)

    def start_stranger(self):
        """Start a job of somebody else on an account where the server has room."""
        self.world.life = self.rng.uniform(*STRANGERS_LAST)
        fake = self.world.fake
        room = [id for id, most in ACCOUNTS.items() if len(fake.running("flowmusic", id)) < most]
        if room:
            fake.start_stranger("flowmusic", self.rng.choice(room))
            self.strangers += 1

    def submit(self):
        """Send one job if the pool grants it a slot. True: it was sent."""
        try:
            lease = self.world.pool.acquire(timeout=0)
        except (AcquireTimeout, NoAccounts):
            return False
        finally:
            self.world.landed()
        self.world.life = self.rng.uniform(*OURS_LAST)
        with lease:
            answer = self.world.post(lease)
            if lease.report(answer) is not Verdict.ACCEPTED:
                self.refused += 1
                return True
            job = self.world.job_of(answer)
            lease.bind(job)
        self.ends.append((self.world.clock() + self.world.life, job))
        self.accepted += 1
        self.wanted -= 1
        return True


def soaked(every, seed=7):
    """Return refused calls per job with that interval, after checking what holds with any."""
    chance = random.Random(seed)
    options = {"pool": {"random": chance.random}, "rng": chance, "job_seconds": lambda: world.life}
    with World(ACCOUNTS, every=every, lag=LAG, **options) as world:
        soak = Soak(world, seed)
        ratio = soak.run()
        audit = world.fake.audit()
        assert (audit.accepted, audit.refused, audit.over) == (JOBS, soak.refused, ())
        assert soak.strangers > 12
        return ratio


@pytest.mark.timeout(300)
def test_strangers_cost_less_than_one_refused_call_in_a_hundred_jobs(tell):
    """P-48: BUSY verdicts included; the same day without the server's list costs many times more.

    A stranger that started after the last list can cost one call, so the ratio follows their number:
    about twenty of them come and go here, each for five to fifteen minutes, on 40 slots.
    """
    with_lists, without = soaked(30.0), soaked(None)
    tell(f"refused calls per job: {with_lists:.2%} with reconciliation, {without:.2%} without")
    assert with_lists < 0.01
    assert without > 3 * with_lists
