"""A backend in this process, on the library's own ledger: what a shared store's queue is tested against.

Several owners in one process share a :class:`Shelf` as processes share a database. Faults can be
injected: the store away, replies lost, messages lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

from balancer.errors import StoreUnavailable
from balancer.models import Account
from balancer.rules.ledger import Changes, Ledger
from balancer.rules.records import AMBIGUOUS, BOUND, HELD, AccountState, LeaseRecord, SlotRequest
from balancer.stores import operations as ops
from balancer.stores.snapshot import only


class Shelf:
    """What owners share."""

    def __init__(self):
        self.leap = 0.0
        """Seconds that have gone by without anybody noticing."""
        self.cut = set()
        """Names of the owners who cannot reach it."""
        self.before = None
        """Called with each owner's name and operation before that is carried out."""
        self.lock = threading.Lock()
        self.forget()
        self.away = False
        self.refused = 0
        self.lose_replies = 0
        self.lose_messages = False
        self.calls = deque(maxlen=100_000)

    def now(self):
        return time.monotonic() + self.leap

    def forget(self):
        self.ledger = None
        self.version, self.table, self.fetched_at = 0, None, 0.0
        self.owners, self.notices, self.tombs = {}, {}, set()
        self.forgotten = set()
        self.line, self.offers = {}, {}
        self.arrivals = 0
        self.claims = {"fetch": [0, None, -1e9, None, -1e9], "survey": [0, None, -1e9, None, -1e9]}

    def backend(self, settings, owner):
        return LedgerBackend(self, settings, owner)

    def open(self, settings, owner, now):
        """Serve as the ``store`` of a pool."""
        return self.backend(settings, owner)


class LedgerBackend:
    """One owner's way to the shelf."""

    beats = True
    roll_calls = 0

    def __init__(self, shelf, settings, owner):
        self.shelf, self.settings, self.owner = shelf, settings, owner
        self.inbox, self.bell = deque(), threading.Event()
        self.met = False
        self.closed = False

    # -- the protocol -------------------------------------------------------------------------

    def call(self, operation, _=None):
        shelf = self.shelf
        if shelf.before is not None:
            shelf.before(self.owner.name, operation)
        with shelf.lock:
            if shelf.away or self.owner.name in shelf.cut:
                shelf.refused += 1
                raise StoreUnavailable("the shelf is away")
            shelf.calls.append((self.owner.name, operation))
            if shelf.ledger is None:
                shelf.ledger = Ledger(self.settings.strategy, shelf.now, lower_only=self.settings.lower_only)
            now = shelf.now()
            expired = self._enter(operation, now)
            result = getattr(self, "_" + type(operation).__name__.lower())(operation, now)
            self._offer(now)
            reply = ops.Reply(result, shelf.version, self._due(now), self._loose(now), tuple(expired))
            if shelf.lose_replies:
                shelf.lose_replies -= 1
                raise StoreUnavailable("the reply was lost")
            return reply

    async def acall(self, operation, _=None):
        await asyncio.sleep(0)
        reply = self.call(operation)
        await asyncio.sleep(0)
        return reply

    def listen(self, seconds):
        if self.shelf.away or self.owner.name in self.shelf.cut:
            raise StoreUnavailable("the shelf is away")
        self.bell.wait(seconds)
        self.bell.clear()
        found = []
        while self.inbox:
            found.append(self.inbox.popleft())
        return tuple(found)

    def poke(self):
        self.bell.set()

    def leave_loops(self):
        pass

    def after_fork(self, owner):
        self.owner = owner

    def close(self):
        self.closed = True

    # -- settle and offer ------------------------------------------------------------------------

    def _enter(self, operation, now):
        """Settle what is due. An owner that is late, but not missed yet, is forgiven by all but its beat."""
        name, owners = self.owner.name, self.shelf.owners
        late = isinstance(operation, ops.Heartbeat | ops.Register)
        if name in owners and not late:
            owners[name] = (now + self.settings.lease_ttl, self)
        expired = self._settle(now)
        if name not in owners:
            if self.met:
                self.shelf.forgotten.add(name)
            if not late:
                owners[name] = (now + self.settings.lease_ttl, self)
        self.met = True
        return expired

    def _settle(self, now):
        shelf, ledger = self.shelf, self.shelf.ledger
        gone = [self._gone(row, now, state) for row, state in self._ends(now)]
        for name in [name for name, (until, _) in shelf.owners.items() if until <= now]:
            del shelf.owners[name]
            shelf.line.pop(name, None)
            shelf.offers.pop(name, None)
            for row in [r for r in ledger.records.values() if r.state is HELD and _owner(r.key) == name]:
                gone.append(self._gone(row, now, HELD))
                ledger.end(row, self.shelf.now())
        for name, (_, until) in list(shelf.offers.items()):
            if until <= now:
                self._unreserve(name)
                self._to_the_back(name)
        return gone

    def _ends(self, now):
        states = {row.key: row.state for row in self.shelf.ledger.records.values()}
        return [(row, states[row.key]) for row in self.shelf.ledger.due(now)[0]]

    def _offer(self, now):
        shelf = self.shelf
        for name in sorted(shelf.line, key=lambda n: shelf.line[n][0]):
            wants = shelf.line[name][1]
            if name in shelf.offers or name not in shelf.owners:
                continue
            able = [
                t for t in shelf.ledger.account_states.values() if t.fits() and (not wants or t.id in wants)
            ]
            if able:
                row = LeaseRecord(f"offer-{name}")
                shelf.ledger.take(SlotRequest(row, accounts=frozenset({able[0].id})), now)
                shelf.offers[name] = (row, now + ops.OFFER_SECONDS)
                if not shelf.lose_messages:
                    backend = shelf.owners[name][1]
                    backend.inbox.append(able[0].id)
                    backend.bell.set()

    def _unreserve(self, name):
        held = self.shelf.offers.pop(name, None)
        if held is not None:
            self.shelf.ledger.end(held[0], self.shelf.now())

    def _to_the_back(self, name):
        if name in self.shelf.line:
            self.shelf.arrivals += 1
            self.shelf.line[name] = (self.shelf.arrivals, self.shelf.line[name][1])

    def _want(self, wants, *, back=False):
        shelf, name = self.shelf, self.owner.name
        if wants is None:
            shelf.line.pop(name, None)
            self._unreserve(name)
        elif back or name not in shelf.line:
            shelf.arrivals += 1
            shelf.line[name] = (shelf.arrivals, wants)
        else:
            shelf.line[name] = (shelf.line[name][0], wants)

    def _due(self, now):
        ends = [self.shelf.ledger.timers.next]
        ends += [until for until, _ in self.shelf.owners.values()]
        ends += [until for _, until in self.shelf.offers.values()]
        nearest = min(ends)
        return None if nearest == float("inf") else max(0.0, nearest - now)

    def _loose(self, now):
        nearest = self.shelf.ledger.detached_since.next
        return None if nearest == float("inf") else now - nearest

    def _gone(self, row, now, state=None):
        return ops.EndedLease(
            row.key, row.account_state.id, state or row.state, row.job_id, row.label, now - row.held_since
        )

    # -- operations ------------------------------------------------------------------------------

    def _acquire(self, take, now):
        ledger = self.shelf.ledger
        if take.offered:
            self._unreserve(self.owner.name)
        row = ledger.records.get(take.key)
        if row is None and take.key not in self.shelf.tombs:
            row = LeaseRecord(take.key, take.label, take.scope)
            accounts = None if take.accounts is None else frozenset(take.accounts)
            if not ledger.take(SlotRequest(row, take.draw, accounts, take.max_jobs), now):
                row = None
        wants = take.then_wants if row else take.else_wants
        self._want(wants, back=row is not None)
        return ops.Granted(row.account_state.id) if row else None

    def _release(self, end, now):
        ledger = self.shelf.ledger
        row = ledger.records.get(end.key) if end.job_id is None else ledger.forget_job(end.job_id)
        if end.key is not None:
            self.shelf.tombs.add(end.key)
        if row is None:
            return None
        gone = self._gone(row, now)
        self.shelf.tombs.add(row.key)
        if row.state is HELD and _owner(row.key) != self.owner.name:
            self.shelf.notices.setdefault(_owner(row.key), []).append(row.key)
        ledger.end(row, now, released=True)
        return gone

    def _bind(self, bind, now):
        row = self.shelf.ledger.records.get(bind.key)
        if row is None:
            return "lost"
        try:
            return "bound" if self.shelf.ledger.bind(row, bind.job_id, now + bind.ttl, now) else "over"
        except ValueError:
            return "taken"

    def _renew(self, renew, now):
        ledger = self.shelf.ledger
        row = ledger.records.get(renew.key) if renew.job_id is None else ledger.jobs.get(renew.job_id)
        if row is not None and row.end is not None:
            ttls = {BOUND: self.settings.job_ttl, AMBIGUOUS: self.settings.ambiguous_ttl}
            ledger.set_end(row, now + (ttls[row.state] if renew.ttl is None else renew.ttl))
        return row is not None

    def _report(self, judge, now):
        ledger = self.shelf.ledger
        row = ledger.records.get(judge.key)
        if row is None:
            return False
        if judge.accepted:
            ledger.accept(row, self.shelf.now())
        if judge.doubt:
            ledger.doubt(row, now + self.settings.ambiguous_ttl, now)
        row.adverse = row.adverse or judge.adverse
        if judge.seconds is not None:
            until = now + judge.seconds
            ledger.cool(row.account_state, judge.scope, until, judge.reason, judge.worth_waiting)
        return True

    def _cool(self, cool, now):
        account_state = self.shelf.ledger.account_states.get(cool.account)
        if account_state is not None:
            self.shelf.ledger.cool(
                account_state, cool.scope, now + cool.seconds, cool.reason, cool.worth_waiting
            )
        return account_state is not None

    def _reset(self, reset, now):
        account_state = self.shelf.ledger.account_states.get(reset.account)
        if account_state is not None:
            self.shelf.ledger.reset(account_state)
        return account_state is not None

    def _claim(self, claim, now):
        number, holder, until, trouble, pause_until = self.shelf.claims[claim.what]
        done_at = self.shelf.claims.get(f"{claim.what} done")
        age = None if done_at is None else now - done_at
        if age is not None and age < claim.max_age:
            return ops.Claimed(False, age=age)
        if holder not in (None, self.owner.name) and now < until:
            return ops.Claimed(False, retry_in=until - now, age=age)
        if trouble is not None and now < pause_until and claim.max_age > 0:
            return ops.Claimed(False, retry_in=pause_until - now, age=age, trouble=trouble)
        self.shelf.claims[claim.what] = [number + 1, self.owner.name, now + claim.hold, None, -1e9]
        return ops.Claimed(True, number + 1, age=age)

    def _held(self, what, number):
        claim = self.shelf.claims[what]
        return claim[1] is not None and claim[0] == number

    def _fail(self, fail, now):
        if self._held(fail.what, fail.number):
            self.shelf.claims[fail.what] = [fail.number, None, -1e9, (fail.kind, fail.text), now + fail.pause]

    def _configure(self, new, now):
        shelf = self.shelf
        if not self._held("fetch", new.number) or new.base != shelf.version:
            return None
        if new.put or new.gone or shelf.table is None:
            shelf.version += 1
        shelf.ledger.configure(Changes(new.put, new.gone))
        shelf.table, shelf.fetched_at = new.table, now
        shelf.claims["fetch"] = [new.number, None, -1e9, None, -1e9]
        shelf.claims["fetch done"] = now
        return shelf.version

    def _readtable(self, _, now):
        shelf = self.shelf
        if shelf.table is None:
            return None
        return ops.Configured(shelf.version, shelf.table, now - shelf.fetched_at)

    def _apply(self, plan, now):
        ledger = self.shelf.ledger
        if not self._held("survey", plan.number):
            return None
        self.shelf.claims["survey"] = [plan.number, None, -1e9, None, -1e9]
        self.shelf.claims["survey done"] = now
        ledger.set_external(plan.external)

        def rows(keys, state):
            return [r for k in keys if (r := ledger.records.get(k)) is not None and r.state is state]

        for key, job_id in plan.bind:
            for row in rows([key], AMBIGUOUS):
                ledger.bind(row, job_id, now + self.settings.job_ttl, now)
        for row in rows(plan.prolong, BOUND):
            ledger.prolong(row, now + self.settings.job_ttl)
        for key, count in plan.missed.items():
            for row in rows([key], BOUND):
                row.missed = count
        ended = [*rows(plan.reclaim, BOUND), *rows(plan.resolve, AMBIGUOUS)]
        for row in ended:
            ledger.end(row, self.shelf.now())
            self.shelf.tombs.add(row.key)
        return tuple(row.key for row in ended)

    def _readsome(self, some, now):
        return only(self._readall(some, now), some.accounts)

    def _readall(self, _, now):
        shelf, ledger = self.shelf, self.shelf.ledger
        offers = {}
        for row, _ in shelf.offers.values():
            offers[row.account_state.id] = offers.get(row.account_state.id, 0) + 1
        reserved = {row.key for row, _ in shelf.offers.values()}
        return ops.State(
            version=shelf.version,
            table=shelf.table,
            draining=tuple(t.account for t in ledger.account_states.values() if t.draining),
            rows=tuple(self._record(r, now) for r in ledger.records.values() if r.key not in reserved),
            cooldowns=tuple(
                ops.CooldownState(
                    account=account_state.id,
                    scope=pause.scope,
                    left=pause.until - now if pause.cooling else 0.0,
                    reason=pause.reason,
                    worth_waiting=pause.worth_waiting,
                    probe=pause.probe,
                )
                for account_state in ledger.account_states.values()
                for pause in account_state.cooldowns.values()
            ),
            external=ledger.external,
            owners={name: one.owner.host_pid for name, (_, one) in shelf.owners.items()},
            done={job: now - at for job, at in ledger.done.items()},
            offers=offers,
        )

    def _record(self, row, now):
        return ops.LeaseState(
            key=row.key,
            account=row.account_state.id,
            state=row.state,
            age=now - row.held_since,
            label=row.label,
            scope=row.scope,
            job_id=row.job_id,
            state_age=now - row.state_since,
            expires_in=None if row.end is None else row.end - now,
            adverse=row.adverse,
            missed=row.missed,
        )

    def _heartbeat(self, _, now):
        name = self.owner.name
        known = name in self.shelf.owners and name not in self.shelf.forgotten
        if name in self.shelf.owners:
            self.shelf.owners[name] = (now + self.settings.lease_ttl, self)
        return ops.HeartbeatReply(known, tuple(self.shelf.notices.pop(name, ())))

    def _register(self, register, now):
        ledger, ended = self.shelf.ledger, []
        self.shelf.owners[self.owner.name] = (now + self.settings.lease_ttl, self)
        self.shelf.forgotten.discard(self.owner.name)
        for state in register.rows:
            if state.key in self.shelf.tombs:
                ended.append(state.key)
            elif state.key not in ledger.records:
                row, account_state = (
                    LeaseRecord(state.key, state.label, state.scope),
                    self._take_in(state.account),
                )
                row.account_state, row.held_since, row.state = account_state, now - state.age, HELD
                ledger.records[row.key] = account_state.held[row.key] = row
                account_state.left -= 1
                ledger.update_selector(account_state)
        return tuple(ended)

    def _take_in(self, id):
        account_states = self.shelf.ledger.account_states
        if id not in account_states:
            account_states[id] = AccountState(Account(id))
            account_states[id].draining = True
        return account_states[id]

    def _setwanted(self, wait, now):
        self._want(wait.wants)


def _owner(key):
    return key.rpartition("-")[0]
