"""Who holds what, who cools down, who probes: the rules of the library, without locks, clocks or I/O.

MUTABLE 1 of 2 (the other is the catalog). ``now`` and the random number are arguments, so that
every decision can be repeated. Whoever owns a ledger sees to it that one thread at a time is in it
and that ``due(now)`` was called before it decides anything at ``now``.

The rows are what is true. Everything else that changes in here is derived from them and can be
worked out again: see :meth:`Ledger.recount`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cachetools import TTLCache

from balancer.agenda import Agenda
from balancer.model import Account, Table
from balancer.room import OUT, STRATEGIES, Room
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, NEW, Key, Pause, Row, Tally, Ticket

EARLY_RELEASES = 10_000
EARLY_RELEASE_TTL = 600.0


@dataclass(frozen=True, slots=True)
class Changes:
    """How one table differs from another."""

    put: tuple[Account, ...] = ()
    gone: tuple[str, ...] = ()

    @staticmethod
    def between(old: Table | None, new: Table) -> Changes:
        """Compare two tables. It may take long, and needs no lock as tables never change."""
        before: Mapping[str, Account] = old.accounts if old else {}
        put = tuple(account for id, account in new.accounts.items() if before.get(id) != account)
        return Changes(put, tuple(id for id in before if id not in new.accounts))


class Ledger:
    """Leases and accounts of one pool."""

    def __init__(self, strategy: str, timer: Callable[[], float], *, lower_only: bool = False) -> None:
        self.rows: dict[Key, Row] = {}
        self.tallies: dict[str, Tally] = {}
        self.jobs: dict[str, Row] = {}
        """The rows that are bound, by job id."""
        self.room: Room = STRATEGIES[strategy]()
        self.agenda: Agenda[Row | Pause] = Agenda()
        """What ends by itself: bound and ambiguous rows, and pauses that are cooling."""
        self.early: TTLCache[str, bool] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released before anybody bound them."""
        self.done: TTLCache[str, float] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released, and when: the server's list may lag behind."""
        self.loose: Agenda[Row] = Agenda()
        """Bound and ambiguous rows by since when: no block of code will end them."""
        self.external: Mapping[str, int] = {}
        """Jobs of others on each account, as last listed; accounts that are not here have none."""
        self.lower_only = lower_only
        """A ticket's ``max_jobs`` can lower an account's capacity but not raise it."""

    # -- time ---------------------------------------------------------------------------------

    def due(self, now: float) -> tuple[list[Row], list[Tally]]:
        """End what has ended by ``now``. Return the expired rows and the accounts that changed."""
        expired: list[Row] = []
        changed: list[Tally] = []
        for thing in self.agenda.due(now):
            changed.append(thing.tally)
            if isinstance(thing, Row):
                expired.append(thing)
                self.end(thing)
            else:
                thing.cooling = False
                self.refile(thing.tally)
        return expired, changed

    # -- leases -------------------------------------------------------------------------------

    def take(self, ticket: Ticket, now: float) -> bool:
        """Grant the ticket's lease on an account that chance picks among those that fit, if any does.

        A lease that is live already stays where it is: the step that granted it was cut short before
        its caller was out of the line. Its state is set last, so that before there is no grant.
        """
        row = ticket.row
        if row.key in self.rows:
            return True
        tally = self._choose(ticket)
        if tally is None:
            return False
        row.tally, row.held_since = tally, now
        for pause in tally.pauses_for(row.scope):
            pause.probe = row.key
        self.rows[row.key] = tally.held[row.key] = row
        row.state = HELD
        self.refile(tally)
        return True

    def fits(self, ticket: Ticket, tally: Tally) -> bool:
        """Whether ``ticket`` may be served by ``tally`` now."""
        return tally.fits(self.capacity_for(ticket, tally), ticket.scope)

    def capacity_for(self, ticket: Ticket, tally: Tally) -> int | None:
        """Return the capacity that replaces the account's own for this decision, or None."""
        if ticket.max_jobs is None or not self.lower_only:
            return ticket.max_jobs
        return min(ticket.max_jobs, tally.account.capacity)

    def candidates(self, ticket: Ticket) -> list[Tally]:
        """Return the accounts that the ticket's constraints leave."""
        if ticket.accounts is None:
            return list(self.tallies.values())
        return [self.tallies[id] for id in ticket.accounts if id in self.tallies]

    def _choose(self, ticket: Ticket) -> Tally | None:
        if ticket.alike == (None, None, None):
            return self.room.pick(ticket.draw)
        fitting = [tally for tally in self.candidates(ticket) if self.fits(ticket, tally)]
        if not fitting:
            return None
        best = sorted(self.room.prefer(fitting), key=_id)
        return best[int(ticket.draw * len(best))]

    def end(self, row: Row) -> Tally:
        """End a live lease, whatever its state, and return its account."""
        tally = row.tally
        row.state = ENDED
        del self.rows[row.key], tally.held[row.key]
        if row.job_id is not None:
            self.jobs.pop(row.job_id, None)
        self.agenda.drop(row)
        self.loose.drop(row)
        if tally.pauses:
            self._conclude(row, well=not row.adverse)
        self.refile(tally)
        return tally

    def finish(self, row: Row, now: float) -> Tally:
        """End a lease because its user says that the job is over."""
        if row.job_id is not None:
            self.done[row.job_id] = now
        return self.end(row)

    def bind(self, row: Row, job_id: str, end: float, now: float) -> bool:
        """Tie a live lease to its job until ``end``. False: the job was released already, so it ended.

        Raises:
            ValueError: the job is another lease's, or the lease another job's.
        """
        if self.jobs.get(job_id, row) is not row:
            raise ValueError(f"job_id {job_id!r} is bound to another lease already")
        if row.state == BOUND and row.job_id != job_id:
            raise ValueError(f"job_id {job_id!r}: the lease is bound to {row.job_id!r} already")
        if job_id in self.early:
            row.job_id = job_id
            self._conclude(row, well=True)
            self.finish(row, now)
            self.early.pop(job_id, None)
            return False
        row.job_id, row.missed = job_id, 0
        self.jobs[job_id] = row
        self._loosen(row, BOUND, end, now)
        self._conclude(row, well=True)
        return True

    def doubt(self, row: Row, end: float, now: float) -> None:
        """Keep the slot of a lease of which nobody knows whether its job runs, until ``end``."""
        if row.state != BOUND:
            self._loosen(row, AMBIGUOUS, end, now)

    def _loosen(self, row: Row, state: str, end: float, now: float) -> None:
        row.end, row.state_since, row.state = end, now, state
        self.loose.set(row, now)
        self.agenda.set(row, end)

    def set_end(self, row: Row, end: float) -> None:
        """Have a live lease end by itself at ``end``."""
        row.end = end
        self.agenda.set(row, end)

    def prolong(self, row: Row, end: float) -> None:
        """Have a lease whose job still runs end at ``end``, unless its user gave it longer."""
        if row.end is not None and row.end < end:
            self.set_end(row, end)

    def forget_job(self, job_id: str) -> Row | None:
        """Return the lease bound to a job; remember the job as released if there is none."""
        row = self.jobs.get(job_id)
        if row is None:
            self.early[job_id] = True
        return row

    # -- cooldowns and probing ----------------------------------------------------------------

    def accept(self, row: Row) -> None:
        """The account took the job: if this lease probes, the probing is over."""
        self._conclude(row, well=True)

    def cool(self, tally: Tally, scope: str | None, until: float, reason: str, worth_waiting: bool) -> None:
        """Put the account, or one scope of it, in a cooldown. A longer one wins over a shorter."""
        old = tally.pauses.get(scope)
        if old is not None:
            if old.cooling and old.until >= until:
                return
            self.agenda.drop(old)
        pause = tally.pauses[scope] = Pause(tally, scope, until, reason, worth_waiting)
        self.agenda.set(pause, until)
        self.refile(tally)

    def reset(self, tally: Tally) -> None:
        """Clear what verdicts made of the account; never what the configuration says."""
        for pause in tally.pauses.values():
            self.agenda.drop(pause)
        tally.pauses.clear()
        self.refile(tally)

    def _conclude(self, row: Row, *, well: bool) -> None:
        tally = row.tally
        for scope, pause in list(tally.pauses.items()):
            if pause.probe == row.key:
                pause.probe = None
                if well and not pause.cooling:
                    del tally.pauses[scope]
        self.refile(tally)

    # -- the configuration and the server's list ----------------------------------------------

    def configure(self, changes: Changes) -> list[Tally]:
        """Bring the accounts in line with the configuration; leases stay. Return what changed.

        Doing it again changes nothing, so that it can be repeated if it was cut short.
        """
        gone = [self.tallies[id] for id in changes.gone if id in self.tallies]
        for tally in gone:
            tally.draining = True
            self._remeasure(tally)
        return gone + [self._put(account) for account in changes.put]

    def set_external(self, external: Mapping[str, int]) -> list[Tally]:
        """Take over how many jobs of others run on each account. Return what changed."""
        ids = self.external.keys() | external.keys()
        self.external = external
        changed = [self.tallies[id] for id in ids if id in self.tallies]
        for tally in changed:
            self._remeasure(tally)
        return changed

    def _put(self, account: Account) -> Tally:
        tally = self.tallies.get(account.id)
        if tally is None:
            tally = self.tallies[account.id] = Tally(account)
        healed = tally.account.broken is not None and account.broken is None
        tally.account, tally.draining = account, False
        if healed:
            for pause in tally.pauses.values():
                pause.cooling = False
                self.agenda.drop(pause)
        self._remeasure(tally)
        return tally

    def _remeasure(self, tally: Tally) -> None:
        tally.external = self.external.get(tally.id, 0)
        tally.measure()
        self.refile(tally)

    # -- derived state ------------------------------------------------------------------------

    def refile(self, tally: Tally) -> None:
        """Have the account stand among those with room exactly if it has room."""
        self.room.file(tally, tally.fits())
        if tally.draining and not tally.held and not any(p.cooling for p in tally.pauses.values()):
            self._drop(tally)

    def _drop(self, tally: Tally) -> None:
        self.tallies.pop(tally.id, None)

    def recount(self) -> None:
        """Derive everything from the rows again, after an operation was cut short in its middle.

        An exception such as KeyboardInterrupt can arrive between any two steps. A row's state is what
        counts: it is the last thing that a grant or a bind sets, and the first that an end does.
        """
        self.rows = {key: row for key, row in self.rows.items() if row.state not in (NEW, ENDED)}
        self.jobs, self.agenda, self.loose = {}, Agenda(), Agenda()
        self.room.clear()
        for tally in self.tallies.values():
            tally.held, tally.place = {}, OUT
        for row in self.rows.values():
            self._recount_row(row)
        for tally in list(self.tallies.values()):
            self._recount_pauses(tally)
            self._remeasure(tally)

    def _recount_row(self, row: Row) -> None:
        row.tally.held[row.key] = row
        if row.state != BOUND:
            row.job_id = None
        elif row.job_id is not None:
            self.jobs[row.job_id] = row
        if row.state == HELD:
            row.end = None
        elif row.end is not None:
            self.agenda.set(row, row.end)
            self.loose.set(row, row.state_since)

    def _recount_pauses(self, tally: Tally) -> None:
        for pause in tally.pauses.values():
            if pause.cooling:
                self.agenda.set(pause, pause.until)
            if pause.probe not in tally.held:
                pause.probe = None

    def hopeless(self, ticket: Ticket) -> bool:
        """Whether waiting cannot help: every candidate needs mending, or there is none."""
        tallies: Iterable[Tally] = (
            self.tallies.values() if ticket.accounts is None else self.candidates(ticket)
        )
        return not any(tally.worth_waiting(ticket.scope) for tally in tallies)


def _id(tally: Tally) -> str:
    return tally.id
