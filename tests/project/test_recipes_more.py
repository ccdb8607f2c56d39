"""More recipes of the documentation, run as they stand: workers, services, follow-ups, a shell script."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import dramatiq
import pytest
import requests
from dramatiq.brokers.stub import StubBroker
from stepping import until

from balancer import AccountPool, Client
from balancer.testing import FakeUseapi

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
ACCOUNTS = {"a@example.com": 2, "b@example.com": 1}


def recipe(name):
    """Return a recipe as a module."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fake():
    """Stand in for two services; jobs take a moment."""
    with FakeUseapi({"flowmusic": ACCOUNTS, "mureka": {"1": 1, "2": 1}}, job_seconds=(0.1, 0.2)) as fake:
        yield fake


@pytest.fixture
def url(fake):
    """Return where songs are created."""
    return f"{fake.url}/v1/flowmusic/music"


def test_several_services_count_apart(fake):
    """One pool for each, the same one each time."""
    pools = recipe("several_services").Pools(token=fake.token, base_url=fake.url)
    assert pools["flowmusic"] is pools["flowmusic"]
    with pools["flowmusic"].acquire(timeout=5), pools["mureka"].acquire(timeout=5):
        assert pools.free() == {"flowmusic": 2, "mureka": 19}
    pools.close()


def test_a_follow_up_runs_where_its_asset_is(fake):
    """Both jobs are on one account, whichever that was, and none is refused."""
    with Client("flowmusic", token=fake.token, base_url=fake.url, poll=0.1) as client:
        song, edit = recipe("follow_up").song_and_edit(client, "rain", "slower")
        assert client.pool.stats().in_flight == 0
    counts = fake.audit().accounts["flowmusic"]
    assert {id: count.accepted for id, count in counts.items() if count.accepted} == {song.account: 2}
    assert (edit.account, fake.audit().refused) == (song.account, 0)


@pytest.fixture
def workers(fake, url, tmp_path):
    """Return the broker and the actor, with two workers on a SQLite store."""
    broker = StubBroker()
    broker.emit_after("process_boot")
    store = f"sqlite://{tmp_path}/slots.db"
    pool = AccountPool("flowmusic", token=fake.token, base_url=fake.url, store=store, reconcile_every=0.2)
    module = recipe("worker")
    actor = module.song_actor(pool, module.Sent(f"{tmp_path}/sent.db"), url, fake.token, broker)
    running = dramatiq.Worker(broker, worker_timeout=50, worker_threads=4)
    running.start()
    yield broker, actor, pool
    running.stop()
    broker.close()
    pool.close()


def test_workers_share_one_count(fake, workers):
    """Twelve messages, three slots: none is refused, and reconciliation ends the slots of finished jobs."""
    broker, actor, pool = workers
    for number in range(12):
        actor.send(f"order-{number}", f"song {number}")
    broker.join("default", timeout=30_000)
    assert fake.audit().accepted == 12
    assert (fake.audit().clean, fake.audit().refused) == (True, 0)
    until(lambda: (pool.reconcile(), pool.stats().in_flight == 0)[1])


def test_a_worker_does_not_send_a_job_twice_whose_answer_was_lost(fake, workers):
    """P-57: the message fails for good, and one job was paid for."""
    broker, actor, _ = workers
    fake.fault("POST */music", cut="after")
    actor.send("order-1", "song")
    until(lambda: broker.dead_letters)
    assert fake.audit().accepted == 1


KILLED = """
import importlib.util, sys
from dramatiq.brokers.stub import StubBroker
from balancer import AccountPool
url, base, token, store, sent, file = sys.argv[1:]
spec = importlib.util.spec_from_file_location("worker", file)
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
pool = AccountPool("flowmusic", token=token, base_url=base, store=store)
worker.song_actor(pool, worker.Sent(sent), url, token, StubBroker()).fn("order-1", "song")
"""


def test_a_message_that_comes_again_after_its_worker_was_killed_is_not_paid_again(
    fake, workers, url, tmp_path
):
    """P-57: brokers deliver it again, and the job may run; another order is sent as ever."""
    broker, actor, _ = workers
    fake.fault("POST */music", delay=30)
    arguments = [url, fake.url, fake.token, f"sqlite://{tmp_path}/slots.db", f"{tmp_path}/sent.db"]
    command = [sys.executable, "-c", KILLED, *arguments, str(RECIPES / "worker.py")]
    with subprocess.Popen(command) as process:
        until(lambda: fake.audit().accepted == 1, patience=30)
        process.kill()
    actor.send("order-1", "song")
    until(lambda: broker.dead_letters)
    assert fake.audit().accepted == 1
    actor.send("order-2", "song")
    until(lambda: fake.audit().accepted == 2)


def test_a_message_that_was_surely_not_accepted_is_tried_again(fake, workers):
    """A refusal for want of room proves that nothing was paid: the order is taken back, and sent later."""
    broker, actor, _ = workers
    fake.fault("POST */music", times=3, status=429, headers={"Retry-After": "1"})
    actor.send("order-1", "song")
    until(lambda: fake.audit().accepted == 1, patience=30)
    assert not broker.dead_letters


@pytest.fixture
def script(fake, tmp_path):
    """Return what starts the script of the documentation."""

    def start(**settings):
        environment = {
            **os.environ,
            "USEAPI_TOKEN": fake.token,
            "USEAPI_BASE_URL": fake.url,
            "XDG_STATE_HOME": str(tmp_path),
            "BALANCER_POLL": "0.05,0.2",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            **settings,
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(RECIPES / "songs.sh")], env=environment, text=True, **pipes)

    return start


def test_scripts_side_by_side_share_one_count(fake, script):
    """Six songs from two scripts at once, three slots, no call refused, and every slot back."""
    scripts = [script() for _ in range(2)]
    told = "".join(one.communicate("rain\nsnow\nhail\n", timeout=60)[0] for one in scripts)
    assert len(re.findall(r"^(rain|snow|hail): completed as job:\S+$", told, re.MULTILINE)) == 6
    assert (fake.audit().accepted, fake.audit().refused, fake.audit().clean) == (6, 0, True)


ODD = ['say "rain" \\n and \\"', "it's $HOME `date` & more", "  two  spaces, ünï → 雨 "]


def test_a_script_sends_every_prompt_as_it_was_written(fake, script):
    """P-57: one with a quotation mark made the request no JSON, and its slot was held for ever."""
    told, problems = script().communicate("\n".join([*ODD, "", "last"]), timeout=60)
    done = {line.rpartition(": completed as ")[0] for line in told.splitlines()}
    assert done == {*ODD, "last"}, problems
    assert fake.audit().accepted == len(ODD) + 1


@pytest.mark.parametrize(
    ("fault", "said", "paid"),
    [
        (
            {"status": 400, "body": {"error": "bad prompt"}},
            r"refused on \w@example.com .* bad prompt",
            0,
        ),
        ({"status": 429, "headers": {"Retry-After": "30"}}, r"no slot of flowmusic within", 0),
        ({"status": 503, "body": "<html>"}, r"the job may run on \w@example.com", 0),
        ({"cut": "after"}, r"the job may run on \w@example.com", 1),
        ({"status": 200, "body": "{}"}, r"the job may run on \w@example.com", 0),
    ],
    ids=["400", "429", "503", "cut", "no job"],
)
def test_a_script_ends_whatever_is_answered_and_sends_nothing_twice(fake, script, fault, said, paid):
    """P-57: no endless loop with a slot, and no second job for one prompt."""
    fake.fault("POST */music", times=None, **fault)
    _, problems = script(GIVE_UP="5").communicate("rain\n", timeout=60)
    assert re.search(said, problems), problems
    assert fake.audit().accepted == paid


def test_a_script_gives_up_a_job_that_does_not_end(fake, script):
    """Its slot is not held for ever; questions that fail end no job."""
    fake.fault("GET */jobs/*", status=500, times=None)
    _, problems = script(GIVE_UP="3").communicate("rain\n", timeout=60)
    assert re.search(r"rain: job \S+ has failed, or not ended", problems), problems


def test_the_recipe_for_tests_works(fake, url):
    """The ten lines of the documentation, with a dispatcher."""
    [block] = re.findall(r"```python\n(.*?)```", (RECIPES / "README.md").read_text("utf-8"), re.DOTALL)

    def dispatch(pool, base, token, prompts):
        for prompt in prompts:
            with pool.acquire(timeout=5) as lease:
                answer = requests.post(
                    f"{base}/v1/flowmusic/music",
                    headers={"Authorization": f"Bearer {token}"},
                    json={**lease.params, "prompt": prompt},
                    timeout=5,
                )
                lease.bind(answer.json()["jobid"])

    space = {"dispatch": dispatch}
    exec(compile(block, "recipe", "exec"), space)
    space["test_my_dispatcher_never_overfills_an_account"]()
