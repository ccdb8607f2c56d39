"""The recipes of the documentation, run as they stand against a real server."""

import asyncio
import importlib.util
import pathlib
import sys
import threading

import pytest
import requests
from stepping import until
from werkzeug.serving import make_server

from balancer import AccountPool, AsyncAccountPool, AsyncClient, Client
from balancer.testing import FakeUseapi
from balancer.testing.callbacks import Reply

RECIPES = pathlib.Path(__file__).parents[2] / "docs" / "recipes"
ACCOUNTS = {"flowmusic": {"a": 3, "b": 2, "c": 1}}
SLOTS, JOBS = 6, 30


def recipe(name):
    """Return a recipe as a module."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Site:
    """The web application, served for real, on a pool over a stand-in whose jobs end by hand."""

    def __init__(self, **options):
        self.fake = FakeUseapi(ACCOUNTS, job_seconds=lambda: float("inf"), **options).start()
        token = self.fake.token
        self.pool = AccountPool("flowmusic", token=token, base_url=self.fake.url, reconcile_every=None)
        self.server = make_server("127.0.0.1", 0, None, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        app = self.server.app = recipe("web_app").create_app(
            self.pool,
            create_url=f"{self.fake.url}/v1/flowmusic/music",
            reply_url=f"{self.url}/callback",
            token=token,
        )
        self.calls = []
        app.after_request(self.note)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def note(self, response):
        """Keep what was answered, and to which path."""
        self.calls.append((recipe_path(), response.status_code))
        return response

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.fake.close()
        self.pool.close()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def submit(self):
        answer = requests.post(f"{self.url}/songs", json={"prompt": "rain"}, timeout=20)
        assert answer.status_code == 202, answer.text
        return answer.json()["job"]

    def callbacks(self):
        return self.calls.count(("/callback", 204))


def recipe_path():
    """Return the path of the request that is being answered."""
    from flask import request  # only where a request is

    return request.path


def test_the_web_application_frees_a_slot_at_the_final_status_and_not_before():
    """P-58: progress moves nothing; the callback of the end frees the slot of its job."""
    with Site(replies=Reply(progress=1, final=2)) as site:
        first, second = site.submit(), site.submit()
        until(lambda: site.callbacks() == 2)
        assert {holder.job_id for holder in site.pool.holders()} == {first, second}
        site.fake.finish(first, "failed")
        until(lambda: site.callbacks() == 4)  # told twice, freed once
        assert {holder.job_id for holder in site.pool.holders()} == {second}
        site.fake.finish(second)
        until(lambda: not site.pool.holders())
        assert site.pool.stats().free == SLOTS


def test_the_web_application_takes_a_callback_that_comes_before_the_answer():
    """P-58: the whole life of the job is reported before its create returns."""
    with Site(replies=Reply(progress=1, final=1, early=True)) as site:
        site.submit()
        assert site.callbacks() == 2
        assert site.pool.holders() == ()
        assert site.pool.stats().free == SLOTS


def test_the_web_application_keeps_the_slot_of_a_job_whose_callback_is_lost():
    """P-58: nothing is freed on a guess while the job runs."""
    with Site(replies=Reply(progress=0, final=0)) as site:
        jobs = [site.submit() for _ in range(SLOTS)]
        assert site.pool.stats().free == 0
        assert {holder.job_id for holder in site.pool.holders()} == set(jobs)
        assert site.fake.audit().refused == 0


@pytest.fixture
def fake():
    """A stand-in whose jobs are short."""
    with FakeUseapi(ACCOUNTS, job_seconds=(0.02, 0.06)) as running:
        yield running


def assert_all_ran(fake, jobs, pool):
    """Every job ran once, none was refused, no account was ever over its maximum, no slot is left."""
    assert len({job["jobid"] for job in jobs}) == JOBS
    assert {job["status"] for job in jobs} == {"completed"}
    audit = fake.audit()
    assert (audit.accepted, audit.refused, audit.refused_other, audit.over) == (JOBS, 0, 0, ())
    assert pool.stats().in_flight == 0


def test_the_thread_pool_runs_more_threads_than_there_are_slots(fake):
    """P-22: sixteen threads share six slots, and the server never refuses one of their jobs."""
    with Client("flowmusic", token=fake.token, base_url=fake.url, poll=(0.01, 0.05)) as client:
        jobs = recipe("thread_pool").songs(client, [f"song {n}" for n in range(JOBS)], threads=16)
        assert_all_ran(fake, jobs, client.pool)


def test_the_dispatcher_starts_every_task_at_once(fake):
    """P-12: thirty tasks wait in the pool's own line, and each gets its turn."""

    async def dispatch(pool):
        async with AsyncClient(pool=pool, poll=(0.01, 0.05)) as client:
            return await recipe("dispatcher").songs(client, (f"song {n}" for n in range(JOBS)))

    with AccountPool("flowmusic", token=fake.token, base_url=fake.url) as pool:
        assert_all_ran(fake, asyncio.run(dispatch(AsyncAccountPool(pool=pool))), pool)
