"""How long ``import balancer`` takes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.harness import Effort, compare
from benchmarks.report import Section, at_most, duration

TEXT = """\
Seconds of processor time that a fresh interpreter spends in the import. The yardstick is the import of
the three packages that the balancer needs, `requests`, `cachetools` and `structlog`, in another fresh one."""

DEPENDENCIES = "requests, cachetools, structlog"


def run(effort: Effort) -> Section:
    """Measure the import."""
    section = Section("startup", "Start-up: import balancer", TEXT)
    samples = compare(
        partial(_importing, DEPENDENCIES), {"balancer": partial(_importing, "balancer")}, effort.pick(15, 1)
    )
    cost = duration(samples.of("balancer").median)
    section.add("import balancer", samples.ratio("balancer"), budget=at_most(1.2), absolute=cost)
    return section


def _importing(what: str) -> float:
    code = f"import time; begin = time.process_time(); import {what}; print(time.process_time() - begin)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
