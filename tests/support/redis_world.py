"""Redis as one of the backends of :mod:`backends`."""

from __future__ import annotations

import json

from redis_server import the_server

from balancer.rules import operations as ops
from balancer.stores.redis import open_backend
from balancer.stores.redis.scripts import KEYS, base_of
from balancer.testing import ManualClock

FULL, PAUSING = 1 << 24, 1 << 25


class RedisWorld:
    """A database that is emptied first, a clock that is moved by hand, and any number of owners."""

    beats = True

    def __init__(self):
        self.client = the_server().client(decode_responses=True)
        the_server().empty()
        self.clock = ManualClock()
        self._opened = []
        self._settings = None

    def open(self, name, **changes):
        """Return the backend of one more owner, who listens already."""
        from backends import settings_for

        self._settings = settings_for(**changes)
        if not self._opened:  # a store that is there before anybody listens is one that never was another
            self._backend("founder").call(ops.Heartbeat())
        return Attentive(self._backend(name))

    def _backend(self, name):
        owner = ops.Owner(name, f"host:{name}")
        backend = open_backend(the_server().url, self._settings, owner, now=self.clock)
        self._opened.append(backend)
        return backend

    def kill(self, backend):
        """Nothing is heard of it any more, and nobody notices before its time."""

    def audit(self):
        """Check what the keys derive from the leases."""
        base = base_of(self._settings.namespace)
        rows, accounts, owners = (self._hash(base + key) for key in ("rows", "accounts", "owners"))
        held, room, line, timers = (self._set(base + key) for key in ("held", "room", "line", "timers"))
        offers = {name: owner["offer"] for name, owner in owners.items() if "offer" in owner}
        slots = [(row["account"], key) for key, row in rows.items()]
        slots += [(id, f"{name}-offer") for name, id in offers.items()]
        assert set(held) == {f"{len(id)}:{id}:{key}" for id, key in slots}
        waiting = {name: owner for name, owner in owners.items() if "wants" in owner and name not in offers}
        assert line == {
            name: owner["place"] - owner.get("priority", 0) * 2**42 for name, owner in waiting.items()
        }
        timed = {f"account:{id}": at for id, account in accounts.items() if (at := self._changes_at(account))}
        assert {name: at for name, at in timers.items() if name.startswith("account:")} == timed
        bound = [(key, [row.get("job"), *row.get("other_jobs", ())], row) for key, row in rows.items()]
        running = {
            job: key
            for key, jobs, row in bound
            for job in jobs
            if job and job not in row.get("ended_jobs", ())
        }
        indexed = {job: key for job, key in self.client.hgetall(base + "jobs").items() if job}
        assert indexed == running
        lapses = {name.split(":")[2] for name in timers if name.startswith("offer:")}
        assert lapses == offers.keys()
        for id, account in accounts.items():
            assert room.get(id) == self._place(account, [slot for slot, _ in slots].count(id))
        assert self.client.exists(*(base + key for key in KEYS[:12])) == 12

    def _place(self, account, live):
        if "broken" in account or "draining" in account:
            return None
        used, limit = live + account["external"], account.get("limit")
        by_load = self._settings.strategy == "least_loaded"
        score = used / account["capacity"] if by_load else used
        if any("cooling" in each or "probe" in each for each in account.get("cooldowns", ())):
            return score + PAUSING
        bound = min(account["capacity"], limit["jobs"] + ("due" in limit)) if limit else account["capacity"]
        if "spaced" in account or used >= bound:
            return score + (1.5 * FULL if limit or "spaced" in account else FULL)
        return score - FULL if limit and used >= limit["jobs"] and not by_load else score

    def _changes_at(self, account):
        limit = account.get("limit", {"due": True})
        ends = [account.get("spaced"), None if limit.keys() & {"due", "trial"} else limit["next_at"]]
        return min((at for at in ends if at is not None), default=None)

    def _hash(self, key):
        return {name: json.loads(text) for name, text in self.client.hgetall(key).items() if name}

    def _set(self, key):
        return {name: score for name, score in self.client.zrange(key, 0, -1, withscores=True) if name}

    def close(self):
        """Close all connections."""
        for backend in self._opened:
            backend.close()
        self.client.close()


class Attentive:
    """A backend that waits a while for what is on its way already."""

    def __init__(self, backend):
        self._backend = backend
        backend.listen(0)

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def listen(self, seconds):
        return self._backend.listen(max(seconds, 0.1))
