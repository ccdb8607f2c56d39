"""What a program sees of a pool when it is used in the wrong way, or asks for the facts of an error."""

import asyncio
import inspect
import typing

import pytest
from faces import both_faces

from balancer import AccountPool, AcquireTimeout, AsyncAccountPool, Job
from balancer.base_pool import PoolOptions
from balancer.testing import ManualClock


def test_the_error_of_a_timeout_carries_its_facts():
    """No program has to read a message to learn which pool it was, and what holds its slots."""
    clock = ManualClock()
    with AccountPool(source={"a": 3}, clock=clock) as pool:
        bound, doubtful, held = (pool.acquire() for _ in range(3))
        bound.bind("job")
        clock.advance(60)
        doubtful.report(500)
        with pytest.raises(AcquireTimeout, match="2 held by bound or ambiguous jobs") as caught:
            pool.acquire(timeout=0)
        error = caught.value
        assert (error.service, error.timeout, error.kept) == ("custom", 0, 2)
        assert error.kept_since.timestamp() == clock.time() - 60
        assert held.release()


def test_the_error_of_a_timeout_says_nothing_of_jobs_where_there_are_none():
    """What is held by code is no job."""
    with AccountPool(source={"a": 1}) as pool, pool.acquire():
        with pytest.raises(AcquireTimeout) as caught:
            pool.acquire(timeout=0)
        assert (caught.value.kept, caught.value.kept_since) == (0, None)
        assert "held by" not in str(caught.value)


@both_faces
def test_a_run_that_times_out_names_the_number_it_was_given(face):
    """Not what was left of it after some waiting."""
    pool = face.Pool(source={"a": 1})
    lease = face.do(pool.acquire())
    with pytest.raises(AcquireTimeout, match=r"within 0\.01 s") as caught:
        face.do(pool.run(face.work(lambda lease: lease), timeout=0.01))
    assert caught.value.timeout == 0.01
    assert face.do(lease.release())


def test_a_coroutine_function_is_no_call_for_a_pool_for_threads():
    """Its slot would be free again before it had begun to work."""
    begun = []

    async def call(lease):
        begun.append(lease)

    with AccountPool(source={"a": 1}) as pool:
        with pytest.raises(TypeError, match="AsyncAccountPool"):
            pool.run(call)
        assert begun == []
        assert pool.stats().in_flight == 0


def test_a_function_that_works_after_it_has_returned_cannot_be_wrapped():
    """A coroutine function, or a generator, would work without the slot that it was given."""

    async def coroutine(*, lease): ...

    def generator(*, lease):
        yield lease

    async def stream(*, lease):
        yield lease

    with AccountPool(source={"a": 1}) as pool:
        for function in (coroutine, generator, stream):
            with pytest.raises(TypeError, match="function must"):
                pool.with_lease()(function)


def test_an_answer_that_cannot_be_awaited_is_the_answer_of_a_run():
    """The job was sent: an error about the form of the call would hide that it runs."""
    pool = AsyncAccountPool(source={"a": 1})
    answer = {"jobid": "j"}

    async def run():
        assert await pool.run(lambda lease: answer, bind="jobid") is answer
        return [holder.job_id for holder in await pool.holders()]

    assert asyncio.run(run()) == ["j"]


@pytest.mark.parametrize(
    ("option", "environment"), [("base_url", "USEAPI_BASE_URL"), ("store", "BALANCER_STORE")]
)
def test_an_empty_place_is_an_error_and_no_default(monkeypatch, option, environment):
    """A setting that came out empty must not silently mean another host, or a store of one process."""
    monkeypatch.setenv(environment, "")  # there it means that it is not set
    with AccountPool("flowmusic", token="user:1-x", base_url="http://127.0.0.1:9"):
        pass
    with pytest.raises(ValueError, match=option):
        AccountPool("flowmusic", token="user:1-x", **{"base_url": "http://127.0.0.1:9", option: ""})


def test_an_account_that_drains_says_that_it_is_gone_and_not_what_was_wrong_with_it_before():
    """The reason is that of the state shown."""
    accounts = {"a": {"maxJobs": 1}}
    with AccountPool(source=accounts) as pool, pool.acquire():
        accounts["a"] = {"maxJobs": 1, "error": "logged out"}
        pool.refresh()
        assert pool.stats().accounts["a"].reason == "logged out"
        del accounts["a"]
        pool.refresh()
        gone = pool.stats().accounts["a"]
        assert (gone.state, gone.reason) == ("draining", "no longer in the configuration")


def test_a_lease_that_is_bound_because_its_job_was_found_knows_the_job():
    """The list names it by its ``replyRef``; another job is refused as after any bind."""

    class Source:
        listed = ()

        def accounts(self):
            return {"a": 1}

        def jobs(self):
            return self.listed

    source = Source()
    with AccountPool(source=source) as pool:
        lease = pool.acquire()
        lease.report(500)
        source.listed = (Job("j", "a", lease.id),)
        assert pool.reconcile().resolved == (lease.id,)
        assert lease.job_id == "j"
        with pytest.raises(ValueError, match="bound to 'j'"):
            lease.bind("other")
        assert lease.release()


def test_only_the_very_id_of_a_lease_ends_it():
    """What a number would be read from all the same is the id of no lease."""
    with AccountPool(source={"a": 1}) as pool:
        lease = pool.acquire()
        prefix, _, number = lease.id.rpartition("-")
        others = [f"{lease.id} ", f"{prefix}- {number}", f"{prefix}-0{number}", f"{prefix}-0x{number}"]
        others += [f"{prefix}-+{number}", f"{prefix}-{number}_0", f"{prefix}-\N{ARABIC-INDIC DIGIT ONE}"]
        assert [pool.release(other) for other in others] == [False] * len(others)
        assert pool.release(lease.id) is True


@pytest.mark.parametrize("store", ["memory://", "sqlite://{}/slots.db"])
def test_half_of_a_character_harms_no_store(store, tmp_path):
    """JSON of a callback may bring it; no store can write it, and what follows must not wait for it."""
    half = "\ud800"
    with AccountPool("custom", source={"a": 1}, store=store.format(tmp_path)) as pool:
        lease = pool.acquire()
        assert pool.release(half) is False
        for act in (
            lambda: pool.release(job_id=half),
            lambda: lease.bind(half),
            lambda: pool.renew(job_id=half),
        ):
            with pytest.raises(ValueError, match="job_id"):
                act()
        for name in ("label", "scope"):
            with pytest.raises(ValueError, match=name):
                pool.explain(**{name: half})
        assert lease.release()
        assert pool.acquire(timeout=5).release()


def test_both_constructors_take_the_same_arguments():
    """What one face is checked for by a type checker is checked for the other."""
    parameters = inspect.signature(AccountPool).parameters.values()
    named = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(typing.get_type_hints(PoolOptions)) == named
    with pytest.raises(TypeError, match="lease_tll"):
        AsyncAccountPool(source={"a": 1}, lease_tll=5)
