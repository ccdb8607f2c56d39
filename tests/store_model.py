"""A shared store as it should be: the library's own ledger, with the owners, their line and their offers.

Where a store may choose, the model is told what it chose, and says whether it was free to.
"""

from __future__ import annotations

from balancer.models import Account
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.records import AMBIGUOUS, BOUND, HELD, AccountState, LeaseRecord, SlotRequest
from balancer.stores import operations as ops


class Claim:
    number = 0
    owner = void_at = done_at = retry_at = trouble = None


class StoreModel:
    """Everything that a store holds, and what each operation should do to it."""

    def __init__(self, settings, *, beats):
        self.settings, self.beats = settings, beats
        self.now = 0.0
        self.ledger = Ledger(settings.strategy, lambda: self.now, lower_only=settings.lower_only)
        self.table, self.changes = None, 0
        self.look_at, self.dead, self.forgotten = {}, set(), set()
        self.line, self.offers = {}, {}
        self.tombs, self.unheard = {}, {}
        self.told_late = set()
        """What an owner may have been told or not, as it had not asked for as long as tombstones last."""
        self.claims = {"fetch": Claim(), "survey": Claim()}

    # -- the three parts of an operation ------------------------------------------------------------

    def settle(self, now, caller, *, joins=True):
        """End what is due; return the leases that ended."""
        self.now = now
        if joins and (self.beats or caller not in self.look_at):
            self.look_at[caller] = now + self.settings.lease_ttl
        states = {row.key: row.state for row in self.ledger.records.values()}
        gone = [self.gone(row, states[row.key]) for row in self.ledger.due(now)[0]]
        for name in [name for name, at in self.look_at.items() if at <= now]:
            if self.beats or name in self.dead:
                gone += self.bury(name)
            else:
                self.look_at[name] = now + self.settings.lease_ttl
        for name, (_, until) in sorted(self.offers.items(), key=lambda item: (item[1][1], item[0])):
            if until <= now:
                self.end_offer(name)
                self.to_the_back(name)
        return gone

    def offer(self, told):
        """Offer what is free; ``told(name)`` returns the account that an owner heard of. Return who died."""
        gone = []
        while True:
            for name in sorted(self.line, key=lambda name: self.line[name][0]):
                free = self.room(self.line[name][1])
                if name not in self.offers and free:
                    break
            else:
                return gone
            if name in self.dead and not self.beats:
                gone += self.bury(name)
                continue
            id = told(name)
            assert id in free, f"{name} was offered {id}, and could have been offered {free}"
            row = LeaseRecord(f"{name}-offer")
            row.adverse = True
            assert self.ledger.take(SlotRequest(row, accounts=frozenset({id})), self.now)
            self.offers[name] = (row, self.now + ops.OFFER_SECONDS)

    def room(self, wants):
        """Return the accounts that may be offered to somebody who wants these."""
        return {
            id
            for id, account_state in self.ledger.account_states.items()
            if account_state.fits() and (not wants or id in wants)
        }

    @property
    def due(self):
        """How long until the next thing ends by itself."""
        ends = [
            self.ledger.timers.next,
            *self.look_at.values(),
            *(until for _, until in self.offers.values()),
        ]
        nearest = min(ends)
        return None if nearest == float("inf") else max(0.0, nearest - self.now)

    @property
    def loose(self):
        """For how long the oldest bound or ambiguous lease has been so."""
        since = self.ledger.detached_since.next
        return None if since == float("inf") else self.now - since

    # -- owners -------------------------------------------------------------------------------------

    def bury(self, name):
        """Forget an owner; return the leases that it held, which end."""
        self.end_offer(name)
        self.line.pop(name, None)
        self.look_at.pop(name, None)
        self.forgotten.add(name)
        self.unheard.pop(name, None)
        held = [
            row for row in self.ledger.records.values() if row.state is HELD and owner_of(row.key) == name
        ]
        for claim in self.claims.values():
            if claim.owner == name and not self.beats:
                claim.owner = claim.void_at = None
        gone = [self.gone(row, HELD) for row in held]
        for row in held:
            self.ledger.end(row, self.now)
        return gone

    def end_offer(self, name):
        offered = self.offers.pop(name, None)
        if offered is not None:
            self.ledger.end(offered[0], self.now)

    def to_the_back(self, name):
        last = max((place for place, _ in self.line.values()), default=0)
        self.line[name] = (last + 1, self.line[name][1])

    def want(self, name, wants, *, back=False):
        if wants is None:
            self.end_offer(name)
            self.line.pop(name, None)
            return
        new = name not in self.line
        self.line[name] = (0 if new else self.line[name][0], wants)
        if new or back:
            self.to_the_back(name)

    # -- operations ---------------------------------------------------------------------------------

    def eligible(self, take):
        """Return the accounts that the lease may be granted on, in the order of ``take.accounts``."""
        accounts = None if take.accounts is None else frozenset(take.accounts)
        slot_request = SlotRequest(LeaseRecord(take.key, scope=take.scope), 0.0, accounts, take.max_jobs)
        fitting = [
            account_state
            for account_state in self.ledger.candidates(slot_request)
            if self.ledger.fits(slot_request, account_state)
        ]
        best = [account_state.id for account_state in self.ledger.selector.among(fitting)]
        return best if take.accounts is None else [id for id in take.accounts if id in best]

    def take(self, name, take, granted):
        """Take over what was granted, if it was rightly."""
        if take.offered:
            self.end_offer(name)
        live = self.ledger.records.get(take.key)
        if live is not None:
            assert granted == live.account_state.id
        elif self.is_buried(take.key):
            assert granted is None
        else:
            self._grant(take, granted)
        self.want(name, take.else_wants if granted is None else take.then_wants, back=granted is not None)

    def _grant(self, take, granted):
        eligible = self.eligible(take)
        if take.accounts is None:
            assert granted in eligible or (granted is None and not eligible), f"{granted}: {eligible}"
        else:
            assert granted == (eligible[0] if eligible else None)
        if granted is not None:
            row = LeaseRecord(take.key, take.label, take.scope)
            assert self.ledger.take(SlotRequest(row, 0.0, frozenset({granted}), take.max_jobs), self.now), (
                "the store granted what the ledger would not"
            )

    def end(self, name, end):
        row = self.ledger.records.get(end.key) if end.job_id is None else self.ledger.forget_job(end.job_id)
        if row is None:
            if end.job_id is None:
                self.tombs[end.key] = self.now
            return None
        gone = self.gone(row, row.state)
        owner = owner_of(row.key)
        if owner != name and row.state is not BOUND and owner in self.look_at:
            self.unheard.setdefault(owner, {})[row.key] = self.now
        self.tombs[row.key] = self.now
        self.ledger.end(row, self.now, released=True)
        return gone

    def bind(self, bind):
        row = self.ledger.records.get(bind.key)
        return "lost" if row is None else self._tie(row, bind.job_id, bind.ttl)

    def _tie(self, row, job, ttl):
        try:
            bound = self.ledger.bind(row, job, self.now + ttl, self.now)
        except ValueError:
            return "taken"
        if not bound:
            self.tombs[row.key] = self.now
        return "bound" if bound else "over"

    def renew(self, renew):
        rows = self.ledger.records if renew.job_id is None else self.ledger.jobs
        row = rows.get(renew.key if renew.job_id is None else renew.job_id)
        if row is not None and row.state is not HELD:
            usual = self.settings.job_ttl if row.state is BOUND else self.settings.ambiguous_ttl
            self.ledger.set_end(row, self.now + (usual if renew.ttl is None else renew.ttl))
        return row is not None

    def judge(self, judge):
        row = self.ledger.records.get(judge.key)
        if row is None:
            return False
        if judge.accepted:
            self.ledger.accept(row, self.now)
        if judge.doubt:
            self.ledger.doubt(row, self.now + self.settings.ambiguous_ttl, self.now)
        row.adverse = row.adverse or judge.adverse
        if judge.seconds is not None:
            until = self.now + judge.seconds
            self.ledger.cool(row.account_state, judge.scope, until, judge.reason, judge.worth_waiting)
        return True

    def cool(self, cool):
        account_state = self.ledger.account_states.get(cool.account)
        if account_state is not None:
            self.ledger.cool(
                account_state, cool.scope, self.now + cool.seconds, cool.reason, cool.worth_waiting
            )
        return account_state is not None

    def reset(self, reset):
        account_state = self.ledger.account_states.get(reset.account)
        if account_state is not None:
            self.ledger.reset(account_state)
        return account_state is not None

    def claim(self, name, asked, number):
        claim = self.claims[asked.what]
        age = None if claim.done_at is None else self.now - claim.done_at
        if age is not None and age < asked.max_age:
            return ops.Claimed(False, age=age)
        lives = self.beats or claim.owner not in self.dead
        if claim.owner not in (None, name) and self.now < claim.void_at and lives:
            return ops.Claimed(False, retry_in=claim.void_at - self.now, age=age)
        if claim.retry_at is not None and self.now < claim.retry_at and asked.max_age > 0:
            return ops.Claimed(False, retry_in=claim.retry_at - self.now, age=age, trouble=claim.trouble)
        assert number > claim.number
        claim.number, claim.owner, claim.void_at = number, name, self.now + asked.hold
        claim.retry_at = claim.trouble = None
        return ops.Claimed(True, number, age=age)

    def holds(self, what, number):
        claim = self.claims[what]
        return claim.owner is not None and claim.number == number and self.now < claim.void_at

    def fail(self, fail):
        claim = self.claims[fail.what]
        if self.holds(fail.what, fail.number):
            claim.owner = claim.void_at = None
            claim.retry_at, claim.trouble = self.now + fail.pause, (fail.kind, fail.text)

    def _done(self, what):
        claim = self.claims[what]
        claim.owner = claim.void_at = claim.retry_at = claim.trouble = None
        claim.done_at = self.now

    def configure(self, new, *, base_is_current):
        if not self.holds("fetch", new.number) or not base_is_current:
            return False
        self.changes += bool(new.put or new.gone or self.table is None)
        self.ledger.configure(Changes(new.put, new.gone))
        self.table = new.table
        self._done("fetch")
        return True

    def apply(self, plan):
        if not self.holds("survey", plan.number):
            return None
        self._done("survey")
        ledger = self.ledger
        ledger.set_external(dict(plan.external))

        def rows(keys, state):
            return [
                row for key in keys if (row := ledger.records.get(key)) is not None and row.state is state
            ]

        ended = set()
        for key, job in plan.bind:
            for row in rows([key], AMBIGUOUS):
                if self._tie(row, job, self.settings.job_ttl) == "over":
                    ended.add(key)
        for row in rows(plan.prolong, BOUND):
            ledger.prolong(row, self.now + self.settings.job_ttl)
        for row in rows(plan.missed, BOUND):
            row.missed = plan.missed[row.key]
        for row in [*rows(plan.reclaim, BOUND), *rows(plan.resolve, AMBIGUOUS)]:
            self.tombs[row.key] = self.now
            ended.add(row.key)
            ledger.end(row, self.now)
        return ended

    def beat(self, name):
        known = name in self.look_at and name not in self.forgotten
        if name in self.look_at:
            self.look_at[name] = self.now + self.settings.lease_ttl
        heard = self.unheard.pop(name, {})
        fresh = tuple(key for key, at in heard.items() if self.now - at < ops.TOMBSTONE_SECONDS)
        self.told_late = heard.keys() - set(fresh)
        return ops.HeartbeatReply(known, fresh)

    def register(self, name, register):
        self.look_at[name] = self.now + self.settings.lease_ttl
        self.forgotten.discard(name)
        ended = []
        for state in register.rows:
            if self.is_buried(state.key):
                ended.append(state.key)
            elif state.key not in self.ledger.records:
                self._revive(state)
        return tuple(ended)

    def _revive(self, state):
        account_state = self.ledger.account_states.get(state.account)
        if account_state is None:
            account_state = self.ledger.account_states[state.account] = AccountState(Account(state.account))
            account_state.draining = True
            account_state.compute_left()
        row = LeaseRecord(state.key, state.label, state.scope)
        row.account_state, row.held_since, row.state, row.adverse = (
            account_state,
            self.now - state.age,
            HELD,
            state.adverse,
        )
        self.ledger.records[row.key] = account_state.held[row.key] = row
        account_state.left -= 1
        self.ledger.update_selector(account_state)

    def is_buried(self, key):
        return key in self.tombs and self.now - self.tombs[key] < ops.TOMBSTONE_SECONDS

    def gone(self, row, state):
        job = row.job_id
        return ops.EndedLease(row.key, row.account_state.id, state, job, row.label, self.now - row.held_since)


def owner_of(key):
    """Return the name of the owner of a lease."""
    return key.rpartition("-")[0]
