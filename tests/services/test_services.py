"""Every row of the service table, held to what the vendor's pages say."""

from __future__ import annotations

import dataclasses
import re

import pytest
from bodies import BODIES

from balancer.models import Job
from balancer.services import SERVICES
from balancer.useapi import parsing
from balancer.useapi.verdicts import Verdict

A, B = "a@example.com", "b@example.com"

# key: accounts, selector, required, capacity, its default, own maximum, replyRef listed, list of jobs, alive
FACTS = {
    "riffusion": ("/v1/riffusion/accounts", "user_id", 0, "maxJobs", None, 1, 1, "scheduler", 0),
    "flowmusic": ("/v1/flowmusic/accounts", "email", 0, "maxJobs", None, 0, 0, "jobs", 1),
    "mureka": ("/v1/mureka/accounts", "account", 1, None, 10, 0, 0, "jobs", 1),
    "mureka/speech": ("/v1/mureka/accounts", "account", 1, None, 10, 0, 0, "jobs", 1),
    "minimax": ("/v1/minimax/accounts", "account", 0, "maxJobs", None, 1, 1, "scheduler/available", 1),
    "minimax/images": ("/v1/minimax/accounts", "account", 1, "maxJobs", None, 0, 1, "scheduler/available", 1),
    "minimax/agent": ("/v1/minimax/accounts", "account", 1, "maxJobs", None, 0, 0, "agent/jobs", 1),
    "minimax/music": ("/v1/minimax/accounts", "account", 1, None, 1, 0, 0, "scheduler/available", 1),
    "minimax/audio": ("/v1/minimax/accounts", "account", 1, None, 10, 0, 0, "scheduler/available", 1),
    "minimax/llm": ("/v1/minimax/accounts", "account", 1, None, 5, 0, 0, None, 1),
    "kling": ("/v1/kling/accounts", "email", 1, "maxJobs", None, 1, 1, "scheduler", 1),
    "runwayml": ("/v1/runwayml/accounts", "email", 0, "maxJobs", None, 1, 1, "scheduler", 1),
    "pixverse": ("/v2/pixverse/accounts", "email", 0, "maxJobs", None, 1, 1, "scheduler", 1),
    "tempolor": ("/v1/tempolor/accounts", "user_id", 0, "maxJobs", 10, 1, 1, "scheduler", 1),
    "dreamina": ("/v1/dreamina/accounts", "account", 0, "maxJobs", 10, 1, 0, "scheduler", 1),
    "google-flow": ("/v1/google-flow/accounts", "email", 0, None, None, 0, 0, "jobs/?options=executing", 1),
    "google-vids": ("/v1/google-vids/accounts", "email", 0, "maxJobs", None, 0, 0, "jobs", 1),
    "gemini-notebook": ("/v1/gemini-notebook/accounts", "email", 0, "maxJobs", None, 0, 0, "jobs", 1),
    "muse": ("/v1/muse/accounts", "email", 0, "maxJobs", 2, 0, 0, "jobs", 1),
    "acemusic": ("/v1/acemusic/accounts", "email", 0, "maxJobs", 4, 0, 0, "jobs", 1),
    "luma": ("/v1/luma/accounts", "email", 0, "concurrency", None, 0, 0, "jobs", 1),
    "ltxstudio": ("/v1/ltxstudio/accounts", "email", 1, "maxJobs", 20, 1, 0, "scheduler/available", 0),
    "midjourney": ("/v3/midjourney/accounts", "channel", 0, "maxJobs", None, 0, 0, "jobs", 0),
    "midjourney/images": ("/v3/midjourney/accounts", "channel", 0, "maxImageJobs", None, 0, 0, "jobs", 0),
    "midjourney/videos": ("/v3/midjourney/accounts", "channel", 0, "maxVideoJobs", None, 0, 0, "jobs", 0),
    "midjourney-v2": ("/v2/account/midjourney", "channel", 0, "maxJobs", 3, 1, 0, "jobs", 0),
    "faceswap": ("/v1/faceswap/account", "channel", 0, None, 1, 0, 0, None, 1),
    "pika": ("/v1/pika/account", "channel", 0, "maxJobs", None, 1, 0, "jobs", 0),
}


def test_the_table_has_the_services_that_are_documented():
    """No row without its facts, no facts without a row."""
    assert set(SERVICES) == set(FACTS)


@pytest.mark.parametrize("key", sorted(FACTS))
def test_a_row_says_what_the_pages_say(key):
    """Paths, parameter, capacity, own maximum, replyRef, list of jobs and state of each service."""
    row = SERVICES[key]
    assert FACTS[key] == (
        f"{row.path}/{row.accounts}",
        row.selector,
        row.selector_required,
        row.capacity,
        row.default_capacity,
        row.max_jobs == "maxJobs",
        row.reply_ref,
        row.load and row.load.path,
        row.alive,
    )
    assert row.key == key
    assert row.docs.startswith(f"https://useapi.net/docs/api-{key.partition('/')[0].removesuffix('-v2')}-v")


@pytest.mark.parametrize("row", SERVICES.values(), ids=lambda row: row.key)
def test_a_row_is_well_formed(row):
    """Patterns compile, verdicts exist, every service can end a job, and none is made mutable."""
    for pattern in filter(None, (row.load and row.load.account_in_id, row.load and row.load.only)):
        re.compile(pattern)
    for rule in row.rules:
        assert Verdict[rule.verdict]
        re.compile(rule.match or "")
    assert row.final
    assert row.job_id
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.path = "/"
    with pytest.raises(TypeError):
        row.final["status"] = ()


# service/body: account -> capacity, None for broken
ACCOUNTS = {
    "riffusion/accounts": {
        "11111111-aaaa-4aaa-8aaa-000000000001": 6,
        "22222222-bbbb-4bbb-8bbb-000000000002": 10,
    },
    "riffusion/accounts_one": {"11111111-aaaa-4aaa-8aaa-000000000001": 1},
    "riffusion/accounts_empty_map": {},
    "flowmusic/accounts": {A: 12, B: 4},
    "flowmusic/accounts_error": {A: 12, B: None},
    "flowmusic/accounts_empty": {},
    "google-flow/accounts": {A: 1, B: 1},
    "google-flow/accounts_empty": {},
    "mureka/accounts": {"123456789": 10, "987654321": None},
    "minimax/accounts": {"123456": 3, "78910": 2, "55555": 1},
    "minimax/accounts_error": {"123456": 3, "78910": None},
    "kling/accounts": {A: 8, B: 50},
    "runwayml/accounts": {A: 5, B: 10},
    "runwayml/accounts_error": {A: 5, B: None},
    "pixverse/accounts": {A: 8, B: 3},
    "tempolor/accounts_inferred": {"12345": 10, "67890": 5},
    "dreamina/accounts_inferred": {"US:a@example.com": 10, "CA:a@example.com": 50, "US:b@example.com": None},
    "muse/accounts": {A: 3, B: None},
    "faceswap/accounts": {"1234567890123456789": 1, "2234567890123456789": 1},
    "faceswap/accounts_exhausted": {"1234567890123456789": 1},
    "midjourney-v2/accounts": {"1234567890123456789": 3, "2234567890123456789": None},
}


@pytest.mark.parametrize("name", sorted(ACCOUNTS))
def test_the_example_accounts_are_read(name):
    """Ids, capacities and broken accounts of every example configuration; none keeps a secured value."""
    table = parsing.table(BODIES[name], SERVICES[name.partition("/")[0]], None)
    assert {a.id: None if a.broken else a.capacity for a in table.accounts.values()} == ACCOUNTS[name]
    assert "secured" not in repr(table)
    assert "redacted" not in repr(table)


def test_strings_that_choose_an_account_are_kept():
    """Dreamina's regions have different models, so ``where`` may ask for one."""
    table = parsing.table(BODIES["dreamina/accounts_inferred"], SERVICES["dreamina"], None)
    assert table.accounts["CA:a@example.com"].fields["region"] == "CA"


def test_kinds_have_limits_of_their_own():
    """Midjourney states a maximum for images and one for videos beside that for all."""
    body = {"1": {"maxJobs": 12, "maxImageJobs": 9, "maxVideoJobs": 3}}
    keys = ("midjourney", "midjourney/images", "midjourney/videos")
    assert [parsing.table(body, SERVICES[key], None).accounts["1"].capacity for key in keys] == [12, 9, 3]


# service, body -> (id's end, account) of each job listed
JOBS = {
    ("riffusion", "riffusion/scheduler"): [("0001", "22222222"), ("0002", "22222222")],
    ("riffusion", "riffusion/scheduler_empty"): [],
    ("riffusion", "riffusion/scheduler_numeric_started"): [("0003", "11111111"), ("0004", "")],
    ("flowmusic", "flowmusic/jobs"): [("bot:flowmusic", A)],
    ("flowmusic", "flowmusic/jobs_empty"): [],
    ("mureka", "mureka/jobs"): [("a123456789-bot:mureka", "123456789")] * 2,
    ("mureka/speech", "mureka/jobs"): [("a123456789-bot:mureka", "123456789")],
    ("minimax", "minimax/scheduler_available"): [("-video:1", "78910")],
    ("minimax/images", "minimax/scheduler_available"): [("-image:2", "123456")],
    ("minimax/agent", "minimax/agent_jobs"): [("bot:minimax", "123456")] * 2,
    ("kling", "kling/scheduler"): [("123456789", A), ("987654321", B)],
    ("runwayml", "runwayml/scheduler"): [("0001", A), ("0002", B)],
    ("pixverse", "pixverse/scheduler"): [("video:1", B), ("image:2", B)],
    ("pixverse", "pixverse/scheduler_legacy_video_id"): [("video:1", B)],
    ("tempolor", "tempolor/scheduler"): [("abcdef1", "12345")],
    ("dreamina", "dreamina/scheduler"): [("bot:dreamina", "US:a@example.com")],
    ("dreamina", "dreamina/scheduler_empty"): [],
    ("google-flow", "google-flow/jobs_executing"): [("bot:google-flow", A)],
    ("muse", "muse/jobs"): [("bot:muse", A)],
    ("midjourney", "midjourney-v3/jobs"): [("bot:midjourney", "1234567890123456789")] * 2,
    ("midjourney/images", "midjourney-v3/jobs"): [("bot:midjourney", "1234567890123456789")] * 2,
    ("midjourney/videos", "midjourney-v3/jobs"): [],
    ("midjourney-v2", "midjourney-v2/jobs"): [("bot:midjourney", "1234567890123456789")],
}


@pytest.mark.parametrize(("key", "name"), sorted(JOBS))
def test_the_example_jobs_are_read(key, name):
    """Id and account of every job in every example list, in order; a list of our kind only."""
    listing = parsing.job_list(BODIES[name], SERVICES[key])
    expected = JOBS[key, name]
    assert len(listing.jobs) == len(expected)
    for job, (end, account) in zip(listing.jobs, expected, strict=True):
        assert job.id.endswith(end)
        assert (job.account or "").startswith(account)
    # Off-peak jobs of PixVerse are on no list, so that none of its jobs is ever called missing.
    assert listing.complete is (key != "pixverse" and name != "riffusion/scheduler_numeric_started")


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("google-vids", {"running": [{"jobid": "1", "email": A}], "accounts": {A: {"running": 1}}}),
        ("acemusic", {"jobs": [{"jobid": "1", "email": A, "type": "music"}]}),
        (
            "gemini-notebook",
            {"accounts": {A: {"health": "OK", "maxJobs": 3, "running": 1, "jobs": [{"jobid": "1"}]}}},
        ),
        ("flowmusic", {A: {"running": 1, "jobs": [{"jobid": "1"}]}, B: {"running": 0, "jobs": []}}),
        ("dreamina", {"executing": {A: [{"jobid": "1"}]}, "total": 1}),
    ],
)
def test_lists_without_an_example_are_read_as_the_pages_tell(key, body):
    """The shapes that the pages describe in words only."""
    listing = parsing.job_list(body, SERVICES[key])
    assert (listing.jobs, listing.complete) == ((Job("1", A),), True)


@pytest.mark.parametrize("name", ["riffusion", "kling", "runwayml", "tempolor", "pixverse"])
def test_the_reply_reference_comes_back(name):
    """Services that list ``replyRef`` give each of our jobs back under its lease's id."""
    jobs = parsing.job_list(BODIES[f"{name}/scheduler"], SERVICES[name]).jobs
    assert jobs[0].ref
    assert SERVICES[name].reply_ref
