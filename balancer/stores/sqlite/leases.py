"""What operations do to leases and accounts."""

from __future__ import annotations

from balancer.rules.records import BOUND, HELD
from balancer.stores import operations as ops
from balancer.stores.sqlite.books import Books, Cooldown, LeaseRow
from balancer.stores.sqlite.choice import Choice
from balancer.stores.sqlite.memory import DONE, EARLY, Memory


class Leases:
    """The operations of one owner that concern leases, verdicts and cooldowns."""

    def __init__(self, books: Books, memory: Memory, settings: ops.Settings, owner: ops.Owner) -> None:
        self._books, self._memory = books, memory
        self._settings, self._owner = settings, owner
        self.choice = Choice(books, settings.strategy, lower_only=settings.lower_only)

    def gone(self, lease: LeaseRow) -> ops.EndedLease:
        """Return what is told of a lease that has ended."""
        age = self._books.now - lease.since
        return ops.EndedLease(lease.key, lease.account, lease.state, lease.job, lease.label, age)

    # -- leases -------------------------------------------------------------------------------------

    def grant(self, take: ops.Acquire) -> str | None:
        """Grant a lease. Return its account, or None."""
        books = self._books
        live = books.lease(take.key)
        if live is not None or self._memory.buried(take.key):
            return live and live.account
        chosen = self.choice.choose(take.draw, take.accounts, take.max_jobs, take.scope)
        if chosen is None:
            return None
        lease = LeaseRow(
            take.key, chosen.id, HELD, books.now, self._owner.host_pid, take.label, take.scope,
            has_room=chosen.leaves_room,
        )  # fmt: skip
        books.enter(lease)
        return chosen.id

    def end(self, end: ops.Release) -> ops.EndedLease | None:
        """End a lease by key or by job, or remember that it is over."""
        if end.job_id is not None:
            lease = self._books.lease_of(end.job_id)
            if lease is None and not self._memory.has(DONE, end.job_id):
                self._memory.add(EARLY, end.job_id)  # what ended a lease already frees no later one
        else:
            lease = self._books.lease(end.key or "")
            if lease is None:
                self._memory.bury(end.key or "")
        if lease is None:
            return None
        theirs = not lease.key.startswith(self._owner.name + "-")
        self._finish(lease, unheard=theirs and lease.state != BOUND)
        return self.gone(lease)

    def _finish(self, lease: LeaseRow, *, unheard: bool = False) -> None:
        """End a lease because its user says that the job is over."""
        if lease.job is not None:
            self._memory.add(DONE, lease.job)
        self.bury(lease, unheard=unheard)

    def bury(self, lease: LeaseRow, *, unheard: bool = False) -> None:
        """End a lease and leave a tombstone. ``unheard``: its owner does not know."""
        self._memory.bury(lease.key, unheard=unheard)
        self._books.end(lease)

    def bind(self, bind: ops.Bind) -> str:
        """Tie a lease to its job."""
        lease = self._books.lease(bind.key)
        return "lost" if lease is None else self.tie(lease, bind.job_id, bind.ttl)

    def tie(self, lease: LeaseRow, job: str, ttl: float) -> str:
        """Tie a lease to its job, unless it is another's or over."""
        other = self._books.lease_of(job)
        if lease.job not in (None, job) or (other is not None and other.key != lease.key):
            return "taken"
        if self._memory.has(EARLY, job):
            self._memory.drop(EARLY, job)
            self._books.accept(lease)
            self._finish(lease._replace(job=job))
            return "over"
        self._books.bind(lease, job, self._books.now + ttl)
        return "bound"

    def renew(self, renew: ops.Renew) -> bool:
        """Move the end of a bound or ambiguous lease."""
        books = self._books
        lease = books.lease(renew.key or "") if renew.job_id is None else books.lease_of(renew.job_id)
        if lease is None:
            return False
        usual = self._settings.job_ttl if lease.state == BOUND else self._settings.ambiguous_ttl
        books.set_end(lease, books.now + (usual if renew.ttl is None else renew.ttl))
        return True

    # -- verdicts -----------------------------------------------------------------------------------

    def judge(self, judge: ops.Report) -> bool:
        """Put into effect what an answer said."""
        books = self._books
        lease = books.lease(judge.key)
        if lease is None:
            return False
        if judge.accepted:
            books.accept(lease)
        if judge.doubt:
            books.doubt(lease, books.now + self._settings.ambiguous_ttl)
        if judge.adverse:
            books.set_adverse(lease.key)
        if judge.seconds is not None:
            until = books.now + judge.seconds
            books.cool(lease.account, Cooldown(judge.scope, until, judge.reason, judge.worth_waiting))
        return True

    def cool(self, cool: ops.Cool) -> bool:
        """Put an account in a cooldown."""
        books = self._books
        if books.account(cool.account) is None:
            return False
        until = books.now + cool.seconds
        books.cool(cool.account, Cooldown(cool.scope, until, cool.reason, cool.worth_waiting))
        return True

    def reset(self, reset: ops.Reset) -> bool:
        """Clear what verdicts made of an account."""
        found = self._books.account(reset.account) is not None
        if found:
            self._books.reset(reset.account)
        return found
