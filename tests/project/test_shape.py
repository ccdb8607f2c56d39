"""Counting how large and how tangled a package is."""

import json

import pytest

from benchmarks.shape import ROOT, Tree, measure
from benchmarks.walks import STORES


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes the files of a made-up package named balancer, and reads it."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / "balancer" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return Tree(tmp_path)

    return write


def test_files_that_import_each_other_are_found_even_if_only_for_types(tree):
    """A circle counts whoever closes it: at the top, in a function, or for a type checker alone."""
    found = tree(
        one="from balancer.two import thing",
        two="def later():\n    from balancer import three",
        three="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from balancer.one import Thing",
        four="from balancer import one",
    )
    assert found.cycles() == [["balancer.one", "balancer.three", "balancer.two"]]


def test_a_long_line_of_inheritance_is_found_across_files(tree):
    """Three classes in a row are too many, however their names travel; errors may be a tree."""
    found = tree(
        one="class A: ...\nclass B(A): ...",
        errors="class Error(Exception): ...\nclass E(Error): ...\nclass F(E): ...",
        __init__="from balancer.one import B as Base",
        two="from balancer import Base\nfrom typing import Generic\nclass C(Base, Generic[T]): ...",
    )
    assert found.chains() == [["C", "B", "A"]]


def test_a_function_is_as_long_as_its_lines_without_its_docstring(tree):
    """What a function says of itself costs nothing."""
    found = tree(one='def f():\n    """Say.\n\n    More.\n    """\n    return (\n        1\n    )\n')
    assert found.functions() == [4]


def test_the_tools_around_the_core_are_not_counted(tree):
    """The command line and the testing tools are not what a call goes through."""
    found = tree(one="x = 1", **{"cli/two": "x = 1", "testing/three": "x = 1"})
    assert [path.stem for path in found.python] == ["one"]


def test_a_checkout_is_measured_without_an_error(monkeypatch):
    """Every figure of this very checkout is a number; the walks have a test of their own."""
    monkeypatch.setattr(
        "benchmarks.shape._walks", lambda _: {store: {"acquire": [1, 1, 0]} for store in STORES}
    )
    figures = json.loads(json.dumps(measure(ROOT)))
    assert figures["Python: lines"] > 0
    assert figures["memory: acquire"] == [1, 1, 0]
