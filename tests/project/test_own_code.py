"""The tests that watch the package's own code find it in every checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_code import PACKAGE, is_own

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "checkout", ["/src/balancer", "/src/testing/balancer", "/balancer/testing", "/a b/[c]"]
)
def test_the_names_of_the_folders_around_do_not_matter(checkout):
    """What ``git clone`` makes is called as the package is, and has the environment with all others in it."""
    package = Path(checkout) / "balancer"
    assert is_own(f"{package}/pool.py", package)
    assert is_own(f"{package}/store/sqlite/backend.py", package)
    assert not is_own(f"{package}/testing/fake.py", package)
    assert not is_own(f"{package}-more/pool.py", package)
    assert not is_own(f"{checkout}/tests/test_pool.py", package)
    assert not is_own(f"{checkout}/.venv/lib/python3.11/site-packages/balancer_of_another/pool.py", package)
    assert not is_own("<string>", package)


def test_no_test_looks_for_the_package_by_a_part_of_a_path():
    """A folder of that name may stand anywhere above."""
    assert PACKAGE.name == "balancer"
    parts = ('"/balancer/"', "parent.name ==", "in code.co_filename", "in frame.f_code.co_filename")
    others = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    assert [path.name for path in others if any(part in path.read_text("utf-8") for part in parts)] == []
