"""The README's Python blocks, run in order as one program against the stand-in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balancer.testing import FakeUseapi

ROOT = Path(__file__).parents[2]
BLOCKS = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Stand in for the service that the README's reader has."""
    # Its jobs run on after their slots are released here: room for all of them, wherever they land.
    with FakeUseapi({"flowmusic": {"a@example.com": 6, "b@example.com": 6}}) as fake:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("BALANCER_POLL", "0.2")
        monkeypatch.setenv("USEAPI_TOKEN", fake.token)
        monkeypatch.setenv("USEAPI_BASE_URL", fake.url)
        yield fake


def test_the_readme_runs(fake, tmp_path):
    """Every block works as it stands, no call is refused and nothing is left in flight."""
    blocks = BLOCKS.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(blocks) == 6
    headers = {"Authorization": f"Bearer {fake.token}"}
    space = {"url": f"{fake.url}/v1/flowmusic/music", "headers": headers, "__name__": "readme"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md block {number + 1}", "exec"), space)
    with space["pool"] as pool:
        assert pool.stats().in_flight == 0
        assert pool.stats().acquired == 5
    audit = fake.audit()
    assert audit.clean
    assert (audit.accepted, audit.refused, audit.refused_other) == (6, 0, 0)
    assert len(list((tmp_path / "songs").iterdir())) == 1


def test_the_readme_is_about_two_hundred_lines():
    """Short enough to be read."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 220


def test_every_file_that_the_readme_links_to_is_there():
    """No link leads nowhere."""
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
