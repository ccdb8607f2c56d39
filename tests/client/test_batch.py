"""``balancer batch``: the input, the journal, the output, the options and the exit codes."""

from __future__ import annotations

import json
import signal
import time

import pytest
from command_line import Desk, seen
from stepping import until

from balancer.batch import acceptance
from balancer.batch.journal import Entry
from balancer.testing import FakeUseapi

A, B = "a@example.com", "b@example.com"
CLIP = f"user:1-{A}-clip:1"


class Batch:
    """A folder with an input, and the command for it."""

    def __init__(self, folder):
        self.folder, self.desk = folder, Desk(folder, {A: 2, B: 1})
        self.desk.fake.close()
        self.input, self.output = folder / "prompts.jsonl", folder / "results.jsonl"
        self.journal = folder / "results.jsonl.journal"
        self.serve()

    def serve(self, **options):
        """Stand in for the services, with jobs of a moment."""
        options = {"job_seconds": (0.1, 0.2), **options}
        fake = self.fake = self.desk.fake = FakeUseapi({"flowmusic": {A: 2, B: 1}}, **options).start()
        self.desk.settings |= {"USEAPI_TOKEN": fake.token, "USEAPI_BASE_URL": fake.url}
        self.desk.settings |= {"BALANCER_POLL": "0.1,0.2"}
        return fake

    def write(self, *lines):
        self.input.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def prompts(self, count):
        self.write(*(json.dumps({"prompt": f"p{n + 1}"}) for n in range(count)))

    @property
    def arguments(self):
        return ["batch", "flowmusic", "music", self.input, "-o", self.output]

    def run(self, *options, **settings):
        return self.desk.run(*self.arguments, *options, **settings)

    def records(self):
        return [json.loads(line) for line in self.output.read_text("utf-8").splitlines()]

    def statuses(self):
        return [(record["line"], record["status"]) for record in self.records()]


@pytest.fixture
def batch(tmp_path):
    """Return a batch whose stand-in is closed in the end."""
    batch = Batch(tmp_path)
    yield batch
    batch.desk.close()


def test_a_line_of_fields_in_gives_a_line_of_result_out(batch):
    """In the order of the lines, with the job, its account and what the service said at last."""
    batch.prompts(8)
    done = batch.run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert "8 completed of 8 lines" in done.stdout
    records = batch.records()
    assert [record["line"] for record in records] == list(range(1, 9))
    for record in records:
        assert list(record) == ["line", "job_id", "account", "status", "body"]
        assert (record["status"], record["body"]["status"]) == ("completed", "completed")
        assert record["body"]["jobid"] == record["job_id"]
        assert record["body"]["request"]["prompt"] == f"p{record['line']}"
    assert (batch.fake.audit().accepted, batch.fake.audit().refused) == (8, 0)


def test_lines_are_counted_as_editors_do(batch):
    """Blank ones count and are skipped; a byte order mark and CRLF are no fault."""
    batch.input.write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n   \n{"prompt": "four"}')
    assert batch.run().exit_code == 0
    assert batch.statuses() == [(1, "completed"), (4, "completed")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"prompt": ', "no JSON"),
        ("[1]", "fields must be a mapping"),
        ("null", "fields must be a mapping"),
        ('{"seed": NaN}', "NaN is no JSON"),
        ('{"prompt": "\\ud800"}', "fields['prompt'] cannot be sent as JSON: half of a character"),
        ('{"seed": 1e999}', "fields['seed'] cannot be sent as JSON"),
        (
            json.dumps({"clip": CLIP, "refImage1": f"user:1-{B}-file:1"}),
            "fields name assets of several accounts",
        ),
        ('{"prompt": "' + "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "no JSON"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_sent(batch, line, why):
    """The good ones around it are not sent either, and no journal is left."""
    batch.write('{"prompt": "good"}', line, '{"prompt": "good"}')
    done = batch.run()
    assert done.exit_code == 2
    assert f"line 2: {why}" in " ".join(done.stderr.split("│")).replace("\n", " ").replace("  ", " ")
    assert (batch.fake.audit().accepted, batch.journal.exists(), batch.output.exists()) == (0, False, False)


def test_a_wrong_endpoint_token_or_folder_leaves_no_journal(batch):
    """Nothing has begun."""
    batch.prompts(1)
    there = batch.desk.run("batch", "flowmusic", "music", batch.input, "-o", batch.folder / "no" / "x.jsonl")
    assert (there.exit_code, "is no folder" in there.stderr) == (2, True)
    assert batch.desk.run("batch", "flowmusic", "lyrics", batch.input, "-o", batch.output).exit_code == 2
    assert batch.run(USEAPI_TOKEN="").exit_code == 2
    assert batch.desk.run("batch", "flowmusic", "music", batch.folder / "no", "-o", "x").exit_code == 2
    assert not batch.journal.exists()


def test_a_journal_is_gone_on_with_only_if_that_is_asked_for(batch):
    """Without ``--resume`` it is an error; resumed when all is done it sends nothing and writes anew."""
    batch.prompts(3)
    assert batch.run("--resume").exit_code == 0
    again = batch.run()
    assert (again.exit_code, "--resume" in again.stderr) == (2, True)
    whole = batch.output.read_bytes()
    batch.output.write_bytes(whole[:-30])  # torn
    assert batch.run("--resume").exit_code == 0
    assert batch.output.read_bytes() == whole
    batch.output.unlink()
    assert batch.run("--resume").exit_code == 0
    assert batch.output.read_bytes() == whole
    assert batch.fake.audit().accepted == 3


@pytest.mark.parametrize("what", ["input", "endpoint", "no journal", "garbage", "results"])
def test_a_journal_that_does_not_fit_is_an_error_that_says_so(batch, what):
    """Of another input, of another endpoint, or none at all; and results of elsewhere are not overwritten."""
    batch.prompts(2)
    if what == "results":
        batch.output.write_text("mine\n", "utf-8")
    elif what in ("garbage", "no journal"):
        batch.journal.write_bytes(b"no database" * 500)
    else:
        assert batch.run().exit_code == 0
    arguments = batch.arguments
    if what == "input":
        batch.prompts(3)
    elif what == "endpoint":
        arguments[2] = "music/edit"
    done = batch.desk.run(*arguments, "--resume")
    said = " ".join(done.stderr.replace("│", " ").split())
    told = {"input": "its input is not", "endpoint": "its endpoint is not", "results": "there already"}
    assert done.exit_code == 2
    assert told.get(what, "no journal") in said
    assert batch.fake.audit().accepted in (0, 2)


def test_failed_and_refused_lines_are_told_and_make_the_exit_code_one(batch):
    """The reason stands beside a line that has no body."""
    batch.desk.close()
    batch.serve(failures=1.0)
    batch.fake.fault("POST */music", status=400)
    batch.prompts(3)
    done = batch.run()
    assert done.exit_code == 1
    assert sorted(status for _, status in batch.statuses()) == ["failed", "failed", "refused"]
    for record in batch.records():
        if record["status"] == "refused":
            assert (
                record["job_id"],
                "Parameter prompt is required" in record["error"],
                "body" in record,
            ) == (None, True, False)
        else:
            assert record["body"]["status"] == "failed"


def test_what_nobody_knows_of_is_unknown_and_not_sent_again_unless_that_is_asked_for(batch):
    """The service gives no reference back."""
    batch.fake.fault("POST */music", cut="after")
    batch.prompts(1)
    assert batch.run().exit_code == 1
    assert batch.statuses() == [(1, "unknown")]
    assert "nobody knows" in batch.records()[0]["error"]
    assert batch.run("--resume").exit_code == 1
    assert batch.fake.audit().accepted == 1
    assert batch.run("--resume", "--resubmit-unknown").exit_code == 0
    assert (batch.statuses(), batch.fake.audit().accepted) == ([(1, "completed")], 2)


@pytest.mark.parametrize(
    ("cut", "seconds", "ends"),
    [
        ("after", 8.0, ["completed", "completed"]),
        ("before", 8.0, ["completed", "completed"]),
        ("after", 0.05, ["completed", "unknown"]),
    ],
    ids=["taken", "not taken", "over before anybody could look"],
)
def test_a_lost_answer_is_looked_up_where_the_list_gives_the_reference_back(batch, cut, seconds, ends):
    """The job is found and followed; or surely not there, and its line is sent again; or nobody knows."""
    with FakeUseapi({"kling": {A: 1, B: 1}}, job_seconds=(seconds, seconds)) as fake:
        fake.fault("POST *", cut=cut)
        batch.prompts(2)
        arguments = [
            "batch",
            "kling",
            "videos/text2video",
            batch.input,
            "-o",
            batch.output,
            "--poll",
            "0.2,0.5",
        ]
        done = batch.desk.run(*arguments, USEAPI_BASE_URL=fake.url, USEAPI_TOKEN=fake.token)
        assert sorted(status for _, status in batch.statuses()) == ends, done.stderr
        assert done.exit_code == ("unknown" in ends)
        prompts = sorted(job.request["prompt"] for job in fake._state._jobs.values())
        assert (prompts, fake.audit().refused) == (["p1", "p2"], 0)


@pytest.mark.parametrize(
    ("absent", "known", "sure"),
    [
        (None, [60.0], False),
        (5.0, [], False),
        (5.0, [60.0, 11.0], True),
        (5.0, [60.0, 10.0], False),
        (5.0, [60.0, 0.0], False),
    ],
)
def test_a_line_is_judged_by_the_lives_of_the_jobs_beside_it(absent, known, sure):
    """Missing from the list at less than half of the shortest: it was not accepted."""
    assert acceptance.surely_not_accepted(Entry(absent=absent), known) is sure


@pytest.mark.parametrize(
    ("sent", "seen", "here", "lived"),
    [
        (100.0, 160.0, True, 60.0),
        (100.0, None, True, 0.0),
        (100.0, None, False, None),
        (None, 160.0, False, None),
        (1000.0, 160.0, False, None),
    ],
    ids=["seen", "too short to be seen", "of an earlier process", "no clock", "before a reboot"],
)
def test_a_life_is_what_was_seen_of_it(sent, seen, here, lived):
    """What nobody could see says nothing; what nobody saw though it was watched may have been short."""
    assert acceptance.life(Entry(sent_monotonic=sent), seen, sent_here=here) == lived


def test_a_line_that_is_turned_away_waits_for_its_turn(batch):
    """A 429 is no fate: it is written down as waiting before the next slot is waited for."""
    batch.fake.fault("POST */music", status=429, times=2, headers={"Retry-After": "1"})
    batch.prompts(4)
    assert batch.run().exit_code == 0
    assert batch.fake.audit().accepted == 4


def test_a_service_that_cannot_be_reached_is_waited_for(batch):
    """Its lines are not to blame: nothing was sent, and they are sent when it is back."""
    batch.prompts(4)
    with batch.desk.start(*batch.arguments, "--store", f"sqlite://{batch.folder}/slots.db") as process:
        until(lambda: batch.fake.audit().accepted >= 3)
        port = batch.fake._server.port
        batch.fake.close()
        time.sleep(1)
        batch.desk.fake = again = FakeUseapi({"flowmusic": {A: 4}}, port=port, job_seconds=(0.1, 0.2)).start()
        until(lambda: again.audit().accepted >= 1)
        assert process.wait(timeout=60) in (0, 1)
    assert len(batch.records()) == 4
    assert "refused" not in {status for _, status in batch.statuses()}


def test_ctrl_c_stops_sending_lets_jobs_run_on_and_says_how_to_resume(batch):
    """Exit code 130; the same command with ``--resume`` brings every result, each paid once."""
    batch.desk.close()
    batch.serve(job_seconds=(1.5, 2))
    batch.prompts(9)
    with batch.desk.start(*batch.arguments, "--resume") as process:
        until(lambda: batch.fake.audit().accepted >= 3)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "--resume goes on" in told
    sent = batch.fake.audit().accepted
    assert 3 <= sent < 9
    assert "waiting" in out
    assert batch.run("--resume").exit_code == 0
    assert [status for _, status in batch.statuses()] == ["completed"] * 9
    assert (batch.fake.audit().accepted, batch.fake.audit().refused) == (9, 0)


def test_two_batches_on_one_journal_are_one_too_many(batch):
    """The second says so and sends nothing."""
    batch.desk.close()
    batch.serve(job_seconds=(2, 2))
    batch.prompts(3)
    with batch.desk.start(*batch.arguments) as process:
        until(lambda: batch.fake.audit().accepted >= 3)
        done = batch.run("--resume")
        assert (done.exit_code, "another process" in done.stderr) == (2, True)
        assert process.wait(timeout=30) == 0
    assert batch.fake.audit().accepted == 3


def test_it_stops_after_so_many_failures_in_a_row(batch):
    """What was sent is followed to its end; the rest goes on with ``--resume``."""
    batch.fake.fault("POST */music", status=400, times=3)
    batch.prompts(30)
    done = batch.run("--stop-after", 3)
    assert done.exit_code == 1
    assert "3 lines in a row have failed" in done.stderr
    assert 3 <= len(batch.records()) < 15
    assert batch.run("--resume").exit_code == 1
    assert len(batch.records()) == 30
    assert batch.fake.audit().accepted == 27


def test_a_refused_token_stops_it_and_the_lines_are_kept_for_later(batch):
    """No line is to blame."""
    batch.fake.fault("POST */music", status=401, times=None)
    batch.prompts(4)
    done = batch.run()
    assert done.exit_code == 3
    assert "nothing more is sent" in done.stderr
    assert batch.records() == []


def test_a_part_and_a_look_without_sending(batch):
    """``--dry-run`` leaves nothing behind; ``--first`` is a beginning that the whole goes on from."""
    batch.prompts(6)
    dry = batch.run("--dry-run")
    assert (dry.exit_code, "6 lines of flowmusic music would be sent" in dry.stderr) == (0, True)
    assert (batch.fake.audit().requests, batch.journal.exists()) == ({}, False)
    assert batch.run("--first", 2).exit_code == 0
    assert batch.statuses() == [(1, "completed"), (2, "completed")]
    assert batch.run("--resume").exit_code == 0
    assert len(batch.records()) == batch.fake.audit().accepted == 6


def test_results_are_fetched_into_a_folder(batch):
    """Those that an earlier run has left out, too."""
    batch.prompts(3)
    songs = batch.folder / "songs"
    assert batch.run("--first", 1).exit_code == 0
    assert batch.run("--resume", "--download", songs).exit_code == 0
    assert len(list(songs.iterdir())) == 3


def test_programs_read_json(batch):
    """The last line says that it is over."""
    batch.prompts(5)
    done = batch.run("--json")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [look["over"] for look in looks] == [False] * (len(looks) - 1) + [True]
    assert {name: looks[-1][name] for name in ("completed", "failed", "waiting", "total")} == {
        "completed": 5,
        "failed": 0,
        "waiting": 0,
        "total": 5,
    }


def test_a_terminal_sees_how_far_it_is(batch):
    """A bar, the numbers, the time that is left, and each account."""
    batch.desk.close()
    batch.serve(job_seconds=(0.8, 1.2))
    batch.prompts(9)
    terminal = batch.desk.terminal(*batch.arguments)
    terminal.expect(r"completed, 3 running, \d+ waiting of 9 lines, about \d+ s left")
    terminal.expect("of ours, ")
    terminal.expect("9 completed of 9 lines, in ")
    shown = seen(terminal.read())
    terminal.close()
    assert (terminal.exitstatus, "Traceback" in shown) == (0, False)


def test_a_full_disk_under_the_output_loses_nothing(batch, monkeypatch):
    """The journal has the results: the output is made from it once there is room."""
    batch.prompts(2)
    batch.output.mkdir()
    done = batch.run()
    assert done.exit_code != 0
    batch.output.rmdir()
    assert batch.run("--resume").exit_code == 0
    assert len(batch.records()) == 2
