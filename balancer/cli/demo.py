"""``balancer demo``: what lost answers and a killed process cost, the usual way and with the pool."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from rich.console import Group
from rich.progress import BarColumn, Progress
from rich.text import Text

from balancer import AccountPool, AmbiguousOutcome, HttpSource, Lease
from balancer.cli.options import AsJson
from balancer.cli.output import console, print_json, steps, table, tell
from balancer.cli.output import svg as picture
from balancer.testing import FakeUseapi, ManualClock

SERVICE = "runwayml"
ACCOUNTS = {"ann@example.com": 1, "ben@example.com": 2, "cleo@example.com": 3, "dora@example.com": 6}
SLOTS = sum(ACCOUNTS.values())
LOST = {"ben@example.com": 1, "cleo@example.com": 2, "dora@example.com": 3}
"""How many of an account's first jobs have their answer lost."""
JOB_SECONDS = (60.0, 180.0)
POLL_SECONDS = (5.0, 15.0)
RETRY_SECONDS = (10.0, 30.0)
"""How long the vendor's pages say to wait after a 429."""
CREDITS = 10
"""What a video costs here; the real ones cost more, or less."""
_FRAME = 0.05


@dataclass(frozen=True)
class Plan:
    """What is ordered, the same each way."""

    jobs: int
    threads: int
    speed: float
    seed: int

    @property
    def seconds(self) -> float:
        """About how long both ways take together."""
        return 2.6 * self.jobs * sum(JOB_SECONDS) / 2 / SLOTS / self.speed + 8

    def lengths(self) -> Iterator[float]:
        """Yield how long the server takes for each job, in the order in which they are accepted."""
        rng = random.Random(self.seed)
        while True:
            yield rng.uniform(*JOB_SECONDS)


@dataclass(frozen=True)
class Outcome:
    """What one way has come to, as the server counts it."""

    done: int
    paid: int
    """Jobs that were accepted."""
    refused: int
    """Calls answered 429."""
    minutes: float
    """From the beginning, by the service's clock."""
    over: int
    """How often an account had more jobs than its maximum."""


def demo(
    *,
    jobs: Annotated[int, typer.Option(min=2 * SLOTS, help="Videos to make, each way.")] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Threads that make them.")] = 16,
    speed: Annotated[
        float, typer.Option(min=1, help="How many times faster time runs on the stand-in.")
    ] = 60,
    seed: Annotated[int | None, typer.Option(help="Draw the same lengths of jobs again.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the result to this file, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """See what the pool is for: jobs that cost money, answers that are lost, a process that is killed.

    Starts a stand-in for useapi.net on this machine; nothing leaves it, no token is needed.
    """
    plan = Plan(jobs, threads, speed, random.randrange(1_000_000) if seed is None else seed)
    tell(
        f"{jobs} videos are made twice, on {len(ACCOUNTS)} accounts with {SLOTS} slots of a stand-in server "
        f"whose time runs {speed:g} times as fast. {sum(LOST.values())} answers are lost on their way, and "
        f"the process that sends is killed half-way. It takes about {plan.seconds:.0f} seconds."
    )
    outcomes = {way: play(plan, way) for way in WAYS}
    if as_json:
        ways = {way: asdict(one) for way, one in outcomes.items()}
        print_json({**asdict(plan), "lost": sum(LOST.values()), "accounts": ACCOUNTS, "ways": ways})
    else:
        console().print(told(plan, *outcomes.values()))
    if svg is not None:
        svg.write_text(picture(told(plan, *outcomes.values()), title="balancer demo", width=72), "utf-8")


def told(plan: Plan, usual: Outcome, pool: Outcome) -> Group:
    """Return the one table, a column a way, and what it says."""
    rows = {
        "videos made": [way.done for way in (usual, pool)],
        "jobs paid": [way.paid for way in (usual, pool)],
        "paid for nothing": [way.paid - way.done for way in (usual, pool)],
        f"credits ({CREDITS} a job)": [way.paid * CREDITS for way in (usual, pool)],
        "calls refused": [way.refused for way in (usual, pool)],
        "minutes": [round(way.minutes) for way in (usual, pool)],
    }
    saved = {what: usual - pool for what, (usual, pool) in rows.items()}
    said = (
        f"The same {plan.jobs} videos, {sum(LOST.values())} lost answers and one killed process. Who guesses "
        f"an account and sends again what was not answered has paid for {usual.paid} jobs, and was refused "
        f"{usual.refused} times. With the pool it was {pool.paid} jobs and {pool.refused} refusals: it knows "
        "which account has room, sends nothing again that may run, and finds it on the server's list. "
        f"It saved {saved['jobs paid']} jobs, which are {saved['jobs paid'] * CREDITS} credits"
        + (f", and {saved['minutes']} minutes." if saved["minutes"] > 0 else ".")
    )
    return Group(table("", ["", *WAYS], [(what, *counts) for what, counts in rows.items()]), Text(said))


def play(plan: Plan, way: str) -> Outcome:
    """Have all the work done one way; lose answers, kill the process half-way, and count at the server."""
    lengths, clock = plan.lengths(), ManualClock()
    server = FakeUseapi({SERVICE: ACCOUNTS}, job_seconds=lambda: next(lengths), clock=clock)
    bar = Progress("{task.description}", BarColumn(12), "{task.fields[told]}", console=steps())
    with tempfile.TemporaryDirectory() as folder, server as fake, bar:
        shown = bar.add_task(f"{way}:", total=plan.jobs, told="")
        for account, times in LOST.items():
            fake.fault("POST */gen4/create", cut="after", account=account, times=times)
        command = [sys.executable, "-m", __name__, way, str(plan.jobs), str(plan.threads)]
        command += [fake.url, fake.token, folder, str(plan.speed)]
        worker, starts, then = _start(command, folder), 1, time.monotonic()
        try:
            while True:
                ended, notes = worker.poll(), (Path(folder) / "notes").read_text("utf-8")
                now, audit = time.monotonic(), fake.audit()
                if notes.count("ready ") == starts:  # no process takes minutes of the service to start
                    clock.advance((now - then) * plan.speed)
                then, done = now, notes.count("done ")
                told = f"{done} done, {audit.accepted} paid, {audit.refused} refused"
                bar.update(shown, completed=done, told=told)
                if ended is not None:
                    break
                if starts == 1 and audit.accepted >= plan.jobs // 2:
                    _end(worker)
                    worker, starts = _start(command, folder), 2
                time.sleep(_FRAME)
        finally:
            _end(worker)
        if ended:
            raise RuntimeError((Path(folder) / "errors").read_text("utf-8", "replace"))
        return Outcome(done, audit.accepted, audit.refused, clock() / 60, len(audit.over))


def _start(command: list[str], folder: str) -> subprocess.Popen[bytes]:
    (Path(folder) / "notes").touch()
    with (Path(folder) / "errors").open("wb") as errors:
        return subprocess.Popen(command, stderr=errors)  # noqa: S603  # this interpreter, and a file of ours


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


# -- in the process that is killed ----------------------------------------------------------------------


class Studio:
    """The service as both ways use it, and notes of what was ordered there: they outlive the process."""

    def __init__(self, url: str, token: str, folder: str, speed: str) -> None:
        self.url, self.token, self.speed = url, token, float(speed)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.session.trust_env = False  # no proxy of the environment knows the stand-in
        self.source = HttpSource(SERVICE, token=token, base_url=url)
        self._file = Path(folder) / "notes"
        lines = (line.split(" ") for line in self._file.read_text("utf-8").splitlines())
        self.notes = {(word, order): text for word, order, text in lines}
        """What earlier processes wrote down: a word, the order that it is about, what to remember."""

    def note(self, word: str, order: str = "", text: str = "") -> None:
        """Write a line in one piece: whoever is killed leaves no half of one."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{word} {order} {text}\n")

    def ask(self, method: str, path: str, fields: Any = None) -> requests.Response:
        """Send a request, once. Raises what requests raises if no answer came."""
        return self.session.request(method, f"{self.url}/v1/{SERVICE}/{path}", json=fields, timeout=30)

    def finish(self, order: str, job: str) -> None:
        """Wait until the job of an order is over."""
        status = ""
        while status not in ("SUCCEEDED", "FAILED"):
            self.sleep(POLL_SECONDS)
            status = self.ask("GET", f"tasks/{job}").json()["status"]
        self.note("done", order)

    def sleep(self, seconds: tuple[float, float]) -> None:
        """Sleep by the service's clock."""
        time.sleep(random.uniform(*seconds) / self.speed)


def usual_way(studio: Studio) -> Callable[[str], None]:
    """Guess an account, wait after a 429, and send again whatever was not answered."""
    accounts = [*studio.source.accounts().accounts]

    def make(order: str) -> None:
        while True:
            fields = {"prompt": order, "email": random.choice(accounts)}
            try:
                answer = studio.ask("POST", "gen4/create", fields)
            except requests.RequestException:
                continue
            if answer.ok:
                return studio.finish(order, answer.json()["taskId"])
            studio.sleep(RETRY_SECONDS)

    return make


def with_balancer(studio: Studio) -> Callable[[str], None]:
    """Ask the pool for an account that has room, and the server's list for what became of a lost answer."""
    pool = AccountPool(SERVICE, token=studio.token, base_url=studio.url, reconcile_every=30 / studio.speed)

    def listed() -> dict[str | None, str]:
        return {job.ref: str(job.id) for job in studio.source.jobs().jobs}

    def submit(order: str) -> str:
        def create(lease: Lease) -> requests.Response:
            studio.note("lease", order, lease.id)  # the server's list will give it back
            return studio.ask("POST", "gen4/create", {"prompt": order, **lease.params})

        try:
            return str(pool.run(create, bind="taskId").json()["taskId"])
        except AmbiguousOutcome as ambiguous:
            job = listed().get(ambiguous.lease_id)
            pool.reconcile()  # the slot follows the job that the server lists
            pool.reset(ambiguous.account)  # its pause is in seconds of this machine, whose time runs slower
            return job or submit(order)

    for job in studio.source.jobs().jobs:  # of an earlier process: each has its slot before more is sent
        pool.adopt(str(job.id), account=str(job.account))
    running = listed()

    def make(order: str) -> None:
        sent = studio.notes.get(("lease", order))
        job = studio.notes.get(("job", order)) or running.get(sent) or submit(order)
        studio.note("job", order, job)
        studio.finish(order, job)
        pool.release(job_id=job)

    return make


WAYS = {"the usual way": usual_way, "with balancer": with_balancer}


def work(way: str, jobs: str, threads: str, *where: str) -> None:
    """Make every video that is not made yet."""
    studio = Studio(*where)
    make = WAYS[way](studio)
    studio.note("ready")
    orders = [f"video-{number}" for number in range(int(jobs))]
    with ThreadPoolExecutor(int(threads)) as crew:
        list(crew.map(make, [order for order in orders if ("done", order) not in studio.notes]))


if __name__ == "__main__":
    work(*sys.argv[1:])
