"""Runs the commands: in this process, as processes of their own, in a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pexpect
from typer.testing import CliRunner

from balancer import AccountPool
from balancer.cli.app import app
from balancer.testing import FakeUseapi

BALANCER = (sys.executable, "-m", "balancer")
ACCOUNTS = {"a@example.com": 1, "b@example.com": 2}


class Desk:
    """A user's shell: a stand-in server, the settings that lead to it, a state folder of its own."""

    def __init__(self, folder, accounts=ACCOUNTS):
        self.fake = FakeUseapi({"flowmusic": accounts}, job_seconds=(600, 600)).start()
        self.settings = {
            "USEAPI_TOKEN": self.fake.token,
            "USEAPI_BASE_URL": self.fake.url,
            "XDG_STATE_HOME": str(folder),
            "BALANCER_SERVICE": "flowmusic",
            "COLUMNS": "200",
        }
        self.store = f"sqlite://{folder}/balancer/slots.db"
        (folder / "balancer").mkdir()

    def close(self):
        self.fake.close()

    def pool(self, **options):
        """Return a pool of this process over the store that the commands use."""
        return AccountPool(
            "flowmusic", token=self.fake.token, base_url=self.fake.url, store=self.store, **options
        )

    def run(self, *arguments, answer=None, **settings):
        """Run a command in this process."""
        env = {**self.settings, **settings}
        return CliRunner().invoke(app, [str(one) for one in arguments], env=env, input=answer)

    def json(self, *arguments, **settings):
        """Run a command in this process and return the JSON that it printed."""
        result = self.run(*arguments, "--json", **settings)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def start(self, *arguments, **settings):
        """Run a command as a process of its own, its output to be read from pipes."""
        return subprocess.Popen(
            [*BALANCER, *map(str, arguments)],
            env={**os.environ, **self.settings, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # whoever runs the tests may sit at a terminal, this command does not
        )

    def terminal(self, *arguments, **settings):
        """Run a command in a terminal of its own."""
        return pexpect.spawn(
            BALANCER[0],
            [*BALANCER[1:], *map(str, arguments)],
            env={**os.environ, **self.settings, "TERM": "xterm-256color", **settings},
            dimensions=(40, 140),
            encoding="utf-8",
            timeout=30,
        )


def seen(text):
    """Return what a terminal shows of ``text``, its colours and movements left out."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
