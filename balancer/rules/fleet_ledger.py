"""The rules of several processes: who waits in line, what is offered, claimed, remembered; and the ledger.

One :class:`FleetLedger` is all that a shared store knows of one pool. It carries out the operations of
:mod:`balancer.rules.operations`, each in three parts: settle what is due, do what is asked, offer what is
free. It is pure: instants and draws are arguments, and whether a process lives is asked of whoever knows.

What changes is noted by name, for :mod:`balancer.rules.fleet_entries`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from balancer.models import Account, AccountTable
from balancer.rules import operations as ops
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.limits import Limit
from balancer.rules.records import (
    AMBIGUOUS,
    BOUND,
    ENDED,
    HELD,
    OUT,
    AccountState,
    LeaseRecord,
    ListedJob,
    SlotRequest,
)
from balancer.rules.selection import STRATEGIES
from balancer.rules.timer_queue import TimerQueue

T = TypeVar("T")
CLOCK_SLACK = 1.0
"""Seconds by which the time of day may be off before anything is corrected for it."""
CLOCK_GRACE = 600.0
"""Seconds after a start of the machine within which its time of day may still be set right."""
_MOST_OWN, _MOST_OTHERS = 50_000, 5_000
"""Ended leases that are remembered at least, of the process itself and of the others."""
_BEFORE_KNOWN = frozenset({ops.Heartbeat, ops.Register})
"""What a process asks that was forgotten, without becoming known by it."""


class FleetLease(LeaseRecord):
    """A lease of any process."""

    __slots__ = ()

    given: float | None = None
    """Seconds until its end, when that was set last."""
    wall_end: float | None = None
    """Time of day of its end, if the machine was started again since that was set."""
    latest: float | None = None
    """How late it may end at most, whatever the time of day is said to be."""
    orphaned: bool = False
    """It is in doubt as its process was found dead."""


class Process:
    """One pool in one process."""

    __slots__ = (
        "forgotten",
        "host_pid",
        "look_at",
        "name",
        "offer",
        "offer_until",
        "place",
        "priority",
        "wants",
    )

    def __init__(self, name: str, host_pid: str) -> None:
        self.name, self.host_pid = name, host_pid
        self.look_at = -math.inf
        """When it is dead unless it was heard of; or when the kernel is asked."""
        self.forgotten = False
        """It was known before, and was missed: what it held has ended."""
        self.place: int | None = None
        """In the line of waiting processes, lowest first among equals; None: it does not wait."""
        self.priority = 0
        """The highest that waits in it."""
        self.wants: ops.Wanted = ()
        self.offer: LeaseRecord | None = None
        """Stands for the slot that is reserved for it."""
        self.offer_until = math.inf


class Claim:
    """Who fetches, or reconciles, for all; and how that went last."""

    __slots__ = ("done_at", "number", "owner", "retry_at", "trouble", "void_at")

    def __init__(self) -> None:
        self.number = 0
        self.owner: str | None = None
        self.void_at: float | None = None
        self.done_at: float | None = None
        self.retry_at: float | None = None
        self.trouble: tuple[str, str] | None = None

    def let_go(self) -> None:
        """Have nobody hold it, and no failure in the way."""
        self.owner = self.void_at = self.retry_at = self.trouble = None


class Recent:
    """What was put in last: at least ``most`` of it, and at most twice as much."""

    __slots__ = ("_most", "_new", "_old")

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: dict[str, float] = {}
        self._old: dict[str, float] = {}

    def put(self, key: str, at: float) -> None:
        """Put a key in, with its instant."""
        self._new[key] = at
        if len(self._new) > self._most:
            self._old, self._new = self._new, {}

    def get(self, key: str) -> float | None:
        """Return the instant of a key."""
        return self._new[key] if key in self._new else self._old.get(key)


class _Accounts(Ledger):
    """The ledger, telling which accounts were touched by what it did."""

    def __init__(self, settings: ops.Settings, timer: Callable[[], float]) -> None:
        super().__init__(settings.strategy, timer, lower_only=settings.lower_only)
        self.touched: list[AccountState] = []

    def update_selector(self, account_state: AccountState) -> None:
        self.touched.append(account_state)
        super().update_selector(account_state)

    def choose_by(self, settings: ops.Settings) -> None:
        """Have other settings say from now on who is chosen."""
        self.lower_only = settings.lower_only
        if type(self.selector) is not STRATEGIES[settings.strategy]:
            self.selector = STRATEGIES[settings.strategy]()
            for account_state in self.account_states.values():
                account_state.place = OUT
                self.place(account_state)

    def place(self, account_state: AccountState) -> None:
        """Put an account where its room says, and forget none: so it is with what another ledger decided."""
        account_state.plain = not (account_state.cooldowns or account_state.restricted)
        left = account_state.left > 0
        self.selector.update(account_state, left and (account_state.plain or account_state.fits()))

    def place_anew(self, account_state: AccountState) -> None:
        """The same for one whose cooldowns or configuration have changed."""
        self.update_hope(account_state)
        self.place(account_state)


class _LastList:
    """What the last list shows of leases whose process was found dead.

    It is told once for all of them: leases and jobs may both be many.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._requested_at = ledger.listed_at
        self._named = {job.lease for job in ledger.listed.values()}
        self._nameless = Counter(job.account for job in ledger.listed.values() if job.lease is None)
        self._explained: dict[str, int] = {}
        """Account -> how many of those are known to be somebody's."""

    def shows(self, record: LeaseRecord) -> bool:
        """Whether there is a job that would be nobody's without this unbound lease; if not, the lease ends.

        One that names it, or one more than others explain: unbound leases that were live by then, too.
        """
        if record.key in self._named:
            return True
        account_state = record.account_state
        id = account_state.id
        if not self._nameless[id] or not self._explains(record):
            return False
        if id not in self._explained:
            self._explained[id] = account_state.external + sum(
                map(self._explains, account_state.held.values())
            )
        if self._nameless[id] >= self._explained[id]:
            return True
        self._explained[id] -= 1
        return False

    def _explains(self, record: LeaseRecord) -> bool:
        unbound = record.state is not BOUND and not record.reserves
        return unbound and record.held_since <= self._requested_at and record.key not in self._named


class FleetLedger:
    """Everything that a store holds for one pool, and what each operation does to it.

    Args:
        settings: Of the process that asks.
        lives: Says by its name whether a process lives. None: who is silent for ``lease_ttl`` is dead.
        own: Name of the one process that asks; None: several do.
        above: Versions and claims have numbers above this one.
    """

    def __init__(
        self,
        settings: ops.Settings,
        *,
        lives: Callable[[str], bool] | None = None,
        own: str | None = None,
        above: int = 0,
    ) -> None:
        self.settings = settings
        self.now = 0.0
        self.ledger = _Accounts(settings, lambda: self.now)
        self.version, self.fetched_at = 0, 0.0
        self.processes: dict[str, Process] = {}
        self.tombstones, self._others = Recent(_MOST_OWN), Recent(_MOST_OTHERS)
        """Leases that were ended on purpose, by key, and when: those of who asks, and of others."""
        self.ruling, self.ruler = settings, ""
        """The settings whose strategy counts for all, and the process that came with them. Nobody has yet."""
        self.boot: str | None = None
        """Names the start of the machine that instants count from; None: it was not said yet."""
        self.wall_offset = self.restarted_at = 0.0
        self.carried: set[LeaseRecord] = set()
        """Leases that outlived a start of the machine: their ends go by the time of day."""
        self.unheard: dict[str, dict[str, float]] = {}
        """By name of a process: its leases that somebody else ended, and when."""
        self.claims: dict[str, Claim] = {"fetch": Claim(), "survey": Claim()}
        self.messages: list[tuple[str, str]] = []
        """Name of a process, and the account that it is offered: to be told once all is written."""
        self._lives, self._above = lives, above
        self._own = None if own is None else own + "-"
        self.deadlines: TimerQueue[tuple[str, str]] = TimerQueue()
        self.next_end = -math.inf
        """When the next thing ends by itself, or before: what was taken over since is not looked at."""
        self.line: list[Process] | None = []
        """Who waits, in order; None: it is to be sorted anew."""
        self.known_table: AccountTable | None = None
        self.changed: dict[str, tuple[float, str] | None] = {}
        """Names of what has changed; and of what is over, since when and how it came."""
        self._do: dict[type, Callable[[ops.Owner, Any], Any]] = {
            ops.Acquire: self._acquire,
            ops.Release: self._release,
            ops.Bind: self._bind,
            ops.Adopt: self._adopt,
            ops.Renew: self._renew,
            ops.Report: self._report,
            ops.Cool: self._cool,
            ops.Reset: self._reset,
            ops.Claim: self._claim,
            ops.Fail: self._fail,
            ops.Configure: self._configure,
            ops.ReadTable: self._read_table,
            ops.Apply: self._apply_plan,
            ops.ReadAll: self._read_all,
            ops.ReadSome: self._read_some,
            ops.Heartbeat: self._heartbeat,
            ops.Register: self._register,
            ops.SetWanted: self._set_wanted,
            ops.Inspect: _read_nothing,
        }

    # -- one operation ------------------------------------------------------------------------------

    def carry_out(
        self,
        owner: ops.Owner,
        operation: ops.Operation,
        now: float,
        draw: Callable[[], float],
        *,
        met: bool = False,
    ) -> ops.Reply:
        """Settle what is due, do what is asked, offer what is free.

        Args:
            owner: Who asks.
            operation: What is asked.
            now: The instant, never before that of the last operation.
            draw: Returns a number in [0, 1) for each offer that is made.
            met: The owner was known before: if it is not now, it was forgotten.
        """
        self.now = now
        kind = type(operation)
        if kind not in _BEFORE_KNOWN:
            self._hear(owner, forgotten=met)
        expired = self._settle() if self.next_end <= now else []
        if self.ruling is not self.settings or not self.ruler:
            self._find_ruler(owner)
        listed = self.ledger.listed
        result = self._do[kind](owner, operation)
        if self.ledger.listed is not listed:
            self.changed["listed:"] = None
        if self.line is None or self.line:
            expired += self._offer_all(draw)
        hope = self._hope(operation) if result is None and isinstance(operation, ops.Acquire) else None
        learned, self.ledger.limit_changes = tuple(self.ledger.limit_changes), []
        due = self.next_end = min(self.ledger.timers.next, self.deadlines.next)
        since = self.ledger.detached_since.next
        return ops.Reply(
            result,
            self.version,
            None if due == math.inf else max(0.0, due - now),
            None if since == math.inf else now - since,
            tuple(expired),
            hope,
            learned,
            None if self.ruling is self.settings else _settings_told(self.ruling),
        )

    def _hope(self, take: ops.Acquire) -> bool:
        """Whether waiting may help."""
        accounts = None if take.accounts is None else frozenset(take.accounts)
        return not self.ledger.hopeless(
            SlotRequest(LeaseRecord(take.key, scope=take.scope), accounts=accounts)
        )

    def _find_ruler(self, owner: ops.Owner) -> None:
        """Have the settings rule of the process that came first, as long as it lives."""
        if self.ruling == self.settings:
            self.ruling = self.settings  # so that it is seen at a glance
        if self.ruler in self.processes or (self.ruler and self.ruling is self.settings):
            return
        self.rule(self.settings, owner.name)
        self.changed["settings:"] = None

    def rule(self, settings: ops.Settings, ruler: str) -> None:
        """Have the settings of a process count for all."""
        self.ruling, self.ruler = settings, ruler
        self.ledger.choose_by(settings)

    # -- settling -----------------------------------------------------------------------------------

    def _settle(self) -> list[ops.EndedLease]:
        """End what has ended by itself; return the leases among that."""
        gone = []
        for record in self.ledger.due(self.now)[0]:
            gone.append(self._gone(record, AMBIGUOUS if record.job_id is None else BOUND))
            self._note_end(record.key, "expired")
        dead, lapsed = [], []
        for what, name in self.deadlines.due(self.now):
            process = self.processes[name]
            if what == "offer":
                lapsed.append(process)
            elif self._lives is not None and self._lives(name):
                self._prolong(process)
            else:
                dead.append(process)
        gone += self._bury(sorted(dead, key=lambda process: (process.look_at, process.name)))
        for process in sorted(lapsed, key=lambda process: (process.offer_until, process.name)):
            if process.name in self.processes:
                self._end_offer(process)
                self._to_the_back(process)
        return gone

    def _gone(self, record: LeaseRecord, state: str) -> ops.EndedLease:
        key = str(record.key)
        return ops.EndedLease(
            key, record.account_state.id, state, record.job_id, record.label, self.now - record.held_since
        )

    # -- processes ----------------------------------------------------------------------------------

    def _hear(self, owner: ops.Owner, *, forgotten: bool) -> Process:
        """Take in that a process lives; it becomes known if it was not."""
        process = self.processes.get(owner.name)
        if process is None:
            process = self.processes[owner.name] = Process(owner.name, owner.host_pid)
            process.forgotten = forgotten
            self._prolong(process)
        elif self._lives is None:
            self._prolong(process)
        return process

    def _prolong(self, process: Process) -> None:
        process.look_at = self.now + self.settings.lease_ttl
        self.deadlines.set(("look", process.name), process.look_at)
        self._note_process(process.name)

    def _bury(self, dead: Iterable[Process]) -> list[ops.EndedLease]:
        """Forget processes that are dead; return the leases that they held and that end."""
        names: dict[str, int] = {}
        for process in dead:
            self.leave(process)
            self.deadlines.drop(("look", process.name))
            del self.processes[process.name]
            self.unheard.pop(process.name, None)
            self.changed["process:" + process.name] = (self.now, "over")
            names[process.name] = len(names)
        if not names:
            return []
        if self._lives is not None:
            self._void_claims(names)
        held = [
            record
            for record in self.ledger.records.values()
            if record.state is HELD and owner_of(record.key) in names
        ]
        held.sort(key=lambda record: (names[owner_of(record.key)], str(record.key)))
        return self._end_orphans(held)

    def _end_orphans(self, held: Iterable[Any]) -> list[ops.EndedLease]:
        """End what dead processes held; leases whose job may run are in doubt. Return what ended."""
        last_list = _LastList(self.ledger)
        gone = []
        for record in held:
            record.adverse = True  # its account is no better for that
            if last_list.shows(record):
                ttl = self.settings.ambiguous_ttl
                self.ledger.doubt(record, self.now + ttl, self.now)
                self._give(record, ttl)
                record.orphaned = True
            else:
                self.ledger.end(record, self.now)
                self._note_end(record.key, "expired")
                gone.append(self._gone(record, HELD))
        return gone

    def _void_claims(self, names: Collection[str]) -> None:
        for what, claim in self.claims.items():
            if claim.owner in names:
                claim.owner = claim.void_at = None
                self.changed["claim:" + what] = None

    def say_goodbye(self, owner: ops.Owner, now: float, draw: Callable[[], float]) -> bool:
        """Forget a process that has closed, unless it holds leases. True: it is forgotten."""
        self.now = now
        process = self.processes.get(owner.name)
        if process is None:
            return True
        if any(
            record.state is HELD and owner_of(record.key) == owner.name
            for record in self.ledger.records.values()
        ):
            return False
        self._bury([process])
        self._offer_all(draw)
        return True

    # -- the line -----------------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Process]:
        """The processes that wait, in order."""
        if self.line is None:
            waiting = [process for process in self.processes.values() if process.place is not None]
            self.line = sorted(waiting, key=lambda process: (-process.priority, process.place or 0))
        return self.line

    def _want(self, process: Process, wants: ops.Wanted | None, priority: int, *, back: bool = False) -> None:
        """Have a process wait for accounts, or leave the line."""
        if wants is None:
            if process.place is not None or process.offer is not None:
                self.leave(process)
                self._note_process(process.name)
            return
        process.wants, self.line = tuple(dict.fromkeys(wants)), None
        process.priority = max(-ops.MOST_PRIORITY, min(priority, ops.MOST_PRIORITY))
        if back or process.place is None:
            self._to_the_back(process)
        self._note_process(process.name)

    def _to_the_back(self, process: Process) -> None:
        last = max((each.place or 0 for each in self.waiting), default=0)
        process.place, self.line = last + 1, None
        self._note_process(process.name)

    def leave(self, process: Process) -> None:
        """Take a process out of the line; what is reserved for it is free."""
        self._end_offer(process)
        process.place, process.priority, process.wants, self.line = None, 0, (), None

    def _end_offer(self, process: Process) -> None:
        record, process.offer = process.offer, None
        if record is not None:
            self.deadlines.drop(("offer", process.name))
            if record.account_state.spaced_until == process.offer_until:  # by the offer, and by no grant
                self.ledger.space(record.account_state, None)
            self.ledger.end(record, self.now)
            self._note_process(process.name)

    def _offer_all(self, draw: Callable[[], float]) -> list[ops.EndedLease]:
        """Offer free slots in the order of the line; return what the dead in it held."""
        gone: list[ops.EndedLease] = []
        while self.ledger.selector.pick(0.0) is not None and (found := self._next_in_line(draw)) is not None:
            process, id = found
            if self._lives is None or self._lives(process.name):
                self._reserve(process, id)
            else:
                gone += self._bury([process])
        return gone

    def _next_in_line(self, draw: Callable[[], float]) -> tuple[Process, str] | None:
        """Return who is to be offered a slot next, and on which account."""
        for process in self.waiting:
            if process.offer is None and (id := self.choose_offer(process, draw)) is not None:
                return process, id
        return None

    def choose_offer(self, process: Process, draw: Callable[[], float]) -> str | None:
        """Return the account to offer to a process, or None if none that it wants has room."""
        if not process.wants:
            account_state = self.ledger.selector.pick(draw())
            return None if account_state is None else account_state.id
        able = [id for id in process.wants if self._has_room(id)]
        return able[int(draw() * len(able))] if able else None

    def _has_room(self, id: str) -> bool:
        account_state = self.ledger.account_states.get(id)
        return account_state is not None and account_state.fits()

    def _reserve(self, process: Process, id: str) -> None:
        record = FleetLease(f"{process.name}-offer")
        record.reserves = record.adverse = True  # that it ends says nothing about its account
        if self.settings.spaced:
            record.spacing = ops.OFFER_SECONDS  # until it is taken, and spaced as its caller wants
        self.ledger.take(SlotRequest(record, accounts=frozenset({id})), self.now)
        process.offer, process.offer_until = record, self.now + ops.OFFER_SECONDS
        self.deadlines.set(("offer", process.name), process.offer_until)
        self._note_process(process.name)
        self.messages.append((process.name, id))

    # -- leases -------------------------------------------------------------------------------------

    def _acquire(self, owner: ops.Owner, take: ops.Acquire) -> ops.Granted | None:
        process = self.processes[owner.name]
        if take.offered:
            self._end_offer(process)
        record = self.ledger.records.get(take.key)
        if record is None and not self.barred(take.key):
            record = self._grant(owner, take)
        if record is None:
            self._want(process, take.else_wants, take.else_priority)
        else:
            self._want(process, take.then_wants, take.then_priority, back=True)
        return None if record is None else ops.Granted(record.account_state.id)

    def _grant(self, owner: ops.Owner, take: ops.Acquire) -> LeaseRecord | None:
        record = FleetLease(take.key, take.label, take.scope)
        if take.max_jobs is not None:
            record.max_jobs = take.max_jobs
        if take.spacing:
            record.spacing = take.spacing
        request = SlotRequest(record, take.draw, None, take.max_jobs)
        if take.accounts is not None:
            id = self._first_that_fits(request, take.accounts)
            if id is None:
                return None
            request = request._replace(accounts=frozenset({id}))
        if not self.ledger.take(request, self.now):
            return None
        record.owner = owner.host_pid
        self.changed["lease:" + take.key] = None
        return record

    def _first_that_fits(self, request: SlotRequest, ids: Iterable[str]) -> str | None:
        account_states = self.ledger.account_states
        fitting = (
            account_state
            for id in ids
            if (account_state := account_states.get(id)) is not None
            and self.ledger.fits(request, account_state)
        )
        if self.ruling.strategy == "random":
            return next((account_state.id for account_state in fitting), None)
        best = self.ledger.selector.among(list(fitting))
        return best[0].id if best else None

    def _release(self, owner: ops.Owner, end: ops.Release) -> ops.EndedLease | None:
        if end.job_id is not None:
            record, last = self.ledger.end_job(end.job_id, self.now)
            if record is None and end.job_id in self.ledger.early:
                self._note_job(end.job_id, "early")
            elif record is not None and not last:
                self._note_job(end.job_id, "done")
                self.changed[f"lease:{record.key}"] = None
                return None
        else:
            record = self.ledger.records.get(end.key)
            if record is None:
                self._bar(str(end.key), "own" if owner_of(end.key) == owner.name else "unknown")
        if record is None:
            return None
        gone = self._gone(record, record.state)
        name = owner_of(record.key)
        by = "own" if name == owner.name or record.state is BOUND else "other"
        if by == "other" and name in self.processes:
            self.unheard.setdefault(name, {})[gone.key] = self.now
        self._finish(record, by)
        return gone

    def _finish(self, record: LeaseRecord, by: str) -> None:
        """End a lease because somebody says that the job is over."""
        self._bar(str(record.key), by)
        for job_id in () if record.job_id is None else record.running_jobs:
            self._note_job(job_id, "done")
        self.ledger.end(record, self.now, released=True)

    def _bar(self, key: str, by: str) -> None:
        """Have nothing bring a lease back that was ended on purpose."""
        self.keep_tombstone(key, self.now)
        self.changed["lease:" + key] = (self.now, by)

    def keep_tombstone(self, key: str, at: float) -> None:
        """Remember that a lease was ended on purpose."""
        own = self._own is None or key.startswith(self._own)
        (self.tombstones if own else self._others).put(key, at)

    def barred(self, key: str) -> bool:
        """Whether a lease was ended on purpose, so that it must not come back."""
        at = self.tombstones.get(key)
        if at is None:
            at = self._others.get(key)
        if at is None and self.unheard:
            at = self.unheard.get(owner_of(key), {}).get(key)
        return at is not None and self.now - at < ops.TOMBSTONE_SECONDS

    def _bind(self, _: ops.Owner, bind: ops.Bind) -> str:
        record = self.ledger.records.get(bind.key)
        return "lost" if record is None else self._tie(record, bind.job_ids, bind.ttl)

    def _tie(self, record: LeaseRecord, job_ids: tuple[str, ...], ttl: float) -> str:
        """Tie a lease to its jobs, unless one is another's, or all are over."""
        early = [job_id for job_id in job_ids if job_id in self.ledger.early]
        try:
            bound = self.ledger.bind(record, job_ids, self.now + ttl, self.now)
        except ValueError:
            return "taken"
        for job_id in early:
            self._note_job(job_id, "done")
        if not bound:
            self._bar(str(record.key), "own")
            return "over"
        self._give(record, ttl)
        return "bound"

    def _adopt(self, owner: ops.Owner, adopt: ops.Adopt) -> ops.Adopted | None:
        ledger, account_state = self.ledger, self.ledger.account_states.get(adopt.account)
        known = ledger.jobs.get(adopt.job_id)
        if known is None and (account_state is None or account_state.draining):
            return None
        external, record = ledger.external, FleetLease(adopt.key)
        record.owner = owner.host_pid
        if known is None and account_state is not None:
            known = ledger.adopt(record, adopt.job_id, account_state, self.now + adopt.ttl, self.now)
        if known is record and record.state is BOUND:
            self._give(record, adopt.ttl)
        if ledger.external is not external:
            self.changed["external:"] = None
        return None if known is None else _adopted(known, self.now)

    def _give(self, record: LeaseRecord, ttl: float) -> None:
        record.given = ttl  # type: ignore[attr-defined]
        if record in self.carried:
            self.carried.discard(record)
            record.wall_end = record.latest = None  # type: ignore[attr-defined]
        self.changed[f"lease:{record.key}"] = None

    def _renew(self, _: ops.Owner, renew: ops.Renew) -> bool:
        records: Mapping[Any, LeaseRecord] = self.ledger.records if renew.job_id is None else self.ledger.jobs
        record = records.get(renew.key if renew.job_id is None else renew.job_id)
        if record is not None and record.state is not HELD:
            usual = self.settings.job_ttl if record.state is BOUND else self.settings.ambiguous_ttl
            ttl = usual if renew.ttl is None else renew.ttl
            self.ledger.set_end(record, self.now + ttl)
            self._give(record, ttl)
        return record is not None

    # -- verdicts -----------------------------------------------------------------------------------

    def _report(self, _: ops.Owner, report: ops.Report) -> ops.Reported:
        record, ttl = self.ledger.records.get(report.key), self.settings.ambiguous_ttl
        if record is not None and report.doubt and record.state is not BOUND:
            record.orphaned = False  # type: ignore[attr-defined]  # its process says so itself
            self._give(record, ttl)
        elif record is not None:
            self.changed[f"lease:{report.key}"] = None
        return ops.Reported(record is not None, self.ledger.report(report, self.now, self.now + ttl))

    def _cool(self, _: ops.Owner, cool: ops.Cool) -> bool:
        account_state = self.ledger.account_states.get(cool.account)
        if account_state is not None:
            self.ledger.cool(
                account_state, cool.scope, self.now + cool.seconds, cool.reason, cool.worth_waiting
            )
        return account_state is not None

    def _reset(self, _: ops.Owner, reset: ops.Reset) -> bool:
        account_state = self.ledger.account_states.get(reset.account)
        if account_state is not None:
            self.ledger.reset(account_state)
        return account_state is not None

    # -- what one process does for all --------------------------------------------------------------

    def _claim(self, owner: ops.Owner, asked: ops.Claim) -> ops.Claimed:
        claim, now = self.claims[asked.what], self.now
        age = None if claim.done_at is None else now - claim.done_at
        if age is not None and age < asked.max_age:
            return ops.Claimed(False, age=age)
        if (
            claim.owner not in (None, owner.name)  # ours, if it is: its answer was lost
            and claim.void_at is not None
            and now < claim.void_at
            and (self._lives is None or self._lives(claim.owner or ""))
        ):
            return ops.Claimed(False, retry_in=claim.void_at - now, age=age)
        if claim.retry_at is not None and now < claim.retry_at and asked.max_age > 0:
            return ops.Claimed(False, retry_in=claim.retry_at - now, age=age, trouble=claim.trouble)
        claim.let_go()
        claim.number, claim.owner, claim.void_at = self._higher(claim.number), owner.name, now + asked.hold
        self.changed["claim:" + asked.what] = None
        return ops.Claimed(True, claim.number, age=age)

    def _higher(self, last: int) -> int:
        return max(last, self._above) + 1

    def _holds(self, what: str, number: int) -> bool:
        claim = self.claims[what]
        return claim.number == number and claim.void_at is not None and self.now < claim.void_at

    def _fail(self, _: ops.Owner, fail: ops.Fail) -> None:
        if self._holds(fail.what, fail.number):
            claim = self.claims[fail.what]
            claim.let_go()
            claim.retry_at, claim.trouble = self.now + fail.pause, (fail.kind, fail.text)
            self.changed["claim:" + fail.what] = None

    def _done(self, what: str) -> None:
        self.claims[what].let_go()
        self.claims[what].done_at = self.now
        self.changed["claim:" + what] = None

    def _configure(self, _: ops.Owner, new: ops.Configure) -> int | None:
        if not self._holds("fetch", new.number) or new.base != self.version:
            return None
        if new.put or new.gone or not self.version:
            self.version, self.known_table = self._higher(self.version), None
        self.fetched_at = self.now
        for account_state in self.ledger.configure(Changes(new.put, new.gone)):
            self._note_account(account_state.id)
        self.changed["pool:"] = None
        self._done("fetch")
        return self.version

    def _read_table(self, *_: object) -> ops.Configured | None:
        if not self.version:
            return None
        return ops.Configured(self.version, self.table, self.now - self.fetched_at)

    @property
    def table(self) -> AccountTable:
        """The table in force."""
        if self.known_table is None:
            account_states = self.ledger.account_states.values()
            self.known_table = AccountTable(
                {
                    account_state.id: account_state.account
                    for account_state in account_states
                    if not account_state.draining
                }
            )
        return self.known_table

    def _apply_plan(self, _: ops.Owner, plan: ops.Apply) -> tuple[str, ...] | None:
        ledger, usual = self.ledger, self.settings.job_ttl
        listed = {job_id: ListedJob(account, key or None) for job_id, account, key in plan.listed}
        named = [str(job.lease) for job in listed.values() if job.lease is not None]
        if not self._holds("survey", plan.number) or any(
            key not in ledger.records and not self.barred(key) for key in named
        ):
            return None
        self._done("survey")
        if listed or ledger.listed or dict(plan.external) != dict(ledger.external):
            ledger.set_external(dict(plan.external), listed, self.now - plan.age)
            self.changed["external:"] = None
        ended = [
            key
            for key, job_id in plan.bind
            for record in self._in_state([key], AMBIGUOUS)
            if self._tie(record, (job_id,), usual) == "over"
        ]
        for record in self._in_state(plan.prolong, BOUND):
            if record.end is not None and record.end < self.now + usual:
                ledger.set_end(record, self.now + usual)
                self._give(record, usual)
        for record in self._in_state(plan.missed, BOUND):
            record.missed = plan.missed[str(record.key)]
            self.changed[f"lease:{record.key}"] = None
        for record in [*self._in_state(plan.reclaim, BOUND), *self._in_state(plan.resolve, AMBIGUOUS)]:
            self._bar(str(record.key), "own")
            ledger.end(record, self.now)
            ended.append(str(record.key))
        return tuple(ended)

    def _in_state(self, keys: Iterable[str], state: str) -> list[LeaseRecord]:
        records = self.ledger.records
        return [record for key in keys if (record := records.get(key)) is not None and record.state is state]

    # -- who lives ----------------------------------------------------------------------------------

    def _heartbeat(self, owner: ops.Owner, _: ops.Heartbeat) -> ops.HeartbeatReply:
        process = self.processes.get(owner.name)
        if process is not None:
            self._prolong(process)
        heard = self.unheard.pop(owner.name, {})
        for key, at in heard.items():
            if key not in self.ledger.records:  # else it was brought back, long after its end
                self.changed["lease:" + key] = (at, "told")
        fresh = tuple(key for key, at in heard.items() if self.now - at < ops.TOMBSTONE_SECONDS)
        return ops.HeartbeatReply(process is not None and not process.forgotten, fresh)

    def _register(self, owner: ops.Owner, register: ops.Register) -> tuple[str, ...]:
        process = self._hear(owner, forgotten=False)
        process.forgotten = False
        self._prolong(process)
        ended = []
        for state in register.rows:
            record: Any = self.ledger.records.get(state.key)
            if self.barred(state.key):
                ended.append(state.key)
            elif record is None:
                self._revive(owner, state)
            elif record.orphaned and record.state is AMBIGUOUS:
                record.adverse, record.orphaned = state.adverse, False
                self.ledger.hold(record)
                self.changed["lease:" + state.key] = None
        return tuple(ended)

    def _revive(self, owner: ops.Owner, state: ops.LeaseState) -> None:
        """Bring a held lease back, even over capacity."""
        record = FleetLease(state.key, state.label, state.scope)
        record.owner, record.held_since, record.state, record.adverse = (
            owner.host_pid, self.now - state.age, HELD, state.adverse,
        )  # fmt: skip
        record.accepted, record.declined = state.accepted, state.declined
        self._bring_back(record, state.account)

    def _bring_back(self, record: LeaseRecord, account_id: str) -> None:
        """Write down a lease that was forgotten, on an account that may be so, too."""
        if account_id not in self.ledger.account_states:
            self._note_account(account_id)
        self.add(record, self.make_sure_of(account_id))
        self.ledger.update_selector(record.account_state)
        self.changed[f"lease:{record.key}"] = None

    def make_sure_of(self, id: str) -> AccountState:
        """Return an account that leases run on: one that no table names is draining."""
        account_state = self.ledger.account_states.get(id)
        if account_state is None:
            account_state = self.ledger.account_states[id] = AccountState(Account(id))
            account_state.draining = True
            account_state.external = self.ledger.external.get(id, 0)
            account_state.compute_left()
            self.ledger.place_anew(account_state)
        return account_state

    def _set_wanted(self, owner: ops.Owner, wanted: ops.SetWanted) -> None:
        self._want(self.processes[owner.name], wanted.wants, wanted.priority)

    # -- the machine's clock ------------------------------------------------------------------------

    def set_clock(self, boot: str, wall_offset: float) -> None:
        """Say which start of the machine instants belong to, and what to add to them for the time of day.

        If the time of day was set since it was said last, the ends are corrected that go by it.
        """
        if self.boot == boot and abs(self.wall_offset - wall_offset) < CLOCK_SLACK:
            return
        self.boot, self.wall_offset = boot, wall_offset
        self.changed["clock:"] = None
        for record in self.carried:
            self._correct(record)

    def _correct(self, record: Any) -> None:
        """Have a lease end at its time of day: not before somebody could set a wrong clock, nor too late."""
        end = record.wall_end - self.wall_offset
        soonest = min(record.latest, self.restarted_at + CLOCK_GRACE)
        self.ledger.set_end(record, min(max(end, soonest), record.latest))
        self.changed[f"lease:{record.key}"] = None

    @property
    def last_seen(self) -> float:
        """The last instant at which something is known to have happened."""
        ledger = self.ledger
        seen = [self.fetched_at, *ledger.done.values()]
        seen += [
            record.state_since if record.end is not None else record.held_since
            for record in ledger.records.values()
        ]
        seen += [claim.done_at for claim in self.claims.values() if claim.done_at is not None]
        return max(seen)

    def restart(self, boot: str, wall_offset: float, now: float) -> None:
        """Tell every instant by the clock of another start of the machine, whose processes are gone.

        Bound and ambiguous leases stay, as their jobs run elsewhere. The time of day connects the two clocks;
        but it may be wrong so soon after a start. So no time is taken to have gone backward, and no lease
        ends at once; and the ends are worked out again when the time of day is set.
        """
        ledger = self.ledger
        self.now = seen = self.last_seen  # by the old clock
        shift = min(self.wall_offset - wall_offset, now - seen)
        self._end_orphans([record for record in ledger.records.values() if record.state is HELD])
        self.now = now
        for process in list(self.processes.values()):
            self.deadlines.drop(("look", process.name))
            self.deadlines.drop(("offer", process.name))
        self.processes, self.line, self.unheard = {}, [], {}
        for record in ledger.records.values():
            self._carry(record, shift, now - seen)
        for cooldown in (
            cooldown
            for account_state in ledger.account_states.values()
            for cooldown in account_state.cooldowns.values()
        ):
            cooldown.until += shift
        for account_state in ledger.account_states.values():
            if (limit := account_state.limit) is not None:
                account_state.limit = limit._replace(next_trial_at=limit.next_trial_at + shift)
            account_state.spaced_until = None
        self._shift_memories(shift)
        ledger.recount()
        self.boot, self.wall_offset, self.restarted_at = boot, wall_offset, now
        for record in self.carried:
            self._correct(record)

    def _carry(self, record: Any, shift: float, most: float) -> None:
        """Carry a lease over to another clock. ``most``: the shift if no time had gone by."""
        if record.wall_end is None:
            record.wall_end = record.end + self.wall_offset
        record.latest = (record.end if record.latest is None else record.latest) + most
        record.held_since, record.state_since, record.end = (
            record.held_since + shift,
            record.state_since + shift,
            record.latest,
        )
        self.carried.add(record)

    def _shift_memories(self, shift: float) -> None:
        ledger, now = self.ledger, self.now
        done, early = list(ledger.done.items()), list(ledger.early)
        ledger.done.clear()
        ledger.early.clear()
        for job_id, at in done:
            self.now = min(now, at + shift)
            ledger.done[job_id] = self.now
        self.now = now
        for job_id in early:
            ledger.early[job_id] = True
        self.fetched_at += shift
        ledger.listed_at += shift
        for claim in self.claims.values():
            claim.owner = claim.void_at = None
            claim.done_at = None if claim.done_at is None else claim.done_at + shift
            claim.retry_at = None if claim.retry_at is None else claim.retry_at + shift

    def take_back(self, owner: ops.Owner, lost: FleetLedger, now: float) -> None:
        """Put in force again what a process knows of its own leases, after others had begun without it.

        Args:
            owner: The process.
            lost: What it knew.
            now: The instant.
        """
        self.now = now
        own, records = owner.name + "-", self.ledger.records
        for record in [record for record in records.values() if str(record.key).startswith(own)]:
            if record.key not in lost.ledger.records and record.state is HELD:
                self._finish(record, "own")
        for record in lost.leases:
            if (
                str(record.key).startswith(own)
                and record.key not in records
                and not self.barred(str(record.key))
            ):
                self._bring_back(record, record.account_state.id)

    # -- reading ------------------------------------------------------------------------------------

    @property
    def leases(self) -> Iterator[LeaseRecord]:
        """The live leases; what is reserved for waiting processes is none."""
        return (record for record in self.ledger.records.values() if not record.reserves)

    def inspect(self, look: Callable[[Ledger], T]) -> T:
        """Return what ``look`` reads from the ledger, in which a reserved slot is taken, but is no lease."""
        ledger = self.ledger
        reserved = [process.offer for process in self.waiting if process.offer is not None]
        for record in reserved:
            del ledger.records[record.key], record.account_state.held[record.key]
        try:
            return look(ledger)
        finally:
            for record in reserved:
                ledger.records[record.key] = record.account_state.held[record.key] = record

    def _read_some(self, _: ops.Owner, some: ops.ReadSome) -> ops.State:
        states, now = self.ledger.account_states, self.now
        shown = [states[id] for id in some.accounts if id in states]
        table = AccountTable({each.id: each.account for each in shown if not each.draining})
        soon = self.ledger.timers.next
        return self._told_of(
            shown,
            table=table if self.version else None,
            external={each.id: each.external for each in shown if each.external},
            detached=len(self.ledger.detached_since),
            next_end=None if soon == math.inf else max(0.0, soon - now),
        )

    def _read_all(self, *_: object) -> ops.State:
        ledger, now = self.ledger, self.now
        return self._told_of(
            list(ledger.account_states.values()),
            table=self.table if self.version else None,
            external=dict(ledger.external),
            done={job_id: now - at for job_id, at in ledger.done.items()},
        )

    def _told_of(self, shown: list[AccountState], **more: Any) -> ops.State:
        """Return what is held of some accounts, and what is told beside it."""
        now = self.now
        leases = [record for each in shown for record in each.held.values() if not record.reserves]
        reserving = (record for each in shown for record in each.held.values() if record.reserves)
        return ops.State(
            version=self.version,
            draining=tuple(each.account for each in shown if each.draining),
            rows=tuple(_lease_state(record, now) for record in leases),
            cooldowns=_cooldown_states(shown, now),
            restrictions=_restriction_states(shown, now),
            owners={owner_of(record.key): record.owner or "" for record in leases},
            offers=Counter(record.account_state.id for record in reserving),
            **more,
        )

    # -- what has changed ---------------------------------------------------------------------------

    def _note_end(self, key: object, by: str) -> None:
        self.changed[f"lease:{key}"] = (self.now, by)

    def _note_process(self, name: str) -> None:
        self.changed["process:" + name] = None

    def _note_account(self, id: str) -> None:
        self.changed["account:" + id] = None

    def _note_job(self, job_id: str, what: str) -> None:
        self.changed["job:" + job_id] = (self.now, what)

    def remember(self, before: FleetLedger) -> None:
        """Take over what another replica of the same process remembers of its leases that have ended."""
        self.tombstones, self._others = before.tombstones, before._others

    # -- leases that were granted before ------------------------------------------------------------

    def add(self, record: LeaseRecord, account_state: AccountState) -> None:
        """Write down a lease that was granted before, as it is."""
        ledger = self.ledger
        record.account_state = account_state
        ledger.records[record.key] = account_state.held[record.key] = record
        account_state.left -= 1
        if record.state is BOUND:
            ledger.jobs.update(dict.fromkeys(record.running_jobs, record))
        if record.end is not None:
            ledger.timers.set(record, record.end)
            ledger.detached_since.set(record, record.state_since)

    def remove(self, record: LeaseRecord) -> None:
        """Cross out a lease; what follows from its end comes in entries of its own."""
        ledger, account_state = self.ledger, record.account_state
        record.state = ENDED
        self.carried.discard(record)
        del ledger.records[record.key], account_state.held[record.key]
        account_state.left += 1
        for job_id in record.job_ids:
            if ledger.jobs.get(job_id) is record:
                del ledger.jobs[job_id]
        ledger.timers.drop(record)
        ledger.detached_since.drop(record)
        ledger.place(account_state)


def _read_nothing(*_: object) -> None:
    """Whoever asks reads by itself, once this is done."""


def owner_of(key: object) -> str:
    """Return the name of the process that a lease was granted to."""
    return str(key).rpartition("-")[0]


def _adopted(record: LeaseRecord, now: float) -> ops.Adopted:
    live, age = record.state is BOUND, now - record.held_since
    return ops.Adopted(str(record.key), record.account_state.id, live, record.job_ids, age, record.label)


def _settings_told(settings: ops.Settings) -> dict[str, Any]:
    return {
        "strategy": settings.strategy,
        "lease_ttl": settings.lease_ttl,
        "job_ttl": settings.job_ttl,
        "ambiguous_ttl": settings.ambiguous_ttl,
    }


def _cooldown_states(account_states: Iterable[AccountState], now: float) -> tuple[ops.CooldownState, ...]:
    return tuple(
        ops.CooldownState(
            account=account_state.id,
            scope=cooldown.scope,
            left=cooldown.until - now if cooldown.cooling else 0.0,
            reason=cooldown.reason,
            worth_waiting=cooldown.worth_waiting,
            probe=None if cooldown.probe is None else str(cooldown.probe),
        )
        for account_state in account_states
        for cooldown in account_state.cooldowns.values()
    )


def _restriction_states(
    account_states: Iterable[AccountState], now: float
) -> tuple[ops.RestrictionState, ...]:
    return tuple(
        ops.RestrictionState(
            account=each.id,
            **({} if each.limit is None else _limit_state(each.limit, now)),
            spaced_for=None if each.spaced_until is None else each.spaced_until - now,
        )
        for each in account_states
        if each.restricted
    )


def _limit_state(limit: Limit, now: float) -> dict[str, Any]:
    return {
        "jobs": limit.jobs,
        "next_trial_in": limit.next_trial_at - now,
        "wait": limit.wait,
        "trial": None if limit.trial is None else str(limit.trial),
        "due": limit.due,
    }


def _lease_state(record: LeaseRecord, now: float) -> ops.LeaseState:
    held = record.state is HELD
    return ops.LeaseState(
        key=str(record.key),
        account=record.account_state.id,
        state=record.state,
        age=now - record.held_since,
        label=record.label,
        scope=record.scope,
        job_id=record.job_id,
        other_jobs=record.other_jobs,
        ended_jobs=tuple(sorted(record.ended_jobs)),
        state_age=0.0 if held else now - record.state_since,
        expires_in=None if record.end is None else record.end - now,
        adverse=record.adverse,
        accepted=record.accepted,
        declined=record.declined,
        missed=record.missed,
    )
