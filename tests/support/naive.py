"""What a ledger should do, said a second time: lists that are gone through anew for every question.

Nothing in here is kept up to date. Who is in flight, who probes and who has room is counted again
each time from the leases, the cooldowns and the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

EARLY_TTL = 600.0


@dataclass
class Lease:
    key: int
    account: str
    scope: str | None
    state: str = "held"
    job: str | None = None
    end: float | None = None
    since: float = 0.0
    adverse: bool = False
    max_jobs: int | None = None
    taken: bool = False
    """Its job was taken."""
    declined: bool = False
    """Its last answer proves that no job was."""


@dataclass(eq=False)
class Cooldown:
    account: str
    scope: str | None
    until: float
    worth_waiting: bool
    over: bool = False
    probes: list[int] = field(default_factory=list)
    """Keys of the leases that were granted to try the account out."""


@dataclass(eq=False)
class Lesson:
    """What refusals have taught about an account."""

    jobs: int
    since: float
    """When the wait for the next trial began."""
    wait: float = 60.0
    trial: int | None = None
    """Key of the lease that is the trial."""


class NaiveLedger:
    def __init__(self, strategy: str, *, lower_only: bool) -> None:
        self.strategy, self.lower_only = strategy, lower_only
        self.now = 0.0
        self.config: dict[str, tuple[int, str | None]] = {}
        self.last: dict[str, tuple[int, str | None]] = {}
        self.leases: list[Lease] = []
        self.cooldowns: list[Cooldown] = []
        self.lessons: dict[str, Lesson] = {}
        self.external: dict[str, int] = {}
        self.early: list[tuple[str, float]] = []
        self.done: list[tuple[str, float]] = []

    # -- questions --------------------------------------------------------------------------------

    def on(self, account: str) -> list[Lease]:
        return [lease for lease in self.leases if lease.account == account]

    def lease(self, key: int) -> Lease:
        return next(lease for lease in self.leases if lease.key == key)

    def by_job(self, job: str) -> Lease | None:
        return next((x for x in self.leases if x.job == job and x.state == "bound"), None)

    def known(self) -> set[str]:
        """Accounts of the configuration, and those gone from it that cannot be forgotten yet."""
        held = {lease.account for lease in self.leases}
        cooling = {c.account for c in self.cooldowns if not c.over}
        return set(self.config) | ((held | cooling) & set(self.last))

    def usable(self, account: str) -> bool:
        return account in self.config and self.config[account][1] is None

    def concerning(self, account: str, scope: str | None) -> list[Cooldown]:
        mine = [c for c in self.cooldowns if c.account == account]
        return mine if scope is None else [c for c in mine if c.scope in (None, scope)]

    def probing(self, cooldown: Cooldown) -> list[int]:
        live = {lease.key for lease in self.leases}
        return [key for key in cooldown.probes if key in live]

    def taken(self, account: str) -> int:
        return len(self.on(account)) + self.external.get(account, 0)

    def capacity(self, account: str, max_jobs: int | None) -> int:
        own = self.last[account][0]
        if max_jobs is None:
            return own
        return min(max_jobs, own) if self.lower_only else max_jobs

    def trial_due(self, account: str) -> bool:
        lesson = self.lessons.get(account)
        return lesson is not None and lesson.trial is None and self.now >= lesson.since + lesson.wait

    def bound(self, account: str, max_jobs: int | None) -> int:
        capacity, lesson = self.capacity(account, max_jobs), self.lessons.get(account)
        if lesson is None:
            return capacity
        return min(capacity, lesson.jobs + (max_jobs is None and self.trial_due(account)))

    def eligible(
        self, accounts: frozenset[str] | None = None, max_jobs: int | None = None, scope: str | None = None
    ) -> list[str]:
        """Return the accounts that a grant may be made on now, least loaded ones only if that is the rule."""
        fitting = [
            account
            for account in sorted(self.config)
            if (accounts is None or account in accounts)
            and self.usable(account)
            and self.taken(account) < self.bound(account, max_jobs)
            and not any(not c.over or self.probing(c) for c in self.concerning(account, scope))
        ]
        if self.strategy == "random" or not fitting:
            return fitting
        loads = {account: Fraction(self.taken(account), self.last[account][0]) for account in fitting}
        return [account for account in fitting if loads[account] == min(loads.values())]

    def hopeless(self, accounts: frozenset[str] | None, scope: str | None) -> bool:
        return not any(
            self.usable(account)
            and all(c.worth_waiting for c in self.concerning(account, scope) if not c.over)
            for account in self.config
            if accounts is None or account in accounts
        )

    def state(self, account: str) -> str:
        if account not in self.config:
            return "draining"
        if self.config[account][1] is not None:
            return "broken"
        if any(not c.over for c in self.concerning(account, None)):
            return "cooldown"
        full = self.taken(account) >= self.bound(account, None)
        return "full" if full or any(self.probing(c) for c in self.concerning(account, None)) else "ready"

    # -- what happens -----------------------------------------------------------------------------

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.early = [(job, at) for job, at in self.early if self.now < at + EARLY_TTL]
        self.done = [(job, at) for job, at in self.done if self.now < at + EARLY_TTL]
        for cooldown in self.cooldowns:
            cooldown.over = cooldown.over or cooldown.until <= self.now
        for lease in [x for x in self.leases if x.end is not None and x.end <= self.now]:
            self.end(lease)
        self.forget()

    def grant(self, key: int, account: str, scope: str | None, max_jobs: int | None = None) -> None:
        for cooldown in self.concerning(account, scope):
            cooldown.probes.append(key)
        if max_jobs is None and self.trial_due(account) and self.taken(account) >= self.lessons[account].jobs:
            self.lessons[account].trial = key
        self.leases.append(Lease(key, account, scope, max_jobs=max_jobs))

    def refuse(self, lease: Lease) -> bool:
        """A 429 that teaches. Return whether the account is only full."""
        if lease.taken or lease.max_jobs is not None:
            return False
        account = lease.account
        others = self.external.get(account, 0) + sum(
            not x.declined and x.state != "ambiguous" for x in self.on(account) if x is not lease
        )
        lesson = self.lessons.get(account)
        if lesson is not None and lesson.trial == lease.key:
            lesson.wait, lesson.trial = min(7200.0, 2 * lesson.wait), None
        elif others and lesson is not None:
            lesson.jobs = min(lesson.jobs, others)
        elif others and others < self.last[account][0]:
            lesson = self.lessons[account] = Lesson(others, self.now)
        if lesson is not None:
            lesson.since = self.now
        return others > 0

    def decline(self, lease: Lease) -> None:
        lease.declined = not lease.taken
        self.end_trial(lease)

    def accept(self, lease: Lease) -> None:
        lease.taken, lease.declined = True, False
        lesson = self.lessons.get(lease.account)
        if lesson is not None and lesson.trial == lease.key:
            self.lessons[lease.account] = Lesson(lesson.jobs + 1, self.now)
            if lesson.jobs + 1 >= self.last[lease.account][0]:
                del self.lessons[lease.account]
        self.conclude(lease, well=True)

    def end_trial(self, lease: Lease) -> None:
        lesson = self.lessons.get(lease.account)
        if lesson is not None and lesson.trial == lease.key:
            lesson.trial, lesson.since = None, self.now

    def conclude(self, lease: Lease, *, well: bool) -> None:
        for cooldown in [c for c in self.cooldowns if lease.key in c.probes]:
            cooldown.probes.remove(lease.key)
            if well:
                self.cooldowns.remove(cooldown)

    def end(self, lease: Lease) -> None:
        self.end_trial(lease)
        self.conclude(lease, well=not lease.adverse)
        self.leases.remove(lease)
        self.forget()

    def release(self, lease: Lease) -> None:
        if lease.job is not None:
            self.done = [(job, at) for job, at in self.done if job != lease.job] + [(lease.job, self.now)]
        self.end(lease)

    def release_job(self, job: str) -> Lease | None:
        lease = self.by_job(job)
        if lease is None and not any(each == job for each, _ in self.done):
            self.early = [(each, at) for each, at in self.early if each != job] + [(job, self.now)]
        elif lease is not None:
            self.release(lease)
        return lease

    def bind(self, lease: Lease, job: str, end: float) -> bool | None:
        """Return whether it is bound, or None for an error."""
        if self.by_job(job) not in (None, lease) or (lease.state == "bound" and lease.job != job):
            return None
        self.accept(lease)
        lease.job = job
        if any(each == job for each, _ in self.early):
            self.early = [(each, at) for each, at in self.early if each != job]
            self.release(lease)
            return False
        lease.state, lease.end, lease.since = "bound", end, self.now
        return True

    def doubt(self, lease: Lease, end: float) -> None:
        if lease.state != "bound":
            self.end_trial(lease)
            lease.state, lease.end, lease.since = "ambiguous", end, self.now

    def cool(self, account: str, scope: str | None, until: float, worth_waiting: bool) -> None:
        for old in [c for c in self.cooldowns if (c.account, c.scope) == (account, scope)]:
            if not old.over and old.until >= until:
                return
            self.cooldowns.remove(old)
        self.cooldowns.append(Cooldown(account, scope, until, worth_waiting))

    def reset(self, account: str) -> None:
        self.cooldowns = [c for c in self.cooldowns if c.account != account]
        self.lessons.pop(account, None)
        self.forget()

    def configure(self, config: dict[str, tuple[int, str | None]]) -> None:
        for account, (capacity, broken) in config.items():
            was_broken = account in self.last and self.last[account][1] is not None
            if was_broken and broken is None:
                for cooldown in self.concerning(account, None):
                    cooldown.over = True
            if (was_broken and broken is None) or self.last.get(account, (None,))[0] != capacity:
                self.lessons.pop(account, None)
        self.config = config
        self.last = {**self.last, **config}
        self.forget()

    def forget(self) -> None:
        known = self.known()
        self.last = {account: entry for account, entry in self.last.items() if account in known}
        self.cooldowns = [c for c in self.cooldowns if c.account in known]
        self.lessons = {account: lesson for account, lesson in self.lessons.items() if account in known}
