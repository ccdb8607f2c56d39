"""Imports run one way: a file of the package imports only from layers above its own.

What only a type checker reads counts like the rest: files that know each other in a circle cannot be
understood one by one, whichever way they got to know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "balancer"
ROOT = "__init__"
Orders = Mapping[str, Sequence[str]]

# Folder by folder, top to bottom. From outside a folder is one layer. Lines are for reading only.
ORDERS: Orders = {
    folder: names.split()
    for folder, names in {
        "": """
            redaction errors models clock events services useapi rules config request
            waiting stores engine lease run base_pool pool async_pool prometheus
            client batch
            __init__
            testing cli __main__
        """,
        "client": """
            api orders jobs poller crew base_client client async_client __init__
        """,
        "batch": """
            lines journal acceptance runner __init__
        """,
        "rules": """
            limits timer_queue records selection operations ledger entries fleet_ledger fleet_entries
            reconciliation freshness __init__
        """,
        "waiting": """
            queue threads tasks drivers timekeeper __init__
        """,
        "stores": """
            snapshot in_threads redis
            base sqlite memory_fast_path memory
            outbox held_leases backend_client heartbeat process_queue offers worker fleet_tasks shared
            opening __init__
        """,
        "engine": """
            refresher pool_core reports acquire __init__
        """,
        "stores/redis": """
            scripts codec connections cluster subscriber backend __init__
        """,
        "stores/sqlite": """
            file_system file_watch forks write_queue notify_pipe database change_feed backend __init__
        """,
    }.items()
}
FREE = {"services", "useapi", "testing", "cli"}
"""Folders whose files may import each other as they like."""

KNOWN: set[str] = set()
"""What still breaks the order. This set only ever gets smaller."""


class Imports(ast.NodeVisitor):
    """Collects the dotted names that a file imports, inside functions and for types alone included."""

    def __init__(self, folder: Sequence[str]) -> None:
        self.folder = folder
        self.names: list[str] = []

    def visit_Import(self, node: ast.Import) -> None:
        self.names += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        here = self.folder[: len(self.folder) + 1 - node.level] if node.level else ()
        base = [*here, node.module] if node.module else here
        self.names += [".".join([*base, alias.name]) for alias in node.names]


def imported_files(file: Path, package: Path) -> Iterator[tuple[str, ...]]:
    """Yield where each import of ``file`` leads inside ``package``; a folder's own names are ``ROOT``'s."""
    visitor = Imports(file.parent.relative_to(package.parent).parts)
    visitor.visit(ast.parse(file.read_text("utf-8")))
    for name in visitor.names:
        top, *rest = name.split(".")
        if top != package.name:
            continue
        place, path = package, list[str]()
        for part in rest:
            if (place / f"{part}.py").exists():
                path.append(part)
                break
            if not (place / part).is_dir():
                path.append(ROOT)
                break
            place /= part
            path.append(part)
        else:
            path.append(ROOT)
        yield tuple(path)


def faults(package: Path, orders: Orders, free: Collection[str] = ()) -> list[str]:
    """Return what breaks the order, one sentence each."""
    found = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        own = name.with_suffix("").parts
        folder = "/".join(own[:-1])
        if folder not in free and own[-1] not in orders.get(folder, ()):
            found.append(f"{name} is on no layer")
            continue
        below = {layer for path in imported_files(file, package) if (layer := fault(own, path, orders))}
        found += [f"{name} imports {layer}, which stands below it" for layer in sorted(below)]
    return found


def fault(own: Sequence[str], path: Sequence[str], orders: Orders) -> str | None:
    """Return the layer of ``path`` if it is below that of ``own``, in the folder where they part."""
    for depth, (mine, other) in enumerate(zip(own, path, strict=False)):
        if mine != other:
            order = orders.get("/".join(own[:depth]), ())
            if mine in order and other in order and order.index(other) > order.index(mine):
                return "/".join([*own[:depth], other])
            return None
    return None


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes the files of a made-up package named balancer."""

    def write(**files: str) -> Path:
        package = tmp_path / "balancer"
        for name, text in {"high": "", "low": "", "folder/first": "", "folder/low": "", **files}.items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return package

    return write


MADE_UP = {"": ["high", "folder", "low", ROOT, "cli"], "folder": ["first", "high", "low"]}


def test_imports_run_one_way():
    """Every module of the package is on a layer and imports none below it, but for what is known."""
    assert list(PACKAGE.glob("*.py")), "the package was not found"
    found = faults(PACKAGE, ORDERS, FREE)
    assert set(found) <= KNOWN, "\n".join(["", *sorted(set(found) - KNOWN)])


def test_what_is_known_to_break_the_order_still_does():
    """What no longer breaks the order is struck off, so that it cannot come back."""
    mended = KNOWN - set(faults(PACKAGE, ORDERS, FREE))
    assert not mended, "\n".join(["strike these off KNOWN:", *sorted(mended)])


def test_every_name_in_the_orders_is_there():
    """A file that has gone leaves no name behind, and no folder has two orders."""
    for folder, names in ORDERS.items():
        place = PACKAGE / folder
        assert len(set(names)) == len(names)
        gone = [name for name in names if not ((place / name).is_dir() or (place / f"{name}.py").exists())]
        assert not gone, f"{folder}: {gone}"


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
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from balancer.low import Thing",
    ],
)
def test_an_import_from_below_is_found_however_it_is_written(tree, line):
    """Absolute, relative, aliased or inside a function: an import from below is named."""
    assert faults(tree(high=line), MADE_UP) == ["high.py imports low, which stands below it"]


@pytest.mark.parametrize(
    "line", ["from balancer.low import thing", "from ..low import thing", "from .. import low"]
)
def test_from_outside_a_folder_is_one_layer(tree, line):
    """A file in a folder stands where the folder stands, whatever its own name is."""
    assert faults(tree(**{"folder/high": line}), MADE_UP) == [
        "folder/high.py imports low, which stands below it"
    ]


@pytest.mark.parametrize(
    "line", ["from balancer.folder.low import thing", "from .low import thing", "from . import low"]
)
def test_a_folder_has_an_order_of_its_own(tree, line):
    """Inside a folder files stand on layers too, and imports run one way there."""
    assert faults(tree(**{"folder/high": line}), MADE_UP) == [
        "folder/high.py imports folder/low, which stands below it"
    ]


def test_files_of_a_free_folder_import_each_other(tree):
    """Where no order is asked for, none is broken."""
    package = tree(**{"cli/one": "from . import two", "cli/two": "from . import one"})
    assert faults(package, MADE_UP, free={"cli"}) == []


@pytest.mark.parametrize(
    "line",
    [
        "import sys\nfrom os import path",
        "from balancer.high import thing",
        "from balancer import high",
        "from ..high import thing",
        "from . import first",
        "from .first import thing",
        "from balancer.folder.first import thing",
    ],
)
def test_what_runs_upward_is_free(tree, line):
    """Imports from above, in the package as in the folder, and from elsewhere are no fault."""
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
    package = tree(stray="", **{"folder/stray": "", "other/stray": ""})
    strays = ["folder/stray.py", "other/stray.py", "stray.py"]
    assert faults(package, MADE_UP) == [f"{name} is on no layer" for name in strays]


def test_nothing_but_the_command_line_may_import_the_stand_in():
    """The testing tools stand below all of the package except the command line."""
    assert ORDERS[""][-3:] == ["testing", "cli", "__main__"]


INSIDE = ("engine", "rules", "stores", "waiting")
"""Folders that only the pool itself knows."""


@pytest.mark.parametrize("folder", ["client", "batch"])
def test_what_stands_on_the_pool_uses_its_public_names_alone(folder):
    """Neither its parts nor its core: what a user of the pool could not write is not written there either."""
    files = list((PACKAGE / folder).rglob("*.py"))
    assert files
    for file in files:
        assert {path[0] for path in imported_files(file, PACKAGE)}.isdisjoint(INSIDE), file
        assert "._core" not in file.read_text("utf-8"), file
