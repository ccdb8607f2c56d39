"""Lists of running jobs, create answers, status bodies and callbacks become values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bodies import BODIES

from balancer.errors import InvalidConfiguration
from balancer.models import Account, Job
from balancer.services import SERVICES
from balancer.services.schema import JobsEndpoint, Service
from balancer.useapi import parsing

FLOW = SERVICES["flowmusic"]
CANARY = "s3cr3t-canary-0001"
A, B = "a@example.com", "b@example.com"


class TestListing:
    """A load answer becomes jobs, row by row."""

    def test_bare_strings_are_ids_that_tell_the_account(self):
        """Midjourney's second version lists ids, with the channel inside."""
        (job,) = parsing.job_list(BODIES["midjourney-v2/jobs"], SERVICES["midjourney-v2"]).jobs
        assert (job.id, job.account) == (BODIES["midjourney-v2/jobs"][0], "1234567890123456789")

    def test_numbers_are_ids(self):
        """Kling's ids are numbers on the wire and text with us."""
        jobs = parsing.job_list(BODIES["kling/scheduler"], SERVICES["kling"]).jobs
        assert jobs == (Job("123456789", A, "r"), Job("987654321", B))

    def test_an_email_with_dashes_is_found_in_an_id(self):
        """The account between known markers may itself contain the separator."""
        id = "user:1-runwayml:a-task-b@ex-ample.com-task:0-1"
        (job,) = parsing.job_list([{"taskId": id}], SERVICES["runwayml"]).jobs
        assert job.account == "a-task-b@ex-ample.com"

    def test_a_map_of_jobs_is_read_by_its_keys(self):
        """Google Flow's executing view is keyed by job id; where nothing is named its summary counts."""
        body = BODIES["google-flow/jobs_executing"]
        listing = parsing.job_list(body, SERVICES["google-flow"])
        assert listing.jobs == (Job("j1014v-u1234-email:a@example.com-bot:google-flow", A),)
        assert listing.complete
        assert listing.counts == {A: 2}  # one more than it names
        summary = parsing.job_list(BODIES["google-flow/jobs_summary"], SERVICES["google-flow"])
        assert (summary.jobs, summary.counts, summary.complete) == ((), {A: 2, B: 0}, False)

    def test_inline_counts_are_read_where_there_are_no_rows(self):
        """A list of accounts may say how many run, and not which: then none is ever called missing."""
        inline = JobsEndpoint(path="accounts", rows=(), counts="*.executing", covers=False)
        body = {"a": {"executing": 2}, "b": {"executing": "1"}, "c": {}, "d": {"executing": -1}, "e": None}
        listing = parsing.job_list(body, replace(SERVICES["luma"], load=inline))
        assert (listing.jobs, listing.counts, listing.complete) == ((), {"a": 2, "b": 1}, False)

    @pytest.mark.parametrize(("running", "counts"), [(0, {}), (1, {}), (2, {A: 2}), (None, {}), ("x", {})])
    def test_a_number_counts_where_it_is_more_than_the_rows(self, running, counts):
        """Rows that the list leaves out take slots as well; a number that lags behind takes none away."""
        body = {"accounts": {A: {"running": running, "jobs": [{"jobid": "1"}]}}}
        listing = parsing.job_list(body, SERVICES["gemini-notebook"])
        assert (listing.jobs, listing.counts) == ((Job("1", A),), counts)

    def test_a_job_without_id_counts_and_leaves_the_list_incomplete(self):
        """Somebody runs a job there; which one, and whether it is ours, the row does not say."""
        listing = parsing.job_list([{"email": A}, {"id": 1, "email": B}], SERVICES["kling"])
        assert listing.jobs == (Job(None, A), Job("1", B))
        assert not listing.complete

    def test_odd_rows_are_passed_over(self):
        """Null, empty and foreign rows raise nothing, and make nobody's job count as missing."""
        rows = [None, {}, [], True, 1.5, {"job_id": None}, {"job_id": "1", "user_id": "u"}, {"job_id": "1"}]
        listing = parsing.job_list(rows, SERVICES["riffusion"])
        assert (listing.jobs, listing.complete) == ((Job("1", "u"),), False)

    @pytest.mark.parametrize("body", [{}, {"running": None}, {"running": {}}, {"accounts": {}, "Running": 5}])
    def test_a_list_that_is_not_there_calls_no_job_missing(self, body):
        """Without rows where they belong nothing is known about any job."""
        listing = parsing.job_list(body, SERVICES["muse"])
        assert (listing.jobs, listing.complete) == ((), False)

    @pytest.mark.parametrize(
        ("key", "body"),
        [
            ("riffusion", {"error": "Unauthorized", "code": 401}),
            ("riffusion", "sentence"),
            ("riffusion", None),
            ("muse", [{"jobid": "1"}]),
            ("muse", BODIES["muse/jobs_400_no_account"]),
            ("flowmusic", {"error": "x", "code": 500}),
            ("flowmusic", 6),
        ],
    )
    def test_a_body_of_another_shape_is_refused(self, key, body):
        """An error report is not an empty list of jobs."""
        with pytest.raises(InvalidConfiguration):
            parsing.job_list(body, SERVICES[key])

    def test_a_service_without_a_list_knows_nothing(self):
        """Face swaps block, so none is listed, and none is ever missing."""
        assert not parsing.job_list({}, SERVICES["faceswap"]).complete


class TestJobs:
    """Create answers, status bodies and callbacks."""

    @pytest.mark.parametrize(
        ("key", "name", "job", "over"),
        [
            ("riffusion", "create_200", "99999999-0000-4000-8000-000000000005", False),
            ("riffusion", "create_moderated", None, False),
            ("riffusion", "music_by_id", "99999999-0000-4000-8000-000000000005", True),
            ("kling", "create_200", "1234567890", False),
            ("kling", "task_succeed", "1234567890", True),
            ("minimax", "create_200", "user:1234-minimax:123456-video:777", False),
            ("pixverse", "create_200", "user:1234-pixverse:a@example.com-video:9", False),
            ("pixverse", "video_completed", "user:1234-pixverse:a@example.com-video:9", True),
            ("tempolor", "job_200", "user:1234-tempolor:12345-job:abcdef1", True),
            ("mureka", "create_201_async", "j1016m-u777-a123456789-bot:mureka", False),
            ("mureka", "job_completed", "j1016m-u777-a123456789-bot:mureka", True),
            ("google-flow", "create_201", "j1014v-u1234-email:a@example.com-bot:google-flow", False),
            ("google-flow", "job_completed", "j1014v-u1234-email:a@example.com-bot:google-flow", True),
            ("google-flow", "job_410", None, False),
        ],
    )
    def test_an_answer_names_its_job_and_says_whether_it_is_over(self, key, name, job, over):
        """Each example of a create or status body, read by its row."""
        body = BODIES[f"{key}/{name}"]
        assert (parsing.job_id(body, SERVICES[key]), parsing.final(body, SERVICES[key])) == (job, over)

    @pytest.mark.parametrize("name", ["job_completed", "job_failed", "create_201"])
    def test_flow_music_is_over_when_completed_or_failed(self, name):
        """Pending is the only status that is not final."""
        assert parsing.final(BODIES[f"flowmusic/{name}"], FLOW) is (name != "create_201")

    @pytest.mark.parametrize("value", [1, "true", None, False, [True]])
    def test_only_true_is_true(self, value):
        """A final flag is a boolean: 1 and "true" are something else."""
        assert not parsing.final({"status_final": value}, SERVICES["kling"])

    def test_a_status_word_counts_in_any_case(self):
        """Callbacks of one service have been seen in capitals and not."""
        assert parsing.final({"STATUS": "Completed"}, FLOW)

    def test_of_several_jobs_all_must_be_over(self):
        """A list is final when each of its items is; it names no single job; an empty one says nothing."""
        done, busy = {"jobid": "1", "status": "failed"}, {"jobid": "2", "status": "pending"}
        assert parsing.final([done, done], FLOW)
        assert not parsing.final([done, busy], FLOW)
        assert not parsing.final([], FLOW)
        assert parsing.job_id([done, busy], FLOW) is None


def test_a_new_service_is_one_row():
    """What a user writes for a service of tomorrow is data, and all of this reads it."""
    service = Service(
        key="tomorrow",
        path="/v1/tomorrow",
        selector="seat",
        capacity="limits",
        strings=("plan",),
        load=JobsEndpoint(path="live", rows=("seats.*.now.#",), ref="mark"),
        job_id=("made.ticket",),
        final={"phase": ("over",)},
    )
    assert parsing.table({A: {"Limits": "2", "plan": "x"}}, service, None).accounts[A] == Account(
        A, 2, {"plan": "x"}
    )
    listing = parsing.job_list({"seats": {A: {"now": {"t1": {"mark": "L1"}, "t2": None}}}}, service)
    assert (listing.jobs, listing.complete) == ((Job("t1", A, "L1"), Job("t2", A)), True)
    assert parsing.job_id({"made": {"ticket": 7}}, service) == "7"
    assert parsing.final({"phase": "over"}, service)
