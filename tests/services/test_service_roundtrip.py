"""Every service from its account list to its list of running jobs, over HTTP, as a user goes through it."""

from __future__ import annotations

import pytest
import requests
from service_world import INTERVAL, SLOTS

from balancer import NoAccounts, SourceError, Verdict


def test_a_job_runs_on_the_account_that_was_chosen(world):
    """The account travels under the service's own parameter, and the create lands there."""
    lease = world.start()
    other = world.start(exclude=[lease.account])
    assert {lease.account.id, other.account.id} == {world.first, world.second}
    for one in (lease, other):
        assert world.fake.running(world.row.key, one.account.id) == (one.job_id,)
    assert world.fake.audit().refused_other == 0


def test_a_pool_fills_every_slot_and_not_one_more(world):
    """With room for six, six jobs are taken, none is answered 429, and the seventh is not sent."""
    for _ in range(2 * SLOTS):
        world.start()
    stats = world.pool.stats()
    assert (stats.capacity, stats.in_flight, stats.free) == (2 * SLOTS, 2 * SLOTS, 0)
    assert set(world.pool.explain().values()).isdisjoint({"eligible"})
    audit = world.fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other, audit.clean) == (6, 0, 0, True)


def test_an_account_that_is_full_without_our_doing_cools_down(world):
    """Jobs of the website fill it, the create is answered 429, and the next lease is elsewhere."""
    world.pool.stats()
    for _ in range(SLOTS):
        world.fake.start_stranger(world.row.key, world.first, listed=False)
    with world.pool.acquire(account=world.first) as lease:
        answer = world.create(lease.params)
        assert (answer.status_code, lease.report(answer)) == (429, Verdict.BUSY)
    assert world.account(world.first).state == "cooldown"
    assert {world.start().account.id for _ in range(SLOTS)} == {world.second}


def test_an_account_whose_session_broke_is_left_alone(world):
    """596 is held against it at once; the refreshed list says why, and clears it when it is healed."""
    world.pool.stats()
    world.fake.break_account(world.row.key, world.first, "session expired")
    with world.pool.acquire(account=world.first) as lease:
        answer = world.create(lease.params)
        assert (answer.status_code, lease.report(answer)) == (596, Verdict.BROKEN)
    assert world.account(world.first).state == "cooldown"
    world.pool.refresh()
    stats = world.account(world.first)
    assert stats.state == "broken"
    assert "session expired" in stats.reason
    with pytest.raises(NoAccounts, match="session expired"):
        world.pool.acquire(timeout=0, account=world.first)
    world.fake.heal_account(world.row.key, world.first)
    world.pool.refresh()
    assert world.account(world.first).state == "ready"


def test_an_account_that_was_taken_away_is_found_out_by_its_create(world):
    """The server does not know it: the list is read again, and the job goes to the other one."""
    world.pool.stats()
    world.fake.remove_account(world.row.key, world.first)
    with world.pool.acquire(account=world.first) as lease:
        answer = world.create(lease.params)
        assert (answer.status_code, lease.report(answer)) == (404, Verdict.BUSY)
    assert world.start(timeout=30).account.id == world.second  # it has the time to await the list
    assert world.account(world.first).state == "draining"


def test_the_list_of_jobs_tells_ours_from_those_of_others(world):
    """Of two jobs on one account, one is ours, the other takes a slot as external until it ends."""
    lease = world.start(account=world.first)
    stranger = world.fake.start_stranger(world.row.key, world.first)
    if world.row.load is None:
        with pytest.raises(ValueError, match="list"):
            world.pool.reconcile()
        return
    done = world.pool.reconcile()
    assert (dict(done.adopted), done.kept) == ({world.first: 1}, (lease.id,))
    stats = world.account(world.first)
    assert (stats.in_flight, stats.external, stats.free) == (1, 1, SLOTS - 2)
    world.fake.finish(stranger)
    assert dict(world.pool.reconcile().adopted) == {}
    assert world.account(world.first).free == SLOTS - 1


def test_a_job_that_left_two_lists_gives_its_slot_back(world):
    """Where the list covers every job; elsewhere the slot stays until it is released or its time ends."""
    lease = world.start()
    world.fake.finish(lease.job_id)
    load = world.row.load
    covered = load is not None and load.covers
    world.clock.advance(2 * INTERVAL)
    if load is not None:
        assert world.pool.reconcile().reclaimed == ()
        assert world.pool.reconcile().reclaimed == ((lease.id,) if covered else ())
    assert world.pool.release(lease.id) is not covered


def test_a_lost_answer_is_explained_by_the_reference(world):
    """P-57: where ``replyRef`` is listed, the job behind a lost answer is found again and keeps its slot."""
    world.pool.stats()
    world.fake.fault("POST *", cut="after")
    lease = world.pool.acquire(account=world.first)
    with pytest.raises(requests.ConnectionError), lease:
        world.create(lease.params)
    [job] = world.fake.running(world.row.key)
    assert [holder.state for holder in world.pool.holders()] == ["ambiguous"]
    world.clock.advance(2 * INTERVAL)
    if world.row.load is not None:
        world.pool.reconcile()
    [holder] = world.pool.holders()
    assert holder.id == lease.id
    expected = ("bound", job) if world.row.reply_ref else ("ambiguous", None)
    assert (holder.state, holder.job_id) == expected


def test_a_restarted_process_finds_its_old_jobs_before_its_first_grant(world):
    """Jobs that run already are counted before anything is handed out."""
    for account in (world.first, world.second):
        for _ in range(SLOTS):
            world.fake.start_stranger(world.row.key, account)
    if world.row.load is None:  # the server's 429 is the first that is heard of them
        with world.pool.acquire(timeout=0) as lease:
            assert world.create(lease.params).status_code == 429
        return
    with pytest.raises(TimeoutError):
        world.pool.acquire(timeout=0)
    assert world.pool.stats().external == 2 * SLOTS


def test_a_request_brings_its_own_maximum_where_the_service_takes_one(world):
    """There ``max_jobs`` travels with the lease and replaces the account's; elsewhere nothing is sent."""
    own = world.row.max_jobs
    with world.pool.acquire(max_jobs=1) as lease:
        assert {name: value for name, value in lease.params.items() if name == "maxJobs"} == (
            {own: 1} if own else {}
        )
        assert world.create(lease.params).status_code in (200, 201)


@pytest.mark.parametrize("answer", ["<html>maintenance</html>", 7, '{"jobs": [{'], ids=repr)
def test_a_list_that_fails_changes_nothing(world, answer):
    """Foreign jobs stay counted, ours keep their slots, and the next list that can be read is believed."""
    load = world.row.load
    if load is None:
        pytest.skip("the service has no list")
    lease = world.start(account=world.first)
    world.fake.start_stranger(world.row.key, world.first)
    world.pool.reconcile()
    fault = world.fake.fault(list_of(world), status=200, body=answer, times=None)
    for _ in range(3):
        world.clock.advance(2 * INTERVAL)
        with pytest.raises(SourceError):
            world.pool.reconcile()
    after = world.account(world.first)
    assert (after.in_flight, after.external) == (1, 1)
    fault.lift()
    world.fake.finish(lease.job_id)
    if load.rows:  # bare numbers do not tell whose job has ended
        assert dict(world.pool.reconcile().adopted) == {world.first: 1}
    if load.covers:
        assert world.pool.reconcile().reclaimed == (lease.id,)


def test_an_empty_list_is_believed_only_when_it_comes_twice(world):
    """A list that says once that nothing runs frees no slot of ours."""
    load = world.row.load
    if load is None or not load.covers:
        pytest.skip("no job of this service is ever called missing")
    lease = world.start(account=world.first)
    world.clock.advance(2 * INTERVAL)
    world.fake.lie(list_of(world))
    assert world.pool.reconcile().reclaimed == ()
    assert world.pool.reconcile().kept == (lease.id,)
    assert world.account(world.first).in_flight == 1


def list_of(world):
    """Return the pattern of requests for the service's list of jobs."""
    return f"GET {world.row.path}/{world.row.load.path.partition('?')[0]}"
