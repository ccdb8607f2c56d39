"""What users install: the built wheel, alone, with its dependencies, and with each extra."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "cli": "from balancer.cli import main; sys.argv = ['balancer', '--help']; main()",
    "prometheus": "import balancer.prometheus",
    "redis": (
        "from balancer import AccountPool;"
        "AccountPool('any', source={'a': 1}, store='redis://127.0.0.1:1/0', clock=None)"
    ),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist, and the wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    """Return the wheel's file."""
    [found] = built.glob("*.whl")
    return found


@pytest.fixture
def installed(wheel, tmp_path):
    """Return a function that runs code with the wheel, and the dependencies of some extras, alone."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")

    def run(code, *extras):
        for name in closure(extras):
            link(name, tmp_path / "site")
        paths = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
        command = [sys.executable, "-I", "-S", "-W", "error", "-c", paths + code]
        home = {"PATH": os.defpath, "HOME": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, env=home, timeout=60, check=False)

    return run


def closure(extras):
    """Return the distributions that the package needs, with these extras."""
    found, queue = set(), [Requirement(f"balancer[{','.join(extras)}]")]
    while queue:
        wanted = queue.pop()
        for text in importlib.metadata.requires(wanted.name) or ():
            needed = Requirement(text)
            environments = [{"extra": extra} for extra in wanted.extras] or [{"extra": ""}]
            applies = needed.marker is None or any(map(needed.marker.evaluate, environments))
            if applies and (needed.name, frozenset(needed.extras)) not in found:
                found.add((needed.name, frozenset(needed.extras)))
                queue.append(needed)
    return {name for name, _ in found if name != "balancer"}


def link(name, site):
    """Put the top-level files and folders of an installed distribution into ``site``."""
    for file in importlib.metadata.files(name) or ():
        top = file.parts[0]
        here = file.locate().parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
        if top not in ("..", "__pycache__") and not (site / top).exists():
            (site / top).symlink_to(here)


def test_the_archives_are_clean(built):
    """The index would take both as they are, and shows the README."""
    files = [str(path) for path in built.iterdir()]
    assert len(files) == 2
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    """The typing marker and the scripts for Redis are in it; tests are not."""
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    assert "balancer/py.typed" in names
    assert "balancer/stores/lua/acquire.lua" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"balancer"}
    assert not [name for name in names if re.search(r"__pycache__|test_|conftest", name)]


def test_the_core_works_with_its_three_dependencies(installed):
    """No extra is needed for a pool in memory or in SQLite, nor for the stand-in."""
    code = """
from balancer import AccountPool
for store in ("memory://", "sqlite://" + sys.path[0] + "/slots.db"):
    with AccountPool("any", source={"a": 1}, store=store) as pool, pool.acquire(timeout=5) as lease:
        print(lease.account.id)
from balancer.testing import FakeUseapi
with FakeUseapi({"flowmusic": {"a@example.com": 1}}) as fake:
    assert fake.audit().clean
"""
    done = installed(code)
    assert (done.stdout, done.stderr) == ("a\na\n", "")


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_named(installed, extra):
    """The error says what to install."""
    done = installed(EXTRAS[extra])
    assert done.returncode == 1
    assert re.search(rf"pip install 'balancer\[{extra}\]'", done.stderr), done.stderr


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_it_needs(installed, extra):
    """With it, the import works and warns of nothing."""
    done = installed(EXTRAS[extra], extra)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_is_a_command(installed):
    """``python -m balancer`` is the command line."""
    code = (
        "import runpy; sys.argv = ['balancer', '--help']; runpy.run_module('balancer', run_name='__main__')"
    )
    done = installed(code, "cli")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
