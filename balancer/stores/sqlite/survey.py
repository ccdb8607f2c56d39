"""What the server's list of jobs means for the leases of a pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from balancer.rules.records import AMBIGUOUS, BOUND
from balancer.stores import operations as ops
from balancer.stores.sqlite.books import Books, LeaseRow
from balancer.stores.sqlite.fleet import Fleet
from balancer.stores.sqlite.leases import Leases


class Survey:
    """Puts into effect what one process has worked out for all."""

    def __init__(self, books: Books, leases: Leases, fleet: Fleet, job_ttl: float) -> None:
        self._books, self._leases, self._fleet, self._job_ttl = books, leases, fleet, job_ttl

    def apply(self, plan: ops.Apply) -> tuple[str, ...] | None:
        """Put a plan into effect. Return the keys of the leases that it ended; None: the claim is void."""
        if not self._fleet.holds("survey", plan.number):
            return None
        self._fleet.done("survey")
        self._set_external(plan.external)
        books, usual = self._books, self._job_ttl
        ended = [
            key
            for key, job in plan.bind
            for lease in self._in_state([key], AMBIGUOUS)
            if self._leases.tie(lease, job, usual) == "over"
        ]
        for lease in self._in_state(plan.prolong, BOUND):
            books.set_end(lease, max(lease.ends or 0.0, books.now + usual))
        for lease in self._in_state(plan.missed, BOUND):
            books.set_missed(lease.key, plan.missed[lease.key])
        over = [*self._in_state(plan.reclaim, BOUND), *self._in_state(plan.resolve, AMBIGUOUS)]
        for lease in over:
            self._leases.bury(lease)
        return (*ended, *(lease.key for lease in over))

    def _in_state(self, keys: Iterable[str], state: str) -> list[LeaseRow]:
        found = [self._books.lease(key) for key in keys]
        return [lease for lease in found if lease is not None and lease.state == state]

    def _set_external(self, external: Mapping[str, int]) -> None:
        """Take over how many jobs of others run on each account."""
        run, pool = self._books.run, self._books.pool
        old = dict(run("SELECT account, jobs FROM external WHERE pool = ?", (pool,)).fetchall())
        run("DELETE FROM external WHERE pool = ?", (pool,))
        for id, jobs in external.items():
            run("INSERT INTO external (pool, account, jobs) VALUES (?, ?, ?)", (pool, id, jobs))
        for id in old.keys() | external.keys():
            jobs = external.get(id, 0)
            if jobs != old.get(id, 0):
                run("UPDATE account SET external = ? WHERE pool = ? AND id = ?", (jobs, pool, id))
                self._books.refile(id)
