"""``python -m benchmarks.shape [--base COMMIT]``: how large and how tangled the package is, in figures.

What is counted is the core: the package without its command line and its testing tools. With a commit
the same is counted there, and both stand side by side. Of the way of a call on a store stand its calls,
its files and its jumps between files. Nothing is judged here: budgets belong to tests.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BESIDE = ("cli", "testing")
OLD_WORDS: dict[str, str] = {
    "lease record": "Row Blank",
    "detached": "loose let_go doubt in_doubt",
    "account state, cooldown": "Tally tally tallies Pause pauses warm",
    "acquire request, slot request": "Wish wish Asked asked Ticket ticket",
    "selector": "Room room shelf shelves",
    "wait queue, waiter group": "Lines lines Line line keeper Desk desk hopes counted",
    "grant, hand over, wake": "grab pass_on serve nudge rouse",
    "fast path": "straight Straight road Road direct Direct at_once not_at_once Origin origin",
    "store, backend": "Stepping stepping Asking asking Keeping keeping Reading reading",
    "process, held leases": "mine",
    "worker, offer": "Courier courier Errands errands Serving serving wants Ears ears",
    "heartbeat": "Pulse pulse beat",
    "tombstone, claim, fleet task": "tomb tombs buried Fleet errand",
    "refresh, reconcile": "Upkeep upkeep Survey survey Listing listing Catalog catalog",
    "single flight": "Flight flight land",
    "re-register": "roll greet",
    "change feed, replica": "Books books Glance glance acts witness places",
    "verdict": "Ruling ruling judgement says",
    "pool core, base pool, config": "Core Face face Given Agenda agenda Advice",
    "steps of a wait": "Park Io bear aim",
    "to wake, dead waiters, abandoned": "outbox lost dropped abandon drop",
    "deadlines": "other_due quiet_until",
    "inconsistent, rebuild": "torn tear mend settle",
    "outcome unknown": "heed lose learn wonder _unsure",
    "worker's requests": "hasten hurry retell retire last_words",
    "operations": "Take End Judge Dump Gone Wait",
    "helpers": "deaf vague safely dig whole foreign afresh",
    "public names": "Try Load Rule Table Reconciled",
}
"""Words of the glossary, and the names that were used for them before."""


@dataclass
class Module:
    """A file of the core."""

    name: str
    tree: ast.Module
    package: bool
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names that are bound by imports of the package's own: the module and the name there."""

    @cached_property
    def identifiers(self) -> Counter[str]:
        """How often each name is defined or used."""
        return Counter(_identifiers(self.tree)) + Counter([self.name.rpartition(".")[2]])


class Tree:
    """A checkout's package, as source."""

    def __init__(self, root: Path) -> None:
        self.package = root / "balancer"
        self.python = [p for p in sorted(self.package.rglob("*.py")) if self._of_core(p)]
        self.lua = [p for p in sorted(self.package.rglob("*.lua")) if self._of_core(p)]
        self.modules = {m.name: m for m in map(self._module, self.python)}
        for module in self.modules.values():
            module.imports = dict(self._imports(module))

    def _of_core(self, path: Path) -> bool:
        return path.relative_to(self.package).parts[0] not in BESIDE

    def _module(self, path: Path) -> Module:
        parts = path.relative_to(self.package.parent).with_suffix("").parts
        package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if package else parts)
        return Module(name, ast.parse(path.read_text("utf-8")), package)

    def _imports(self, module: Module) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield what imports bind, those for types alone and those inside functions included."""
        here = module.name.split(".")[: None if module.package else -1]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.asname or alias.name, (alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                above = here[: len(here) + 1 - node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    found = (whole, "") if whole in self.modules else (base, alias.name)
                    yield alias.asname or alias.name, found

    @cached_property
    def edges(self) -> dict[str, set[str]]:
        """The modules that each module imports."""
        return {
            name: {target for target, _ in module.imports.values() if target in self.modules} - {name}
            for name, module in self.modules.items()
        }

    def cycles(self) -> list[list[str]]:
        """Return the groups of modules that import each other in a circle."""
        return sorted((sorted(group) for group in _components(self.edges) if len(group) > 1), key=len)[::-1]

    def chains(self, longest: int = 2) -> list[list[str]]:
        """Return the lines of inheritance that are too long, from the last class up; errors are a tree."""
        classes = {
            (module.name, node.name): (module, node)
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef)
        }

        def bases(key: tuple[str, str]) -> Iterator[tuple[str, str]]:
            module, node = classes[key]
            for base in node.bases:
                name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
                first, _, rest = name.partition(".")
                target, there = module.imports.get(first, (module.name, first))
                yield self._defined(target, rest or there, classes)

        def chain(key: tuple[str, str]) -> list[str]:
            ways = [chain(base) for base in bases(key) if base in classes]
            return [key[1], *max(ways, key=len, default=[])]

        inherited = {base for key in classes for base in bases(key)}
        found = [chain(key) for key in sorted(classes) if key not in inherited]
        return [names for names in found if len(names) > longest and not names[-1].endswith("Error")]

    def _defined(self, module: str, name: str, classes: Mapping[tuple[str, str], Any]) -> tuple[str, str]:
        """Follow a name through the modules that pass it on."""
        seen = set()
        while (module, name) not in classes and module in self.modules and (module, name) not in seen:
            seen.add((module, name))
            module, name = self.modules[module].imports.get(name, (module, name))
        return module, name

    def functions(self) -> list[int]:
        """Return the lengths of all functions, in lines, without decorators and docstrings."""
        return sorted(
            _length(node)
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )

    def old_words(self) -> dict[str, int]:
        """Return how often names of the old glossary are still used, by the word that stands for them."""
        used: Counter[str] = sum((m.identifiers for m in self.modules.values()), Counter())
        return {word: sum(used[name] for name in names.split()) for word, names in OLD_WORDS.items()}


def measure(root: Path) -> dict[str, Any]:
    """Return the figures of a checkout, by name."""
    tree = Tree(root)
    lengths, words, cycles = tree.functions(), tree.old_words(), tree.cycles()
    found: dict[str, Any] = {
        "Python: lines": sum(map(_lines, tree.python)),
        "Python: files": len(tree.python),
        "Lua: lines": sum(map(_lines, tree.lua)),
        "Lua: files": len(tree.lua),
        "files in import cycles": sum(map(len, cycles)),
        "inheritance chains over two": len(tree.chains()),
        "longest chain": max(map(len, tree.chains()), default=2),
        "function: median lines": round(statistics.median(lengths)),
        "function: p90 lines": lengths[len(lengths) * 9 // 10],
        "function: most lines": lengths[-1],
        "old words in use": sum(words.values()),
        **{f"  {word}": number for word, number in words.items() if number},
    }
    for store, walks in _walks(root).items():
        found |= {f"{store}: {name}": walk for name, walk in walks.items()}
    return found


def details(root: Path) -> Iterator[str]:
    """Yield what stands behind the figures that should be 0."""
    tree = Tree(root)
    for group in tree.cycles():
        yield f"cycle of {len(group)}: {', '.join(group)}"
    for chain in tree.chains():
        yield f"chain of {len(chain)}: {' < '.join(chain)}"
    for word, names in OLD_WORDS.items():
        used = Counter(
            {name: sum(m.identifiers[name] for m in tree.modules.values()) for name in names.split()}
        )
        if +used:
            yield f"{word}: " + ", ".join(f"{name} {times}" for name, times in used.most_common() if times)


def main() -> None:
    """Print the figures of this checkout, and of another commit beside them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shape", description=__doc__)
    parser.add_argument("--base", metavar="COMMIT", help="compare with this commit")
    base = parser.parse_args().base
    after = measure(ROOT)
    columns = {"here": after}
    if base:
        with tempfile.TemporaryDirectory() as folder:
            _check_out(base, Path(folder))
            columns = {base: measure(Path(folder)), **columns}
    print(f"{'':48}", *(f"{title:>12}" for title in columns))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = (_cell(column.get(name, 0)) for column in columns.values())
        print(f"{name:48}", *(f"{cell:>12}" for cell in cells))
    print("", *details(ROOT), sep="\n")


def _check_out(commit: str, folder: Path) -> None:
    command = ["git", "archive", commit, "balancer"]
    archive = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def _walks(root: Path) -> dict[str, dict[str, list[int]]]:
    """Return the walks of a checkout, measured by this one's program."""
    path = os.pathsep.join(map(str, (root, ROOT)))
    command = [sys.executable, "-P", "-m", "benchmarks.walks"]
    child = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=True, timeout=300
    )
    found: dict[str, dict[str, list[int]]] = json.loads(child.stdout)
    return found


def _cell(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def _lines(path: Path) -> int:
    return path.read_text("utf-8").count("\n")


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    if len(body) < len(node.body):
        whole -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return whole


def _identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield re.split(r"\.", node.asname or node.name)[-1]


def _components(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected components of a graph (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in edges[name]:
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            place = stack.index(name)
            found.append(stack[place:])
            del stack[place:]

    for name in edges:
        if name not in order:
            visit(name)
    return found


if __name__ == "__main__":
    main()
