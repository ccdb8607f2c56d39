"""``balancer watch``: live in a terminal, and for programs."""

import json
import re
import signal

import pexpect
import pytest
from command_line import Desk, seen


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path, {"a@example.com": 1, "b@example.com": 3})
    yield desk
    desk.close()


def row(text, account):
    """Return the cells of an account's line: bar, held, bound, external, free, capacity, state."""
    line = next(line for line in text.splitlines() if account in line)
    return re.split(" {2,}", line.strip())[1:]


def test_one_look_shows_who_uses_the_slots(desk):
    """Held, bound, external and free slots of each account are told apart, in figures and as a bar."""
    with desk.pool() as pool:
        held, bound = pool.acquire(account="b@example.com"), pool.acquire(account="b@example.com")
        bound.bind("job-1")
        desk.fake.start_stranger("flowmusic", "a@example.com")
        pool.reconcile()
        shown = desk.run("watch", "flowmusic", "--once").stdout
        assert held
    assert row(shown, "b@example.com") == ["█▓░", "1", "1", "0", "1", "3", "ready"]
    assert row(shown, "a@example.com") == ["▒", "0", "0", "1", "0", "1", "full"]


def test_a_pause_shows_its_reason_and_its_end(desk):
    """An account that takes nothing says why and until when, and its slots are shown as closed."""
    with desk.pool() as pool:
        pool.stats()
        pool.cool("b@example.com", 600, "site is down")
        cells = row(desk.run("watch", "flowmusic", "--once").stdout, "b@example.com")
    assert cells[0] == "▞▞▞"
    assert re.fullmatch(r"cooldown until \d\d:\d\d:\d\dZ: site is down", cells[-1])


def test_a_bar_of_a_large_account_stays_narrow(desk):
    """A thousand slots fit into the table, and the only held one is still to be seen."""
    desk.fake.set_account("flowmusic", "c@example.com", 1000)
    with desk.pool() as pool, pool.acquire(account="c@example.com"):
        bar = row(desk.run("watch", "flowmusic", "--once").stdout, "c@example.com")[0]
    assert len(bar) <= 30
    assert (bar[0], set(bar[1:])) == ("█", {"░"})


def test_looking_over_memory_says_what_cannot_be_seen(desk):
    """A store of one's own shows the server's jobs, and says plainly that it shows no lease of others."""
    desk.fake.start_stranger("flowmusic", "a@example.com")
    shown = desk.run("watch", "flowmusic", "--once", "--store", "memory://").stdout
    assert row(shown, "a@example.com")[1:5] == ["0", "0", "1", "0"]
    assert "another process cannot be seen" in shown


def test_watch_changes_nothing_in_a_shared_store(desk):
    """A lease whose job is missing from the server's list is shown, not reclaimed, by who looks on."""
    with desk.pool(reconcile_every=None) as pool:
        lease = pool.acquire(account="a@example.com")
        lease.bind("a-job-that-nobody-lists")
        for _ in range(3):
            look = desk.json("watch", "flowmusic", "--once")
        assert look["rooms"]["a@example.com"]["bound"] == 1
        assert [holder.id for holder in pool.holders()] == [lease.id]


def test_a_program_gets_one_look_a_line(desk):
    """Each line is JSON of its own, at once; SIGINT ends the watching as a success."""
    with desk.pool() as pool:
        process = desk.start("watch", "flowmusic", "--json", "--every", "0.05")
        assert json.loads(process.stdout.readline())["stats"]["in_flight"] == 0
        lease = pool.acquire()
        looks = iter(lambda: json.loads(process.stdout.readline()), None)
        look = next(look for look in looks if look["stats"]["in_flight"])
        assert [holder["id"] for holder in look["holders"]] == [lease.id]
        assert look["started"] > 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_the_first_look_fails_with_the_exit_code_of_the_trouble(desk):
    """A token that is not accepted is 3 at once, and no endless table of nothing."""
    desk.fake.fault("GET */accounts", status=401, times=None)
    assert desk.run("watch", "flowmusic").exit_code == 3


def test_the_live_table_follows_the_leases(desk):
    """In a terminal the same table changes in place as slots are taken and freed; Ctrl-C ends it."""
    terminal = desk.terminal("watch", "flowmusic", "--every", "0.1")
    with desk.pool() as pool:
        terminal.expect("0 leases and 0 others on 4 slots, 4 free")
        lease = pool.acquire(account="a@example.com")
        terminal.expect("1 leases and 0 others on 4 slots, 3 free")
        assert row(seen(terminal.before), "a@example.com")[-1] == "full"
        lease.release()
        terminal.expect("0 leases and 0 others on 4 slots, 4 free")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert "Traceback" not in terminal.before
