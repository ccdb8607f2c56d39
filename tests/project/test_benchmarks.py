"""The benchmarks run; what they measure is judged by people, on a quiet machine."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks import limits, plots
from benchmarks.__main__ import QUESTIONS
from benchmarks.harness import QUICK, Effort, Spread, compare
from benchmarks.report import Section, at_least, at_most

ROOT = Path(__file__).parents[2]


def ask(*arguments):
    """Run the benchmarks as a user does."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_benchmark_gives_finite_figures_at_a_tiny_size(name):
    """Every question is answered in figures that are numbers, told apart by their names."""
    answer = importlib.import_module(f"benchmarks.{name}").run(QUICK)
    section = Section.from_json(json.loads(json.dumps(answer.to_json())))
    assert section.name == name
    assert section.figures
    names = [figure.name for figure in section.figures]
    assert len(set(names)) == len(names)
    for figure in section.figures:
        assert all(math.isfinite(value) and value >= 0 for value in figure.value), figure
        assert figure.value.low <= figure.value.median <= figure.value.high
        assert figure.name in section.markdown()


@pytest.mark.parametrize("world", ["say 6, bear 2", "say 10, bear 1", "true", "2 % throttled"])
def test_learned_limits_keep_to_what_is_promised_of_them(world):
    """Few calls are refused, and nothing is left unused that the accounts would have borne.

    No real time goes into these figures, so they are the same on a busy machine.
    """
    found = limits.simulate(limits.WORLDS[world], limits.CLIENTS["learned limits"], 0)
    budgets = {what: budget for (name, what), budget in limits.BUDGETS.items() if name == world}
    assert budgets
    assert {
        what: getattr(found, what) for what, budget in budgets.items() if not budget.met(getattr(found, what))
    } == {}


def test_the_pictures_are_drawn_from_the_figures(tmp_path, monkeypatch):
    """Each picture is an SVG that names what it shows, and the same figures give the same file."""
    monkeypatch.setattr(plots, "FOLDER", tmp_path / "img")
    one = Spread(1.0, 1.0, 1.0)
    ours = Section("peers", "", "")
    ours.add("balancer, 10 accounts", one)
    ours.add("somebody else", Spread(70.0, 69.0, 71.0))
    jobs = Section("end_to_end", "", "", series={"pool": [0.5, 1.0], "blind retry": [0.6, 1.1]})
    jobs.add("pool: refused calls per job", Spread(0.0, 0.0, 0.0))
    jobs.add("blind retry: refused calls per job", Spread(7.2, 7.1, 7.3))
    pair = Section(
        "pair", "", "", series={"pair": [(10, 0.7), (100, 0.7)], "naive pool": [(10, 1), (100, 4)]}
    )
    threads = Section("threads", "", "", series={"pool": [99, 100], "semaphore": [0, 200]})
    refusals = Section("limits", "", "", series={"learned limits": [(0.0, 0), (1.0, 40)]})
    sections = [pair, threads, jobs, refusals, ours]
    drawn = {path.name: path.read_text() for path in plots.draw(sections)}
    told = {
        "bench-pair.svg": "naive pool",
        "bench-threads.svg": "BoundedSemaphore",
        "bench-end-to-end.svg": "blind retry: 7.2 refused calls per job",
        "bench-limits.svg": "learned limits: 40 refused",
        "bench-peers.svg": "somebody else",
    }
    assert set(drawn) == set(told)
    assert all(told[name] in picture for name, picture in drawn.items())
    assert drawn == {path.name: path.read_text() for path in plots.draw(sections)}


def test_a_benchmark_that_crashes_is_told_and_fails_the_run(monkeypatch, capfd):
    """A crash is neither hidden, nor does it keep the other benchmarks from running."""
    monkeypatch.setattr(main, "QUESTIONS", ("missing", "pair"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "missing", "pair", "--quick"])
    assert main.main() == 1
    told = capfd.readouterr().out
    assert "missing: crashed" in told
    assert "pair, 10 accounts" in told


def test_each_sample_is_held_against_the_yardstick_beside_it():
    """A machine that gets slower and slower does not move a ratio."""
    slowness = [1.0]

    def yardstick():
        slowness[0] *= 1.1
        return slowness[0]

    samples = compare(yardstick, {"three": lambda: 3 * slowness[0]}, rounds=9)
    assert len(samples.pairs["three"]) == 9
    ratio = samples.ratio("three")
    assert 3 / 1.1 - 1e-9 <= ratio.low <= ratio.high <= 3 + 1e-9


def test_a_budget_is_met_on_its_own_side_only():
    """At most and at least point in opposite directions, and the limit itself is met."""
    assert at_most(1.5).met(1.5)
    assert not at_most(1.5).met(1.51)
    assert at_least(0.9).met(0.9)
    assert not at_least(0.9).met(0.89)


def test_an_unknown_benchmark_is_refused_by_name():
    """A typing error runs nothing, and says what there is."""
    child = ask("pear")
    assert child.returncode == 2
    assert "pear" in child.stderr
    assert "pair" in child.stderr


def test_sizes_are_tiny_only_when_asked_for():
    """The smoke run and the real one differ in size alone."""
    assert Effort(1, 1.0).pick(full=10, quick=1) == 10
    assert Effort(1, 1.0, quick=True).pick(full=10, quick=1) == 1
