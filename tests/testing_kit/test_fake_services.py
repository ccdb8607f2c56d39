"""The stand-in speaks like each service: what the library reads from it, and what is documented."""

from __future__ import annotations

import random

import pytest
from api import Api
from bodies import BODIES
from create_paths import create_path, status_path

from balancer.services import SERVICES
from balancer.testing import CANARY, FakeUseapi, ManualClock
from balancer.useapi.parsing import final, job_id, job_list, table

IDS = {"email": ("a-b@example.com", "c@example.com"), "user_id": ("12345", "67890")}


@pytest.fixture(params=SERVICES)
def row(request):
    """Each row of the table in turn."""
    return SERVICES[request.param]


@pytest.fixture
def fake(row):
    """Two accounts of the service, 3 and 5 jobs at once."""
    ids = IDS.get(row.selector, ("1234567890", "2234567890"))
    accounts = {row.key: dict(zip(ids, (3, 5), strict=True))}
    with FakeUseapi(accounts, rng=random.Random(5), job_seconds=(600, 600)) as fake:
        yield fake


@pytest.fixture
def api(fake, row):
    """A client of the row's service."""
    with Api(fake) as api:
        api.base = fake.url + row.path
        yield api


def created(api, row, **fields):
    """Create a job of that kind on the first account, and return the answer."""
    return api.create(
        create_path(row.key), **{row.selector: IDS.get(row.selector, ("1234567890",))[0], **fields}
    )


def listed(api, row):
    """Return what the library reads from the list of running jobs."""
    return job_list(api.get(row.load.path).json(), row)


def test_the_library_reads_the_accounts(api, row):
    """Every account is whole, with the maximum it was given where entries state one, and has secrets."""
    answer = api.get(row.accounts)
    accounts = table(answer.json(), row, None).accounts
    assert [account.broken for account in accounts.values()] == [None, None]
    assert CANARY in answer.text
    if row.capacity:
        assert [account.capacity for account in accounts.values()] == [3, 5]


def test_a_broken_account_is_read_as_broken(fake, api, row):
    """Whatever field the service says it with."""
    account = next(iter(table(api.get(row.accounts).json(), row, None).accounts))
    fake.break_account(row.key, account, "session expired")
    assert table(api.get(row.accounts).json(), row, None).accounts[account].broken
    assert created(api, row).status_code == 596


def test_a_job_is_created_listed_followed_and_ended(fake, api, row):
    """The library finds the job's id in the create, the job on the list, and its end in its status."""
    answer = created(api, row, replyRef="ref-1")
    job = job_id(answer.json(), row)
    assert job in fake.running(row.key)
    if row.load and row.load.rows:
        [found] = [one for one in listed(api, row).jobs if one.id == job]
        assert found.account == IDS.get(row.selector, ("1234567890",))[0]
        assert found.ref == ("ref-1" if row.reply_ref else found.ref)
    elif row.load:
        assert sum(listed(api, row).counts.values()) == 1
    fake.finish(job)
    if row.load:
        after = listed(api, row)
        assert job not in {one.id for one in after.jobs}
        assert not any(after.counts.values())
    assert final(status_of(api, row, job).json(), row)


def status_of(api, row, job):
    """Ask after a job the way the service is asked."""
    return api.get(status_path(row.key, job, IDS.get(row.selector, ("1234567890",))[0]))


def test_a_full_account_is_refused_and_an_unknown_one_unknown(api, row):
    """429 beyond the maximum of each kind, 404 for an account that is not configured."""
    answers = [created(api, row).status_code for _ in range(4)]
    assert answers[3] == 429
    assert set(answers[:3]) <= {200, 201}
    assert created(api, row, **{row.selector: "nobody@example.com"}).status_code == 404


def test_the_selector_is_required_where_the_server_does_not_choose(api, row):
    """A create without it is a 400 there, and goes to some account elsewhere."""
    answer = created(api, row, **{row.selector: None})
    if row.selector_required:
        assert answer.status_code == 400
        assert row.selector in answer.json()["error"]
    else:
        assert job_id(answer.json(), row)


@pytest.mark.parametrize(
    ("service", "status", "text"),
    [
        ("flowmusic", 200, "{}"),
        ("riffusion", 404, "Configuration not found. To create configuration use POST accounts."),
        ("kling", 404, '{"error": "Configuration not found. To create'),
        ("luma", 404, ""),
    ],
)
def test_no_accounts_are_told_in_four_ways(service, status, text):
    """An empty map, a sentence, JSON, or nothing."""
    with FakeUseapi({}) as none, Api(none, service) as api:
        answer = api.get("accounts")
        assert (answer.status_code, answer.text[: len(text) or None]) == (status, text)


def test_the_load_of_no_accounts_is_an_error_at_some_services():
    """Muse answers 400, Flow Music an empty map."""
    with FakeUseapi({}) as none, Api(none, "muse") as muse, Api(none) as flowmusic:
        assert (muse.get("jobs").status_code, muse.get("jobs").json()) == (
            400,
            BODIES["muse/jobs_400_no_account"],
        )
        assert flowmusic.get("jobs").json() == {}


def test_riffusion_lists_the_room_that_is_left(manual_riffusion):
    """A full account is missing from available[], although it is there."""
    api, clock = manual_riffusion
    api.create("music/create-prompt", user_id="u2", replyRef="ref-1")
    clock.advance(237)
    body = api.get("scheduler/available").json()
    assert [item["elapsed"] for item in body["executing"]] == ["03:57"]
    assert body["available"] == [{"user_id": "u1", "maxJobs": 6, "executing": 0, "available": 6}]


def test_riffusion_asks_for_the_account_of_a_song(manual_riffusion):
    """With several accounts the question needs the account too."""
    api, _ = manual_riffusion
    job = api.create("music/create-compose", user_id="u2").json()["job_id"]
    assert api.get("music/", id=job).status_code == 400
    assert api.get("music/", id=job, user_id="u1").json() == []
    assert [song["id"] for song in api.get("music/", id=job, user_id="u2").json()] == [job]


@pytest.fixture
def manual_riffusion():
    """A client of Riffusion with a large and a small account, and the clock of the server."""
    clock = ManualClock()
    fake = FakeUseapi({"riffusion": {"u1": 6, "u2": 1}}, clock=clock, job_seconds=lambda: 1000.0)
    with fake, Api(fake, "riffusion") as api:
        yield api, clock


def test_pixverse_does_not_know_a_video_that_is_still_made():
    """Its 404 to a poll means: not yet."""
    long = {"job_seconds": (600, 600)}
    with FakeUseapi({"pixverse": {"a@example.com": 1}}, **long) as fake, Api(fake, "pixverse") as api:
        job = api.create("videos/create").json()["video_id"]
        assert api.get(f"videos/{job}").status_code == 404
        fake.finish(job)
        assert api.get(f"videos/{job}").json()["video_status_final"] is True


def test_google_flow_names_jobs_only_where_they_are_asked_for():
    """The summary has numbers and scores, the executing list has ids."""
    long = {"job_seconds": (600, 600)}
    with FakeUseapi({"google-flow": {"a@example.com": 2}}, **long) as fake, Api(fake, "google-flow") as api:
        job = api.create("videos", **{"async": True}).json()["jobid"]
        api.create("images", **{"async": True})
        summary = api.get("jobs/", options="summary").json()
        executing = api.get("jobs/", options="executing").json()
        full = api.create("videos")
    assert summary["combined"]["summary"]["a@example.com"]["score"] == 2
    assert "executing" not in summary["videos"]
    assert list(executing["videos"]["executing"]) == [job]
    assert (full.json()["error"], full.headers["Retry-After"]) == ("no_eligible_account", "60")


DOCUMENTED = {
    "riffusion/create_200": lambda api, job: job,
    "riffusion/scheduler": lambda api, job: api.get("scheduler").json(),
    "riffusion/scheduler_available": lambda api, job: api.get("scheduler/available").json(),
    "riffusion/accounts": lambda api, job: api.get("accounts").json(),
    "flowmusic/create_201": lambda api, job: job,
    "flowmusic/jobs": lambda api, job: api.get("jobs").json(),
    "flowmusic/accounts": lambda api, job: api.get("accounts").json(),
    "flowmusic/account_email": lambda api, job: api.get("accounts/u1").json(),
    "flowmusic/job_completed": lambda api, job: finished(api, job, "completed"),
    "flowmusic/job_failed": lambda api, job: finished(api, job, "failed"),
}


def finished(api, job, status):
    """End a job, and return what its status then says."""
    api.fake.finish(job["jobid"], status)
    return api.get(f"jobs/{job['jobid']}").json()


def fields(body):
    """Return the dotted names of all fields; keys that are ids count as one name."""
    if isinstance(body, list):
        return set().union(*map(fields, body))
    if not isinstance(body, dict):
        return {""}
    names = {
        name if "@" not in name and "-" not in name and name not in ("u1", "u2") else "*" for name in body
    }
    below = zip(body, (fields(value) for value in body.values()), strict=True)
    return names | {
        f"{name if name in names else '*'}.{rest}" for name, rests in below for rest in rests if rest
    }


@pytest.mark.parametrize("example", DOCUMENTED)
def test_the_two_main_services_send_every_documented_field_and_no_other(example):
    """Compared with the example bodies, whatever their values. A failed job also repeats its request."""
    service = example.partition("/")[0]
    accounts = {service: {"u1": 2, "u2": 4}}
    with FakeUseapi(accounts, job_seconds=(600, 600)) as fake, Api(fake, service) as api:
        path = create_path(service)
        job = api.create(path, mode="async", replyUrl="http://127.0.0.1:9/", replyRef="r").json()
        sent = fields(DOCUMENTED[example](api, job))
    extra = {"request.replyRef", "request.replyUrl", "*.jobs.replyRef", "*.jobs.replyUrl"}
    extra |= {"duration_ms", "request", "request.mode", "request.prompt"} if "failed" in example else set()
    assert sent - extra == fields(BODIES[example]) - extra
