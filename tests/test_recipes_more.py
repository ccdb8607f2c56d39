"""More recipes of the documentation, run as they stand: workers, services, follow-ups, a shell script."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dramatiq
import pytest
import requests
from dramatiq.brokers.stub import StubBroker
from stepping import until

from balancer import AccountPool
from balancer.testing import FakeUseapi

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
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


def test_a_follow_up_runs_where_its_asset_is(fake, url):
    """Both jobs are on one account, whichever that was, and none is refused."""
    with AccountPool("flowmusic", token=fake.token, base_url=fake.url) as pool:
        make = recipe("follow_up").song_and_video
        account, song, video = make(pool, url, fake.token, "rain", fake.finish)
        assert not pool.release(job_id=song)
        assert pool.release(job_id=video)
    counts = fake.audit().accounts["flowmusic"]
    assert {id: count.accepted for id, count in counts.items() if count.accepted} == {account: 2}
    assert fake.audit().refused == 0


@pytest.fixture
def workers(fake, url, tmp_path):
    """Return the broker and the actor, with two workers on a SQLite store."""
    broker = StubBroker()
    broker.emit_after("process_boot")
    store = f"sqlite://{tmp_path}/slots.db"
    pool = AccountPool("flowmusic", token=fake.token, base_url=fake.url, store=store, reconcile_every=0.2)
    actor = recipe("worker").song_actor(pool, url, fake.token, broker)
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
        actor.send(f"song {number}")
    broker.join("default", timeout=30_000)
    assert fake.audit().accepted == 12
    assert (fake.audit().clean, fake.audit().refused) == (True, 0)
    until(lambda: (pool.reconcile(), pool.stats().in_flight == 0)[1])


def test_a_worker_does_not_send_a_job_twice_whose_answer_was_lost(fake, workers):
    """P-57: the message fails for good, and one job was paid for."""
    broker, actor, _ = workers
    fake.fault("POST */music", cut="after")
    actor.send("song")
    until(lambda: broker.dead_letters)
    assert fake.audit().accepted == 1


# A machine without curl is sent through this instead: the options that the script uses, over real HTTP.
CURL = """#!{python}
import sys, requests
arguments = sys.argv[1:]
headers = dict(arguments[n + 1].split(": ", 1) for n, one in enumerate(arguments) if one == "--header")
data = arguments[arguments.index("--data") + 1] if "--data" in arguments else None
answer = requests.request("POST" if data else "GET", arguments[-1], headers=headers, data=data, timeout=30)
sys.stdout.write(answer.text)
sys.exit(22 if answer.status_code >= 400 else 0)
"""


@pytest.fixture
def tools(tmp_path):
    """Return a PATH with this project's commands, and with curl whatever the machine has."""
    if shutil.which("curl") is None:
        (tmp_path / "curl").write_text(CURL.format(python=sys.executable), "utf-8")
        (tmp_path / "curl").chmod(0o755)
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(tmp_path)])


def test_scripts_side_by_side_share_one_count(fake, tmp_path, tools):
    """Six songs from two scripts at once, three slots, no call refused, and every slot back."""
    environment = {
        **os.environ,
        "USEAPI_TOKEN": fake.token,
        "USEAPI_BASE_URL": fake.url,
        "XDG_STATE_HOME": str(tmp_path),
        "POLL_EVERY": "0.05",
        "PATH": tools,
    }
    scripts = [
        subprocess.Popen(
            [str(RECIPES / "songs.sh")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(2)
    ]
    told = "".join(script.communicate("rain\nsnow\nhail\n", timeout=60)[0] for script in scripts)
    assert len(re.findall(r"^(rain|snow|hail): completed on \w@example.com$", told, re.MULTILINE)) == 6
    assert (fake.audit().accepted, fake.audit().refused, fake.audit().clean) == (6, 0, True)


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
