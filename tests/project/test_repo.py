"""What holds for the files of the repository as such."""

from __future__ import annotations

import re
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
LOCK_FILES = ("*.lock", "*lock.toml", "*lock.json", "requirements*.txt", "constraints*.txt", "pip.conf")


def test_nothing_in_the_package_is_left_for_later():
    """No file of the package, scripts for Redis included, marks work that is still to be done."""
    texts = {
        path: path.read_text("utf-8")
        for path in (ROOT / "balancer").rglob("*")
        if path.suffix in (".py", ".lua")
    }
    assert texts, "the package was not found"
    assert [str(path) for path, text in texts.items() if UNFINISHED.search(text)] == []


def test_the_package_says_that_it_is_typed():
    """Type checkers of users read our annotations only if py.typed stands in the package."""
    assert (ROOT / "balancer" / "py.typed").is_file()


def test_no_file_names_a_package_registry():
    """Where packages come from is the user's setting: no lock file has one."""
    files = [path for pattern in LOCK_FILES for path in (*ROOT.glob(pattern), *ROOT.glob(f"*/{pattern}"))]
    project = (ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / ".ci").iterdir())
    assert [str(path) for path in (*files, *project) if "://" in path.read_text("utf-8")] == []


def test_the_changelog_tells_of_this_version():
    """Each version has a section in the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("extra", ["cli", "dev"])
def test_the_environment_says_how_long_each_step_takes(tmp_path, extra):
    """Two minutes of silence look like a program that hangs."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >> asked\n', "utf-8")
    python.chmod(0o755)
    command = ["sh", str(ROOT / ".ci" / "venv"), extra]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"^Installing .*: usually .*(minute|second)", done.stdout)
    assert f"--editable .[{extra}]" in (tmp_path / "asked").read_text("utf-8")


def test_tests_and_checks_say_at_their_start_how_long_they_take():
    """As the demo does, which tells it itself."""
    recipes = (ROOT / "Makefile").read_text("utf-8").split("\n\n")
    for target in ("test", "check"):
        [recipe] = [text for text in recipes if text.startswith(f"{target}: ")]
        assert re.search(r"@echo '.* take about \d+ minutes", recipe.splitlines()[1])


def test_no_test_can_reach_beyond_this_machine():
    """A connection to anything but loopback fails the test that tries it."""
    with socket.socket() as sock, pytest.raises(AssertionError, match="not this machine"):
        sock.connect(("0.0.0.0", 9))
