"""Commands that look: services, accounts, load, holders."""

import json
import math

import pytest
from command_line import Desk
from redis_server import RedisServer

from balancer import SERVICES
from balancer.testing import CANARY


@pytest.fixture
def desk(tmp_path):
    """Return a shell of a user of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_services_prints_every_row_of_the_table(desk):
    """Each key of the service table has a line, for people and for programs."""
    lines = desk.run("services").stdout.splitlines()
    keys = [line.split()[1] for line in lines if line.startswith("│")]
    assert keys == list(SERVICES)
    assert [row["key"] for row in desk.json("services")] == list(SERVICES)


def test_accounts_shows_what_the_server_has_configured(desk):
    """Capacity, state and reason are those of the server now."""
    desk.fake.break_account("flowmusic", "b@example.com", "please sign in again")
    found = {one["id"]: one for one in desk.json("accounts", "flowmusic")["accounts"]}
    assert {id: (one["capacity"], one["state"]) for id, one in found.items()} == {
        "a@example.com": (1, "ready"),
        "b@example.com": (2, "broken"),
    }
    assert "please sign in again" in found["b@example.com"]["broken"]
    assert "please sign in again" in desk.run("accounts", "flowmusic").stdout


def test_accounts_exits_with_1_if_none_can_be_used(desk):
    """A script can ask whether there is anything to work with: none configured, or all broken, is 1."""
    assert desk.run("accounts", "flowmusic").exit_code == 0
    for account in ("a@example.com", "b@example.com"):
        desk.fake.break_account("flowmusic", account, "signed out")
    assert desk.run("accounts", "flowmusic").exit_code == 1
    assert desk.run("accounts", "muse").exit_code == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 3), (402, 3), (418, 4), (404, 1)],
    ids=["token", "subscription", "nonsense", "none"],
)
def test_each_kind_of_trouble_has_an_exit_code(desk, status, code):
    """Programs tell trouble apart by exit code, and people get one line without a traceback."""
    desk.fake.fault("GET */accounts", status=status, times=None)
    result = desk.run("accounts", "flowmusic")
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    if code != 1:
        assert result.stderr.startswith("balancer: ")


def test_an_unknown_service_is_wrong_usage_that_names_near_ones(desk):
    """A slip of the keyboard is answered with what was probably meant."""
    result = desk.run("accounts", "flowmusik")
    assert result.exit_code == 2
    assert "flowmusic" in result.stderr


def test_a_missing_token_is_named(desk):
    """Without a token the message says which variable to set."""
    result = desk.run("accounts", "flowmusic", USEAPI_TOKEN="")
    assert result.exit_code == 2
    assert "USEAPI_TOKEN" in result.stderr


@pytest.mark.parametrize("command", ["accounts", "load", "holders"])
def test_no_command_prints_a_secret(desk, command):
    """Tokens, cookies and passwords of accounts, and our own token, stay unsaid. P-60."""
    with desk.pool() as pool, pool.acquire():
        for more in ((), ("--json",)):
            result = desk.run(command, "flowmusic", *more)
            assert result.exit_code == 0
            assert CANARY not in result.output
            assert desk.fake.token not in result.output


def test_load_sets_the_servers_list_beside_the_leases(desk):
    """A lease whose job is not listed and a listed job without a lease stand out, each in its column."""
    with desk.pool(reconcile_every=None) as pool:
        pool.acquire(account="a@example.com").bind("a-job-that-nobody-lists")
        desk.fake.start_stranger("flowmusic", "b@example.com")
        lines = {line["account"]: line for line in desk.json("load", "flowmusic")["accounts"]}
        shown = desk.run("load", "flowmusic").stdout
    counts = ("capacity", "listed", "leases", "not_listed", "not_leased")
    assert [lines["a@example.com"][name] for name in counts] == [1, 0, 1, 1, 0]
    assert [lines["b@example.com"][name] for name in counts] == [2, 1, 0, 0, 1]
    row = next(line for line in shown.splitlines() if "a@example.com" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["1", "0", "1", "1", "0", "full"]


def test_load_knows_a_listed_job_of_ours(desk):
    """A job that is bound to a lease is not nobody's, and a lease without a job is not missed on the list."""
    job = desk.fake.start_stranger("flowmusic", "b@example.com")
    with desk.pool(reconcile_every=None) as pool, pool.acquire(account="b@example.com"):
        pool.acquire(account="b@example.com").bind(job)
        line = desk.json("load", "flowmusic")["accounts"][1]
    assert (line["listed"], line["leases"], line["not_listed"], line["not_leased"]) == (1, 2, 0, 0)


def test_load_says_when_the_server_lists_nothing(desk):
    """Where a service has no list of running jobs, its columns stay empty and a note says why."""
    desk.fake.set_account("faceswap", "1234", 1)
    result = desk.run("load", "faceswap")
    assert result.exit_code == 0
    assert "no list of running jobs" in result.stderr
    assert desk.json("load", "faceswap")["accounts"][0]["listed"] is None


def test_holders_shows_the_leases_of_another_pool(desk):
    """Who holds what is seen from outside: account, state, job, label, owner and age."""
    with desk.pool() as pool:
        lease = pool.acquire(account="a@example.com", label="night shift")
        bound = pool.acquire(account="b@example.com")
        bound.bind("job-1")
        found = {one["id"]: one for one in desk.json("holders", "flowmusic")}
        shown = desk.run("holders", "flowmusic").stdout
    assert found.keys() == {lease.id, bound.id}
    assert found[lease.id]["label"] == "night shift"
    assert found[lease.id]["state"] == "held"
    assert (found[bound.id]["job_id"], found[bound.id]["state"]) == ("job-1", "bound")
    assert lease.id in shown
    assert "night shift" in shown


def test_a_lease_that_never_ends_by_itself_is_shown(desk):
    """To people as to programs: JSON has no infinity."""
    with desk.pool(job_ttl=math.inf) as pool:
        pool.acquire().bind("job-1")
        [found] = desk.json("holders", "flowmusic")
        shown = desk.run("holders", "flowmusic")
        once = desk.json("watch", "flowmusic", "--once")
    assert (found["expires_in"], shown.exit_code) == (None, 0)
    assert "∞" in shown.stdout
    assert once["holders"][0]["expires_in"] is None


def test_a_label_cannot_steer_the_terminal(desk):
    """A label is another's text: neither its escape sequences nor its brackets are obeyed."""
    with desk.pool() as pool, pool.acquire(label="\x1b[2J[red]boo[/red]"):
        shown = desk.run("holders", "flowmusic").stdout
    assert "\x1b" not in shown
    assert "[red]boo[/red]" in shown


def test_an_empty_store_says_why_it_may_be_empty(desk):
    """Leases over memory:// are invisible from outside, and the command says so plainly."""
    result = desk.run("holders", "flowmusic")
    assert result.exit_code == 0
    assert "memory://" in result.stderr
    assert desk.json("holders", "flowmusic") == []


def test_holders_of_memory_is_wrong_usage(desk):
    """A store of this process alone cannot hold the lease of anybody else."""
    result = desk.run("holders", "flowmusic", "--store", "memory://")
    assert result.exit_code == 2
    assert "another process cannot be seen" in result.stderr


def test_a_store_that_cannot_be_used_has_an_exit_code(desk):
    """A Redis that is away is 5, and its password is not shown."""
    result = desk.run("holders", "flowmusic", "--store", "redis://me:hush@127.0.0.1:1/0")
    assert result.exit_code == 5
    assert "hush" not in result.output


def test_a_redis_store_is_named_without_its_password(desk):
    """The table says which store it is about; what lets people into it stays unsaid. P-60."""
    with RedisServer(password="hush") as server:
        result = desk.run("holders", "flowmusic", "--store", server.url)
    assert result.exit_code == 0, result.stderr
    assert f"redis://127.0.0.1:{server.port}/0" in result.stdout
    assert "hush" not in result.output


def test_tables_for_programs_are_not_cut(desk):
    """Where no terminal is, a long job id stays whole on its line."""
    job = "j" * 300
    with desk.pool() as pool:
        pool.acquire().bind(job)
        assert job in desk.run("holders", "flowmusic", COLUMNS="80").stdout
        assert json.loads(desk.run("holders", "flowmusic", "--json").stdout)[0]["job_id"] == job
