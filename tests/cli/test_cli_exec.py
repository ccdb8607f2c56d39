"""``balancer exec``, as real processes: environment, exit status, signals, kills."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress

import pexpect
import pytest
from command_line import BALANCER, Desk

from balancer import AcquireTimeout
from balancer.rules.entries import unpack

READY = "import os, signal, sys, time; n = []\n"
SAFETY = 60


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own, whose service has one account with one slot."""
    desk = Desk(tmp_path, {"a@example.com": 1})
    yield desk
    desk.close()


@pytest.fixture
def hold(desk):
    """Return a function that starts a Python command under exec and returns once it says that it is ready."""
    started = []

    def start(code, *options):
        process = desk.start("exec", *options, "--", sys.executable, "-uc", READY + code)
        started.append(process)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the command with it
        process.communicate()


def ended(process):
    """Wait for a process, and return its exit status and what it printed since."""
    out, errors = process.communicate(timeout=SAFETY)
    sys.stderr.write(errors)  # shown if the test fails
    return process.returncode, out


def test_the_command_finds_its_slot_in_its_environment(desk, hold):
    """Account, parameters and lease are those of the slot that is held, and it is given back."""
    names = "BALANCER_ACCOUNT", "BALANCER_PARAMS", "BALANCER_LEASE_ID"
    process = hold(
        "signal.signal(15, lambda *a: sys.exit(0)); print('ready')\n"
        f"print(*map(os.environ.get, {names}), sep='\\n'); signal.pause()"
    )
    account, params, lease = (process.stdout.readline().strip() for _ in names)
    with desk.pool() as pool:
        [holder] = pool.holders()
        assert (holder.account, holder.id, holder.label) == (account, lease, sys.executable)
        assert account == "a@example.com"
        assert json.loads(params) == {"email": account}
        process.terminate()
        assert ended(process) == (0, "")
        assert pool.holders() == ()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["--", "sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["--", "./no-such-command"], 127),
        (["--", "/"], 126),
    ],
    ids=["its own", "a signal", "not there", "no program"],
)
def test_the_exit_status_is_that_of_the_command(desk, command, code):
    """Scripts that test for it see what they would see without us; the slot is free afterwards."""
    process = desk.start("exec", *command)
    assert ended(process)[0] == code
    with desk.pool() as pool:
        assert pool.holders() == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on(desk, hold, number):
    """The command gets the signal, ends as it likes, and only then the slot comes back."""
    process = hold(
        f"signal.signal({int(number)}, lambda *a: n.append(1)); print('ready')\n"
        "while not n: time.sleep(0.01)\n"
        "print('got it'); sys.exit(3)"
    )
    process.send_signal(number)
    assert ended(process) == (3, "got it\n")
    with desk.pool() as pool:
        pool.acquire(timeout=0).release()


def test_a_command_that_a_passed_signal_ends_gives_128_and_its_number(desk, hold):
    """A command that does not care for SIGTERM dies of it, and the slot is free."""
    process = hold("print('ready'); signal.pause()")
    process.terminate()
    assert ended(process)[0] == 128 + signal.SIGTERM
    with desk.pool() as pool:
        assert pool.holders() == ()


def test_a_killed_exec_gives_its_slot_back_within_the_lease_ttl(desk, hold):
    """After SIGKILL nobody gives the slot back by hand: the next caller gets it all the same."""
    # It is killed at once; the sleep ends it if the test was killed itself.
    process = hold("print('ready'); time.sleep(60)", "--lease-ttl", 1)
    with desk.pool(lease_ttl=1) as pool:
        with pytest.raises(AcquireTimeout):
            pool.acquire(timeout=0)
        process.kill()
        process.wait(SAFETY)
        pool.acquire(timeout=SAFETY).release()


def test_a_signal_while_waiting_ends_the_waiting(desk):
    """Nobody is left in line, the command is never started, and the status tells of the signal."""
    with desk.pool(reconcile_every=None) as pool, pool.acquire() as lease:
        process = desk.start("exec", "--label", "too late", "--", "echo", "started")
        _until_in_line(desk, process)
        process.terminate()
        assert ended(process) == (128 + signal.SIGTERM, "")
        assert [holder.id for holder in pool.holders()] == [lease.id]


def test_commands_side_by_side_share_one_count(desk, hold):
    """With one slot the second waits until the first is over; with no patience it is 124."""
    first = hold("signal.signal(15, lambda *a: sys.exit(0)); print('ready'); signal.pause()")
    assert ended(desk.start("exec", "--timeout", 0, "--", "echo", "second"))[0] == 124
    second = desk.start("exec", "--", "echo", "second")
    _until_in_line(desk, second)
    first.terminate()
    assert ended(first)[0] == 0
    assert ended(second) == (0, "second\n")


def test_trouble_of_our_own_is_125(desk):
    """No slot for another reason than time has a status that commands rarely use."""
    desk.fake.fault("GET */accounts", status=401, times=None)
    process = desk.start("exec", "--", "echo", "started")
    out, errors = process.communicate(timeout=SAFETY)
    assert (process.returncode, out) == (125, "")
    assert "401" in errors


def test_what_is_ignored_stays_ignored(desk):
    """Under nohup a hang-up reaches neither exec nor its command."""
    command = ["sh", "-c", "kill -HUP $PPID; kill -HUP $$; echo alive"]
    done = subprocess.run(
        ["nohup", *BALANCER, "exec", "--", *command],
        env={**os.environ, **desk.settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SAFETY,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_ctrl_c_reaches_the_command(desk):
    """The terminal sends Ctrl-C to both; the command ends as it likes, and exec waits for it."""
    code = (
        "signal.signal(2, lambda *a: n.append(1)); print('ready')\n"
        "while not n: time.sleep(0.01)\n"
        "print('got it'); sys.exit(4)"
    )
    terminal = desk.terminal("exec", "--", sys.executable, "-uc", READY + code)
    terminal.expect("ready")
    terminal.sendintr()
    terminal.expect("got it")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4


def test_ctrl_c_is_not_passed_on_a_second_time(desk):
    """A command that the terminal's Ctrl-C does not reach gets none: exec leaves it to the terminal."""
    # It sleeps for signals, which cut the sleep short.
    code = (
        "os.setpgid(0, 0)\n"
        "signal.signal(2, lambda *a: n.append(1)); signal.signal(15, lambda *a: sys.exit(len(n)))\n"
        "print('ready')\n"
        "while True: time.sleep(1)"
    )
    terminal = desk.terminal("exec", "--", sys.executable, "-uc", READY + code)
    terminal.expect("ready")
    terminal.sendintr()
    terminal.expect_exact("^C")  # shown once the signal is sent
    terminal.kill(signal.SIGTERM)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def _until_in_line(desk, process):
    """Return once a process waits for a slot: the store knows whose turn it is."""
    with closing(sqlite3.connect(desk.store.removeprefix("sqlite://"))) as store:
        told = "SELECT value FROM entry_1 WHERE name LIKE 'process:%' AND value NOT LIKE '-%'"
        # host:pid, when to look after it, place in line
        while not any(unpack(value)[2] for (value,) in store.execute(told)):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
