"""The page about the services says what the table says.

With ``tests/support`` on the path, run this file to bring the page up to date.
"""

from __future__ import annotations

import re
from pathlib import Path

from service_tables import checked_markdown, following_markdown, names_markdown, table_markdown

from balancer import SERVICES, AccountPool
from balancer.testing import FakeUseapi

PAGE = Path(__file__).parents[2] / "docs" / "services.md"


def current(page):
    """Return the page with what comes from the table made anew."""
    parts = {
        "alive": names_markdown(alive=True),
        "retired": names_markdown(alive=False),
        "table": f"\n{table_markdown()}",
        "following": f"\n{following_markdown()}",
        "checked": f"\n{checked_markdown()}",
    }
    for name, text in parts.items():
        page, places = re.subn(
            rf"(<!-- {name} -->).*?(<!-- end -->)", rf"\g<1>{text}\g<2>", page, flags=re.DOTALL
        )
        assert places == 1
    return page


def test_the_page_is_up_to_date():
    """The tables and the two lists in it are those of the rows."""
    page = PAGE.read_text("utf-8")
    assert page == current(page)


def test_every_service_is_in_one_list():
    """Alive or retired, and nothing else."""
    alive, retired = (re.findall("`([^`]+)`", names_markdown(alive=alive)) for alive in (True, False))
    assert sorted(alive + retired) == sorted(SERVICES)
    assert {"flowmusic", "kling"} <= set(alive)
    assert {"riffusion", "midjourney"} <= set(retired)


def test_the_readme_says_which_services_are_alive():
    """Its two lists are those of the table, kinds of one service counted once."""
    text = (PAGE.parent.parent / "README.md").read_text("utf-8")
    [(alive, retired)] = re.findall(r"^Alive: (.*?)\. Retired: (.*?)\.$", text, re.MULTILINE | re.DOTALL)
    for names, state in ((alive, True), (retired, False)):
        expected = {key for key, row in SERVICES.items() if row.alive is state and "/" not in key}
        assert set(re.split(r",?\s+(?:and\s+)?", names)) == expected


def test_the_row_of_the_page_works(monkeypatch, capsys):
    """The example is a service like any other, against a stand-in that was given the same row."""
    [example] = blocks(PAGE)
    row, use = example.split("pool = ")
    space = {}
    exec(compile(row, str(PAGE), "exec"), space)
    with FakeUseapi({"studio": {"seat-1": {"limit": 3, "plan": "pro"}}}, services=[space["studio"]]) as fake:
        monkeypatch.setenv("USEAPI_TOKEN", fake.token)
        monkeypatch.setenv("USEAPI_BASE_URL", fake.url)
        exec(compile(f"pool = {use}", str(PAGE), "exec"), space)
        assert isinstance(space["pool"], AccountPool)
        with space["pool"] as pool:
            fake.start_stranger("studio", "seat-1")
            pool.reconcile()
            assert (pool.stats().capacity, pool.stats().external) == (3, 1)
            assert pool.acquire(timeout=0).account.fields["plan"] == "pro"
    assert "'seat': 'seat-1'" in capsys.readouterr().out


def blocks(page):
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_about_changes_works(monkeypatch, capsys):
    """A row that was put right is used in place of the table's, by a pool and by the stand-in."""
    [example] = blocks(PAGE.parent / "when-useapi-changes.md")
    row, use = example.split("pool = ")
    space = {}
    exec(compile(row, "when-useapi-changes.md", "exec"), space)
    mine = space["flowmusic"]
    assert (mine.capacity, mine.checked) == ("maxParallel", SERVICES["flowmusic"].checked)
    with FakeUseapi({"flowmusic": {"a@example.com": {"maxParallel": 3}}}, services=[mine]) as fake:
        monkeypatch.setenv("USEAPI_TOKEN", fake.token)
        monkeypatch.setenv("USEAPI_BASE_URL", fake.url)
        exec(compile(f"pool = {use}", "when-useapi-changes.md", "exec"), space)
        with space["pool"] as pool:
            assert pool.stats().capacity == 3


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text("utf-8")), "utf-8")
