"""``balancer services --check``: a row held against what its service answers."""

from __future__ import annotations

import json
import re

import pytest
from command_line import Desk
from create_paths import CREATES

from balancer import SERVICES
from balancer.testing import CANARY, FakeUseapi

IDS = {"email": ("a-b@example.com", "c@example.com"), "user_id": ("12345", "67890")}


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def checked(desk, fake, service, *options):
    """Run the check against ``fake``; return its result and what it found."""
    env = {"USEAPI_BASE_URL": fake.url, "USEAPI_TOKEN": fake.token}
    result = desk.run("services", "--check", service, "--json", *options, **env)
    assert CANARY not in result.output
    return result, json.loads(result.stdout)


@pytest.fixture
def fake():
    """Two accounts of Flow Music, one of them with a job of somebody else's."""
    accounts = {"flowmusic": {"a@example.com": 2, "b@example.com": 1}}
    with FakeUseapi(accounts, job_seconds=(0.1, 0.1)) as fake:
        yield fake


@pytest.mark.parametrize("key", SERVICES)
def test_a_service_that_speaks_as_its_row_says_has_nothing_odd(desk, key):
    """Accounts and a running job of every service of the table are understood."""
    row = SERVICES[key]
    ids = (
        ("US:a@example.com", "CA:a@example.com") if key == "dreamina" else IDS.get(row.selector, ("11", "22"))
    )
    with FakeUseapi({key: dict.fromkeys(ids, 2)}, job_seconds=(600, 600)) as fake:
        fake.start_stranger(key, ids[0])
        result, told = checked(desk, fake, key)
    assert (told["odd"], result.exit_code) == (0, 0), told["findings"]
    assert any("2 accounts" in one["what"] for one in told["findings"])


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("*/accounts", "<html>", "HTML"),
        ("*/accounts", {"a@example.com": {"email": "a@example.com", "slots": 3}}, "no entry states maxJobs"),
        ("*/accounts", [], "array"),
        ("*/jobs", [{"jobid": "1"}], "no such list"),
        ("*/jobs", {"a@example.com": {"jobs": [{"ticket": None}]}}, "names no account|cannot be read"),
        ("*/jobs", {"z@example.com": {"jobs": [{"jobid": "1"}]}}, "no configured account"),
        (
            "*/jobs",
            {"a@example.com": {"jobs": [{"jobid": "job:1-user:1-b@example.com-bot:flowmusic"}]}},
            "names b@example.com",
        ),
    ],
)
def test_what_the_row_does_not_understand_is_said(desk, fake, path, body, said):
    """Another shape, another name, ids that contradict their list."""
    fake.fault(f"GET {path}", status=200, body=body, times=None)
    env = {"USEAPI_BASE_URL": fake.url, "USEAPI_TOKEN": fake.token}
    result = desk.run("services", "--check", "flowmusic", **env)
    assert result.exit_code != 0
    assert re.search(said, " ".join(result.output.split()))


def test_fields_that_the_row_does_not_read_are_named_without_their_values(desk, fake):
    """So that somebody can say what is new."""
    fake.set_account("flowmusic", "a@example.com", {"maxJobs": 2, "brandNew": f"{CANARY}-x"})
    _, told = checked(desk, fake, "flowmusic")
    [line] = [one["what"] for one in told["findings"] if "does not read" in one["what"]]
    assert "brandNew" in line


def test_nothing_is_created_unless_it_is_asked_for_twice(desk, fake):
    """A job costs money: the path alone only says what would be sent."""
    result, _ = checked(desk, fake, "flowmusic", "--create", "music", "--field", "prompt=x")
    assert "--yes" in result.stderr
    assert fake.audit().accepted == 0


@pytest.mark.parametrize("key", ["flowmusic", "kling", "google-flow", "pixverse"])
def test_one_create_is_followed_to_its_first_status(desk, key, monkeypatch):
    """Asked for twice, a job is created on an account with room, and asked for once."""
    with FakeUseapi({key: {"a@example.com": 1, "b@example.com": 1}}, job_seconds=(0.1, 0.1)) as fake:
        monkeypatch.setattr("balancer.cli.check.time.sleep", lambda seconds: None)
        path = CREATES[key]
        result, told = checked(desk, fake, key, "--create", path, "--yes", "--field", "prompt=x")
        assert (told["odd"], result.exit_code, fake.audit().accepted) == (0, 0, 1), told["findings"]
    assert {one["where"] for one in told["findings"]} == {"accounts", "jobs", "create", "status"}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("songs", {"jobid": "1"}, "no create of this kind"),
        ("music", {"ticket": "1"}, "no job is named"),
    ],
)
def test_a_create_that_the_row_does_not_understand_is_said(desk, fake, path, body, said):
    """A path that it does not name, an answer without a job."""
    fake.fault(f"POST */{path}", status=201, body=body)
    result, told = checked(desk, fake, "flowmusic", "--create", path, "--yes")
    assert result.exit_code == 1
    assert any(said in one["what"] and one["odd"] for one in told["findings"])
