"""``balancer demo``: both ways really run, a process is really killed, and the table tells what was paid."""

import json
import os
import re
from xml.etree import ElementTree as ET

import pexpect
import pytest
from command_line import Desk, seen
from crew import side_by_side

from balancer.cli import demo
from balancer.cli.demo import Plan, play

QUICK = ("--jobs", 24, "--speed", 60)
POOR = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "HOME": "",
    "XDG_STATE_HOME": "",
}
"""An environment in which things go wrong: no UTF-8, a proxy that is away, no home."""


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_the_usual_way_pays_twice_and_the_pool_does_not(desk, tmp_path, monkeypatch):
    """The same videos are made both ways; lost answers and a killed process cost only one of them money.

    What goes wrong is the same for both: one process more than one, and as many faults as were planned.
    Where there is no terminal it says first how long it takes; progress goes to stderr, the result to stdout,
    colour nowhere. As JSON, as lines or as a picture, it tells the same.
    """
    started, faults, picture = [], [], tmp_path / "demo.svg"
    start, fake = demo._start, demo.FakeUseapi

    class Counted(fake):
        def fault(self, *args, **options):
            faults.append(super().fault(*args, **options))

    monkeypatch.setattr(demo, "_start", lambda *given: (started.append(start(*given)), started[-1])[1])
    monkeypatch.setattr(demo, "FakeUseapi", Counted)
    result = desk.run("demo", *QUICK, "--json", "--svg", picture)
    assert result.exit_code == 0, result.stderr
    assert [process.returncode for process in started] == [-9, 0, -9, 0]
    assert len(faults) == 2 * len(demo.LOST)
    assert all(fault.spent for fault in faults)

    ways = json.loads(result.stdout)["ways"]
    usual, pool = ways.values()
    assert usual["done"] == pool["done"] == 24
    assert usual["paid"] > 24
    assert pool["paid"] == 24
    assert usual["refused"] > 0
    assert pool["refused"] == 0
    assert usual["over"] == pool["over"] == 0
    assert all(1 < way["minutes"] < 600 for way in (usual, pool))

    first, *steps = result.stderr.splitlines()
    assert "It takes about " in first
    assert [line.split(":")[0] for line in steps] == ["the usual way", "with balancer"]
    assert steps[-1].endswith("24 done, 24 paid, 0 refused")
    text = "".join(ET.parse(picture).getroot().itertext()).replace("\xa0", " ")
    assert "paid for nothing" in text
    assert "With the pool it was 24 jobs" in text
    assert "url(" not in picture.read_text("utf-8").replace("url(#", "")

    monkeypatch.setattr(demo, "play", lambda _, way: demo.Outcome(**ways[way]))
    lines = desk.run("demo", *QUICK).stdout
    assert "\x1b" not in result.output + lines
    assert "paid for nothing" in lines
    assert "With the pool it was 24 jobs and 0 refusals" in lines
    assert re.search(r"It saved [1-9]\d* jobs, which are [1-9]\d*0 credits(, and \d+ minutes)?\.\s*$", lines)


def test_the_jobs_are_as_long_each_way():
    """One seed has one list of lengths, so that neither way is lucky; another has another."""

    def lengths(seed):
        return [length for length, _ in zip(Plan(9, 1, 1, seed).lengths(), range(9), strict=False)]

    assert lengths(4) == lengths(4)
    assert lengths(4) != lengths(5)


def test_an_error_of_the_process_ends_the_demo(monkeypatch):
    """What went wrong in it is raised, and not waited for until the end of time."""
    start = demo._start
    monkeypatch.setattr(
        demo, "_start", lambda _, folder: start(["sh", "-c", "echo boom >&2; exit 3"], folder)
    )
    with pytest.raises(RuntimeError, match="boom"):
        play(Plan(24, 2, 600, seed=1), "with balancer")


def test_a_terminal_of_sixty_columns_gets_a_live_view(desk):
    """Each way has a bar, nothing is broken or cut, and the table comes at the end; in a poor shell too."""

    def watch(terminal, environment):
        terminal.timeout = 100
        terminal.expect(r"It\s+takes\s+about")
        terminal.expect(r"the usual way.*\d done, \d+ paid, \d+ refused")
        terminal.expect(r"with balancer.*24 done, 24 paid, 0 refused")
        terminal.expect("paid for nothing")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0
        shown = seen(terminal.before)
        assert max(map(len, shown.splitlines())) <= 60
        assert "With the pool it was 24 jobs" in " ".join(shown.split())
        if environment:
            assert shown.isascii()

    environments = {}, POOR
    terminals = [desk.terminal("demo", *QUICK, COLUMNS="60", **each) for each in environments]
    side_by_side(watch, *zip(terminals, environments, strict=True))


def test_ctrl_c_ends_it_at_once(desk):
    """No traceback, no process that goes on, and the status of an interruption."""
    terminal = desk.terminal("demo", "--jobs", 200, "--speed", 10)
    terminal.expect("[1-9] paid")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert "Traceback" not in terminal.before
    with pytest.raises(ProcessLookupError):
        os.killpg(terminal.pid, 0)
