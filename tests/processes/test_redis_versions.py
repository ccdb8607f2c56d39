"""The oldest redis-py that is promised, and its parser in C: what the library asks of either is there."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PLACE = ROOT / ".venv-peers"
NEEDED = {"oldest": "redis==5.0.1", "parser in C": "hiredis"}
TESTS = ("tests/stores/test_redis_limits.py", "tests/stores/test_redis_links.py")
WHAT = "every_way or socket_file or forgotten or cut_subscription or dead_silently or hung_up or encrypted"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", NEEDED)
def test_connections_work_with_other_versions_of_redis_py(which):
    """Calls, event loops, TLS and listening, by public names and the two private ones that are worth it."""
    folder = PLACE / f"redis-{which.replace(' ', '-')}"
    if not folder.exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, NEEDED[which]]
        if subprocess.run(install, capture_output=True, check=False).returncode:
            pytest.skip(f"{NEEDED[which]} cannot be had")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", WHAT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
