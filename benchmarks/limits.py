"""Accounts that bear less than they say: calls refused, and slots in use, for the ways to deal with it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from balancer import AccountPool, AcquireTimeout, Lease
from balancer.testing import ManualClock
from benchmarks.harness import Effort, Spread
from benchmarks.report import Budget, Section, at_least, at_most

TEXT = """\
Jobs of log-normal length, 100 s on average, for 5 accounts, on a clock that is moved by hand. The
accounts say how many jobs they run, and the site behind them refuses what is more than it bears just
then. *Refused* are calls answered with 429, a job. *Makespan* is the time until the last job is done,
against a greedy schedule that knows what the accounts bear. *Use* is the share of what the site would
have borne that was in use while jobs waited.

- *learned limits*: `AccountPool`, as it is.
- *cooldown only*: `AccountPool(learn_limits=False)`: who refuses is left alone for 10 to 30 s.
- *AIMD*, as congestion control and adaptive limiters do it: a refusal halves an account's limit (and it
  is left alone likewise), and as many jobs as the limit is, done well, make it one more.
- *vendor's loop*: as many callers as the accounts say that they run jobs; the server chooses among
  accounts below their `maxJobs`; 10 to 30 s after a refusal the caller asks again."""

ACCOUNTS, MEAN, SIGMA = 5, 100.0, 0.4
STEP = 5.0
"""Seconds after which callers look again though no job has ended."""


@dataclass(frozen=True)
class World:
    """What the accounts say, and what the site behind them bears."""

    jobs: int
    says: int
    bears: int
    later: int | None = None
    """What it bears once a third of the jobs is done."""
    bursts: bool = False
    """Every half hour somebody runs 1 to 4 jobs on the website for 5 minutes."""
    throttled: float = 0.0
    """Share of calls that are refused whatever runs."""


WORLDS = {
    "say 6, bear 2": World(1000, 6, 2),
    "say 10, bear 1": World(400, 10, 1),
    "true": World(600, 6, 6),
    "2, later 6": World(3000, 6, 2, later=6),
    "website bursts": World(3000, 6, 6, bursts=True),
    "2 % throttled": World(3000, 6, 6, throttled=0.02),
}
BUDGETS: dict[tuple[str, str], Budget] = {
    ("say 6, bear 2", "refused"): at_most(0.05),
    ("say 6, bear 2", "makespan"): at_most(1.03),
    ("say 10, bear 1", "refused"): at_most(0.12),
    ("say 10, bear 1", "makespan"): at_most(1.04),
    ("true", "refused"): at_most(0.0),
    ("true", "makespan"): at_most(1.02),
    ("2, later 6", "late"): at_least(25.0),
    ("website bursts", "refused"): at_most(0.07),
    ("website bursts", "use"): at_least(0.93),
    ("2 % throttled", "use"): at_least(0.95),
}
PICTURED, PICTURE_POINTS = "say 6, bear 2", 400


class Client(ABC):
    """One way to deal with refusals. What stands for a call is its own affair."""

    def __init__(self, world: World, clock: ManualClock, rng: random.Random) -> None:
        self.world, self.clock, self.rng = world, clock, rng
        self.names = [f"account-{number}" for number in range(ACCOUNTS)]

    @abstractmethod
    def call(self) -> Any:
        """Return a call that may be made now, or None."""

    @abstractmethod
    def account(self, call: Any) -> str | None:
        """Return where it goes; None: the server finds no account below its maximum."""

    @abstractmethod
    def refused(self, call: Any) -> None:
        """Be told that it was answered with 429."""

    @abstractmethod
    def accepted(self, call: Any) -> None:
        """Be told that its job runs."""

    @abstractmethod
    def ended(self, call: Any) -> None:
        """Be told that its job is over."""

    def pause(self) -> float:
        """Return when 10 to 30 s from now will be over."""
        return self.clock() + self.rng.uniform(10, 30)


class Pool(Client):
    """The real one."""

    def __init__(self, *given: Any, learn_limits: bool) -> None:
        super().__init__(*given)
        self.pool = AccountPool(
            source=dict.fromkeys(self.names, self.world.says),
            store="memory://",
            clock=self.clock,
            random=self.rng.random,
            learn_limits=learn_limits,
            ttl=1e9,
            job_ttl=1e9,
            reconcile_every=None,
        )

    def call(self) -> Lease | None:
        """Return a call that may be made now, or None."""
        try:
            return self.pool.acquire(timeout=0)
        except AcquireTimeout:
            return None

    def account(self, call: Lease) -> str:
        """Return where it goes."""
        return call.account.id

    def refused(self, call: Lease) -> None:
        """It was answered with 429."""
        call.report((429, {}, ""))
        call.release()

    def accepted(self, call: Lease) -> None:
        """Its job runs."""
        call.report((201, {}, ""))
        call.bind(call.id)

    def ended(self, call: Lease) -> None:
        """Its job is over."""
        self.pool.release(job_id=call.id)


class Aimd(Client):
    """Additive increase, multiplicative decrease, for each account."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.limits = dict.fromkeys(self.names, float(self.world.says))
        self.running = Counter[str]()
        self.cooling = dict.fromkeys(self.names, 0.0)

    def call(self) -> str | None:
        """Return a call that may be made now, or None."""
        now = self.clock()
        ready = [
            name
            for name in self.names
            if self.running[name] < int(self.limits[name]) and self.cooling[name] <= now
        ]
        if not ready:
            return None
        found = self.rng.choice(ready)
        self.running[found] += 1
        return found

    def account(self, call: str) -> str:
        """Return where it goes."""
        return call

    def refused(self, call: str) -> None:
        """It was answered with 429."""
        self.running[call] -= 1
        self.limits[call] = max(1.0, self.limits[call] / 2)
        self.cooling[call] = self.pause()

    def accepted(self, call: str) -> None:
        """Its job runs."""

    def ended(self, call: str) -> None:
        """Its job is over."""
        self.running[call] -= 1
        self.limits[call] = min(self.world.says, self.limits[call] + 1 / self.limits[call])


@dataclass
class Loop:
    """A caller of the vendor's loop."""

    account: str | None = None
    next_at: float = 0.0


class VendorsLoop(Client):
    """Ask, and ask again."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.idle = [Loop() for _ in range(ACCOUNTS * self.world.says)]
        self.running = Counter[str]()

    def call(self) -> Loop | None:
        """Return a call that may be made now, or None."""
        ready = [loop for loop in self.idle if loop.next_at <= self.clock()]
        if not ready:
            return None
        loop = ready[0]
        self.idle.remove(loop)
        below = [name for name in self.names if self.running[name] < self.world.says]
        loop.account = self.rng.choice(below) if below else None
        return loop

    def account(self, call: Loop) -> str | None:
        """Return where it goes."""
        return call.account

    def refused(self, call: Loop) -> None:
        """It was answered with 429."""
        call.next_at = self.pause()
        self.idle.append(call)

    def accepted(self, call: Loop) -> None:
        """Its job runs."""
        self.running[str(call.account)] += 1

    def ended(self, call: Loop) -> None:
        """Its job is over."""
        self.running[str(call.account)] -= 1
        self.idle.append(call)


CLIENTS = {
    "learned limits": partial(Pool, learn_limits=True),
    "cooldown only": partial(Pool, learn_limits=False),
    "AIMD": Aimd,
    "vendor's loop": VendorsLoop,
}


@dataclass
class Site:
    """The site behind the accounts."""

    world: World
    clock: ManualClock
    rng: random.Random
    done: int = 0
    running: Counter[str] = field(default_factory=Counter)
    bursts: dict[str, tuple[float, int]] = field(default_factory=dict)

    def bears(self, account: str) -> int:
        """Return how many jobs it runs on an account now."""
        world = self.world
        most = world.later if world.later is not None and self.done > world.jobs / 3 else world.bears
        if world.bursts:
            start, size = self.bursts.setdefault(account, (self.rng.uniform(0, 1800), self.rng.randint(1, 4)))
            most -= size if (self.clock() - start) % 1800 < 300 else 0
        return max(0, most)

    def takes(self, account: str) -> bool:
        """Whether it takes one more job."""
        if self.running[account] >= self.bears(account) or self.rng.random() < self.world.throttled:
            return False
        self.running[account] += 1
        return True


@dataclass
class Found:
    """What one client did in one world."""

    refused: float
    makespan: float
    use: float
    late: float
    """Slots in use in the last third of the time in which jobs waited."""
    refusals: list[tuple[float, int]]
    """Hours -> calls refused until then."""


def simulate(world: World, make: Any, seed: int) -> Found:
    """Have a client do the jobs of a world."""
    clock, rng = ManualClock(), random.Random(seed)
    site, client = Site(world, clock, rng), make(world, clock, rng)
    lengths = [rng.lognormvariate(0, SIGMA) * MEAN for _ in range(world.jobs)]
    waiting, ends, refusals = list(lengths), list[tuple[float, int, Any]](), [(0.0, 0)]
    used: list[tuple[float, int, int]] = []
    while waiting or ends:
        while waiting and (call := client.call()) is not None:
            account = client.account(call)
            if account is None or not site.takes(account):
                refusals.append((clock() / 3600, len(refusals)))
                client.refused(call)
                continue
            client.accepted(call)
            heappush(ends, (clock() + waiting.pop(), len(waiting), call))
        until = min(ends[0][0] if ends else clock() + STEP, clock() + STEP if waiting else float("inf"))
        if waiting:
            running = {name: site.running[name] for name in client.names}
            borne = sum(max(number, min(world.says, site.bears(name))) for name, number in running.items())
            used.append((until - clock(), sum(running.values()), borne))
        clock.advance(until - clock())
        while ends and ends[0][0] <= clock():
            _, _, call = heappop(ends)
            site.running[str(client.account(call))] -= 1
            site.done += 1
            client.ended(call)
    late = used[len(used) * 2 // 3 :]
    return Found(
        refused=(len(refusals) - 1) / world.jobs,
        makespan=clock() / _greedy(lengths, world.bears),
        use=sum(dt * run for dt, run, _ in used) / sum(dt * borne for dt, _, borne in used),
        late=sum(dt * run for dt, run, _ in late) / sum(dt for dt, _, _ in late),
        refusals=[*refusals, (clock() / 3600, len(refusals) - 1)],
    )


def _greedy(lengths: list[float], bears: int) -> float:
    slots = [0.0] * (ACCOUNTS * bears)
    heapify(slots)
    for length in reversed(lengths):
        heapreplace(slots, slots[0] + length)
    return max(slots)


def run(effort: Effort) -> Section:
    """Have every client do the jobs of every world."""
    section = Section("limits", "Accounts that bear less than they say", TEXT)
    seeds = range(effort.pick(5, 1))
    for world_name, whole in WORLDS.items():
        world = replace(whole, jobs=effort.pick(whole.jobs, 90))
        for name, make in CLIENTS.items():
            runs = [simulate(world, make, seed) for seed in seeds]
            for what, unit in (("refused", ""), ("makespan", "x"), ("use", ""), ("late", "slots")):
                if not _asked(world, what):
                    continue
                budget = BUDGETS.get((world_name, what)) if name == "learned limits" else None
                value = Spread.of(getattr(each, what) for each in runs)
                section.add(f"{world_name}, {name}: {_NAMES[what]}", value, unit, budget)
            if world_name == PICTURED:
                points = runs[0].refusals
                section.series[name] = [*points[:: len(points) // PICTURE_POINTS + 1], points[-1]]
    return section


_NAMES = {
    "refused": "refused calls per job",
    "makespan": "makespan ÷ ideal",
    "use": "use",
    "late": "slots in use in the last third",
}


def _asked(world: World, what: str) -> bool:
    """Whether a figure means anything in this world: there is no ideal makespan where it changes."""
    if what == "late":
        return world.later is not None
    return what == "refused" or (what == "makespan") is (
        not world.bursts and world.later is None and not world.throttled
    )
