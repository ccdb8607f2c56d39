"""Makes ``docs/messages.md``: what users read when something is wrong, each text from the situation itself.

``make messages`` writes the file; a test says when it is out of date.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from command_line import Desk
from crew import in_line, result
from redis_server import RedisServer
from stepping import until
from typer.testing import CliRunner

from balancer import AccountPool, Client, HttpSource, SourceUnavailable
from balancer.cli.app import app
from balancer.engine import pool_core
from balancer.stores.sqlite.file_system import _warned, warn_of_network
from balancer.testing import FakeUseapi, ManualClock

FILE = Path(__file__).parents[2] / "docs" / "messages.md"
HEAD = """\
# Messages

What is read when something is wrong, or may soon be. Each text was made by bringing the situation about;
`make messages` makes this page anew. Facts are attributes of the errors and keys of the events, so no program
has to read a text. Names of accounts, ids of leases and paths are examples.
"""
A, B = "ann@example.com", "ben@example.com"
SITUATIONS: dict[str, dict[str, Callable[[World], Any]]] = {}


class World:
    """A stand-in server, a clock that is moved by hand, and all that a situation opens."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.clock = stack, ManualClock()
        self.fake = stack.enter_context(FakeUseapi({"flowmusic": {A: 2, B: 1}, "kling": {A: 1}}))
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self._session = stack.enter_context(requests.Session())
        self._session.trust_env = False

    def pool(self, service: str | None = None, **options: Any) -> AccountPool:
        """Return a pool: over accounts given by hand, or over the stand-in if a service is named."""
        if service is None:
            options = {"service": "flowmusic", "source": {A: 2, B: 1}, **options}
        else:
            # One try a fetch: the texts do not depend on how patient retries are.
            source = HttpSource(service, token=self.fake.token, base_url=self.fake.url, session=self._session)
            options = {"source": source, **options}
        return self.stack.enter_context(AccountPool(clock=self.clock, **options))

    def client(self, service: str = "flowmusic", **options: Any) -> Client:
        """Return a client of the stand-in."""
        options = {"poll": 0.05, "reconcile_every": None, **options}
        client = Client(service, token=self.fake.token, base_url=self.fake.url, **options)
        return self.stack.enter_context(client)

    def desk(self) -> Desk:
        """Return a shell."""
        desk = Desk(self.folder, {A: 2, B: 1})
        self.stack.callback(desk.close)
        return desk

    def shell(self, *arguments: str, desk: Desk | None = None, **settings: str) -> str:
        """Return what a command says on stderr."""
        env = {**(desk or self.desk()).settings, **settings}
        return CliRunner().invoke(app, arguments, env=env, prog_name="balancer").stderr.strip()


def _taught(world: World, pool: AccountPool) -> None:
    """Have the first account refuse a job beside another one, which runs on."""
    runs = pool.acquire(account=A)
    world.stack.callback(runs.release)
    with pool.acquire(account=A) as lease:
        lease.report((429, {}, ""))


def when(section: str, situation: str) -> Callable[[Callable[[World], Any]], Callable[[World], Any]]:
    """Register what brings a situation about: it returns the text, or raises the error."""

    def register(bring_about: Callable[[World], Any]) -> Callable[[World], Any]:
        SITUATIONS.setdefault(section, {})[situation] = bring_about
        return bring_about

    return register


GIVEN = "Wrong arguments"
WAITING = "Waiting for a slot"
FETCHING = "Reading the accounts"
RUNNING = "A job"
EVENTS = "Events, as a program without structlog logs them"
SHELL = "The command line"


@when(GIVEN, "The service is misspelt.")
def _(world: World) -> None:
    AccountPool("flowmusik", token="user:1-x")


@when(GIVEN, "There is no token.")
def _(world: World) -> None:
    AccountPool("flowmusic", token="")


@when(GIVEN, "The token was pasted with something that no header can carry.")
def _(world: World) -> None:
    AccountPool("flowmusic", token="user:1-…")


@when(GIVEN, "The base URL has a password in it.")
def _(world: World) -> None:
    AccountPool("flowmusic", token="user:1-x", base_url="https://me:secret@api.useapi.net")


@when(GIVEN, "The store is none.")
def _(world: World) -> None:
    AccountPool("flowmusic", source={A: 1}, store="postgres://db")


@when(GIVEN, "The strategy is none.")
def _(world: World) -> None:
    AccountPool("flowmusic", source={A: 1}, strategy="round_robin")


@when(GIVEN, "`exclude` is one account's name instead of a collection.")
def _(world: World) -> None:
    world.pool().acquire(exclude=A)


@when(GIVEN, "`timeout` is no number.")
def _(world: World) -> None:
    world.pool().acquire(timeout="10")


@when(GIVEN, "An asset is none of the service's.")
def _(world: World) -> None:
    AccountPool("minimax", source={"111": 1}).acquire(asset="file-9")


@when(GIVEN, "A pause is asked for an account that is not there.")
def _(world: World) -> None:
    pool = world.pool()
    pool.refresh()
    pool.cool("zoe@example.com", 60, "by hand")


@when(GIVEN, "`HttpSource` is sent to another process.")
def _(world: World) -> None:
    pickle.dumps(HttpSource("flowmusic", token="user:1-x"))


@when(WAITING, "Every slot is taken: one by code, two by jobs.")
def _(world: World) -> None:
    pool = world.pool()
    pool.acquire(account=A).bind("job-1")
    world.clock.advance(60)
    pool.acquire(account=A).bind("job-2")
    lease = pool.acquire()
    world.stack.callback(lease.release)
    pool.acquire(timeout=0)


@when(WAITING, "One account pauses after a 429, the other is full.")
def _(world: World) -> None:
    pool = world.pool()
    with pool.acquire(account=A) as lease:
        lease.report((429, {"Retry-After": "90"}, ""))
    lease = pool.acquire(account=B)
    world.stack.callback(lease.release)
    pool.acquire(timeout=0)


@when(WAITING, "An account that says two was seen to bear one, and runs it.")
def _(world: World) -> None:
    pool = world.pool(source={A: 2})
    _taught(world, pool)
    pool.acquire(timeout=0)


@when(WAITING, "No account can be used, and waiting does not help.")
def _(world: World) -> None:
    pool = world.pool(source={A: {"maxJobs": 2, "error": "login failed"}, B: 1})
    with pool.acquire(account=B) as lease:
        lease.report((412, {}, ""))
    pool.acquire(timeout=60)


@when(WAITING, "The account that is asked for is not configured.")
def _(world: World) -> None:
    world.pool().acquire(account="zoe@example.com", timeout=0)


@when(WAITING, "No account is configured at all.")
def _(world: World) -> None:
    for account in (A, B):
        world.fake.remove_account("flowmusic", account)
    world.pool("flowmusic").acquire(timeout=0)


@when(WAITING, "More callers wait than `max_waiting` allows.")
def _(world: World) -> None:
    pool = world.pool(max_waiting=0)
    leases = [pool.acquire() for _ in range(3)]
    world.stack.callback(lambda: [lease.release() for lease in leases])
    pool.acquire(timeout=10)


@when(WAITING, "The pool is closed.")
def _(world: World) -> None:
    pool = world.pool()
    pool.close()
    pool.acquire()


@when(WAITING, "The accounts are not there in time, and the server is silent.")
def _(world: World) -> None:
    world.fake.fault("*/accounts", hang=True)
    AccountPool("flowmusic", token=world.fake.token, base_url=world.fake.url).acquire(timeout=0.1)


@when(WAITING, "The accounts are not there in time, and every try so far was answered 503.")
def _(world: World) -> None:
    world.fake.fault("*/accounts", status=503, times=None)
    AccountPool("flowmusic", token=world.fake.token, base_url=world.fake.url).acquire(timeout=2)


@when(WAITING, "The accounts are there, the list of running jobs is not.")
def _(world: World) -> None:
    world.fake.fault("*/scheduler", hang=True)
    AccountPool("kling", token=world.fake.token, base_url=world.fake.url).acquire(timeout=2)


@when(WAITING, "The file of the store cannot be used.")
def _(world: World) -> None:
    (world.folder / "slots.db").mkdir()
    pool = AccountPool("flowmusic", source={A: 1}, store=f"sqlite://{world.folder}/slots.db")
    world.stack.enter_context(pool).acquire(timeout=0)


def _fetched(**fault: Any) -> Callable[[World], None]:
    def fetch(world: World) -> None:
        world.fake.fault("*/accounts", times=None, **fault)
        world.pool("flowmusic").refresh()

    return fetch


when(FETCHING, "The token is wrong.")(_fetched(status=401))
when(FETCHING, "The subscription has ended.")(_fetched(status=402))
when(FETCHING, "The server answers 503.")(_fetched(status=503))
when(FETCHING, "A wrong `base_url`: some other site answers.")(
    _fetched(status=200, body="<html>hello</html>")
)
when(FETCHING, "The answer is cut off.")(_fetched(status=200, body=b'{"ann@example.com": {"maxJ'))
when(FETCHING, "The connection is lost.")(_fetched(cut="before"))


@when(FETCHING, "Nobody listens there.")
def _(world: World) -> None:
    world.fake.close()
    world.pool("flowmusic").refresh()


@when(FETCHING, "The host has no address.")
def _(world: World) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    world.stack.enter_context(_replaced(socket, "getaddrinfo", unknown))
    with requests.Session() as session:
        HttpSource("flowmusic", token="user:1-x", session=session).accounts()


@when(FETCHING, "The bundle of certificates is not there.")
def _(world: World) -> None:
    world.stack.enter_context(_environment(REQUESTS_CA_BUNDLE="/etc/ssl/no-such-bundle.pem"))
    HttpSource("flowmusic", token="user:1-x").accounts()


@when(FETCHING, "A source of one's own fails.")
def _(world: World) -> None:
    class Database:
        def accounts(self) -> Any:
            raise KeyError("max_jobs")

    AccountPool("flowmusic", source=Database()).refresh()


def _run(*answers: Any) -> Callable[[World], None]:
    def run(world: World) -> None:
        left = iter(answers)

        def call(lease: Any) -> Any:
            answer = next(left)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        # Draws that fall on one account after the other.
        world.pool(random=iter([0.0, 0.99, 0.0, 0.99]).__next__).run(call, timeout=0)

    return run


BAD_PROMPT = '{"error": "prompt was rejected by moderation"}'
when(RUNNING, "`run`: the server refuses the job.")(_run((400, {}, BAD_PROMPT)))
when(RUNNING, "`run`: no answer comes, and the job may run.")(_run(requests.ReadTimeout("timed out")))
when(RUNNING, "`run`: the server fails, and the job may run.")(_run((502, {}, "")))
when(RUNNING, "`run`: the token is refused.")(_run((401, {}, "")))
when(RUNNING, "`run`: every account turns it away.")(_run((412, {}, ""), (596, {}, "")))


@when(RUNNING, "A lease is tied to a second job.")
def _(world: World) -> None:
    with world.pool().acquire() as lease:
        lease.bind("job-1")
        lease.bind("job-2")


@when(RUNNING, "A lease is used that has ended.")
def _(world: World) -> None:
    lease = world.pool().acquire()
    lease.release()
    with lease:
        pass


def _event(world: World, bring_about: Callable[[], Any], name: str) -> str:
    """Return the line that is logged for an event."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    logger, handler = logging.getLogger("balancer"), Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        bring_about()
        until(lambda: any(f" {name} " in line for line in lines))
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
    return next(line for line in lines if f" {name} " in line)


@when(RUNNING, "A client is told to create what the service does not know.")
def _(world: World) -> None:
    world.client().submit("musik", {"prompt": "rain"})


@when(RUNNING, "The assets of a create live on two accounts.")
def _(world: World) -> None:
    assets = {"clip": f"user:1-{A}-clip:1", "refImage1": f"user:1-{B}-file:1"}
    world.client().submit("music", assets)


@when(RUNNING, "A job that was accepted has failed.")
def _(world: World) -> None:
    job = world.client().submit("music", {"prompt": "rain"}, account=A)
    world.fake.finish(str(job.id), "failed")
    job.result(timeout=30)


@when(RUNNING, "A job that was accepted is gone.")
def _(world: World) -> None:
    job = world.client().submit("music", {"prompt": "rain"}, account=A)
    world.fake.fault("GET */jobs/*", status=404, times=None)
    world.fake.lie("GET */jobs", times=None)
    job.result(timeout=30)


@when(RUNNING, "A job has not ended in the time that its caller gave it.")
def _(world: World) -> None:
    world.client(poll=600).submit("music", {"prompt": "rain"}, account=A).result(timeout=0.01)


@when(RUNNING, "The client is closed.")
def _(world: World) -> None:
    client = world.client()
    client.close()
    client.submit("music", {"prompt": "rain"})


@when(RUNNING, "A client is made for accounts of which no row says how jobs are followed.")
def _(world: World) -> None:
    Client(source={A: 1}, token="user:1-x")


@when(RUNNING, "An answer was not a final one, and the row has no final words.")
def _(world: World) -> None:
    AccountPool(source={A: 1}).settle({"status": "completed"})


@when(EVENTS, "A job is attached, and nothing tells on which account it runs.")
def _(world: World) -> str:
    world.fake.set_account("kling", B, 1)
    job, client = world.fake.start_stranger("kling", B), world.client("kling")
    return _event(world, lambda: client.attach(job), "job_without_slot")


@when(EVENTS, "What a poll said could not be put into effect: here the store fails in an unknown way.")
def _(world: World) -> str:
    client = world.client()
    job = client.submit("music", {"prompt": "rain"}, account=A)
    release, failed = client._poller._release, []

    def fail(job_id: str) -> Any:
        if not failed:
            failed.append(job_id)
            raise RuntimeError
        return release(job_id)

    client._poller._release = fail
    world.fake.finish(str(job.id))
    return _event(world, lambda: job.result(timeout=30), "poll_failed")


@when(EVENTS, "The configuration says that an account cannot be used.")
def _(world: World) -> str:
    pool = world.pool(source={A: {"maxJobs": 2, "error": "login failed"}})
    return _event(world, pool.refresh, "account_broken")


@when(EVENTS, "It is well again.")
def _(world: World) -> str:
    source: dict[str, Any] = {A: {"maxJobs": 2, "error": "login failed"}}
    pool = world.pool(source=source)
    _event(world, pool.refresh, "account_broken")
    source[A] = 2
    return _event(world, pool.refresh, "account_recovered")


@when(EVENTS, "The accounts cannot be read; the old ones serve on.")
def _(world: World) -> str:
    pool = world.pool("flowmusic")
    pool.refresh()
    world.fake.fault("*/accounts", status=503, times=None)

    def refresh() -> None:
        with suppress(SourceUnavailable):
            pool.refresh()

    return _event(world, refresh, "configuration_failed")


@when(EVENTS, "They were read.")
def _(world: World) -> str:
    return _event(world, world.pool("flowmusic").refresh, "configuration_fetched")


@when(EVENTS, "The list of running jobs cannot be read.")
def _(world: World) -> str:
    pool = world.pool("kling")
    pool.refresh()
    world.fake.fault("*/scheduler", status=503, times=None)

    def reconcile() -> None:
        with suppress(SourceUnavailable):
            pool.reconcile()

    return _event(world, reconcile, "reconcile_failed")


@when(EVENTS, "An answer, or somebody by hand, has an account pause.")
def _(world: World) -> str:
    pool = world.pool()

    def report() -> None:
        with pool.acquire(account=A) as lease:
            lease.report((429, {"Retry-After": "90"}, ""))

    return _event(world, report, "account_cooling")


@when(EVENTS, "An account refuses a job beside another, and so has been seen to bear one.")
def _(world: World) -> str:
    pool = world.pool()
    return _event(world, lambda: _taught(world, pool), "limit_learned")


@when(EVENTS, "An account takes one job more than it was thought to bear.")
def _(world: World) -> str:
    pool = world.pool()
    _taught(world, pool)
    world.clock.advance(60)
    trial = pool.acquire(account=A)
    return _event(world, lambda: trial.report((201, {}, "")), "limit_raised")


@when(EVENTS, "A caller has been waiting for a minute.")
def _(world: World) -> str:
    pool = world.pool(source={A: 1})
    lease = pool.acquire()
    waiters = in_line(pool, 1, timeout=300, label="nightly")

    def wait() -> None:
        for _ in range(7):
            world.clock.advance(10)

    said = _event(world, wait, "waiting_long")
    lease.release()
    for waiter in waiters:
        result(waiter).release()
    return said


@when(EVENTS, "`run`: an accepted answer names no job under the key that it should be bound by.")
def _(world: World) -> str:
    pool = world.pool(random=lambda: 0.0)
    return _event(world, lambda: pool.run(lambda _: (200, {}, "{}"), bind="jobid"), "job_not_bound")


@when(EVENTS, "A job that a slot was bound to is gone from two of the server's lists in a row.")
def _(world: World) -> str:
    pool = world.pool("kling", reconcile_every=30)
    pool.acquire(account=A, label="nightly").bind("no-such-job")

    def reconcile() -> None:
        for _ in range(3):
            world.clock.advance(31)
            pool.reconcile()

    return _event(world, reconcile, "lease_reclaimed")


@when(EVENTS, "The file of a store is on a network file system.")
def _(world: World) -> str:
    _warned.clear()
    mounts = world.folder / "mountinfo"
    mounts.write_text("36 35 98:0 / / rw,noatime master:1 - nfs4 host:/export rw\n", "utf-8")
    return _event(world, lambda: warn_of_network("/srv/slots.db", mounts), "sqlite_network_filesystem")


@when(EVENTS, "The Redis may throw leases away.")
def _(world: World) -> str:
    server = world.stack.enter_context(RedisServer("--maxmemory-policy", "allkeys-lru"))
    pool = world.stack.enter_context(AccountPool("flowmusic", source={A: 1}, store=server.url))
    return _event(world, pool.stats, "redis_may_evict")


@when(EVENTS, "Two pools of one service on one Redis are made with different strategies.")
def _(world: World) -> str:
    server = world.stack.enter_context(RedisServer())
    made = [
        world.stack.enter_context(
            AccountPool("flowmusic", source={A: 1}, store=server.url, strategy=strategy)
        )
        for strategy in ("random", "least_loaded")
    ]
    made[0].acquire(timeout=5).release()
    return _event(world, lambda: made[1].acquire(timeout=5).release(), "settings_differ")


@when(EVENTS, "The name of a pool with a source of its own is nearly that of a service.")
def _(world: World) -> str:
    def make() -> None:
        world.stack.enter_context(AccountPool("flowmusik", source={A: 1}))

    return _event(world, make, "service_unknown")


@when(EVENTS, "A lease object is dropped without being released.")
def _(world: World) -> str:
    pool = world.pool()

    def lose() -> None:
        pool.acquire(account=A, label="nightly")
        pool.stats()

    return _event(world, lose, "lease_abandoned")


@when(EVENTS, "An accepted job's lease ends, and was not tied to the job.")
def _(world: World) -> str:
    pool = world.pool()

    def forget() -> None:
        with pool.acquire(account=A) as lease:
            lease.report((200, {}, '{"jobid": "job-1"}'))

    return _event(world, forget, "slot_ended_before_job")


@when(EVENTS, "An accepted answer was reported before its body was read, and the lease ended unbound.")
def _(world: World) -> str:
    pool = world.pool()

    class Unread:
        """An answer of a client that reads the body later."""

        status, headers, _body = 201, dict[str, str](), None

    def forget() -> None:
        with pool.acquire(account=A) as lease:
            lease.report(Unread())

    return _event(world, forget, "answer_not_read")


@when(EVENTS, "A job's time is over, and nobody released its slot.")
def _(world: World) -> str:
    pool = world.pool()
    pool.acquire(account=A, label="nightly").bind("job-1", ttl=60)
    return _event(world, lambda: world.clock.advance(61), "lease_expired")


@when(EVENTS, "Two pools of one process count the same accounts.")
def _(world: World) -> str:
    options = {"token": "user:1-x", "base_url": world.fake.url}
    world.stack.enter_context(AccountPool("flowmusic", **options))
    second: Callable[[], Any] = lambda: world.stack.enter_context(AccountPool("flowmusic", **options))  # noqa: E731
    return _event(world, second, "duplicate_memory_pool")


@when(EVENTS, "The service takes no jobs any more.")
def _(world: World) -> str:
    pool_core._announced.clear()
    return _event(world, lambda: AccountPool("pika", source={A: 1}), "service_retired")


@when(SHELL, "`balancer accounts flowmusic` without a token.")
def _(world: World) -> str:
    return world.shell("accounts", "flowmusic", USEAPI_TOKEN="")


@when(SHELL, "`balancer accounts flowmusik`.")
def _(world: World) -> str:
    return world.shell("accounts", "flowmusik")


@when(SHELL, "`balancer accounts flowmusic` while the server is away.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.close()
    return world.shell("accounts", "flowmusic", desk=desk)


@when(SHELL, "`balancer holders flowmusic`, and nobody holds a slot.")
def _(world: World) -> str:
    return world.shell("holders", "flowmusic")


@when(SHELL, "`balancer holders flowmusic --store memory://`.")
def _(world: World) -> str:
    return world.shell("holders", "flowmusic", "--store", "memory://")


@when(SHELL, "`balancer release --job job-1`, and there is none.")
def _(world: World) -> str:
    return world.shell("release", "--job", "job-1", "--yes")


@when(SHELL, "`balancer cool zoe@example.com 60`, who is not configured.")
def _(world: World) -> str:
    return world.shell("cool", "zoe@example.com", "60")


@when(SHELL, "`balancer exec --timeout 0 -- true`, and every slot is taken.")
def _(world: World) -> str:
    desk = world.desk()
    with desk.pool() as pool:
        leases = [pool.acquire(timeout=10, label="make") for _ in range(3)]
        said = world.shell("exec", "--timeout", "0", "--", "true", desk=desk)
        for lease in leases:
            lease.release()
    return said


def _batch(world: World, desk: Desk, text: str, *options: str) -> str:
    (world.folder / "prompts.jsonl").write_text(text, "utf-8")
    files = [str(world.folder / "prompts.jsonl"), "-o", str(world.folder / "results.jsonl")]
    return world.shell("batch", "flowmusic", "music", *files, *options, desk=desk, BALANCER_POLL="0.1,0.2")


GOOD = '{"prompt": "rain"}\n'


@when(SHELL, "`balancer batch flowmusic music prompts.jsonl -o results.jsonl`, and a line is no JSON.")
def _(world: World) -> str:
    return _batch(world, world.desk(), GOOD + '{"prompt": \n')


@when(SHELL, "The same, and a line is refused.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.fault("POST */music", status=400, account=A)
    desk.fake.fault("POST */music", status=400, account=B)
    return _batch(world, desk, GOOD).replace(B, A)


@when(SHELL, "The same, and the answer to a line's call is lost.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.fault("POST */music", cut="after")
    return _batch(world, desk, GOOD).replace(B, A)


@when(SHELL, "The same once more, without `--resume`.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.fault("POST */music", status=400, times=None)
    _batch(world, desk, GOOD)
    return _batch(world, desk, GOOD)


@when(SHELL, "The same with `--resume`, and the input has changed.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.fault("POST */music", status=400, times=None)
    _batch(world, desk, GOOD)
    return _batch(world, desk, GOOD + GOOD, "--resume")


@when(SHELL, "The same, and the token is not accepted.")
def _(world: World) -> str:
    desk = world.desk()
    desk.fake.fault("POST */music", status=401, times=None)
    return _batch(world, desk, GOOD)


@when(SHELL, "`balancer submit flowmusic musik prompt=rain`.")
def _(world: World) -> str:
    return world.shell("submit", "flowmusic", "musik", "prompt=rain")


@when(SHELL, "`balancer wait JOB --service flowmusic --timeout 0.1`, and the job runs on.")
def _(world: World) -> str:
    desk = world.desk()
    job = desk.fake.start_stranger("flowmusic", A)
    return world.shell("wait", job, "--service", "flowmusic", "--timeout", "0.1", desk=desk)


@when(SHELL, "`balancer exec -- no-such-command`.")
def _(world: World) -> str:
    return world.shell("exec", "--", "no-such-command")


@when(SHELL, "`balancer sandbox --account flowmusic`.")
def _(world: World) -> str:
    return world.shell("sandbox", "--account", "flowmusic")


@contextmanager
def _replaced(where: Any, name: str, by: Any) -> Iterator[None]:
    old = getattr(where, name)
    setattr(where, name, by)
    try:
        yield
    finally:
        setattr(where, name, old)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def said(bring_about: Callable[[World], Any]) -> str:
    """Return what a user reads, with examples in place of what differs each time."""
    with ExitStack() as stack:
        world = World(stack)
        try:
            text = bring_about(world)
        except Exception as error:  # noqa: BLE001  # what is raised is what is to be shown
            text = f"{type(error).__name__}: {error}"
        text = str(text).replace(str(world.folder), "/var/lib/app")
    text = re.sub(r"http://127\.0\.0\.1:\d+", "https://api.useapi.net", text)
    text = re.sub(r"\b[0-9a-f]{12}-(\d+)", r"3f2a9c1b7d04-\1", text)
    text = re.sub(r"\bjob:[0-9a-f-]{36}", "job:00000000-0000-4000-8000-000000000001", text)
    return _unboxed(text)


def _unboxed(text: str) -> str:
    """Return what a command says without the frame that a terminal gets."""
    lines = [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]
    return "\n".join(line for line in lines if line)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for section, situations in SITUATIONS.items():
        parts.append(f"## {section}\n")
        for situation, bring_about in situations.items():
            parts.append(f"{situation}\n\n```text\n{said(bring_about)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    for name in ("USEAPI_TOKEN", "USEAPI_BASE_URL", "BALANCER_STORE"):
        os.environ.pop(name, None)
    logging.getLogger("balancer").addHandler(logging.NullHandler())  # what is shown is caught elsewhere
    FILE.write_text(page(), "utf-8")
    sys.stdout.write(f"{sum(map(len, SITUATIONS.values()))} messages in {FILE}\n")
