"""The command line: ``balancer --help`` lists the commands. It needs the extra ``[cli]``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that ``sys.argv`` names."""
    try:
        from balancer.cli.app import app
    except ImportError as error:
        sys.exit(f"balancer: {error}")
    app(prog_name="balancer")
