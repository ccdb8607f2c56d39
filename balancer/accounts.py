"""The accounts of one pool: what the configuration says, who cools down or probes, who has room.

The base of the ledger, which adds the leases. An account is found by chance among those that fit at
the same cost however many there are; every way of changing one ends in :meth:`Accounts.refile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from balancer.agenda import Agenda
from balancer.model import Account, Table
from balancer.room import STRATEGIES, Room
from balancer.tally import NO_PAUSES, Pause, Row, Tally, Ticket


class Changes(NamedTuple):
    """How one table differs from another."""

    put: tuple[Account, ...] = ()
    gone: tuple[str, ...] = ()

    @staticmethod
    def between(old: Table | None, new: Table) -> Changes:
        """Compare two tables. It may take long, and needs no lock as tables never change."""
        before: Mapping[str, Account] = old.accounts if old else {}
        put = tuple(account for id, account in new.accounts.items() if before.get(id) != account)
        return Changes(put, tuple(id for id in before if id not in new.accounts))


class Accounts:
    """Accounts, their cooldowns, and the choice among them."""

    def __init__(self, strategy: str, *, lower_only: bool) -> None:
        self.tallies: dict[str, Tally] = {}
        self.room: Room = STRATEGIES[strategy]()
        self.agenda: Agenda[Row | Pause] = Agenda()
        """What ends by itself: bound and ambiguous rows, and pauses that are cooling."""
        self.external: Mapping[str, int] = {}
        """Jobs of others on each account, as last listed; accounts that are not here have none."""
        self.lower_only = lower_only
        """A ticket's ``max_jobs`` can lower an account's capacity but not raise it."""

    # -- the choice ---------------------------------------------------------------------------

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

    def choose(self, ticket: Ticket) -> Tally | None:
        """Return the account that the ticket's draw falls on among those that fit, or None."""
        if ticket.alike == (None, None, None):
            return self.room.pick(ticket.draw)
        fitting = [tally for tally in self.candidates(ticket) if self.fits(ticket, tally)]
        if not fitting:
            return None
        best = sorted(self.room.prefer(fitting), key=_id)
        return best[int(ticket.draw * len(best))]

    def hopeless(self, ticket: Ticket) -> bool:
        """Whether waiting cannot help: every candidate needs mending, or there is none."""
        tallies: Iterable[Tally] = (
            self.tallies.values() if ticket.accounts is None else self.candidates(ticket)
        )
        return not any(tally.worth_waiting(ticket.scope) for tally in tallies)

    # -- cooldowns and probing ----------------------------------------------------------------

    def cool(self, tally: Tally, scope: str | None, until: float, reason: str, worth_waiting: bool) -> None:
        """Put the account, or one scope of it, in a cooldown. A longer one wins over a shorter."""
        old = tally.pauses.get(scope)
        if old is not None:
            if old.cooling and old.until >= until:
                return
            self.agenda.drop(old)
        pause = Pause(tally, scope, until, reason, worth_waiting)
        tally.put_pause(pause)
        self.agenda.set(pause, until)
        self.refile(tally)

    def reset(self, tally: Tally) -> None:
        """Clear what verdicts made of the account; never what the configuration says."""
        for pause in tally.pauses.values():
            self.agenda.drop(pause)
        tally.pauses = NO_PAUSES
        self.refile(tally)

    def conclude(self, row: Row, *, well: bool) -> None:
        """End the turn of a lease that probes. Did it go ``well``, the probing is over."""
        tally = row.tally
        for scope, pause in list(tally.pauses.items()):
            if pause.probe == row.key:
                pause.probe = None
                if well and not pause.cooling:
                    tally.drop_pause(scope)
        self.refile(tally)

    # -- the configuration and the server's list ----------------------------------------------

    def configure(self, changes: Changes) -> list[Tally]:
        """Bring the accounts in line with the configuration; leases stay. Return what changed.

        Doing it again changes nothing, so that it can be repeated if it was cut short.
        """
        gone = [self.tallies[id] for id in changes.gone if id in self.tallies]
        for tally in gone:
            tally.draining = True
            self.remeasure(tally)
        return gone + [self._put(account) for account in changes.put]

    def set_external(self, external: Mapping[str, int]) -> list[Tally]:
        """Take over how many jobs of others run on each account. Return what changed."""
        ids = self.external.keys() | external.keys()
        self.external = external
        changed = [self.tallies[id] for id in ids if id in self.tallies]
        for tally in changed:
            self.remeasure(tally)
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
        self.remeasure(tally)
        return tally

    def remeasure(self, tally: Tally) -> None:
        """Work out anew how much room the account has."""
        tally.external = self.external.get(tally.id, 0)
        tally.measure()
        self.refile(tally)

    def refile(self, tally: Tally) -> None:
        """Have the account stand among those with room exactly if it has room."""
        self.room.file(tally, tally.fits())
        if tally.draining and not tally.held and not any(p.cooling for p in tally.pauses.values()):
            self._drop(tally)

    def _drop(self, tally: Tally) -> None:
        self.tallies.pop(tally.id, None)
        self.room.forget(tally)

    def recount_pauses(self, tally: Tally) -> None:
        """Enter the account's cooldowns in the agenda again."""
        for pause in tally.pauses.values():
            if pause.cooling:
                self.agenda.set(pause, pause.until)
            if pause.probe not in tally.held:
                pause.probe = None


def _id(tally: Tally) -> str:
    return tally.id
