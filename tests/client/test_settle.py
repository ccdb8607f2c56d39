"""``pool.settle``: what a status call or a callback says frees the slots of jobs that are over."""

import json

import httpx
import pytest
import requests
from create_paths import create_path, status_path
from desk import Desk
from faces import both_faces, pool_for

from balancer import SERVICES, AccountPool
from balancer.testing import FakeUseapi

DONE, FAILED = {"jobid": "j1", "status": "completed"}, {"jobid": "j1", "status": "failed"}


@pytest.fixture(params=["flowmusic"])
def key(request):
    """Name the service of the pools; a test may name another."""
    return request.param


@pytest.fixture
def bound(key):
    """Return a function that makes a pool of a face, with leases bound to jobs j1, j2 and so on."""

    def make(face, jobs=1):
        pool, sync = pool_for(face, key, {"a": 5})
        for number in range(jobs):
            sync.acquire().bind(f"j{number + 1}")
        return pool, lambda: [holder.job_id for holder in sync.holders()]

    return make


@both_faces
@pytest.mark.parametrize(
    "form",
    [
        lambda body: body,
        json.dumps,
        lambda body: json.dumps(body).encode(),
        lambda body: [body],
        lambda body: httpx.Response(200, json=body),
        lambda body: (200, {}, json.dumps(body)),
    ],
    ids=["mapping", "text", "bytes", "array", "response", "triple"],
)
@pytest.mark.parametrize("body", [DONE, FAILED, {"jobId": 5, **DONE, "jobid": " j1\n"}])
def test_a_final_status_frees_the_slot_in_whatever_form_it_comes(face, bound, form, body):
    """A webhook handler has a body, a poller a response: either is given as it is."""
    pool, jobs = bound(face)
    assert face.do(pool.settle(form(body))) is True
    assert jobs() == []


@both_faces
@pytest.mark.parametrize(
    "said",
    [
        {"jobid": "j1", "status": "pending"},
        {"jobid": "j1", "status": "resting"},
        {"jobid": "j1"},
        {"status": "completed"},
        [],
        {},
        "",
        "<html>",
        "completed",
        b"\xff",
        None,
        42,
        object(),
        {"jobid": ["j1"] * 5, "status": ["completed"]},
        *((status, {}, json.dumps(DONE)) for status in (301, 400, 401, 403, 429, 500, 503, 596)),
    ],
)
def test_anything_else_changes_nothing(face, bound, said):
    """Progress, unknown words, what cannot be read, answers outside 2xx, an end of nobody."""
    pool, jobs = bound(face)
    assert face.do(pool.settle(said)) is False
    assert jobs() == ["j1"]


@both_faces
def test_of_an_array_each_job_that_is_over_is_settled(face, bound):
    """True only once all are over; one that is not bound here is remembered as over."""
    pool, jobs = bound(face, 3)
    running = {"jobid": "j2", "status": "pending"}
    assert face.do(pool.settle([DONE, running, {"jobid": "j3", "status": "failed"}])) is False
    assert jobs() == ["j2"]
    assert face.do(pool.settle([DONE, dict(running, status="completed")])) is True
    assert jobs() == []


@both_faces
def test_a_job_is_meant_where_the_body_names_none(face, bound):
    """Of an array that names jobs, its item alone counts; a mapping that names one is believed."""
    pool, jobs = bound(face, 3)
    assert face.do(pool.settle({"status": "completed"}, job_id="j1")) is True
    assert jobs() == ["j2", "j3"]
    items = [{"jobid": "j2", "status": "completed"}, {"jobid": "j3", "status": "pending"}]
    assert face.do(pool.settle(items, job_id="j3")) is False
    assert face.do(pool.settle(items, job_id="j9")) is False
    assert jobs() == ["j2", "j3"]
    assert face.do(pool.settle(items, job_id="j2")) is True
    assert face.do(pool.settle([], job_id="j3")) is False
    assert jobs() == ["j3"]
    assert face.do(pool.settle([{"status": "completed"}], job_id="j3")) is True
    assert jobs() == []


@both_faces
@pytest.mark.parametrize(
    ("key", "over"), [("flowmusic", True), ("tempolor", False), ("kling", True)], indirect=["key"]
)
def test_a_404_means_what_the_row_says(face, key, over, bound):
    """Of a job that is named; of nobody it means nothing."""
    pool, jobs = bound(face)
    missing = (404, {}, '{"error": "Job not found"}')
    assert face.do(pool.settle(missing)) is False
    assert face.do(pool.settle((404, {}, "\n<!doctype html>no such route"), job_id="j1")) is False
    assert jobs() == ["j1"]
    assert face.do(pool.settle(missing, job_id="j1")) is over
    assert jobs() == ([] if over else ["j1"])


@both_faces
def test_an_end_that_overtakes_the_bind_frees_the_slot_then(face, key):
    """P-58: a callback may come before the answer of its own create was read."""
    pool, sync = pool_for(face, key, {"a": 1})
    lease = sync.acquire()
    assert face.do(pool.settle(DONE)) is True
    lease.bind("j1")
    assert sync.holders() == ()


@both_faces
def test_what_says_too_much_to_be_looked_at_is_not_final(face, bound):
    """A body of thousands of items would fill the memory of jobs that ended early."""
    pool, _ = bound(face)
    assert face.do(pool.settle([{"jobid": f"k{n}", "status": "completed"} for n in range(5_000)])) is False


@both_faces
def test_a_row_without_final_words_is_an_error(face):
    """Nothing would ever be final, and every slot be held until its end."""
    pool = face.Pool(source={"a": 1})
    with pytest.raises(ValueError, match="no final words"):
        face.do(pool.settle(DONE))
    with pytest.raises(ValueError, match="job_id"):
        face.do(pool_for(face, "flowmusic", {"a": 1})[0].settle(DONE, job_id=" "))


@both_faces
@pytest.mark.parametrize("key", ["mureka", "google-flow"])
def test_a_create_whose_answer_is_the_result_leaves_no_slot_behind(face, key):
    """With ``bind=True`` nothing is left to wait for."""
    pool, sync = pool_for(face, key, {"a": 1})
    inline = {"jobid": "j1", **{name: [{"id": 1}] for name in SERVICES[key].inline}}
    face.do(pool.run(face.work(Desk((200, {}, inline))), bind=True))
    assert sync.holders() == ()


@pytest.mark.parametrize("key", [key for key, row in SERVICES.items() if row.creates and row.status])
def test_a_poll_of_each_service_settles_its_job(key):
    """The body of a status call of every service frees the slot of its job, and only at its end."""
    row = SERVICES[key]
    accounts = {key.partition("/")[0]: {"a@example.com": 1}}
    with (
        FakeUseapi(accounts, job_seconds=(600, 600)) as fake,
        AccountPool(key, token=fake.token, base_url=fake.url) as pool,
        requests.Session() as session,
    ):
        session.headers["Authorization"] = f"Bearer {fake.token}"
        root = fake.url + row.path
        with pool.acquire() as lease:
            fields = {**lease.params, "prompt": "x", "async": "true"}
            answer = session.post(f"{root}/{create_path(key)}", json=fields, timeout=10)
            assert answer.ok, answer.text
            [job] = fake.running(key)
            lease.bind(job)
        url = f"{root}/{status_path(key, job, 'a@example.com')}"
        assert pool.settle(answer) is False
        assert pool.settle(session.get(url, timeout=10), job_id=job) is False
        assert pool.stats().in_flight == 1
        fake.finish(job)
        assert pool.settle(session.get(url, timeout=10), job_id=job) is True
        assert pool.stats().in_flight == 0
