"""The stand-in for useapi.net, asked over real HTTP: accounts, creates, jobs."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from api import Api

from balancer.testing import CANARY, FakeUseapi

pytest_plugins = ["balancer.testing.plugin"]

TWO = {"a@example.com": 2, "b@example.com": 1}


@pytest.fixture
def fake(manual_clock, fake_useapi):
    """Two accounts of Flow Music and of Riffusion; jobs take 100 s of a clock that stands."""
    accounts = {"flowmusic": TWO, "riffusion": {"u1": 2, "u2": 1}}
    return fake_useapi(accounts, clock=manual_clock, job_seconds=(100, 100), rng=random.Random(7))


@pytest.fixture
def api(fake):
    """A client of Flow Music."""
    with Api(fake) as api:
        yield api


@pytest.fixture
def riffusion(fake):
    """A client of Riffusion."""
    with Api(fake, "riffusion") as api:
        yield api


def test_accounts_are_a_map_with_secrets_in_it(api):
    """Each entry states its maximum, and holds made-up secrets that can be looked for."""
    accounts = api.get("accounts").json()
    assert {id: entry["maxJobs"] for id, entry in accounts.items()} == TWO
    assert all(CANARY in entry["access_token"] for entry in accounts.values())


def test_fields_given_for_an_entry_win_and_none_drops_one(fake_useapi):
    """All fields of an entry are optional, and a test may want any of them away."""
    fake = fake_useapi({"flowmusic": {"a@example.com": {"tier": "pro", "email": None}}})
    with Api(fake) as api:
        entry = api.get("accounts").json()["a@example.com"]
    assert entry["tier"] == "pro"
    assert not {"email", "maxJobs"} & set(entry)


def test_one_account_is_found_by_its_percent_encoded_id(api):
    """Ids hold characters that a path must encode; an unknown one is a 404."""
    assert api.get("accounts/a%40example.com").json()["email"] == "a@example.com"
    assert api.get("accounts/c%40example.com").status_code == 404


def test_a_job_runs_until_its_time_is_over(api, manual_clock):
    """Its status and its slot follow the clock, with nobody to end it."""
    job = api.create(email="b@example.com")
    assert (job.status_code, job.json()["status"]) == (201, "pending")
    assert api.create(email="b@example.com").status_code == 429
    manual_clock.advance(99.5)
    assert api.get(f"jobs/{job.json()['jobid']}").json()["status"] == "pending"
    manual_clock.advance(0.5)
    done = api.get(f"jobs/{job.json()['jobid']}").json()
    assert (done["status"], done["duration_ms"]) == ("completed", 100_000)
    assert api.create(email="b@example.com").status_code == 201


def test_speed_shortens_the_life_of_jobs(fake_useapi, manual_clock):
    """At ten times the speed, a job of 100 s ends after 10."""
    fake = fake_useapi({"flowmusic": TWO}, clock=manual_clock, job_seconds=lambda: 100.0, speed=10)
    with Api(fake) as api:
        api.create(email="a@example.com")
        manual_clock.advance(10)
    assert fake.running("flowmusic") == ()


@pytest.mark.parametrize("options", [{"speed": 0}, {"job_seconds": (5, 1)}, {"job_seconds": (-1, 1)}])
def test_impossible_lives_are_refused(options):
    """A job cannot end before it starts."""
    with pytest.raises(ValueError, match=r"speed|job_seconds"):
        FakeUseapi({}, **options)


def test_a_job_can_be_finished_by_hand(fake, api):
    """The slot is free at once; what has ended stays as it ended."""
    job = api.create(email="b@example.com").json()["jobid"]
    fake.finish(job, "failed")
    fake.finish(job, "completed")
    assert api.get(f"jobs/{job}").json()["status"] == "failed"
    assert api.create(email="b@example.com").status_code == 201
    with pytest.raises(KeyError):
        fake.finish("job:unknown")
    with pytest.raises(ValueError, match="status"):
        fake.finish(job, "done")


def test_a_deleted_job_frees_its_slot(api):
    """It has failed as cancelled by the user, and cannot be deleted twice."""
    job = api.create(email="b@example.com").json()["jobid"]
    assert [api.delete(f"jobs/{job}").status_code for _ in range(2)] == [204, 404]
    assert api.get(f"jobs/{job}").json()["error"]["code"] == "user_cancelled"
    assert api.create(email="b@example.com").status_code == 201


def test_a_job_struck_off_the_schedule_runs_on(riffusion):
    """Deleting a scheduler entry frees the service's slot; the site still makes the song."""
    job = riffusion.create("music/create-prompt", user_id="u2").json()["job_id"]
    assert riffusion.delete(f"scheduler/{job}").status_code == 204
    assert riffusion.get("scheduler").json() == []
    assert riffusion.get("music/", id=job, user_id="u2").json()[0]["status"] == "processing"


def test_some_jobs_fail_if_asked_to(fake_useapi, manual_clock):
    """The share of failures is a setting."""
    fake = fake_useapi({"flowmusic": TWO}, clock=manual_clock, failures=1.0, job_seconds=(1, 1))
    with Api(fake) as api:
        job = api.create().json()["jobid"]
        manual_clock.advance(1)
        assert api.get(f"jobs/{job}").json()["status"] == "failed"


def test_the_server_chooses_uniformly_among_accounts_with_room(fake_useapi, manual_clock):
    """Room does not weigh: a small account is as likely as a large one. Chi-square, 1 % level."""
    accounts = {f"{number}@example.com": number + 1 for number in range(8)}
    fake = fake_useapi({"flowmusic": accounts}, clock=manual_clock, job_seconds=(1, 1), rng=random.Random(3))
    with Api(fake) as api:
        picks = Counter()
        for _ in range(800):
            picks[api.create().json()["email"]] += 1
            manual_clock.advance(1)
    assert sum((picks[id] - 100) ** 2 / 100 for id in accounts) < 18.5
    assert {id: lane.picked for id, lane in fake.audit().accounts["flowmusic"].items()} == picks


def test_a_full_or_broken_account_is_not_chosen(fake, api):
    """With one account full and one broken there is nothing left to choose."""
    fake.break_account("flowmusic", "a@example.com", "refresh token rejected")
    assert {api.create().json()["email"]} == {"b@example.com"}
    refused = api.create()
    assert refused.status_code == 429
    assert "all configured accounts" in refused.json()["error"]
    fake.break_account("flowmusic", "b@example.com", "refresh token rejected")
    assert api.create().status_code == 596


def test_a_request_may_bring_its_own_maximum(riffusion, fake):
    """It replaces the account's, up or down, within its documented range."""
    named = {"path": "music/create-prompt", "user_id": "u2"}
    answers = [riffusion.create(**named, maxJobs=limit).status_code for limit in (2, 2, 1, 3, 0, 11, "x")]
    assert answers == [200, 200, 429, 200, 400, 400, 400]
    assert [one.cause for one in fake.audit().over] == ["override", "override"]
    assert fake.audit().clean


def test_a_broken_account_answers_596_until_it_is_healed(fake, api):
    """The list tells the reason."""
    fake.break_account("flowmusic", "b@example.com", "refresh token rejected")
    assert api.get("accounts").json()["b@example.com"]["error"] == "refresh token rejected"
    assert api.create(email="b@example.com").status_code == 596
    fake.heal_account("flowmusic", "b@example.com")
    assert api.create(email="b@example.com").status_code == 201


def test_riffusion_hides_the_error_of_a_single_account(fake, riffusion):
    """Only its list has the field."""
    fake.break_account("riffusion", "u1", "cookie expired")
    assert riffusion.get("accounts").json()["u1"]["error"] == "cookie expired"
    assert "error" not in riffusion.get("accounts/u1").json()


def test_without_accounts_no_job_is_created(fake, api):
    """The answer says that nothing is configured."""
    for account in TWO:
        fake.remove_account("flowmusic", account)
    assert api.create().status_code == 404


def test_accounts_change_while_jobs_run(fake, api):
    """A lowered maximum ends no job, a removed account is unknown, and one that returns is still full."""
    for _ in range(2):
        api.create(email="a@example.com")
    fake.set_account("flowmusic", "a@example.com", 1)
    assert api.create(email="a@example.com").status_code == 429
    fake.remove_account("flowmusic", "a@example.com")
    assert api.create(email="a@example.com").status_code == 404
    fake.set_account("flowmusic", "a@example.com", 2)
    assert api.create(email="a@example.com").status_code == 429
    assert len(fake.running("flowmusic", "a@example.com")) == 2


def test_strangers_take_slots_and_may_be_invisible(fake, api):
    """A job started on the website fills the account although no list shows it."""
    seen = fake.start_stranger("flowmusic", "a@example.com")
    fake.start_stranger("flowmusic", "a@example.com", listed=False)
    assert api.create(email="a@example.com").status_code == 429
    assert [job["jobid"] for job in api.get("jobs").json()["a@example.com"]["jobs"]] == [seen]
    fake.finish(seen)
    assert api.create(email="a@example.com").status_code == 201
    assert fake.audit().clean
