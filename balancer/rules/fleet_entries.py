"""All that a fleet ledger holds, as entries: one name and one text for each thing.

``changes()`` returns the entries that the last operations made, ``apply()`` takes one over that another
process made, ``entries()`` returns all. The text of an entry that is over begins with a mark and the instant
of its end. Instants are told by a clock that is ahead of the ledger's by ``offset``.

==========================  ==============================================================================
``clock:``                  which start of the machine instants belong to, what to add to them for the time
                            of day, when that start was first noticed
``settings:``               those that rule: strategy, lower only, lease_ttl, job_ttl, ambiguous_ttl; of whom
``pool:``                   version of the table in force, when it was fetched
``account:<id>``            capacity, draining, broken, note, fields (JSON)
``lease:<key>``             state, account, since, host:pid, label, scope, job, state since, end, ttl given,
                            adverse, lists missed, time of day of its end, latest end, accepted, declined,
                            further jobs and those that are over (lists), whether its process was found
                            dead; when it is over by whom (``own``, ``other``, ``told`` once its process has
                            heard of that; ``unknown``: before anybody had heard of it), or ``expired``: it
                            may come back
``cooldown:<id, scope>``    whether it cools still, until, worth waiting, reason, key of the lease that probes
``limit:<id>``              jobs, when the next trial comes, seconds from one to the next, key of the lease
                            that is a trial, whether one is due; until when it is left alone after a grant
``external:``               how many accounts follow: id, jobs of others, id, jobs …
``listed:``                 how many jobs of the last list follow that no lease is bound to; when it was asked
                            for; of each: id, account, key of the unbound lease that it names or nothing
``process:<name>``          host:pid, when to look after it, place in line, forgotten, priority, what is
                            offered to it, until when, the accounts that it wants
``claim:<what>``            number, holder, void at, done at, retry at, kind and text of the last error
``job:<id>``                over from the start: ``done``, or ``early``
==========================  ==============================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from balancer.models import Account, FrozenDict
from balancer.rules import operations as ops
from balancer.rules.entries import escaped, pack, unpack
from balancer.rules.fleet_ledger import Claim, FleetLease, FleetLedger, Process, owner_of
from balancer.rules.limits import FIRST_WAIT, Limit
from balancer.rules.records import AMBIGUOUS, BOUND, HELD, AccountState, Cooldown, LeaseRecord, ListedJob

OVER, REMEMBERED = "-", "~"
"""How the text of an entry begins that is over; and of one that is so, and still counts for 600 s."""
_FORGOTTEN_SOON = frozenset({"own", "expired", "over"})
_STATES = {state: state for state in (HELD, BOUND, AMBIGUOUS)}
"""The library compares states by identity."""
Fields = list[str | None]
_NO_FIELDS: Mapping[str, Any] = FrozenDict()


class FleetEntries:
    """A fleet ledger, and its entries. Mutable: what was told last of cooldowns."""

    def __init__(self, fleet: FleetLedger, offset: float = 0.0) -> None:
        self.fleet, self.offset = fleet, offset
        self._ledger = fleet.ledger
        self._told_cooldowns: dict[str, dict[str, str]] = {}
        """By account: its cooldowns as they were told last."""
        self._told_limits: dict[str, str] = {}
        """By account: its limit as it was told last."""
        self._gone: set[str] = set()
        """Accounts that are over, though something is on them still, as far as was read."""

        self._tell: dict[str, Callable[[str], str]] = {
            "lease": lambda key: self.lease(self._ledger.records[key]),
            "process": self._process,
            "account": self._account,
            "cooldown": self._cooldown_named,
            "limit": lambda id: self._limit(self._ledger.account_states[id]) or "",
            "claim": self._claim,
            "external": self._external,
            "listed": self._listed,
            "clock": self._clock,
            "pool": self._pool,
            "settings": self._settings,
        }
        self._take_over: dict[str, Callable[[str, Fields, bool], None]] = {
            "lease": self._apply_lease,
            "account": self._apply_account,
            "cooldown": self._apply_cooldown,
            "process": self._apply_process,
            "limit": self._apply_limit,
            "claim": self._apply_claim,
            "external": self._apply_external,
            "listed": self._apply_listed,
            "job": self._apply_job,
            "pool": self._apply_pool,
            "clock": self._apply_clock,
            "settings": self._apply_settings,
        }

    # -- telling ------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, str]]:
        """Return the entries that the operations since the last call have changed."""
        touched = self._ledger.touched
        if touched:
            for account_state in touched:
                if account_state.cooldowns or account_state.draining or self._told_cooldowns:
                    self._note_touched(account_state)
                if account_state.restricted or self._told_limits:
                    self._note_limit(account_state)
            touched.clear()
        changed, self.fleet.changed = self.fleet.changed, {}
        found, records = [], self._ledger.records
        for name, end in changed.items():
            if end is not None:
                text = self._end(*end)
            elif name.startswith("lease:"):
                text = self.lease(records[name[6:]])
            else:
                text = self._told(name)
            found.append((name, text))
        return found

    def _end(self, at: float, how: str) -> str:
        """Return the text of an entry that is over since ``at``."""
        mark = OVER if how in _FORGOTTEN_SOON else REMEMBERED
        return f"{mark}{at + self.offset!r}\t{how}"

    def _note_touched(self, account_state: AccountState) -> None:
        """Note what has become of an account's cooldowns, and whether it is there still."""
        id, changed = account_state.id, self.fleet.changed
        now_there = self._ledger.account_states.get(id)
        if now_there is None:
            changed["account:" + id] = (self.fleet.now, "over")
        if account_state.cooldowns or id in self._told_cooldowns:
            before = self._told_cooldowns.pop(id, {})
            after = {} if now_there is None else self._cooldowns(now_there)
            changed.update(dict.fromkeys(before.keys() - after.keys(), (self.fleet.now, "over")))
            changed.update({name: None for name, text in after.items() if before.get(name) != text})
            if after:
                self._told_cooldowns[id] = after

    def _note_limit(self, account_state: AccountState) -> None:
        id = account_state.id
        here = self._ledger.account_states.get(id) is account_state
        before, after = self._told_limits.pop(id, None), self._limit(account_state) if here else None
        if after is not None:
            self._told_limits[id] = after
        if after != before:
            self.fleet.changed["limit:" + id] = (self.fleet.now, "over") if after is None else None

    def _limit(self, account_state: AccountState) -> str | None:
        limit, spaced = account_state.limit, account_state.spaced_until
        if not account_state.restricted:
            return None
        told = (
            (None,) * 5 if limit is None else limit._replace(next_trial_at=limit.next_trial_at + self.offset)
        )
        return pack(*told, None if spaced is None else spaced + self.offset)

    def _cooldowns(self, account_state: AccountState) -> dict[str, str]:
        cooldowns = account_state.cooldowns.values()
        return {
            "cooldown:" + pack(account_state.id, cooldown.scope): self._cooldown(cooldown)
            for cooldown in cooldowns
        }

    def _cooldown(self, cooldown: Cooldown) -> str:
        return pack(
            cooldown.cooling,
            cooldown.until + self.offset,
            cooldown.worth_waiting,
            cooldown.reason,
            cooldown.probe,
        )

    def _told(self, name: str) -> str:
        kind, _, key = name.partition(":")
        return self._tell[kind](key)

    def lease(self, record: LeaseRecord) -> str:
        """Return the text of a live lease."""
        held = record.state is HELD
        if (
            held
            and record.label is record.scope is None
            and not (record.adverse or record.accepted or record.declined)
        ):  # as most are: it need not be slow
            id, owner = record.account_state.id, record.owner or ""
            if "\\" in id or "\t" in id:
                id = escaped(id)
            if "\\" in owner or "\t" in owner:
                owner = escaped(owner)
            return f"{record.state}\t{id}\t{record.held_since + self.offset!r}\t{owner}"
        return pack(
            record.state,
            record.account_state.id,
            record.held_since + self.offset,
            record.owner,
            record.label,
            record.scope,
            record.job_id,
            None if held else record.state_since + self.offset,
            None if record.end is None else record.end + self.offset,
            getattr(record, "given", None),
            record.adverse or None,
            record.missed or None,
            getattr(record, "wall_end", None),
            None if (latest := getattr(record, "latest", None)) is None else latest + self.offset,
            record.accepted or None,
            record.declined or None,
            pack(*record.other_jobs) if record.other_jobs else None,
            pack(*sorted(record.ended_jobs)) if record.ended_jobs else None,
            getattr(record, "orphaned", None) or None,
        )

    def _process(self, name: str) -> str:
        process = self.fleet.processes[name]
        offer = process.offer
        return pack(
            process.host_pid,
            process.look_at + self.offset,
            process.place,
            process.forgotten,
            process.priority,
            None if offer is None else offer.account_state.id,
            None if offer is None else process.offer_until + self.offset,
            *process.wants,
        )

    def _account(self, id: str) -> str:
        account_state = self._ledger.account_states.get(id)
        if account_state is None:
            return self._end(self.fleet.now, "over")
        account = account_state.account
        fields = json.dumps(dict(account.fields)) if account.fields else None
        return pack(account.capacity, account_state.draining, account.broken, account.note, fields)

    def _claim(self, what: str) -> str:
        claim = self.fleet.claims[what]
        instants = claim.void_at, claim.done_at, claim.retry_at
        told = [None if at is None else at + self.offset for at in instants]
        return pack(claim.number, claim.owner, *told, *(claim.trouble or ()))

    def _cooldown_named(self, name: str) -> str:
        id, scope = [*unpack(name), None][:2]
        return self._cooldown(self._ledger.account_states[id or ""].cooldowns[scope])

    def _external(self, _: str) -> str:
        external = self._ledger.external
        return pack(len(external), *(field for item in external.items() for field in item))

    def _listed(self, _: str) -> str:
        fields: list[object] = [len(self._ledger.listed), self._ledger.listed_at + self.offset]
        for job_id, job in self._ledger.listed.items():
            fields += job_id, job.account, "" if job.lease is None else job.lease
        return pack(*fields)

    def _clock(self, _: str) -> str:
        fleet = self.fleet
        return pack(fleet.boot, fleet.wall_offset - self.offset, fleet.restarted_at + self.offset)

    def _settings(self, _: str) -> str:
        rule = self.fleet.ruling
        ttls = rule.lease_ttl, rule.job_ttl, rule.ambiguous_ttl
        return pack(rule.strategy, rule.lower_only, *ttls, self.fleet.ruler)

    def _pool(self, _: str) -> str:
        return pack(self.fleet.version, self.fleet.fetched_at + self.offset)

    def entries(self) -> Iterator[tuple[str, str]]:
        """Return all that is not over, as entries."""
        fleet, ledger = self.fleet, self._ledger
        for name, there in (
            ("clock:", fleet.boot is not None),
            ("settings:", fleet.ruler),
            ("pool:", fleet.version),
            ("external:", ledger.external),
            ("listed:", ledger.listed),
        ):
            if there:
                yield name, self._told(name)
        for account_state in self._ledger.account_states.values():
            yield from self._of_account(account_state)
        for record in self.fleet.leases:
            yield f"lease:{record.key}", self.lease(record)
        for name in self.fleet.processes:
            yield "process:" + name, self._process(name)
        for what, claim in self.fleet.claims.items():
            if claim.number:
                yield "claim:" + what, self._claim(what)

    def _of_account(self, account_state: AccountState) -> Iterator[tuple[str, str]]:
        id = account_state.id
        yield "account:" + id, self._account(id)
        yield from self._cooldowns(account_state).items()
        if (limit := self._limit(account_state)) is not None:
            yield "limit:" + id, limit

    def memories(self) -> Iterator[tuple[str, str]]:
        """Return the jobs that were released, as entries."""
        for job_id, done in self._ledger.done.items():
            yield "job:" + job_id, self._end(done, "done")
        for job_id in self._ledger.early:
            yield "job:" + job_id, self._end(self.fleet.now, "early")

    # -- taking over --------------------------------------------------------------------------------

    def apply(self, name: str, text: str) -> None:
        """Take over an entry that was made elsewhere, after all that were made before it."""
        self.fleet.next_end = -math.inf
        kind, _, key = name.partition(":")
        over = text[:1] in (OVER, REMEMBERED)
        fields = unpack(text[1:] if over else text)
        self._take_over[kind](key, fields, over)
        if self._gone:
            self._forget_gone()

    def _forget_gone(self) -> None:
        """Forget the accounts that are over, as soon as nothing is on them.

        What was on them may have been written again since, so that its end is read after theirs.
        """
        ledger = self._ledger
        for id in list(self._gone):
            account_state = ledger.account_states.get(id)
            if account_state is not None and account_state.held:
                continue
            self._gone.discard(id)
            if account_state is not None:
                for cooldown in account_state.cooldowns.values():
                    ledger.timers.drop(cooldown)
                account_state.draining = True
                account_state.compute_left()
                ledger.place(account_state)
                ledger.forget(account_state)
                self._told_cooldowns.pop(id, None)
                self._told_limits.pop(id, None)

    def _apply_lease(self, key: str, fields: Fields, over: bool) -> None:
        record = self._ledger.records.get(key)
        if record is not None:
            self.fleet.remove(record)
        if not over:
            self._add_told(key, fields)
        elif fields[1] != "expired":
            at = self._instant(fields[0])
            self.fleet.keep_tombstone(key, at)
            if fields[1] == "other":
                self.fleet.unheard.setdefault(owner_of(key), {})[key] = at
            elif fields[1] == "told":
                self.fleet.unheard.get(owner_of(key), {}).pop(key, None)

    def _add_told(self, key: str, fields: Fields) -> None:
        state, account, since, host_pid, label, scope, job_id, *more = _filled(fields, 19)
        state_since, end, given, adverse, missed, wall_end, latest, accepted, declined, others, *rest = more
        ended, orphaned = rest[:2]
        record = FleetLease(key, label, scope)
        record.owner, record.held_since, record.state = host_pid, self._instant(since), _STATES[state or ""]
        if job_id is not None:
            record.job_id = job_id
        if end is not None:
            record.state_since, record.end = self._instant(state_since), self._instant(end)
            record.given = None if given is None else float(given)
        if adverse is not None:
            record.adverse = True
        if others is not None:
            record.other_jobs = tuple(map(str, unpack(others)))
            record.ended_jobs = frozenset(() if ended is None else map(str, unpack(ended)))
        if accepted is not None:
            record.accepted = True
        if declined is not None:
            record.declined = True
        if missed is not None:
            record.missed = int(missed)
        if wall_end is not None:
            record.wall_end, record.latest = float(wall_end), self._instant(latest)
            self.fleet.carried.add(record)
        if orphaned is not None:
            record.orphaned = True
        self.fleet.add(record, self.fleet.make_sure_of(account or ""))
        self._ledger.place(record.account_state)

    def _apply_account(self, id: str, fields: Fields, over: bool) -> None:
        ledger, account_state = self._ledger, self._ledger.account_states.get(id)
        self.fleet.known_table = None
        if over:
            self._gone.add(id)
            return
        self._gone.discard(id)
        broken = note = packed = None
        if len(fields) > 2:
            broken, note, packed = _filled(fields, 5)[2:5]
        account = Account(id, int(fields[0] or 1), _fields(packed) if packed else _NO_FIELDS, broken, note)
        draining, external = fields[1] == "1", ledger.external.get(id, 0)
        if account_state is None:
            account_state = ledger.account_states[id] = AccountState(account)
        if (
            draining or external or account_state.account is not account
        ):  # else it was measured when it was made
            account_state.account, account_state.draining, account_state.external = (
                account,
                draining,
                external,
            )
            account_state.compute_left()
        ledger.place_anew(account_state)

    def _apply_cooldown(self, name: str, fields: Fields, over: bool) -> None:
        id, scope = [*unpack(name), None][:2]
        if over and id not in self._ledger.account_states:
            return  # it went with its account
        ledger, account_state = self._ledger, self.fleet.make_sure_of(id or "")
        told = self._told_cooldowns.setdefault(account_state.id, {})
        old = account_state.cooldowns.get(scope)
        if old is not None:
            ledger.timers.drop(old)
            account_state.drop_cooldown(scope)
        if over:
            told.pop("cooldown:" + name, None)
        else:
            cooling, until, worth_waiting, reason, probe = _filled(fields, 5)[:5]
            cooldown = Cooldown(
                account_state, scope, self._instant(until), reason or "", worth_waiting == "1"
            )
            cooldown.cooling, cooldown.probe = cooling == "1", probe
            account_state.put_cooldown(cooldown)
            if cooldown.cooling:
                ledger.timers.set(cooldown, cooldown.until)
            told["cooldown:" + name] = self._cooldown(cooldown)
        if not told:
            del self._told_cooldowns[account_state.id]
        ledger.place_anew(account_state)

    def _apply_limit(self, id: str, fields: Fields, over: bool) -> None:
        if over and id not in self._ledger.account_states:
            return  # it went with its account
        ledger, account_state = self._ledger, self.fleet.make_sure_of(id)
        jobs, next_at, wait, trial, due, spaced = [None] * 6 if over else _filled(fields, 6)[:6]
        limit = None
        if jobs is not None:
            limit = Limit(int(jobs), self._instant(next_at), float(wait or FIRST_WAIT), trial, due == "1")
        account_state.spaced_until = None if spaced is None else self._instant(spaced)
        ledger.take_over_limit(account_state, limit)
        self._told_limits.pop(id, None)
        if not over:
            self._told_limits[id] = self._limit(account_state) or ""
        ledger.place(account_state)

    def _apply_process(self, name: str, fields: Fields, over: bool) -> None:
        process = self.fleet.processes.get(name)
        self.fleet.line = None
        if process is not None and process.offer is not None:
            self.fleet.remove(process.offer)
            process.offer = None
            self.fleet.deadlines.drop(("offer", name))
        if over:
            self.fleet.deadlines.drop(("look", name))
            self.fleet.processes.pop(name, None)
            self.fleet.unheard.pop(name, None)
            return
        host_pid, look_at, place, forgotten, priority, account, until, *wants = _filled(fields, 7)
        if process is None:
            process = self.fleet.processes[name] = Process(name, host_pid or "")
        process.look_at, process.forgotten = self._instant(look_at), forgotten == "1"
        process.place, process.priority = None if place is None else int(place), int(priority or 0)
        process.wants = tuple(id for id in wants if id is not None)
        self.fleet.deadlines.set(("look", name), process.look_at)
        if account is not None:
            record = FleetLease(f"{name}-offer")
            record.reserves = True
            record.adverse, record.held_since, record.state = (
                True,
                self._instant(until) - ops.OFFER_SECONDS,
                HELD,
            )
            self.fleet.add(record, self.fleet.make_sure_of(account))
            self._ledger.place(record.account_state)
            process.offer, process.offer_until = record, self._instant(until)
            self.fleet.deadlines.set(("offer", name), process.offer_until)

    def _apply_claim(self, what: str, fields: Fields, _: bool) -> None:
        number, owner, void_at, done_at, retry_at, kind, said = _filled(fields, 7)[:7]
        claim = self.fleet.claims.setdefault(what, Claim())
        claim.number, claim.owner = int(number or 0), owner
        claim.void_at, claim.done_at, claim.retry_at = (
            None if at is None else self._instant(at) for at in (void_at, done_at, retry_at)
        )
        claim.trouble = None if kind is None else (kind, said or "")

    def _apply_external(self, _: str, fields: Fields, __: bool) -> None:
        ids, jobs = fields[1::2], fields[2::2]
        external = {id or "": int(number or 0) for id, number in zip(ids, jobs, strict=False)}
        changed = self._ledger.external.keys() | external.keys()
        self._ledger.external = external
        for account_state in [
            self._ledger.account_states[id] for id in changed if id in self._ledger.account_states
        ]:
            account_state.external = external.get(account_state.id, 0)
            account_state.compute_left()
            self._ledger.place(account_state)

    def _apply_listed(self, _: str, fields: Fields, __: bool) -> None:
        self._ledger.listed_at = self._instant(fields[1])
        jobs = zip(fields[2::3], fields[3::3], fields[4::3], strict=True)
        self._ledger.listed = {id or "": ListedJob(account or "", key or None) for id, account, key in jobs}

    def _apply_job(self, job_id: str, fields: Fields, _: bool) -> None:
        here, at, ledger = self.fleet.now, self._instant(fields[0]), self._ledger
        self.fleet.now = at  # what is remembered counts from then
        if fields[1] == "done":
            ledger.early.pop(job_id, None)
            ledger.done[job_id] = at
        else:
            ledger.early[job_id] = True
        self.fleet.now = here

    def _apply_pool(self, _: str, fields: Fields, __: bool) -> None:
        self.fleet.version, self.fleet.fetched_at = int(fields[0] or 0), self._instant(fields[1])
        self.fleet.known_table = None

    def _apply_settings(self, _: str, fields: Fields, __: bool) -> None:
        strategy, lower_only, lease_ttl, job_ttl, ambiguous_ttl, ruler = _filled(fields, 6)[:6]
        ruling = replace(
            self.fleet.settings,
            strategy=strategy or "",
            lower_only=lower_only == "1",
            lease_ttl=float(lease_ttl or 0.0),
            job_ttl=float(job_ttl or 0.0),
            ambiguous_ttl=float(ambiguous_ttl or 0.0),
        )
        self.fleet.rule(ruling, ruler or "")

    def _apply_clock(self, _: str, fields: Fields, __: bool) -> None:
        self.fleet.boot, self.fleet.wall_offset = fields[0] or "", float(fields[1] or 0.0) + self.offset
        self.fleet.restarted_at = self._instant(fields[2])

    def _instant(self, text: str | None) -> float:
        return float(text or 0.0) - self.offset


def _filled(fields: Fields, number: int) -> Fields:
    """Return at least so many fields."""
    return fields + [None] * (number - len(fields))


@lru_cache(1 << 14)
def _fields(packed: str) -> Mapping[str, Any]:
    """Return what else is known of an account; many accounts have the same."""
    return FrozenDict(json.loads(packed))
