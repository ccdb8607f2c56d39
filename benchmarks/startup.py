"""How long ``import balancer`` takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

from benchmarks.harness import Effort, compare
from benchmarks.report import Section, at_most, duration

TEXT = """\
Seconds of processor time that a fresh interpreter spends in the import. The yardstick is the import of
the three packages that the balancer needs, `requests`, `cachetools` and `structlog`, in another fresh one.
All of them are read from bytecode, as they are once installed. Structlog is left to programs that log, and
some names are loaded with their first use: so the other lines show a program that has structlog as well,
what the pools cost, and one that has acquired and released."""

DEPENDENCIES = "import requests, cachetools, structlog"
IMPORTS = {
    "import balancer": "import balancer",
    "the three packages, and balancer": f"{DEPENDENCIES}, balancer",
    "from balancer import AccountPool": "from balancer import AccountPool",
    "from balancer import AsyncAccountPool": "from balancer import AsyncAccountPool",
    "the first acquire and release included": (
        "import balancer; balancer.AccountPool(source={'account-a': 1}).acquire().release()"
    ),
}


def run(effort: Effort) -> Section:
    """Measure the imports."""
    section = Section("startup", "Start-up: import balancer", TEXT)
    with tempfile.TemporaryDirectory() as bytecode:  # filled by the first round, which only warms up
        measures = {name: partial(_running, line, bytecode) for name, line in IMPORTS.items()}
        samples = compare(partial(_running, DEPENDENCIES, bytecode), measures, effort.pick(15, 1))
    for name in IMPORTS:
        cost = duration(samples.of(name).median)
        section.add(name, samples.ratio(name), budget=at_most(1.2), absolute=cost)
    return section


def _running(line: str, bytecode: str) -> float:
    code = f"import time; begin = time.process_time(); {line}; print(time.process_time() - begin)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)
