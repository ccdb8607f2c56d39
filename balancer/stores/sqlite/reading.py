"""Reading everything."""

from __future__ import annotations

import json

from balancer.models import Account, AccountTable, FrozenDict
from balancer.stores import operations as ops
from balancer.stores.sqlite.books import OFFERED, Books, LeaseRow
from balancer.stores.sqlite.memory import DONE, Memory


def read_table(books: Books) -> ops.Configured | None:
    """Return the table in force."""
    version, fetched_at = books.run(
        "SELECT version, fetched_at FROM pool WHERE id = ?", (books.pool,)
    ).fetchone()
    if not version:
        return None
    return ops.Configured(
        version, AccountTable({a.id: a for a in _accounts(books, draining=False)}), books.now - fetched_at
    )


def dump(books: Books, memory: Memory) -> ops.State:
    """Return everything."""
    run, mine = books.run, (books.pool,)
    configured = read_table(books)
    leases = books.leases("state <> ?", OFFERED)
    external = dict(run("SELECT account, jobs FROM external WHERE pool = ?", mine).fetchall())
    offers = run(
        "SELECT account, count(*) FROM lease WHERE pool = ? AND state = ? GROUP BY 1", (*mine, OFFERED)
    )
    return ops.State(
        version=configured.version if configured else 0,
        table=configured.table if configured else None,
        draining=tuple(_accounts(books, draining=True)),
        rows=tuple(_row(lease, books.now) for lease in leases),
        cooldowns=_pauses(books),
        external=external,
        owners={lease.key.rpartition("-")[0]: lease.process for lease in leases},
        done=memory.ages(DONE),
        offers=dict(offers.fetchall()),
    )


def _accounts(books: Books, *, draining: bool) -> list[Account]:
    rows = books.run(
        "SELECT id, capacity, entry FROM account WHERE pool = ? AND draining = ?", (books.pool, draining)
    )
    return [_account(*row) for row in rows]


def _account(id: str, capacity: int, entry: str) -> Account:
    said = json.loads(entry)
    return Account(id, capacity, FrozenDict(said["fields"]), said["broken"], said["note"])


def _row(lease: LeaseRow, now: float) -> ops.LeaseState:
    return ops.LeaseState(
        key=lease.key,
        account=lease.account,
        state=lease.state,
        age=now - lease.since,
        label=lease.label,
        scope=lease.scope,
        job_id=lease.job,
        state_age=0.0 if lease.state_since is None else now - lease.state_since,
        expires_in=None if lease.ends is None else lease.ends - now,
        adverse=bool(lease.adverse),
        missed=lease.missed,
    )


def _pauses(books: Books) -> tuple[ops.CooldownState, ...]:
    rows = books.run(
        "SELECT account, scope, cooling, until, reason, worth_waiting, probe FROM pause WHERE pool = ?",
        (books.pool,),
    )
    return tuple(
        ops.CooldownState(
            account=account,
            scope=scope[1:] if scope else None,
            left=until - books.now if cooling else 0.0,
            reason=reason,
            worth_waiting=bool(worth_waiting),
            probe=probe,
        )
        for account, scope, cooling, until, reason, worth_waiting, probe in rows
    )
