"""The benchmarks run; what they measure is judged by people, on a quiet machine."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks.__main__ import QUESTIONS
from benchmarks.harness import Effort, compare
from benchmarks.report import Section, at_least, at_most

ROOT = Path(__file__).parents[1]


def ask(*arguments):
    """Run the benchmarks as a user does."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_benchmark_gives_finite_figures_at_a_tiny_size(name):
    """Every question is answered in figures that are numbers, told apart by their names."""
    child = ask("--child", name, "--quick")
    assert child.returncode == 0, child.stderr
    section = Section.from_json(json.loads(child.stdout))
    assert section.name == name
    assert section.figures
    names = [figure.name for figure in section.figures]
    assert len(set(names)) == len(names)
    for figure in section.figures:
        assert all(math.isfinite(value) and value >= 0 for value in figure.value), figure
        assert figure.value.low <= figure.value.median <= figure.value.high
        assert figure.name in section.markdown()


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
