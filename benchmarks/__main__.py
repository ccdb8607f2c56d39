"""``python -m benchmarks [NAME…] [--quick]``: measure, print tables, and write the results of a whole run."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import machine, plots
from benchmarks.harness import FULL, QUICK
from benchmarks.report import Section

QUESTIONS = (
    "pair",
    "options",
    "refusals",
    "threads",
    "aio",
    "crowds",
    "memory",
    "startup",
    "idle",
    "refresh",
    "sqlite",
    "redis",
    "end_to_end",
    "limits",
    "peers",
)
RESULTS = Path(__file__).with_name("results.md")
ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run what was asked for, each benchmark in a process of its own. 1 if one of them crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(QUESTIONS)}")
    parser.add_argument(
        "--quick", action="store_true", help="see that everything runs; the figures mean nothing"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _answer(options.names[0], quick=options.quick)
    if unknown := set(options.names) - set(QUESTIONS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    facts = machine.header()
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), end="\n\n", flush=True)
    names = options.names or QUESTIONS
    sections = [section for name in names if (section := _ask(name, quick=options.quick))]
    if not options.names and not options.quick:
        _write(facts, sections)
        plots.draw(sections)
    return 0 if len(sections) == len(names) else 1


def _answer(name: str, *, quick: bool) -> int:
    begin = time.monotonic()
    section: Section = importlib.import_module(f"benchmarks.{name}").run(QUICK if quick else FULL)
    section.seconds = time.monotonic() - begin
    print(json.dumps(section.to_json()))
    return 0


def _ask(name: str, *, quick: bool) -> Section | None:
    command = [sys.executable, "-m", "benchmarks", "--child", name, *(["--quick"] if quick else [])]
    child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if child.returncode:
        print(f"## {name}: crashed with exit code {child.returncode}\n", flush=True)
        return None
    section = Section.from_json(json.loads(child.stdout))
    print(section.markdown(), flush=True)
    return section


def _write(facts: dict[str, str], sections: list[Section]) -> None:
    head = ["# Results", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    RESULTS.write_text("\n".join(head) + "\n" + "\n".join(section.markdown() for section in sections))


if __name__ == "__main__":
    sys.exit(main())
