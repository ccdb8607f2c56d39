"""``balancer demo``: both ways really run, against a real server, and the table tells what happened."""

import json
from xml.etree import ElementTree as ET

import pexpect
import pytest
from command_line import Desk, seen

from balancer.cli.demo.play import play
from balancer.cli.demo.stage import ACCOUNTS, Plan
from balancer.cli.demo.ways import asking

QUICK = ("--jobs", 48, "--speed", 600)


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def ways(printed):
    """Return the outcomes of the two ways."""
    return list(json.loads(printed)["ways"].values())


def check(outcome):
    """Hold what both ways must come to: all jobs done, no account over its maximum, the bound kept."""
    assert outcome["jobs"] == 48
    assert outcome["makespan"] >= outcome["bound"] > 0
    assert all(outcome["peak"][account] <= room for account, room in ACCOUNTS.items())
    assert all(0 < use <= 1 for use in outcome["use"].values())


@pytest.mark.parametrize("more", [[], ["--async"]], ids=["threads", "tasks"])
def test_guessing_is_refused_and_asking_is_not(desk, more):
    """The same jobs are done both ways; only the guessing way has calls refused."""
    result = desk.run("demo", *QUICK, *more, "--json")
    assert result.exit_code == 0, result.stderr
    guessed, asked = ways(result.stdout)
    check(guessed)
    check(asked)
    assert guessed["refused"] > 0
    assert asked["refused"] == 0
    assert asked["peak"] == ACCOUNTS


def test_the_jobs_are_the_same_each_way():
    """One plan has one list of lengths, so that neither way is lucky; another seed has another."""
    assert Plan(9, 1, 1, seed=4).lengths == Plan(9, 1, 1, seed=4).lengths
    assert Plan(9, 1, 1, seed=4).lengths != Plan(9, 1, 1, seed=5).lengths


def test_the_bound_is_the_larger_of_the_work_and_the_longest_job():
    """Many jobs cannot be faster than their work over all slots, one job not than itself."""
    many, one = Plan(120, 1, 1, seed=4), Plan(1, 1, 2, seed=4)
    assert many.bound == pytest.approx(sum(many.lengths) / 12)
    assert one.bound == pytest.approx(one.lengths[0] / 2)


def test_an_error_of_a_worker_ends_the_demo():
    """What goes wrong in a thread is raised, and not waited for until the end of time."""

    def broken(stage):
        stage.fake.fault("POST */music", status=500, times=None)
        return asking(stage)

    with pytest.raises(Exception, match="500"):
        play(Plan(4, 2, 600, seed=1), broken, lambda stage: None)


def test_elsewhere_than_on_a_terminal_it_prints_plain_lines(desk, tmp_path):
    """Progress is some lines to stderr, the table and the sentence are the result, and no colour is sent."""
    picture = tmp_path / "demo.svg"
    result = desk.run("demo", *QUICK, "--svg", picture)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.output
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in (lines[0], lines[-1])] == [
        "random account, retry on 429",
        "AccountPool",
    ]
    assert lines[-1].endswith("48 of 48 jobs done, 0 calls refused")
    assert "calls refused (429)" in result.stdout
    assert result.stdout.count("You have just seen") == 1


def test_the_picture_shows_the_table_and_loads_nothing(desk, tmp_path):
    """The SVG is well-formed, holds the table, and asks no other machine for a font."""
    picture = tmp_path / "demo.svg"
    desk.run("demo", *QUICK, "--svg", picture)
    text = "".join(ET.parse(picture).getroot().itertext()).replace("\xa0", " ")
    assert "makespan" in text
    assert "dora@example.com" in text
    assert "url(" not in picture.read_text("utf-8").replace("url(#", "")


def test_a_terminal_gets_a_live_view_of_each_account(desk):
    """While it runs each account's jobs are counted live, and the table comes at the end."""
    terminal = desk.terminal("demo", *QUICK)
    terminal.expect(r"dora@example\.com *[1-6] of 6")
    terminal.expect("AccountPool: 48 of 48 jobs done, 0 calls refused")
    terminal.expect("You have just seen")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert "asking the pool first cost 0" in " ".join(seen(terminal.before).split())


def test_ctrl_c_ends_it_at_once(desk):
    """No traceback, no thread that keeps it alive, and the status of an interruption."""
    terminal = desk.terminal("demo", "--jobs", 200, "--speed", 10)
    terminal.expect("of 6")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert "Traceback" not in terminal.before
