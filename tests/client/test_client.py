"""``Client`` and ``AsyncClient``: submit, follow, attach, map, settle, cancel, save."""

import asyncio
import json
import math
import threading

import pytest
from create_paths import create_path
from faces import TaskFace, ThreadFace
from stepping import until
from structlog.testing import capture_logs

from balancer import (
    SERVICES,
    AccountPool,
    AcquireTimeout,
    AmbiguousOutcome,
    AsyncAccountPool,
    AsyncClient,
    AttemptsFailed,
    Client,
    HttpSource,
    JobFailed,
    JobRefused,
    PoolClosed,
    Service,
    SourceUnavailable,
    Unauthorized,
)
from balancer.testing import CANARY, FakeUseapi, ManualClock

A, B = "a@example.com", "b@example.com"
CLIP = f"user:1-{A}-clip:1"
POLL = (0.05, 0.2)


class Threads(ThreadFace):
    Client = Client

    def all(self, jobs):
        return list(jobs)


class Tasks(TaskFace):
    Client = AsyncClient

    def all(self, jobs):
        async def collected():
            return [job async for job in jobs]

        return asyncio.run(collected())


both_clients = pytest.mark.parametrize("face", [Threads(), Tasks()], ids=["threads", "tasks"])


@pytest.fixture
def fake():
    """Stand in for services whose jobs are short."""
    accounts = {
        "flowmusic": {A: 2, B: 1},
        "mureka": {"1": 1, "2": 1},
        "kling": {A: 1, B: 1},
        "minimax": {"111": 1, "222": 1},
        "runwayml": {A: 1, B: 1},
        "google-flow": {A: 2},
        "google-vids": {A: 1},
        "tempolor": {"9": 1},
    }
    with FakeUseapi(accounts, job_seconds=(0.1, 0.3)) as fake:
        yield fake


@pytest.fixture
def slow():
    """Stand in for a service whose jobs end when the test says so."""
    with FakeUseapi({"flowmusic": {A: 2, B: 1}, "kling": {A: 2, B: 2}}, job_seconds=(600, 600)) as fake:
        yield fake


@pytest.fixture
def opened():
    """Return a function that makes clients of a face, which are closed in the end."""
    made = []

    def make(face, fake, service="flowmusic", **options):
        options = {"token": fake.token, "base_url": fake.url, "poll": POLL, **options}
        client = face.Client(service, **options)
        made.append((face, client))
        return client

    yield make
    for face, client in made:
        face.do(client.close())


@both_clients
def test_a_server_of_this_machine_is_not_asked_through_a_proxy(face, fake, opened, tmp_path, monkeypatch):
    """From the prompt to the file: the proxy is away, and would look for the server on its own machine."""
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://bob:hunter2@127.0.0.1:9")
    client = opened(face, fake)
    job = face.do(client.submit("music", {"prompt": "rain on tin"}, timeout=10))
    face.do(job.result(timeout=60))
    assert face.do(job.save(tmp_path))


def in_flight(client):
    """Return how many slots are taken."""
    return len(client._threads.holders())


@both_clients
@pytest.mark.parametrize(
    "key", ["flowmusic", "mureka", "kling", "minimax", "runwayml", "google-vids", "tempolor"]
)
def test_a_prompt_comes_to_its_result(face, fake, opened, tmp_path, key):
    """Five lines: the slot is free again with the final body, and what was made can be fetched."""
    client = opened(face, fake, key)
    job = face.do(client.submit(create_path(key), {"prompt": "rain on tin"}, timeout=10))
    assert (job.done, job.failed, job.error, job.endpoint) == (False, False, None, create_path(key))
    assert in_flight(client) == 1
    body = face.do(job.result(timeout=20))
    assert in_flight(client) == 0
    assert (job.done, job.failed, job.body) == (True, False, body)
    assert job.account in fake.audit().accounts[key]
    assert job.status.lower().startswith("succe" if key in ("kling", "runwayml") else "completed")
    [*files] = face.do(job.save(tmp_path / "made"))
    assert files
    assert all(b"made by the stand-in" in path.read_bytes() for path in files)
    assert sorted(files) == sorted((tmp_path / "made").iterdir())
    before = fake.audit().requests
    assert face.do(job.save(tmp_path / "made")) == files
    assert fake.audit().requests == before


@both_clients
def test_the_request_has_the_selector_the_reference_and_the_maximum(face, slow, opened):
    """Nobody merges parameters by hand; creates that take neither the one nor the other get neither."""
    client = opened(face, slow, "kling")
    face.do(client.submit("videos/text2video", {"prompt": "x", "maxJobs": 2, "email": A}, timeout=5))
    face.do(client.submit("videos/omni", {"prompt": "x", "replyRef": "mine"}, timeout=5, account=B))
    face.do(client.submit("images/kolors", {"prompt": "x", "replyRef": "mine"}, timeout=5, account=B))
    sent = [job.request for job in slow._state._jobs.values()]
    leases = {holder.job_id: holder.id for holder in client._threads.holders()}
    assert sent[0]["maxJobs"] == 2
    assert sent[0]["replyRef"] == leases[next(iter(slow._state._jobs))]
    assert sent[1] == {"prompt": "x", "email": B, "replyRef": "mine"}
    assert sent[2] == {"prompt": "x", "email": B, "replyRef": "mine"}


@both_clients
def test_files_are_sent_as_a_form(face, slow, opened, tmp_path):
    """Bytes, paths and open files; what is no text is written as JSON, and nothing is sent that is None."""
    (tmp_path / "cover.png").write_bytes(b"png")
    client = opened(face, slow)
    with (tmp_path / "cover.png").open("rb") as file:
        files = {
            "refImage1": tmp_path / "cover.png",
            "refImage2": ("name.png", b"png", "image/png"),
            "refImage3": file,
            "refImage4": b"png",
        }
        fields = {"prompt": "ünï", "count": 2, "tags": ["a"], "none": None}
        face.do(client.submit("music", fields, files=files, timeout=5, account=A))
    [job] = slow._state._jobs.values()
    assert job.request == {
        "email": A,
        "prompt": "ünï",
        "count": "2",
        "tags": '["a"]',
        "refImage1": "cover.png",
        "refImage2": "name.png",
        "refImage3": "cover.png",
        "refImage4": "refImage4",
    }


@both_clients
@pytest.mark.parametrize(
    ("endpoint", "given", "told"),
    [
        ("musik", {}, "starts no job of 'flowmusic'; known: music, music/edit"),
        ("music/lyrics", {}, "starts no job"),
        ("", {}, "starts no job"),
        ("music", {"fields": {"email": A}, "account": B}, "account: account= names b@"),
        ("music", {"fields": {"clip": CLIP, "refImage1": f"user:1-{B}-file:1"}}, "several accounts: a@"),
        ("music", {"fields": {"clip": CLIP}, "account": B}, "an asset among the fields names a@"),
        (None, {}, "endpoint"),
        ("music", {"fields": []}, "fields must be a mapping"),
        ("music", {"fields": {1: "x"}}, "fields must be named by strings"),
        ("music", {"fields": {"seed": math.nan}}, r"fields\['seed'\]"),
        ("music", {"fields": {"made": object()}}, r"fields\['made'\]"),
        ("music", {"fields": {"prompt": "\ud800"}}, r"fields\['prompt'\].* half of a character"),
        ("music", {"fields": {"cover": b"x"}}, r"fields\['cover'\]"),
        ("music", {"files": {"x": 5}}, "files"),
        ("music", {"files": [b"x"]}, "files must be a mapping"),
        ("music", {"files": {5: b"x"}}, "files must be named by strings"),
        ("music", {"files": {"x": ("name",)}}, r"files\['x'\]"),
        ("music", {"files": {"x": ("name", b"x", "text/plain", "more")}}, r"files\['x'\]"),
        ("music", {"timeout": -1}, "timeout"),
        ("music", {"attempts": 0}, "attempts"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(face, slow, endpoint, given, told):
    """A wrong endpoint would cost a slot and perhaps credits."""
    client = face.Client("flowmusic", token=slow.token, base_url=slow.url)
    with pytest.raises((ValueError, TypeError), match=told):
        face.do(client.submit(endpoint, **given))
    assert slow.audit().accepted == slow.audit().refused_other == in_flight(client) == 0


@both_clients
@pytest.mark.parametrize(
    ("timeout", "kind"), [("5", TypeError), (True, TypeError), (-1, ValueError), (math.nan, ValueError)]
)
def test_a_wait_for_a_result_is_a_number_of_seconds(face, slow, opened, timeout, kind):
    """As everywhere; and the job runs on."""
    client = opened(face, slow)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    with pytest.raises(kind, match="timeout"):
        face.do(job.result(timeout))
    assert (job.done, in_flight(client)) == (False, 1)


@both_clients
@pytest.mark.parametrize("timeout", [math.inf, 1e11, 10**400])
def test_a_result_may_be_waited_for_as_long_as_one_likes(face, fake, opened, timeout):
    """Longer than a thread can sleep at once is no reason to fail."""
    client = opened(face, fake)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    assert face.do(job.result(timeout))["status"] == "completed"


@both_clients
def test_a_create_of_another_kind_names_the_kind(face, fake, opened):
    """Its slots are counted apart."""
    client = opened(face, fake, "minimax")
    with pytest.raises(ValueError, match="a job of 'minimax/images'"):
        face.do(client.submit("images/create", {}))


@both_clients
def test_a_create_on_an_asset_goes_to_the_account_of_the_asset(face, slow, opened):
    """Elsewhere the server would refuse it."""
    client = opened(face, slow)
    for _ in range(2):
        job = face.do(client.submit("music/edit", {"clip": f"user:1-{A}-clip:7", "prompt": "x"}, timeout=5))
        assert job.account == A
    with pytest.raises(AcquireTimeout):
        face.do(client.submit("music", {"email": A, "prompt": "x"}, timeout=0))
    assert slow.audit().refused == 0


@both_clients
def test_an_answer_that_is_the_result_gives_a_job_that_is_done(face, fake, opened, tmp_path):
    """Images of Google Flow are answered when they are made."""
    client = opened(face, fake, "google-flow")
    with capture_logs() as logs:
        job = face.do(client.submit("images", {"prompt": "x"}, timeout=5))
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == []
    assert (job.done, job.failed) == (True, False)
    assert face.do(job.result(timeout=0))["media"]
    assert len(face.do(job.save(tmp_path))) == 1
    assert in_flight(client) == 0


@both_clients
def test_answers_without_any_job_are_saved_side_by_side(face, fake, opened, tmp_path):
    """No id tells them apart, and neither overwrites the other."""
    client, saved = opened(face, fake, "google-flow"), []
    for number in range(2):
        image = {"generatedImage": {"fifeUrl": f"{fake.url}/files/{number}/1.jpg"}}
        fake.fault("POST */images", body={"media": [{"image": image}]})
        job = face.do(client.submit("images", {"prompt": "x"}, timeout=5))
        assert (job.id, job.done, job.failed, in_flight(client)) == (None, True, False, 0)
        saved += face.do(job.save(tmp_path))
    assert len(set(saved)) == 2
    assert saved[0].read_bytes() != saved[1].read_bytes()


@both_clients
def test_a_job_that_fails_raises_with_what_was_said(face, slow, opened):
    """Status and body are attributes; the slot is free."""
    client = opened(face, slow)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    slow.finish(job.id, "failed")
    with pytest.raises(JobFailed, match="could not be completed") as caught:
        face.do(job.result(timeout=10))
    error = caught.value
    assert (error.status, error.job_id, error.account) == ("failed", job.id, job.account)
    assert error.body["jobid"] == job.id
    assert (job.done, job.failed, job.error, in_flight(client)) == (True, True, None, 0)


@both_clients
def test_a_job_that_is_gone_has_failed_and_has_no_status(face, slow, opened):
    """What a 404 says is in the row."""
    client = opened(face, slow)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    slow.fault("GET */jobs/*", status=404, times=None)
    slow.lie("GET */jobs", times=None)
    with pytest.raises(JobFailed, match="does not have it any more") as caught:
        face.do(job.result(timeout=10))
    assert (job.status, job.failed, caught.value.status, in_flight(client)) == (None, True, None, 0)


@both_clients
def test_who_waits_in_vain_leaves_the_job_and_its_slot_alone(face, slow, opened):
    """A TimeoutError says nothing of the job."""
    client = opened(face, slow)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    with pytest.raises(TimeoutError, match="runs on"):
        face.do(job.result(timeout=0.1))
    assert (job.done, in_flight(client)) == (False, 1)
    slow.finish(job.id)
    assert face.do(job.result(timeout=10))["status"] == "completed"


@both_clients
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 404, "body": b"<html>no such route</html>"},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"cut": "after"},
        {"cut": "midbody"},
    ],
    ids=["500", "a gateway's 404", "429", "cut", "half"],
)
def test_a_status_call_that_fails_ends_no_job(face, fake, opened, naps, fault):
    """It is asked again, and the job is paid once."""
    client = opened(face, fake)
    for path in ("GET */jobs", "GET */jobs/*"):
        fake.fault(path, times=2, **fault)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    assert face.do(job.result(timeout=30))["status"] == "completed"
    assert (fake.audit().accepted, in_flight(client)) == (1, 0)


@both_clients
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"status": 400}, (JobRefused, 0)),
        ({"status": 502}, (AmbiguousOutcome, 0)),
        ({"cut": "after"}, (AmbiguousOutcome, 1)),
        ({"status": 200, "body": {}}, (AmbiguousOutcome, 0)),
        ({"status": 429, "times": None}, (AttemptsFailed, 0)),
        ({"status": 401}, (Unauthorized, 0)),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, (JobRefused, 0)),
    ],
)
def test_submit_raises_what_run_raises(face, fake, opened, fault, outcome):
    """Nothing is sent twice that could pay twice."""
    error, accepted = outcome
    client = opened(face, fake)
    fake.fault("POST */music", **fault)
    with pytest.raises(error):
        face.do(client.submit("music", {"prompt": "x"}, timeout=5, attempts=2))
    assert fake.audit().accepted == accepted
    assert in_flight(client) == (error is AmbiguousOutcome)


@both_clients
def test_a_create_that_one_account_turns_away_goes_to_another(face, fake, opened):
    """As ``run`` does."""
    client = opened(face, fake)
    fake.fault("POST */music", status=429, account=A, times=None)
    for _ in range(3):
        job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
        assert job.account == B
        assert face.do(job.result(timeout=10))


@both_clients
def test_map_yields_each_as_it_ends_and_fills_the_slots_without_a_refusal(face, fake, opened):
    """Twenty prompts over three slots; none of the stand-in's maxima is met."""
    client = opened(face, fake)
    jobs = face.all(client.map("music", ({"prompt": str(n)} for n in range(20))))
    assert len({job.id for job in jobs}) == 20
    assert {job.status for job in jobs} == {"completed"}
    audit = fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other, audit.over) == (20, 0, 0, ())
    assert sum(one.peak for one in audit.accounts["flowmusic"].values()) == 3
    assert in_flight(client) == 0


@both_clients
def test_map_yields_what_was_not_taken_with_its_error(face, fake, opened):
    """One refused prompt of a hundred is no reason to lose the others."""
    client = opened(face, fake)
    fake.fault("POST */music", status=400)
    fake.fault("POST */music", cut="after")
    jobs = face.all(client.map("music", ({"prompt": str(n)} for n in range(8))))
    assert sorted(type(job.error).__name__ for job in jobs if job.failed) == [
        "AmbiguousOutcome",
        "JobRefused",
    ]
    for job in jobs:
        if job.failed:
            assert (job.id, job.done, job.status) == (None, True, None)
            with pytest.raises(type(job.error)):
                face.do(job.result())
            assert (face.do(job.cancel()), repr(job).split()[-1]) == (False, f"{type(job.error).__name__}>")
    assert len([job for job in jobs if job.status == "completed"]) == 6
    assert fake.audit().accepted == 7


@both_clients
def test_what_the_pool_raises_ends_a_map(face, fake, opened):
    """Of the token, or of a timeout: the next input would fare no better."""
    client = opened(face, fake)
    fake.fault("POST */music", status=401)
    with pytest.raises(Unauthorized):
        face.all(client.map("music", [{"prompt": "x"}] * 3))
    with pytest.raises(ValueError, match="starts no job"):
        face.all(client.map("lyrics", [{}]))


def test_map_reads_its_inputs_in_the_thread_that_iterates(fake, opened):
    """A cursor of a database belongs to its thread; no more is read than can be sent."""
    client, read = opened(Threads(), fake), []

    def inputs():
        for n in range(50):
            read.append(threading.get_ident())
            yield {"prompt": str(n)}

    jobs = client.map("music", inputs())
    assert read == []
    next(jobs)
    assert set(read) == {threading.get_ident()}
    assert len(read) <= 3 + 2
    jobs.close()


@both_clients
def test_a_map_that_is_left_early_leaves_the_line_and_its_jobs_run_on(face, slow, opened):
    """What was sent stays bound, nobody stands in line, and no thread stays behind."""
    client = opened(face, slow)
    sent = threading.Event()

    def inputs():
        for n in range(10):
            yield {"prompt": str(n)}
            if n == 3:
                sent.set()

    slow.fault("POST */music", times=1, status=400)
    if face.Client is Client:
        jobs = client.map("music", inputs())
        assert next(jobs).failed
        jobs.close()
    else:

        async def leave():
            jobs = client.map("music", inputs())
            assert (await anext(jobs)).failed
            await jobs.aclose()
            own = asyncio.current_task()
            await asyncio.wait(asyncio.all_tasks() - {own})  # what is being sent belongs to this loop

        asyncio.run(leave())
    until(lambda: client._threads.stats().waiting == 0)
    until(lambda: not [one for one in threading.enumerate() if one.name in ("balancer-map", "balancer-call")])
    assert in_flight(client) == slow.audit().accepted == len(slow.running("flowmusic"))
    assert {holder.state for holder in client._threads.holders()} <= {"bound"}


@both_clients
@pytest.mark.parametrize("told", [None, B], ids=["found", "named"])
def test_a_job_of_an_earlier_process_is_taken_up(face, slow, opened, told):
    """It holds a slot from then on, and its result is had."""
    with Client("flowmusic", token=slow.token, base_url=slow.url) as earlier:
        job = earlier.submit("music", {"prompt": "x"}, timeout=5, account=B).id
    slow.lie("GET */jobs", times=1)  # so that it is not external yet
    client = opened(face, slow)
    taken = face.do(client.attach(job, account=told))
    assert (taken.id, taken.account, taken.endpoint, in_flight(client)) == (job, B, None, 1)
    assert face.do(client.attach(job)).id == job
    assert in_flight(client) == 1
    slow.finish(job)
    assert face.do(taken.result(timeout=10))["jobid"] == job
    assert in_flight(client) == 0


@both_clients
def test_a_job_that_has_ended_meanwhile_is_taken_up_done(face, slow, opened):
    """It is read once, and takes no slot."""
    job = slow.start_stranger("flowmusic", A)
    slow.finish(job)
    client = opened(face, slow)
    taken = face.do(client.attach(job))
    assert (taken.done, taken.status, in_flight(client)) == (True, "completed", 0)


@both_clients
def test_a_job_of_which_nobody_knows_the_account_is_followed_without_a_slot(face, slow, opened):
    """A number tells nothing, and Kling wants the account to be named: the warning says what helps."""
    job = slow.start_stranger("kling", A)
    client = opened(face, slow, "kling")
    with capture_logs() as logs:
        taken = face.do(client.attach(job))
    assert "job_without_slot" in [log["event"] for log in logs]
    assert (taken.account, taken.done, in_flight(client)) == (None, False, 0)
    again = face.do(opened(face, slow, "kling").attach(job, account=A))
    slow.finish(job)
    assert face.do(again.result(timeout=10))["works"]


@both_clients
def test_a_callback_ends_the_wait_and_frees_the_slot(face, slow, opened):
    """``settle`` in a webhook: whoever waits has the body, and nobody asks the service again."""
    client = opened(face, slow, poll=600)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    assert face.do(client.settle({"jobid": job.id, "status": "running"})) is False
    assert not job.done
    body = [{"jobid": "other", "status": "failed"}, {"jobid": job.id, "status": "completed", "clips": []}]
    assert face.do(client.settle(json.dumps(body))) is True
    assert (face.do(job.result(timeout=0)), in_flight(client)) == (body[1], 0)
    assert not any("jobs/*" in path for path in slow.audit().requests)


@both_clients
def test_a_job_is_called_off_where_the_service_can(face, slow, opened):
    """It ends as failed; what cannot be called off says so, and what has ended is False."""
    client = opened(face, slow)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    assert face.do(job.cancel()) is True
    with pytest.raises(JobFailed):
        face.do(job.result(timeout=10))
    assert face.do(job.cancel()) is False
    other = face.do(opened(face, slow, "kling").submit("videos/text2video", {"prompt": "x"}, timeout=5))
    with pytest.raises(ValueError, match="cannot be called off"):
        face.do(other.cancel())


@both_clients
def test_refresh_asks_now(face, slow, opened):
    """Once; a failure says nothing of the job."""
    client = opened(face, slow, poll=600)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    slow.fault("GET */jobs/*", status=503)
    with pytest.raises(SourceUnavailable, match="503"):
        face.do(job.refresh())
    assert face.do(job.refresh()) is job
    assert (job.done, job.body["jobid"]) == (False, job.id)
    slow.finish(job.id)
    face.do(job.refresh())
    assert (job.done, job.status, in_flight(client)) == (True, "completed", 0)


@both_clients
def test_close_leaves_jobs_bound_and_sends_away_who_waits(face, slow, opened):
    """They run on; later calls are refused."""
    shared = AccountPool("flowmusic", token=slow.token, base_url=slow.url)
    client = opened(face, slow, None, pool=shared, poll=600)
    job = face.do(client.submit("music", {"prompt": "x"}, timeout=5))
    told = []

    def wait():
        with pytest.raises(PoolClosed):
            face.do(job.result())
        told.append("closed")

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: job._state.wakes)
    face.do(client.close())
    thread.join(10)
    assert told == ["closed"]
    assert [holder.job_id for holder in shared.holders()] == [job.id]
    for late in (lambda: client.submit("music", {}), job.result, lambda: client.attach("j")):
        with pytest.raises(PoolClosed):
            face.do(late())
    with pytest.raises(PoolClosed):
        face.all(client.map("music", []))
    shared.acquire(timeout=5).release()
    shared.close()


@both_clients
@pytest.mark.parametrize("kind", [AccountPool, AsyncAccountPool])
def test_a_client_shares_a_pool_of_either_face(face, fake, kind, opened):
    """Where its accounts are read from tells where jobs are sent."""
    pool = kind("flowmusic", token=fake.token, base_url=fake.url)
    client = opened(face, fake, None, pool=pool, token=None, base_url=None)
    assert type(client.pool).__name__ == face.Pool.__name__
    assert face.do(face.do(client.submit("music", {"prompt": "x"}, timeout=5)).result(timeout=10))
    assert in_flight(client) == 0


@both_clients
@pytest.mark.parametrize("how", ["mapping", "source"])
def test_with_a_source_of_ones_own_jobs_are_sent_to_the_address_given(face, fake, opened, how):
    """``token`` and ``base_url`` still tell; an HttpSource knows its own."""
    if how == "mapping":
        client = opened(face, fake, source={A: 1})
    else:
        source = HttpSource("flowmusic", token=fake.token, base_url=fake.url)
        client = opened(face, fake, None, source=source, token=None, base_url=None)
    assert face.do(face.do(client.submit("music", {"prompt": "x"}, timeout=5)).result(timeout=10))


@both_clients
def test_wrong_arguments_of_a_client_are_named(face, fake):
    """As those of a pool."""
    for options, told in (
        ({"service": "flowmusik"}, "flowmusic"),
        ({"service": "flowmusic", "poll": 0}, "poll"),
        ({"service": "flowmusic", "poll": (5, 2)}, "poll"),
        ({"service": "flowmusic", "poll": "soon"}, "poll"),
        ({"service": "flowmusic", "token": ""}, "token"),
        ({"source": {"a": 1}}, "does not say how its jobs are followed"),
        ({"pool": 5}, "pool must be"),
        ({"pool": AccountPool("flowmusic", source={"a": 1}), "ttl": 5}, "no further arguments"),
    ):
        with pytest.raises((ValueError, TypeError), match=told):
            face.Client(**{"token": "t", **options})


def test_poll_comes_from_the_argument_the_environment_or_the_row(fake, monkeypatch):
    """One number is a pair of it."""
    options = {"token": fake.token, "base_url": fake.url}

    def found(**more):
        with Client("flowmusic", **options, **more) as client:
            return client._poller.first, client._poller.most

    assert found() == SERVICES["flowmusic"].poll
    assert found(poll=3) == (3, 3)
    monkeypatch.setenv("BALANCER_POLL", "2, 15")
    assert found() == (2, 15)
    monkeypatch.setenv("BALANCER_POLL", "7")
    assert found() == (7, 7)
    assert found(poll=[1, 2.5]) == (1, 2.5)


def test_a_row_of_ones_own_is_followed(fake):
    """What it says of status and end is enough."""
    row = Service(
        key="own",
        path="/v1/own",
        selector="account",
        final={"state": ("over", "broken")},
        succeeded={"state": ("over",)},
        status=SERVICES["flowmusic"].status,
        creates=("make",),
    )
    with (
        FakeUseapi({"own": {"a": 1}}, services=[row], job_seconds=(0.1, 0.1)) as own,
        Client(row, token=own.token, base_url=own.url, poll=0.05) as client,
    ):
        assert client.submit("make", {"prompt": "x"}, timeout=5).result(timeout=10)["state"] == "over"


def test_a_clock_that_is_moved_moves_the_polls(slow):
    """No test has to sleep."""
    clock = ManualClock()
    with Client(
        "flowmusic", token=slow.token, base_url=slow.url, clock=clock, reconcile_every=None
    ) as client:
        job = client.submit("music", {"prompt": "x"}, timeout=5)
        slow.finish(job.id)
        assert not any("jobs" in path for path in slow.audit().requests)
        clock.advance(5)
        assert job.result(timeout=10)["status"] == "completed"


def test_no_secret_is_shown(fake, caplog):
    """The token is in no repr, no error and no log, and neither is what the accounts' entries hold."""
    with Client("flowmusic", token=fake.token, base_url=fake.url, poll=POLL) as client:
        fake.fault("POST */music", cut="after")
        with pytest.raises(AmbiguousOutcome) as caught:
            client.submit("music", {"prompt": "x"}, timeout=5)
        fake.fault("POST */music", status=200, body={})
        with pytest.raises(AmbiguousOutcome, match="names none") as unnamed:
            client.submit("music", {"prompt": "x"}, timeout=20)
        assert unnamed.value.response.request is None
        for account in client.pool.stats().accounts:
            client.pool.reset(account)  # one cools after the cut, for longer than anybody wants to wait here
        job = client.submit("music", {"prompt": "x"}, timeout=20)
        job.result(timeout=10)
        shown = f"{client!r} {client._api!r} {job!r} {caught.value!r} {vars(caught.value)} {caplog.text}"
        error, chain = caught.value, ""
        while error is not None:
            chain += repr(error) + repr(vars(error))
            error = error.__cause__
        assert fake.token not in shown + chain
        assert CANARY not in shown + chain
