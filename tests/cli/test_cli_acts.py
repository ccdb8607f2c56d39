"""Commands that act on a store: release, cool, reset."""

import pytest
from command_line import Desk

from balancer import AcquireTimeout, LeaseLost


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own, whose service has one account with one slot."""
    desk = Desk(tmp_path, {"a@example.com": 1})
    yield desk
    desk.close()


@pytest.fixture
def pool(desk):
    """Return a pool over the store of the commands, as another process has it."""
    with desk.pool(reconcile_every=None) as pool:
        yield pool


def test_release_frees_the_slot_of_another_pool(desk, pool):
    """The stuck slot is found by its lease, ended, and free for the next; its holder cannot renew it. P-5."""
    lease = pool.acquire()
    result = desk.run("release", lease.id, "--yes")
    assert result.exit_code == 0, result.stderr
    with pytest.raises(LeaseLost):
        lease.renew()
    pool.acquire(timeout=10)


def test_release_by_job_ends_the_lease_that_is_bound_to_it(desk, pool):
    """A job's id is as good as its lease's."""
    lease = pool.acquire()
    lease.bind("job-1")
    assert desk.run("release", "--job", "job-1", "--yes").exit_code == 0
    assert pool.holders() == ()


def test_release_by_job_ends_a_lease_of_several_jobs_with_the_last(desk, pool):
    """Its slot is free when none of them runs; each is found by its own name."""
    lease = pool.acquire()
    lease.bind(["job-1", "job-2"])
    first = desk.run("release", "--job", "job-2", "--yes")
    assert (first.exit_code, "other jobs" in first.stderr) == (0, True)
    assert [holder.job_ids for holder in pool.holders()] == [("job-1", "job-2")]
    assert desk.run("release", "--job", "job-1", "--yes").exit_code == 0
    assert pool.holders() == ()


def test_release_asks_first_and_says_what_it_would_end(desk, pool):
    """Anything but yes leaves the lease alone; the question names account, job and label."""
    lease = pool.acquire(label="night shift")
    lease.bind("job-1")
    refused = desk.run("release", lease.id, answer="n\n")
    assert refused.exit_code == 1
    for word in ("a@example.com", "job-1", "night shift"):
        assert word in refused.stderr
    assert [holder.id for holder in pool.holders()] == [lease.id]
    assert desk.run("release", lease.id, answer="y\n").exit_code == 0
    assert pool.holders() == ()


def test_without_an_answer_nothing_is_released(desk, pool):
    """A script that forgets --yes ends nothing by accident."""
    lease = pool.acquire()
    assert desk.run("release", lease.id).exit_code == 1
    assert len(pool.holders()) == 1


@pytest.mark.parametrize("what", [["no-such-lease"], ["--job", "no-such-job"]])
def test_releasing_what_is_not_there_exits_with_1(desk, pool, what):
    """Another lease stays, nothing is asked, and the answer is no."""
    lease = pool.acquire()
    assert desk.run("release", *what).exit_code == 1
    assert [holder.id for holder in pool.holders()] == [lease.id]


@pytest.mark.parametrize("what", [[], ["some-lease", "--job", "some-job"]])
def test_release_wants_exactly_one_name(desk, what):
    """Neither or both is wrong usage."""
    assert desk.run("release", *what, "--yes").exit_code == 2


def test_cool_and_reset_work_on_the_account_of_everybody(desk, pool):
    """A pause put by hand holds for other pools, with its reason, until it is ended by hand. P-62."""
    assert desk.run("cool", "a@example.com", 600, "--reason", "site is down").exit_code == 0
    account = pool.stats().accounts["a@example.com"]
    assert (account.state, account.reason) == ("cooldown", "site is down")
    with pytest.raises(AcquireTimeout):
        pool.acquire(timeout=0)
    assert desk.run("reset", "a@example.com").exit_code == 0
    pool.acquire(timeout=0).release()


def test_a_pause_may_last_until_it_is_ended_by_hand(desk, pool):
    """An account that was sold, say."""
    assert desk.run("cool", "a@example.com", "inf").exit_code == 0
    account = pool.stats().accounts["a@example.com"]
    assert (account.state, account.until) == ("cooldown", None)


def test_cool_needs_no_server_where_the_store_knows_the_account(desk, pool):
    """While the API is away an account can still be paused."""
    pool.acquire().release()
    desk.fake.fault("*", status=503, times=None)
    assert desk.run("cool", "a@example.com", 600).exit_code == 0
    assert pool.stats().accounts["a@example.com"].state == "cooldown"


@pytest.mark.parametrize("command", [["cool", "nobody@example.com", 5], ["reset", "nobody@example.com"]])
def test_an_unknown_account_exits_with_1(desk, command):
    """A slip in an account's id is told, not swallowed."""
    result = desk.run(*command)
    assert result.exit_code == 1
    assert "nobody@example.com" in result.stderr


@pytest.mark.parametrize(
    "command", [["release", "x", "--yes"], ["cool", "a@example.com", 5], ["reset", "a@example.com"]]
)
def test_acting_on_memory_is_wrong_usage(desk, command):
    """What is done in a store of this process alone would be gone with it."""
    result = desk.run(*command, "--store", "memory://")
    assert result.exit_code == 2
    assert "another process cannot be seen" in result.stderr
