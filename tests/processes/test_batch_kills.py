"""``balancer batch`` killed at random moments, and with the disk full: every line is paid once.

``BATCH_KILLS=50 BATCH_LINES=200`` has the whole of it; the suite takes a part.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest
from stepping import until

from balancer import AccountPool
from balancer.batch import acceptance
from balancer.testing import FakeUseapi

KILLS = int(os.environ.get("BATCH_KILLS", "4"))
LINES = int(os.environ.get("BATCH_LINES", "60"))
pytestmark = pytest.mark.timeout(180 + 10 * KILLS)

# The command, but for how soon the slots come back on which a killed one was sending: the next may need them.
SHORT_LEASES = """
from functools import partial
import balancer
from balancer.cli import main
balancer.Client = partial(balancer.Client, lease_ttl=5.0)
main()
"""
LOOKED_FOR = acceptance.GRACE + 2
"""Seconds after its call by which a line in doubt has been looked for, if a batch was at work all along."""


class Desk:
    """A batch in a folder of its own, a stand-in, and the command."""

    def __init__(self, folder, service, endpoint, shortest=1.0):
        self.service, self.folder, self.lines = service, folder, LINES
        accounts = {f"{letter}@example.com": 8 if shortest < 5 else 16 for letter in "abcd"}
        self.fake = FakeUseapi({service: accounts}, job_seconds=(shortest, shortest + 1))
        self.output, self.journal = folder / "results.jsonl", folder / "results.jsonl.journal"
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(f'{{"prompt": "p{n + 1}"}}\n' for n in range(LINES)), "utf-8")
        files = [str(prompts), "-o", str(self.output), "--poll", "0.5,1", "--resume"]
        self.command = [sys.executable, "-c", SHORT_LEASES, "batch", service, endpoint, *files]
        self.env = {
            **os.environ,
            "USEAPI_TOKEN": self.fake.token,
            "USEAPI_BASE_URL": self.fake.url,
            "XDG_STATE_HOME": str(folder),
        }

    def __enter__(self):
        self.fake.start()
        # Answers take their time, so that many a kill finds calls under way whose jobs were accepted.
        self.fake.fault("POST *", times=None, delay=0.15)
        return self

    def __exit__(self, *error):
        self.fake.close()

    def start(self, **options):
        return subprocess.Popen(self.command, env=self.env, stderr=subprocess.PIPE, **options)

    def lists(self):
        """Return how often the running jobs were asked for."""
        requests = self.fake.audit().requests
        return sum(times for path, times in requests.items() if path.endswith(("/jobs", "/scheduler")))

    def resumed(self):
        """Return what tells, once it is called, whether the batch has done anything since."""
        accepted, lists = self.fake.audit().accepted, self.lists()
        return lambda: self.fake.audit().accepted > accepted or self.lists() > lists

    def finish(self, *, by_hand=False):
        """Let it run to its end; return its exit status, and the line of each number.

        Jobs that only end by hand do so once they are more than twice as old as any line was when it was
        looked for.
        """
        in_doubt, resumed, seen = self.in_doubt(), self.resumed(), {}
        with self.start() as process:
            if by_hand:
                until(resumed)
                now = time.monotonic()
                looked_for = [absent or max(now - sent, LOOKED_FOR) for sent, absent in in_doubt.values()]
                while process.poll() is None:
                    now = time.monotonic()
                    for job in self.fake.running(self.service):
                        # One that was sent again meanwhile, too: a short life leaves others in doubt.
                        if now >= seen.setdefault(job, now) + 2 * max(looked_for, default=0.5):
                            self.fake.finish(job)
                    time.sleep(0.2)
            _, told = process.communicate(timeout=200)
        assert process.returncode in (0, 1), told.decode()
        records = [json.loads(line) for line in self.output.read_text("utf-8").splitlines()]
        assert [record["line"] for record in records] == list(range(1, self.lines + 1))
        return process.returncode, records

    def in_doubt(self):
        """Return when each line was sent whose call was under way at a kill, and how old it was missed.

        The journal can be read while no batch is at work.
        """
        what = "SELECT number, sent_monotonic, absent FROM line WHERE state = 'sending'"
        try:
            with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as file:
                return {number: times for number, *times in file.execute(what)}
        except sqlite3.OperationalError:  # it had hardly begun
            return {}

    def paid(self):
        """Return prompt -> how often it was paid."""
        return Counter(job.request["prompt"] for job in self.fake._state._jobs.values())

    def assert_accounted_for(self, records):
        """Nothing was paid twice; what completed is the very job of its line; the rest is unknown."""
        paid = self.paid()
        assert [prompt for prompt, times in paid.items() if times > 1] == []
        jobs = {job.id: job.request["prompt"] for job in self.fake._state._jobs.values()}
        for record in records:
            assert record["status"] in ("completed", "unknown")
            if record["status"] == "completed":
                assert jobs[record["job_id"]] == f"p{record['line']}"
                assert "body" in record
        unknown = {f"p{record['line']}" for record in records if record["status"] == "unknown"}
        assert set(jobs.values()) >= {f"p{n + 1}" for n in range(self.lines)} - unknown
        assert self.fake.audit().over == ()
        with AccountPool(self.service, source={}, store=f"sqlite://{self.folder}/balancer/slots.db") as pool:
            assert pool.holders() == ()
        return unknown


@pytest.mark.parametrize(
    ("service", "endpoint", "shortest"),
    [("flowmusic", "music", 1.0), ("kling", "videos/text2video", math.inf if KILLS < 10 else 30.0)],
    ids=["plain", "replyRef"],
)
def test_a_batch_that_is_killed_again_and_again_pays_each_line_once(
    tmp_path, tell, service, endpoint, shortest
):
    """P-57: unknown is only what was being sent at a kill, and nothing where the list tells of leases."""
    rng, killed_while_sending = random.Random(KILLS), set()
    with Desk(tmp_path, service, endpoint, shortest) as desk:
        kills = 0
        for _ in range(KILLS):
            resumed = desk.resumed()
            with desk.start() as process:
                if rng.random() < 0.2:
                    time.sleep(rng.uniform(0, 1.5))  # whatever it has come to
                else:
                    # (A fetch that a kill has cut off is waited for, in vain, for a minute.)
                    until(lambda p=process, r=resumed: r() or p.poll() is not None, patience=90)
                    time.sleep(rng.uniform(0, 0.6))
                process.kill()
                process.communicate()
                kills += process.returncode == -signal.SIGKILL
            killed_while_sending |= {f"p{number}" for number in desk.in_doubt()}
        code, records = desk.finish(by_hand=shortest == math.inf)
        unknown = desk.assert_accounted_for(records)
        assert unknown <= killed_while_sending
        assert code == bool(unknown)
        if service == "kling":
            assert unknown == set()
        again, records_again = desk.finish()
        assert (again, records_again) == (code, records)
        tell(
            f"{service}: {kills} kills, {LINES} lines, {len(killed_while_sending)} being sent at one, "
            f"{len(unknown)} unknown, {sum(desk.paid().values())} paid, none twice, "
            f"{desk.fake.audit().refused} calls refused"
        )


# Its slots need no disk: it is the journal that finds none.
IN_MEMORY = """
import balancer.cli.batch as batch
from balancer.cli import main
batch.shared_store = lambda store: "memory://"
main()
"""


def full_disk():
    """Have no file grow much beyond what a journal begins with."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (180_000, 180_000))


def test_a_batch_whose_disk_is_full_stops_sending_and_goes_on_later(tmp_path, tell):
    """A journal that cannot be written stops it; what was sent before is not lost, and not sent again."""
    with Desk(tmp_path, "flowmusic", "music") as desk:
        command, desk.command = desk.command, [sys.executable, "-c", IN_MEMORY, *desk.command[3:]]
        with desk.start(preexec_fn=full_disk) as process:
            _, told = process.communicate(timeout=60)
        assert process.returncode == 1, told.decode()
        assert b"cannot be written" in told
        sent = desk.fake.audit().accepted
        assert 0 < sent < desk.lines
        desk.command = command
        code, records = desk.finish()
        unknown = desk.assert_accounted_for(records)
        assert (code, unknown) == (0, set())
        tell(f"disk full after {sent} of {desk.lines} lines: {len(unknown)} unknown, none paid twice")
