"""The events that the code makes, and those that the page tells of."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEASE_KEYS = {"lease", "account", "job_id", "label", "state", "held_s"}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|$", re.MULTILINE)


def made():
    """Return every event in the code: its name -> level and keys."""
    found = {}
    for file in sorted((ROOT / "balancer").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr not in ("note", "_note", "emit") or len(call.args) != 2:
                continue
            if not all(isinstance(arg, ast.Constant) for arg in call.args):
                continue
            level, name = (arg.value for arg in call.args)
            keys = {key.arg for key in call.keywords if key.arg}
            if any(key.arg is None for key in call.keywords):
                keys |= LEASE_KEYS
            assert found.setdefault(name, (level, keys)) == (level, keys), f"{name} is made in two ways"
    return found


def documented():
    """Return every event in the table."""
    return {
        name: (level, LEASE_KEYS if keys == "lease keys" else set(re.findall(r"`(\w+)`", keys)))
        for name, level, keys in ROW.findall((ROOT / "docs" / "events.md").read_text("utf-8"))
    }
