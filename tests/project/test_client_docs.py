"""The pages about the client and about batches, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_line import Desk

from balancer.cli.app import app
from balancer.testing import FakeUseapi

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Stand in for the service of the pages."""
    with FakeUseapi({"flowmusic": {"a@example.com": 2, "b@example.com": 1}}, job_seconds=(0.1, 0.2)) as fake:
        monkeypatch.chdir(tmp_path)
        for name, value in (("TOKEN", fake.token), ("BASE_URL", fake.url)):
            monkeypatch.setenv(f"USEAPI_{name}", value)
        monkeypatch.setenv("BALANCER_POLL", "0.1")
        yield fake


def test_the_page_about_the_client_runs(fake, tmp_path, capsys):
    """Block after block, as one program."""
    space = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "client.md").read_text("utf-8"), re.DOTALL):
        exec(compile(block, "client.md", "exec"), space)
    assert capsys.readouterr().out.count("completed None") == 3
    assert len(list((tmp_path / "songs").iterdir())) == 1
    assert (fake.audit().accepted, fake.audit().refused) == (4, 0)


def test_every_option_of_a_batch_is_on_its_page():
    """And no other is."""
    [command] = [one for one in app.registered_commands if one.callback.__name__ == "batch"]
    page = (DOCS / "batch.md").read_text("utf-8")
    options = {name.replace("_", "-") for name in command.callback.__annotations__}
    options -= {"service", "endpoint", "prompts", "output", "base-url", "return"}
    shown = {name.replace("as-json", "json") for name in options}
    assert {name for name in shown if f"`--{name}" not in page} == set()


def test_the_commands_of_the_page_work(fake, tmp_path):
    """The batch as it stands, killed or not."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "rain on tin"}\n', "utf-8")
    desk = Desk(tmp_path, {})
    desk.close()
    desk.settings |= {"USEAPI_TOKEN": fake.token, "USEAPI_BASE_URL": fake.url}
    page = (DOCS / "batch.md").read_text("utf-8")
    for line in re.findall(r"^\$ balancer (batch [^#\n]*)", page, re.MULTILINE):
        assert desk.run(*shlex.split(line)).exit_code == 0
    assert fake.audit().accepted == 1
