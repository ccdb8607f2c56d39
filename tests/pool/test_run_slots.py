"""What becomes of the slot of a ``run`` or of a wrapped function."""

import asyncio

import pytest
from desk import BUSY, JOB, Desk, pool_of, states
from faces import both_faces
from stepping import SteppedLoop, at_once, until
from structlog.testing import capture_logs

from balancer import AccountPool, AsyncAccountPool
from balancer.testing import ManualClock, at_rest


@both_faces
@pytest.mark.parametrize("bind", ["jobid", lambda answer: "j1"])
def test_bind_ties_the_slot_to_the_job(face, bind):
    """By a key of the JSON answer, or by what a callable makes of the answer."""
    pool, _, sync = pool_of(face, a=1)
    face.do(pool.run(face.work(Desk()), bind=bind))
    (holder,) = sync.holders()
    assert (holder.job_id, holder.state) == ("j1", "bound")
    assert face.do(pool.release(job_id="j1"))


@both_faces
def test_bind_reads_a_mapping_that_the_call_returned(face):
    """A call that returns the parsed body binds all the same; whole numbers are ids too."""
    pool, _, sync = pool_of(face, a=1)
    face.do(pool.run(face.work(Desk({"task": 17})), bind="task"))
    assert [holder.job_id for holder in sync.holders()] == ["17"]


@both_faces
def test_a_callback_during_the_call_frees_the_slot_at_the_bind(face):
    """P-58: the final status may arrive before the create is answered."""
    pool, _, sync = pool_of(face, a=1)

    def early(lease):
        assert sync.release(job_id="j1") is False
        return JOB

    face.do(pool.run(face.work(Desk(early)), bind="jobid"))
    assert states(sync) == []
    assert sync.stats().free == 1


@both_faces
def test_an_accepted_job_without_the_key_keeps_its_slot_and_says_so(face):
    """The job runs, whatever its answer looks like: nothing is raised, the slot is not given away."""
    pool, _, sync = pool_of(face, a=1)
    with capture_logs() as logs:
        assert face.do(pool.run(face.work(Desk((201, {}, "{}"))), bind="jobid"))[0] == 201
    assert states(sync) == ["ambiguous"]
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["job_not_bound"]


@both_faces
def test_an_error_of_the_users_own_bind_reaches_the_user_and_keeps_the_slot(face):
    """The job was accepted before it was raised."""
    pool, _, sync = pool_of(face, a=1)
    with pytest.raises(ZeroDivisionError):
        face.do(pool.run(face.work(Desk()), bind=lambda answer: 1 // 0))
    assert states(sync) == ["ambiguous"]


def test_a_task_cancelled_while_its_call_runs_leaves_the_slot_in_doubt():
    """P-1, P-57: the job may have been accepted; the cancellation surfaces, the account does not cool."""
    with SteppedLoop() as loop:
        clock = ManualClock()
        sync = AccountPool(source={"a": 1}, clock=clock, reconcile_every=None)
        sync.refresh()
        pool, never = AsyncAccountPool(pool=sync), loop.create_future()

        async def call(lease):
            await never

        task = loop.create_task(pool.run(call))
        loop.tick(2)
        task.cancel()
        loop.tick(2)
        assert task.cancelled()
        assert states(sync) == ["ambiguous"]
        clock.advance(600)
        assert sync.stats().free == 1


def test_an_interruption_while_the_call_runs_leaves_the_slot_in_doubt():
    """P-1, P-57: KeyboardInterrupt in a thread is what a cancellation is in a task."""
    sync = AccountPool(source={"a": 1}, reconcile_every=None)
    with pytest.raises(KeyboardInterrupt):
        sync.run(Desk(KeyboardInterrupt()))
    assert states(sync) == ["ambiguous"]


def test_a_task_cancelled_between_two_attempts_leaves_nothing():
    """P-1: while the run waits in line for its second account, nothing of it is in flight."""
    with SteppedLoop() as loop:
        sync = AccountPool(source={"a": 1}, clock=ManualClock(), reconcile_every=None)
        sync.refresh()
        pool = AsyncAccountPool(pool=sync)

        async def call(lease):
            return BUSY

        task = loop.create_task(pool.run(call))
        loop.tick(3)
        assert sync.stats().waiting == 1
        task.cancel()
        loop.tick(2)
        assert task.cancelled()
        stats = sync.stats()
        assert (stats.waiting, stats.in_flight) == (0, 0)


@both_faces
def test_with_lease_hands_a_lease_to_functions_and_methods(face):
    """It is acquired around each call with the options given, and freed at its end."""
    pool, _, sync = pool_of(face, a=1, b=1)

    @pool.with_lease(account="b", label="wrapped")
    @face.work
    def function(number, *, lease):
        assert states(sync) == ["held"]
        return number, lease.account.id, lease.label

    class Client:
        @pool.with_lease(account="a")
        @face.work
        def method(self, *, lease, extra=0):
            return self, lease.account.id, extra

    client = Client()
    assert face.do(function(7)) == (7, "b", "wrapped")
    assert face.do(client.method(extra=2)) == (client, "a", 2)
    assert states(sync) == []


@both_faces
def test_with_lease_keeps_the_name_and_checks_its_options_at_once(face):
    """A wrong option is an error where it is written, and not at the first call."""
    pool, _, _ = pool_of(face, a=1)

    def documented(*, lease):
        """Say what it does."""

    wrapped = pool.with_lease()(documented)
    assert (wrapped.__name__, wrapped.__doc__) == ("documented", "Say what it does.")
    with pytest.raises(ValueError, match="timeout"):
        pool.with_lease(timeout=-1)


@both_faces
def test_an_error_inside_a_wrapped_function_frees_its_slot(face):
    """P-4: every way out of the block ends the lease."""
    pool, _, sync = pool_of(face, a=1)

    @pool.with_lease()
    @face.work
    def broken(*, lease):
        raise LookupError

    with pytest.raises(LookupError):
        face.do(broken())
    assert states(sync) == []


@both_faces
def test_a_slot_that_ends_before_its_job_is_warned_about_once_a_pool(face):
    """An accepted job whose lease is not bound goes on running on a slot that others get."""
    for _ in range(2):
        pool, _, sync = pool_of(face, a=1)
        with capture_logs() as logs:
            for number in range(3):
                face.do(pool.run(face.work(Desk((201, {}, f'{{"jobid": "j{number}"}}')))))
            until(lambda logs=logs: logs)  # the thread of the fetch may be the one that logs it
        warnings = [log for log in logs if log["log_level"] == "warning"]
        assert [(log["event"], log["job_id"]) for log in warnings] == [("slot_ended_before_job", "j0")]
        assert sync.stats().free == 1


def test_runs_at_once_share_the_accounts_like_any_other_caller():
    """P-12: a run is one acquire after another, in line with everybody."""
    pool = AsyncAccountPool(source={"a": 2, "b": 1}, reconcile_every=None)
    busy, most = 0, 0

    async def call(lease):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return 201

    async def crowd():
        return await asyncio.gather(*(pool.run(call) for _ in range(30)))

    assert asyncio.run(crowd()) == [201] * 30
    assert most == 3
    assert at_once(pool.stats()).in_flight == 0


@pytest.mark.parametrize("bind", [None, "jobid"])
def test_a_run_cancelled_at_any_moment_leaves_nothing_or_a_slot_in_doubt(bind):
    """P-1, P-57: in doubt if a call was under way, bound if it was over; never a slot that nobody has."""
    seen = set()
    for moment in range(12):
        with SteppedLoop() as loop:
            clock = ManualClock()
            sync = AccountPool(source={"a": 1}, clock=clock, reconcile_every=None)
            sync.refresh()
            holder, calls = sync.acquire(), []

            async def call(lease, calls=calls):
                calls.append("begun")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                calls.append("over")
                return BUSY if len(calls) == 2 else JOB

            task = loop.create_task(AsyncAccountPool(pool=sync).run(call, bind=bind))
            for tick in range(14):
                if tick == 2:
                    holder.release()
                if tick == 7:
                    clock.advance(7)
                if tick == moment:
                    task.cancel()
                loop.tick()
            under_way = bool(calls) and calls[-1] == "begun"
            expected = ["ambiguous"] if under_way else []
            if not task.cancelled():
                assert task.result() == JOB
                expected = ["bound"] if bind else []
            assert states(sync) == expected, f"moment {moment}"
            assert at_rest(sync, callers=0)
            seen.add((task.cancelled(), *expected))
    assert len(seen) == 3  # nothing, in doubt, and through


@both_faces
@pytest.mark.parametrize("where", ["report", "bind"])
def test_who_is_cut_off_between_the_answer_and_the_bind_keeps_the_slot(face, where, monkeypatch):
    """P-57: the job was accepted, and runs, though nobody has bound it."""
    pool, _, sync = pool_of(face, a=1)

    def cut(*_, **__):
        raise KeyboardInterrupt

    if where == "report":
        monkeypatch.setattr(sync._core.store, "report", cut)
    else:
        monkeypatch.setattr(sync._core.store, "bind", cut)
    with pytest.raises(KeyboardInterrupt):
        face.do(pool.run(face.work(Desk()), bind="jobid"))
    assert [holder.state for holder in sync.holders()] == ["ambiguous"]


@both_faces
def test_who_is_cut_off_after_a_refusal_keeps_nothing(face, monkeypatch):
    """The answer has proven that no job was taken."""
    pool, _, sync = pool_of(face, a=1, b=1)
    monkeypatch.setattr(sync._core.store, "release", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        face.do(pool.run(face.work(Desk(BUSY, JOB)), bind="jobid"))
    assert "ambiguous" not in [holder.state for holder in sync.holders()]
