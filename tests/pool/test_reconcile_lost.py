"""Lost, early and late callbacks, lists that lag: no running job is freed, no finished one kept."""

import random

import pytest
from reconciling import INTERVAL, World

from balancer import AcquireTimeout, Verdict

ACCOUNTS = {"a": 4, "b": 3, "c": 2}
JOBS = 120
LIVES = (40.0, 110.0)


class Application:
    """Submits jobs as slots come free, and hears of their end by callbacks of mixed fortune."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        self.ends = {}
        """Job -> when it ends."""
        self.told = {}
        """Job -> when its callback comes; infinity for one that is lost."""
        self.bindings = []
        """Leases that are bound late: when, lease, job."""
        self.submitted = 0

    def submit(self):
        """Start a job if there is room for it. True: it was started."""
        try:
            lease = self.world.pool.acquire(timeout=0)
        except AcquireTimeout:
            return False
        answer = self.world.post(lease)
        assert lease.report(answer) is Verdict.ACCEPTED, answer.text
        job, now = self.world.job_of(answer), self.world.clock()
        fate = self.rng.random()
        self.ends[job] = now + self.world.life
        late = {"lost": float("inf"), "early": 0.0, "normal": self.rng.uniform(0, 5)}
        self.told[job] = self.ends[job] + late["lost" if fate < 0.4 else "normal"]
        if 0.4 <= fate < 0.6:  # over before its answer was read: the callback overtakes the bind
            self.world.fake.finish(job)
            self.ends[job] = now
            self.told.pop(job)
            self.world.pool.release(job_id=job)
        lease.bind(job)
        self.submitted += 1
        return True

    def hear(self):
        """Take the callbacks that have come by now."""
        now = self.world.clock()
        for job in [job for job, at in self.told.items() if at <= now]:
            del self.told[job]
            self.world.pool.release(job_id=job)


def check(world, application, lag):
    """Hold the leases against what really runs."""
    now, held = world.clock(), world.held()
    assert set(world.fake.running("flowmusic")) <= held  # no running job was ever freed
    overdue = {job for job in held if application.ends[job] + 2 * INTERVAL + lag + 1 < now}
    assert not overdue  # two intervals, the lag, and the second between two looks
    assert world.pool.stats().external == 0  # a job that has just ended is nobody else's


@pytest.mark.parametrize("lag", [0.0, 4.0, 12.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_running_job_is_freed_and_every_finished_one_is_within_two_intervals(lag, seed):
    """P-58: with 40 % of the callbacks lost and 20 % before the bind, every slot comes back in time."""
    rng = random.Random(seed)
    with World(ACCOUNTS, lag=lag, job_seconds=lambda: world.life) as world:
        application = Application(world, rng)
        while application.submitted < JOBS or world.held():
            world.life = rng.uniform(*LIVES)
            if application.submitted == JOBS or not application.submit():
                world.clock.advance(1)
                application.hear()
                world.look()
                check(world, application, lag)
        audit = world.fake.audit()
        assert (audit.accepted, audit.refused, audit.over) == (JOBS, 0, ())
        stats = world.pool.stats()
        assert (stats.free, stats.external) == (sum(ACCOUNTS.values()), 0)
        assert stats.reclaimed > JOBS // 5


def test_a_lost_callback_without_reconciliation_keeps_its_slot_until_job_ttl():
    """The control: nothing else would have freed it."""
    with World({"a": 1}, every=None, pool={"job_ttl": 500.0}) as world:
        lease = world.submit()
        world.fake.finish(lease.job_id)
        world.clock.advance(499)
        with pytest.raises(AcquireTimeout):
            world.pool.acquire(timeout=0)
        world.clock.advance(1)
        assert world.pool.acquire(timeout=0).release()


def test_a_job_that_no_list_shows_is_not_reclaimed_while_its_lease_is_young():
    """A list that lags longer than a job has been bound proves nothing."""
    with World({"a": 1}, lag=INTERVAL - 1) as world:
        lease = world.submit()
        for _ in range(int(INTERVAL) - 1):
            world.clock.advance(1)
            world.pool.reconcile()
            assert world.held() == {lease.job_id}
        for _ in range(3):
            world.pass_interval()
        assert world.held() == {lease.job_id}


def test_a_kind_of_job_that_lists_omit_is_freed_by_time_alone_where_the_row_says_so():
    """A list that does not cover a job must not end it: the row of the service is what decides."""
    with World({"a@x.com": 2}, "ltxstudio", omit=["ltxstudio"], pool={"job_ttl": 300.0}) as world:
        lease = world.pool.acquire(timeout=0)
        lease.bind(world.api.create("images/flux-create", **lease.params).json()["jobId"])
        world.pass_interval(8)
        assert world.held() == {lease.job_id}
        world.pass_interval(2)
        assert world.held() == set()


def test_an_ambiguous_lease_whose_reference_is_listed_becomes_bound():
    """P-57: the answer was lost, the job runs; its ``replyRef`` tells whose it is."""
    with World({"a": 2}, "riffusion") as world:
        lease = world.pool.acquire(timeout=0)
        world.post(lease)  # accepted, but the answer never came
        lease.report((502, {}, ""))
        world.pass_interval()
        (holder,) = world.pool.holders()
        assert (holder.id, holder.state) == (lease.id, "bound")
        assert holder.job_id in world.fake.running("riffusion")
        assert world.pool.stats().external == 0
        world.fake.finish(holder.job_id)
        world.pass_interval(3)
        assert world.pool.holders() == ()


@pytest.mark.parametrize("service", ["flowmusic", "riffusion"])
def test_after_an_outage_the_list_tells_which_of_the_doubtful_jobs_run(service):
    """P-57, P-62: thirty answers are lost, ten jobs run: twenty slots are back after one interval."""
    with World(dict.fromkeys("abc", 10), service) as world:
        leases = [world.pool.acquire(timeout=0) for _ in range(30)]
        for lease in leases[:10]:
            world.post(lease)
        for lease in leases:
            lease.report((502, {}, "<html>"))
        assert world.pool.stats().free == 0
        world.pass_interval()
        jobs = set(world.fake.running(service))
        assert len(jobs) == len(world.pool.holders()) == 10
        assert world.pool.stats().external == 0
        if service == "riffusion":  # which lists the reference of each job
            assert world.held() == jobs
        for job in jobs:
            world.fake.finish(job)
        world.pass_interval(3)
        assert world.pool.holders() == ()
        assert world.fake.audit().refused == 0
        probes = [world.pool.acquire(account=id, timeout=0) for id in "abc"]
        assert all(probe.release() for probe in probes)
        assert world.pool.stats().free == 30
