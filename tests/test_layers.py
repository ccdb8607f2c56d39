"""Imports run one way: a file of the package imports only from layers above its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "balancer"
ROOT = "__init__"

# Top to bottom. A folder is one layer, and imports inside it are free. Groups are for reading only.
LAYERS = """
    redact errors wire answer model clock log service rows services
    listing parse following transport verdict token http source
    agenda room tally accounts ledger matching lines waiting tasks
    catalog survey options wish origin effect
    store errands upkeep core lease refusal view flow run face pool aio prometheus
    __init__
    testing cli __main__
""".split()  # noqa: SIM905  (one name a line would be thirty lines)


class Imports(ast.NodeVisitor):
    """Collects the dotted names that a file imports at run time, those inside functions included."""

    def __init__(self, folder: Sequence[str]) -> None:
        self.folder = folder
        self.names: list[str] = []

    def visit_If(self, node: ast.If) -> None:
        """Pass by what only a type checker reads: it imports nothing."""
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.names += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        here = self.folder[: len(self.folder) + 1 - node.level] if node.level else ()
        base = [*here, node.module] if node.module else here
        self.names += [".".join([*base, alias.name]) for alias in node.names]


def imported_layers(file: Path, package: Path) -> Iterator[str]:
    """Yield the layers of ``package`` that ``file`` imports; the package's own names are ``ROOT``'s."""
    visitor = Imports(file.parent.relative_to(package.parent).parts)
    visitor.visit(ast.parse(file.read_text("utf-8")))
    for name in visitor.names:
        top, _, rest = name.partition(".")
        layer = rest.partition(".")[0]
        if top == package.name:
            yield layer if (package / layer).is_dir() or (package / f"{layer}.py").exists() else ROOT


def faults(package: Path, layers: Sequence[str]) -> list[str]:
    """Return what breaks the order, one sentence each."""
    place = {layer: number for number, layer in enumerate(layers)}
    found = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        own = name.parts[0].removesuffix(".py")
        if own not in place:
            found.append(f"{name} is on no layer")
            continue
        below = {layer for layer in imported_layers(file, package) if place.get(layer, -1) > place[own]}
        found += [f"{name} imports {layer}, which stands below it" for layer in sorted(below)]
    return found


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes the files of a made-up package named balancer."""

    def write(**files: str) -> Path:
        package = tmp_path / "balancer"
        for name, text in {"high": "", "low": "", "folder/low": "", **files}.items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return package

    return write


MADE_UP = ["high", "folder", "low", ROOT, "cli"]


def test_imports_run_one_way():
    """Every module of the package is on a layer and imports none below it."""
    assert list(PACKAGE.glob("*.py")), "the package was not found"
    found = faults(PACKAGE, LAYERS)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "line",
    [
        "import balancer.low",
        "import sys, balancer.low as other",
        "from balancer import low",
        "from balancer.low import thing",
        "from . import low",
        "from .low import thing",
        "def later():\n    from balancer.low import thing",
        "if True:\n    import balancer.low",
    ],
)
def test_an_import_from_below_is_found_however_it_is_written(tree, line):
    """Absolute, relative, aliased or inside a function: an import from below is named."""
    assert faults(tree(high=line), MADE_UP) == ["high.py imports low, which stands below it"]


@pytest.mark.parametrize(
    "line", ["from balancer.low import thing", "from ..low import thing", "from .. import low"]
)
def test_a_folder_is_one_layer(tree, line):
    """A file in a folder stands where the folder stands, whatever its own name is."""
    assert faults(tree(**{"folder/high": line}), MADE_UP) == [
        "folder/high.py imports low, which stands below it"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "import sys\nfrom os import path",
        "from balancer.high import thing",
        "from balancer import high",
        "from ..high import thing",
        "from . import low",
        "from .low import thing",
        "from balancer.folder.low import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from balancer.low import Thing",
    ],
)
def test_what_runs_upward_or_stays_in_the_folder_is_free(tree, line):
    """Imports from above, from the same folder, from elsewhere and for types alone are no fault."""
    assert faults(tree(**{"folder/high": line}), MADE_UP) == []


def test_a_name_of_the_package_itself_stands_with_its_init(tree):
    """The package's front may use every layer above it; a module that goes through the front is a fault."""
    package = tree(__init__="from balancer.low import thing", low="from balancer import thing")
    assert faults(package, MADE_UP) == ["low.py imports __init__, which stands below it"]


def test_the_front_of_the_package_does_not_import_the_tools_around_it(tree):
    """The command line stands below the package's front."""
    package = tree(__init__="from balancer.cli import main", cli="import balancer")
    assert faults(package, MADE_UP) == ["__init__.py imports cli, which stands below it"]


def test_a_module_on_no_layer_is_found(tree):
    """A new module must be given its place."""
    assert faults(tree(stray=""), MADE_UP) == ["stray.py is on no layer"]


def test_nothing_but_the_command_line_may_import_the_stand_in():
    """The testing tools stand below all of the package except the command line."""
    assert LAYERS[-3:] == ["testing", "cli", "__main__"]
