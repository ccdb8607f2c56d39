"""``balancer submit``, ``wait`` and ``bind``: a job from a shell script, its slot included."""

from __future__ import annotations

import json
import sys

import pytest
from command_line import BALANCER, Desk

A, B = "a@example.com", "b@example.com"


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path, {A: 2, B: 1})
    desk.settings["BALANCER_POLL"] = "0.1"
    yield desk
    desk.close()


def jobs(desk):
    """Return job -> account of every slot that is taken."""
    with desk.pool() as pool:
        return {holder.job_id: holder.account for holder in pool.holders()}


def test_a_job_is_submitted_in_one_command_and_waited_for_in_another(desk, tmp_path):
    """Its id goes from the one to the other; the slot is the job's in between."""
    done = desk.run(
        "submit", "flowmusic", "music", "prompt=rain on tin", "count:=2", "title=2", "--account", A
    )
    assert done.exit_code == 0, done.stderr
    job = done.stdout.strip()
    assert desk.fake._state.job(job).request == {
        "email": A,
        "prompt": "rain on tin",
        "count": 2,
        "title": "2",
    }
    assert jobs(desk) == {job: A}
    slow = desk.run("wait", job, "--timeout", "0.2")
    assert (slow.exit_code, "runs on" in slow.stderr) == (124, True)
    assert jobs(desk) == {job: A}
    desk.fake.finish(job)
    ended = desk.run("wait", job, "--timeout", "20", "--download", tmp_path / "songs")
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout)["status"] == "completed"
    assert (jobs(desk), len(list((tmp_path / "songs").iterdir()))) == ({}, 1)


def test_fields_come_from_stdin_where_none_are_given(desk):
    """As a JSON object."""
    done = desk.run("submit", "flowmusic", "music", answer='{"prompt": "a = b"}')
    assert desk.fake._state.job(done.stdout.strip()).request["prompt"] == "a = b"
    assert desk.run("submit", "flowmusic", "music", answer="[]").exit_code == 2
    assert desk.run("submit", "flowmusic", "music", answer="").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("music", "prompt"), 2),
        (("music", "a:=b"), 2),
        (("lyrics", "a=b"), 2),
        (("music", "a=b", "--timeout", "0"), 1),
    ],
)
def test_what_cannot_be_submitted_says_why(desk, arguments, code):
    """Wrong usage, or no slot in time."""
    with desk.pool() as pool:
        leases = [pool.acquire(timeout=5) for _ in range(3)]
        done = desk.run("submit", "flowmusic", *arguments)
        for lease in leases:
            lease.release()
    assert (done.exit_code, desk.fake.audit().accepted) == (code, 0)
    assert done.stderr


def test_a_job_that_failed_makes_the_exit_code_one(desk):
    """What the service said is printed all the same."""
    job = desk.run("submit", "flowmusic", "music", "prompt=x").stdout.strip()
    desk.fake.finish(job, "failed")
    done = desk.run("wait", job, "--timeout", "20")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (1, "failed")
    assert "has failed" in done.stderr


@pytest.mark.parametrize("command", [("wait", ""), ("bind", " ", "--account", A)])
def test_a_job_without_a_name_is_wrong_usage(desk, command):
    """As when the command that was to start it has failed: no account is blamed for that."""
    done = desk.run(*command)
    assert (done.exit_code, "job_id must not be empty" in done.stderr) == (2, True)


def test_a_script_binds_the_job_that_it_has_started(desk):
    """Under ``exec``: the job has a slot when the command has ended, and gives it back at its end."""
    job = desk.fake.start_stranger("flowmusic", A, listed=False)
    bind = [*BALANCER, "bind", job, "--service", "flowmusic"]
    code = f"import subprocess; subprocess.run({bind!r}, check=True)"
    with desk.start("exec", "--account", A, "--", sys.executable, "-c", code) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert jobs(desk) == {job: A}
    assert desk.run("bind", job, "--account", A).exit_code == 0
    assert jobs(desk) == {job: A}
    desk.fake.finish(job)
    assert desk.run("wait", job, "--timeout", "20").exit_code == 0
    assert jobs(desk) == {}
