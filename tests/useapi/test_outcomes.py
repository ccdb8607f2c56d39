"""What hides behind what a call returns or raises: each cost a slot under a running job, or a second job."""

import asyncio
import functools
import time
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
import requests
from desk import JOB, Desk, pool_of, states
from faces import ThreadFace, both_faces
from ruling import ruled
from structlog.testing import capture_logs
from trouble import BODY, SOON, never_answer, serving, with_requests

from balancer import AmbiguousOutcome, AsyncAccountPool, AttemptsFailed, JobRefused, Verdict

LOST = requests.ReadTimeout("no answer")
REFUSED = ConnectionRefusedError("no")


class SongError(Exception):
    """An error of the caller's own."""


def answered(status):
    """Return what ``raise_for_status`` raises for an answer of that status."""
    request = httpx.Request("POST", "http://127.0.0.1/")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


def unreadable(status):
    """Return what aiohttp raises for an answer that is no JSON."""
    request = SimpleNamespace(real_url="http://127.0.0.1/")
    return aiohttp.ContentTypeError(request, (), status=status, message="unexpected mimetype: text/html")


def caused(error, cause):
    """Return ``error`` as if it had been raised from ``cause``."""
    error.__cause__ = cause
    return error


def handling(error, handled, *, hidden=False):
    """Return ``error`` as if it had been raised while ``handled`` was being handled."""
    error.__context__, error.__suppress_context__ = handled, hidden
    return error


def deep(error, depth):
    """Return an error with ``error`` that many causes below."""
    for _ in range(depth):
        error = caused(SongError(), error)
    return error


def knot():
    """Return a group whose only leaf, a group deeper, is its own cause."""
    error = SongError()
    return caused(ExceptionGroup("a", [ExceptionGroup("b", [error])]), error)


def ring():
    """Return errors that are each other's cause, and in a group of themselves' context."""
    one, two = SongError("one"), SongError("two")
    caused(one, caused(two, one))
    return handling(ExceptionGroup("ring", [one, two]), one)


DOUBTFUL = {
    "in a group": lambda: ExceptionGroup("tasks", [LOST]),
    "in a group of groups": lambda: ExceptionGroup("a", [ExceptionGroup("b", [KeyError("x"), LOST])]),
    "beside what was never sent": lambda: ExceptionGroup("tasks", [REFUSED, LOST]),
    "beside a cancellation": lambda: BaseExceptionGroup("tasks", [asyncio.CancelledError(), LOST]),
    "as the cause": lambda: caused(SongError(), LOST),
    "while it was handled": lambda: handling(SongError(), LOST),
    "a group as the cause": lambda: caused(SongError(), ExceptionGroup("tasks", [LOST])),
    "the cause of one in a group": lambda: ExceptionGroup("tasks", [caused(SongError(), LOST)]),
    "a hundred causes below": lambda: deep(LOST, 100),
    "handled before another try": lambda: handling(REFUSED.__class__("no"), LOST),
    "behind a second try": lambda: caused(httpx.ConnectError("x"), handling(ConnectionRefusedError(), LOST)),
    "interrupted while it was handled": lambda: handling(KeyboardInterrupt(), LOST),
    "an accepted answer that its client could not read": lambda: unreadable(201),
    "a 502 in a group": lambda: ExceptionGroup("tasks", [answered(502)]),
    "a 502 as the cause": lambda: caused(SongError(), answered(502)),
    "behind more than anybody looks at": lambda: ExceptionGroup("x", [*map(KeyError, range(5000)), LOST]),
}
PROVEN = {
    "a group of what was never sent": lambda: ExceptionGroup("tasks", [REFUSED, httpx.ConnectError("x")]),
    "what was never sent as the cause": lambda: caused(SongError(), httpx.ConnectError("x")),
    "hidden by the caller": lambda: handling(SongError(), LOST, hidden=True),
    "own errors in a group": lambda: ExceptionGroup("tasks", [KeyError("x"), SongError()]),
    "own errors in a ring": ring,
    "an own error in a knot": knot,
    "a refusal that its client could not read": lambda: unreadable(422),
    "a 422 in a group": lambda: ExceptionGroup("tasks", [answered(422)]),
}


def raising(error):
    """Return a block's body that raises."""

    def body(lease):
        raise error

    return body


@both_faces
@pytest.mark.parametrize("make", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_job_that_may_run_keeps_its_slot_wherever_its_trouble_hides(face, make):
    """P-57: the slot of a running job was given to the next one, which the site then refused."""
    pool, clock, sync = pool_of(face, a=1)
    error = make()
    with pytest.raises(type(error)):
        face.block(pool.acquire(), raising(error))
    assert states(sync) == ["ambiguous"]
    clock.advance(600)
    assert states(sync) == []


@both_faces
@pytest.mark.parametrize("make", PROVEN.values(), ids=PROVEN)
def test_what_proves_that_nothing_runs_frees_the_slot_wherever_it_hides(face, make):
    """A slot that is kept for nothing is lost for ten minutes."""
    pool, _, sync = pool_of(face, a=1)
    error = make()
    with pytest.raises(type(error)):
        face.block(pool.acquire(), raising(error))
    assert states(sync) == []


@both_faces
@pytest.mark.parametrize(
    "make", [make for make in DOUBTFUL.values() if isinstance(make(), Exception)]
)  # an interruption passes through, as everywhere
def test_run_says_that_it_is_not_known_and_sends_nothing_again(face, make):
    """P-57: the bare group came out of ``run``, and who caught it and tried again paid twice."""
    pool, _, sync = pool_of(face, a=1, b=1)
    desk = Desk(make())
    with pytest.raises(AmbiguousOutcome):
        face.do(pool.run(face.work(desk)))
    assert (len(desk.asked), states(sync)) == (1, ["ambiguous"])


@both_faces
def test_run_goes_on_where_a_whole_group_was_never_sent(face):
    """Each caller with a task group of its own lost its attempts."""
    pool, _, _ = pool_of(face, a=1, b=1)
    desk = Desk(ExceptionGroup("tasks", [REFUSED]), ExceptionGroup("tasks", [answered(429)]))
    assert face.do(pool.run(face.work(desk))) == JOB
    assert len(desk.asked) == 3


@both_faces
def test_run_hands_over_the_answer_that_is_in_a_group(face):
    """What was wrong with the prompt stands in it."""
    pool, _, _ = pool_of(face, a=1)
    with pytest.raises(JobRefused) as refused:
        face.do(pool.run(face.work(Desk(ExceptionGroup("tasks", [answered(422)])))))
    assert refused.value.response.status_code == 422


def test_a_real_task_group_around_a_real_timeout_keeps_the_slot():
    """P-57: every task group of asyncio wraps; the server had the request."""
    pool, _, sync = pool_of(both_faces_async(), a=1)

    async def post(port):
        async with httpx.AsyncClient(timeout=SOON, trust_env=False) as client, asyncio.TaskGroup() as group:
            group.create_task(client.post(f"http://127.0.0.1:{port}/", content=BODY))

    async def main(port):
        async with pool.acquire():
            await post(port)

    with serving(never_answer) as port, pytest.raises(ExceptionGroup):
        asyncio.run(main(port))
    assert states(sync) == ["ambiguous"]


def both_faces_async():
    """Return the face for tasks, as far as ``pool_of`` looks."""
    return type("Tasks", (), {"Pool": AsyncAccountPool})


@pytest.mark.parametrize("again", [lambda port: with_requests("http://127.0.0.1:1/"), lambda port: {}["x"]])
def test_what_follows_a_lost_answer_does_not_hide_it(again):
    """P-57: a second try that is refused, or a slip in the handler, freed the slot of the first."""
    pool, _, _ = pool_of(ThreadFace(), a=1)

    def post(port):
        try:
            with_requests(f"http://127.0.0.1:{port}/")
        except requests.ReadTimeout:
            again(port)

    with serving(never_answer) as port, pytest.raises((KeyError, requests.ConnectionError)), pool.acquire():
        post(port)
    assert [holder.state for holder in pool.holders()] == ["ambiguous"]


def test_what_was_refused_to_begin_with_stays_proven_while_something_harmless_is_handled():
    """A cache that misses before the call is nobody's lost answer."""
    pool, _, _ = pool_of(ThreadFace(), a=1)

    def post(cache):
        try:
            cache["song"]
        except KeyError:
            with_requests("http://127.0.0.1:1/")

    with pytest.raises(requests.ConnectionError), pool.acquire():
        post({})
    assert pool.holders() == ()


def test_the_errors_of_other_leases_say_nothing_about_this_one():
    """A run inside a block keeps its own slot, not the block's as well."""
    pool, _, _ = pool_of(ThreadFace(), a=1, b=1)
    with pytest.raises(AmbiguousOutcome), pool.acquire(account="a"):
        pool.run(Desk(TimeoutError("read")), account="b")
    assert [(holder.account, holder.state) for holder in pool.holders()] == [("b", "ambiguous")]


class UnreadableError(Exception):
    """What a client raises for an answer that it cannot parse, with the answer in it."""

    response = httpx.Response(201, json={"jobid": "j1"})


@both_faces
@pytest.mark.parametrize("bind", [None, True, "jobid"])
def test_an_error_that_carries_an_accepted_answer_is_raised(face, bind):
    """``run`` returned the exception as if it were the answer; its job is bound all the same."""
    pool, _, sync = pool_of(face, a=1)
    with pytest.raises(UnreadableError):
        face.do(pool.run(face.work(Desk(UnreadableError())), bind=bind))
    assert [holder.job_id for holder in sync.holders()] == ([] if bind is None else ["j1"])


# -- numbers ---------------------------------------------------------------------------------------


@both_faces
@pytest.mark.parametrize("number", [429, 412, 596, 500, 137, 404, 401, 200, 0, True])
def test_a_number_that_a_call_returns_is_its_result(face, number):
    """P-57: a call that returned 429 was made, and paid, three times; 137 was an unknown outcome."""
    pool, _, sync = pool_of(face, a=1, b=1, c=1)
    desk = Desk(number)
    assert face.do(pool.run(face.work(desk))) is number
    stats = sync.stats()
    assert (len(desk.asked), stats.free, stats.in_flight) == (1, 3, 0)


@both_faces
def test_a_number_that_is_reported_is_a_status(face):
    """Who reports a status means one."""
    pool, _, sync = pool_of(face, a=1)
    assert face.do(face.do(pool.acquire()).report(429)) is Verdict.BUSY
    assert sync.stats().accounts["a"].state == "cooldown"


# -- work that comes after the call ----------------------------------------------------------------


class Streaming:
    """Callable, and a generator."""

    def __call__(self, lease):
        yield lease


class StreamingTasks:
    """Callable, and an asynchronous generator."""

    async def __call__(self, lease):
        yield lease


@both_faces
def test_a_generator_is_refused_before_a_slot_is_taken(face):
    """The job was sent when the generator was consumed: without a lease, on an account that had none free."""
    pool, _, sync = pool_of(face, a=1)
    for call in (Streaming().__call__, Streaming(), StreamingTasks(), functools.partial(Streaming())):
        with pytest.raises(TypeError):
            face.do(pool.run(call))
        with pytest.raises(TypeError):
            pool.with_lease()(call)
    assert sync.stats().acquired == 0


def test_a_plain_function_wrapped_for_tasks_has_sent_its_job():
    """P-57: its result cannot be awaited, and the error for that freed the slot and lost the answer."""
    pool, _, sync = pool_of(both_faces_async(), a=1)

    @pool.with_lease()
    def send(*, lease):
        return lease.account.id

    assert asyncio.run(send()) == "a"
    assert states(sync) == []


# -- after the block -------------------------------------------------------------------------------


@both_faces
@pytest.mark.parametrize(
    ("answer", "verdict"), [((412, {}, ""), Verdict.EXHAUSTED), ((429, {}, ""), Verdict.BUSY)]
)
def test_a_report_after_the_block_cools_the_account(face, answer, verdict):
    """An account without credits was given out again and again, as the report came a line too late."""
    pool, _, sync = pool_of(face, a=1, b=1)
    lease = face.do(pool.acquire(account="a"))
    face.block(lease)
    assert face.do(lease.report(answer)) is verdict
    assert (sync.stats().accounts["a"].state, sync.stats().free, states(sync)) == ("cooldown", 1, [])


@both_faces
def test_a_report_after_the_block_on_an_account_that_is_gone_changes_nothing(face):
    """Its account may have been taken away meanwhile."""
    pool, _, sync = pool_of(face, a=1)
    accounts = sync._core.options.source._accounts
    lease = face.do(pool.acquire())
    face.do(lease.release())
    accounts.clear()
    accounts["b"] = 1
    sync.refresh()
    assert face.do(lease.report((412, {}, ""))) is Verdict.EXHAUSTED
    assert sync.stats().free == 1


@both_faces
def test_a_job_that_is_reported_after_the_block_is_warned_about(face):
    """Its slot has been given away already, which nobody said."""
    pool, _, sync = pool_of(face, a=1)
    with capture_logs() as logs:
        lease = face.do(pool.acquire())
        face.block(lease)
        face.do(lease.report(JOB))
        sync.stats()
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["slot_ended_before_job"]


class Unread:
    """An answer of a client that reads the body later."""

    status, headers, _body = 201, {}, None


@both_faces
def test_an_answer_whose_body_was_not_read_is_warned_about_once(face):
    """Which job it names nobody knew, so that a slot which ended before its job was never told of."""
    pool, _, sync = pool_of(face, a=1)
    with capture_logs() as logs:
        for _ in range(3):
            face.block(pool.acquire(), lambda lease: start_report(lease, Unread()))
        lease = face.do(pool.acquire())
        face.do(lease.report(Unread()))
        face.do(lease.bind("j1"))
        sync.stats()
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["answer_not_read"]


def start_report(lease, answer):
    """Report in a block of either face; what the face for tasks gives back is driven to its end."""
    told = lease.report(answer)
    if asyncio.iscoroutine(told):
        try:
            told.send(None)
        except StopIteration:
            return


def test_a_group_of_many_errors_is_looked_at_in_no_time():
    """P-57: what is not looked at may hide a lost answer, and is not worth a loop that stands still."""
    many = ExceptionGroup("x", [ExceptionGroup("y", [KeyError(n)]) for n in range(100_000)])
    begun = time.process_time()
    assert ruled(many).verdict is Verdict.AMBIGUOUS
    assert time.process_time() - begun < 1.0


def test_the_attempts_of_a_run_tell_the_error_and_not_the_group():
    """An error text names what went wrong."""
    pool, _, _ = pool_of(ThreadFace(), a=1)
    with pytest.raises(AttemptsFailed, match="ConnectionRefusedError"):
        pool.run(Desk(*[ExceptionGroup("tasks", [REFUSED])] * 3))
