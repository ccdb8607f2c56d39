"""Who holds what, who cools down, who probes: the rules of the library, without locks, clocks or I/O.

MUTABLE 1 of 2 (the other is the catalog). ``now`` and the random number are arguments, so that
every decision can be repeated. Whoever owns a ledger sees to it that one thread at a time is in it
and that ``due(now)`` was called before it decides anything at ``now``.

The rows are what is true. Everything else that changes in here is derived from them and can be
worked out again: see :meth:`Ledger.recount`.
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TTLCache

from balancer.accounts import Accounts, Changes
from balancer.agenda import Agenda
from balancer.room import OUT
from balancer.tally import AMBIGUOUS, BOUND, ENDED, HELD, NEW, Key, Row, Tally, Ticket

__all__ = ["EARLY_RELEASES", "EARLY_RELEASE_TTL", "Changes", "Ledger"]

EARLY_RELEASES = 10_000
EARLY_RELEASE_TTL = 600.0


class Ledger(Accounts):
    """Leases and accounts of one pool."""

    def __init__(self, strategy: str, timer: Callable[[], float], *, lower_only: bool = False) -> None:
        super().__init__(strategy, lower_only=lower_only)
        self.rows: dict[Key, Row] = {}
        self.jobs: dict[str, Row] = {}
        """The rows that are bound, by job id."""
        self.early: TTLCache[str, bool] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released before anybody bound them."""
        self.done: TTLCache[str, float] = TTLCache(EARLY_RELEASES, EARLY_RELEASE_TTL, timer)
        """Jobs that were released, and when: the server's list may lag behind."""
        self.loose: Agenda[Row] = Agenda()
        """Bound and ambiguous rows by since when: no block of code will end them."""

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
        tally = self.choose(ticket)
        if tally is None:
            return False
        row.tally, row.held_since = tally, now
        for pause in tally.pauses_for(row.scope):
            pause.probe = row.key
        self.rows[row.key] = tally.held[row.key] = row
        tally.left -= 1
        row.state = HELD
        self.refile(tally)
        return True

    def end(self, row: Row) -> Tally:
        """End a live lease, whatever its state, and return its account."""
        tally = row.tally
        row.state = ENDED
        del self.rows[row.key], tally.held[row.key]
        tally.left += 1
        if row.job_id is not None:
            self.jobs.pop(row.job_id, None)
        self.agenda.drop(row)
        self.loose.drop(row)
        if tally.pauses:
            self.conclude(row, well=not row.adverse)
        self.refile(tally)
        return tally

    def exchange(self, old: Row, new: Row, now: float) -> bool:
        """End a held lease and grant its slot to ``new``, if that is all there is to do. False: it is not.

        So it is on an account that was just full and has no pause: nothing changes for anybody else.
        """
        tally = old.tally
        if old.state is not HELD or new.state is not NEW or tally.pauses or tally.left:
            return False
        old.state = ENDED
        del self.rows[old.key], tally.held[old.key]
        new.tally, new.held_since = tally, now
        self.rows[new.key] = tally.held[new.key] = new
        new.state = HELD
        return True

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
            self.conclude(row, well=True)
            self.finish(row, now)
            self.early.pop(job_id, None)
            return False
        row.job_id, row.missed = job_id, 0
        self.jobs[job_id] = row
        self._loosen(row, BOUND, end, now)
        self.conclude(row, well=True)
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
        """Return the lease bound to a job; remember the job as released if there never was one.

        A callback may come twice: what was released already, and ended a lease, frees no later one.
        """
        row = self.jobs.get(job_id)
        if row is None and job_id not in self.done:
            self.early[job_id] = True
        return row

    # -- cooldowns and probing ----------------------------------------------------------------

    def accept(self, row: Row) -> None:
        """The account took the job: if this lease probes, the probing is over."""
        self.conclude(row, well=True)

    # -- derived state ------------------------------------------------------------------------

    def recount(self) -> None:
        """Derive everything from the rows again, after an operation was cut short in its middle.

        An exception such as KeyboardInterrupt can arrive between any two steps. A row's state is what
        counts: it is the last thing that a grant or a bind sets, and the first that an end does.
        """
        for key in [key for key, row in self.rows.items() if row.state in (NEW, ENDED)]:
            del self.rows[key]
        self.jobs, self.agenda, self.loose = {}, Agenda(), Agenda()
        self.room.clear()
        for tally in self.tallies.values():
            tally.held, tally.place = {}, OUT
        for row in self.rows.values():
            self._recount_row(row)
        for tally in list(self.tallies.values()):
            self.recount_pauses(tally)
            self.remeasure(tally)

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
