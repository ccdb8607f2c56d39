"""The command line as a whole: entry, help, completion, what is missing, the sandbox."""

import json
import os
import subprocess
import sys

import pytest
import requests
from command_line import BALANCER, Desk

import balancer
from balancer.cli.app import app

COMMANDS = (
    *("demo", "sandbox", "services", "accounts", "load", "watch", "holders"),
    *("batch", "submit", "wait", "bind"),
    *("release", "cool", "reset", "exec"),
)


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_help_lists_every_command(desk):
    """The promised commands are there, and the exit codes are told."""
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)
    shown = desk.run("--help").stdout
    assert all(f" {name} " in shown for name in COMMANDS)
    assert "Exit codes" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_examples(desk, name):
    """The help of a command ends with lines that can be copied."""
    shown = desk.run(name, "--help").stdout
    assert f"$ balancer {name}" in shown


def test_the_module_runs_as_the_command():
    """``python -m balancer`` needs no script on the path."""
    done = subprocess.run([*BALANCER, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{balancer.__version__}\n")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_error_names_it(missing):
    """The script says in one line what to install, and importing the commands raises the same."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import balancer.cli\n"
        "try:\n    import balancer.cli.app\n"
        "except ImportError as error:\n    print(error)\n"
        "balancer.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install 'balancer[cli]'" in done.stdout
    assert done.stderr == f"balancer: {done.stdout}"


def test_the_shell_can_complete_services(desk):
    """Completion knows the keys of the service table."""
    words = {"COMP_WORDS": "balancer watch flow", "COMP_CWORD": "2"}
    process = desk.start(_BALANCER_COMPLETE="complete_bash", **words)
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["flowmusic"]


def test_the_state_folder_is_the_users_alone(desk, tmp_path):
    """The default store lies where such files belong, and others of the machine cannot read it."""
    assert desk.run("holders", "flowmusic", XDG_STATE_HOME="", HOME=str(tmp_path / "home")).exit_code == 0
    folder = tmp_path / "home" / ".local" / "state" / "balancer"
    assert (folder / "slots.db").is_file()
    assert folder.stat().st_mode & 0o077 == 0


def test_the_sandbox_serves_until_it_is_ended(desk):
    """It prints what another shell needs, answers it, and tells at its end what it saw."""
    process = desk.start("sandbox", "--port", 0, "--account", "flowmusic:me@example.com=1", "--json")
    url, token = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
    headers, job = {"Authorization": f"Bearer {token}"}, {"prompt": "x", "email": "me@example.com"}
    with requests.Session() as session:
        session.trust_env = False
        answers = [
            session.post(f"{url}/v1/flowmusic/music", headers=headers, json=job, timeout=10).status_code
            for _ in range(2)
        ]
    assert answers == [201, 429]
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["accounts"]["flowmusic"]["me@example.com"]["refused"] == 1


def test_the_sandbox_needs_no_settings(desk):
    """Without accounts of one's own every service has some, and its lines are those a shell evaluates."""
    script = 'eval "$(head -n 2)"; "$@" accounts kling --json'
    process = desk.start("sandbox", "--port", 0)
    done = subprocess.run(
        ["sh", "-c", script, "sh", *BALANCER],
        stdin=process.stdout,
        env={name: value for name, value in os.environ.items() if not name.startswith("USEAPI")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    process.terminate()
    process.communicate(timeout=60)
    assert len(json.loads(done.stdout)["accounts"]) == 3


@pytest.mark.parametrize("account", ["flowmusic", "flowmusic:me", "flowmusic:me=many", "nowhere:me=1"])
def test_the_sandbox_refuses_an_account_that_it_cannot_read(desk, account):
    """A wrong description is wrong usage, and the message repeats it."""
    result = desk.run("sandbox", "--account", account)
    assert result.exit_code == 2
    assert account in result.stderr


def test_the_sandbox_names_a_port_that_is_in_use(desk):
    """It is wrong usage with a way out, not a traceback."""
    port = desk.fake.url.rpartition(":")[2]
    result = desk.run("sandbox", "--port", port)
    assert result.exit_code == 2
    assert f"port {port} is in use" in result.stderr
    assert "--port 0" in result.stderr


def test_where_a_proxy_is_set_the_sandbox_says_how_to_pass_it_by(desk):
    """The clients of the other shell would ask the proxy for 127.0.0.1, and find its own machine."""
    proxy = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "intra.example"}
    process = desk.start("sandbox", "--port", 0, "--account", "flowmusic:me@example.com=1", **proxy)
    lines = [process.stdout.readline().strip() for _ in range(3)]
    process.terminate()
    process.communicate(timeout=60)
    assert lines[2] == "export NO_PROXY=127.0.0.1,intra.example no_proxy=127.0.0.1,intra.example"
