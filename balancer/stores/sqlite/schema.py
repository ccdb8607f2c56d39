"""The tables. One file may serve several pools; ``pool`` is first in every key."""

from __future__ import annotations

APPLICATION_ID = 0x62616C61
"""Marks a file as ours ("bala")."""
LAYOUT = 2
"""Of the tables below; kept as ``user_version``."""

TABLES = (
    # Which start of the machine the instants belong to, and what to add to them for the time of day.
    """CREATE TABLE clock (boot TEXT NOT NULL, wall_offset REAL NOT NULL)""",
    # The last four follow from other tables; see `glance`.
    """CREATE TABLE pool (
        id INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL UNIQUE,
        strategy TEXT NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        fetched_at REAL,
        due REAL NOT NULL DEFAULT 9e999,
        loose_since REAL,
        pauses INTEGER NOT NULL DEFAULT 0,
        anybody_waits INTEGER NOT NULL DEFAULT 0)""",
    # An account with room is on a shelf: 0 for the strategy "random", its load for "least_loaded". The
    # places of a shelf are numbered without gaps, so that one can be drawn by its number.
    """CREATE TABLE account (
        pool INTEGER NOT NULL,
        id TEXT NOT NULL,
        capacity INTEGER NOT NULL,
        broken INTEGER NOT NULL DEFAULT 0,
        draining INTEGER NOT NULL DEFAULT 0,
        external INTEGER NOT NULL DEFAULT 0,
        in_flight INTEGER NOT NULL DEFAULT 0,
        shelf REAL,
        place INTEGER,
        entry TEXT NOT NULL,
        PRIMARY KEY (pool, id)) WITHOUT ROWID""",
    """CREATE INDEX room ON account (pool, shelf, place) WHERE place IS NOT NULL""",
    # A slot that is reserved for a waiting process is a lease in the state "offered".
    """CREATE TABLE lease (
        pool INTEGER NOT NULL,
        key TEXT NOT NULL,
        account TEXT NOT NULL,
        state TEXT NOT NULL,
        since REAL NOT NULL,
        process TEXT NOT NULL,
        label TEXT,
        scope TEXT,
        job TEXT,
        state_since REAL,
        ends REAL,
        adverse INTEGER NOT NULL DEFAULT 0,
        missed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (pool, key)) WITHOUT ROWID""",
    """CREATE INDEX lease_ends ON lease (pool, ends) WHERE ends IS NOT NULL""",
    """CREATE INDEX lease_loose ON lease (pool, state_since) WHERE state_since IS NOT NULL""",
    """CREATE UNIQUE INDEX lease_job ON lease (pool, job) WHERE job IS NOT NULL""",
    # The number of leases follows from the leases, in the same statement and by the database's own hand.
    """CREATE TRIGGER lease_granted AFTER INSERT ON lease BEGIN
        UPDATE account SET in_flight = in_flight + 1 WHERE pool = new.pool AND id = new.account; END""",
    """CREATE TRIGGER lease_ended AFTER DELETE ON lease BEGIN
        UPDATE account SET in_flight = in_flight - 1 WHERE pool = old.pool AND id = old.account; END""",
    # The scope is '' for the whole account, else "=" and the scope, which may be an empty text.
    """CREATE TABLE pause (
        pool INTEGER NOT NULL,
        account TEXT NOT NULL,
        scope TEXT NOT NULL,
        cooling INTEGER NOT NULL,
        until REAL NOT NULL,
        reason TEXT NOT NULL,
        worth_waiting INTEGER NOT NULL,
        probe TEXT,
        PRIMARY KEY (pool, account, scope)) WITHOUT ROWID""",
    """CREATE INDEX pause_ends ON pause (pool, until) WHERE cooling""",
    """CREATE TABLE external (
        pool INTEGER NOT NULL,
        account TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        PRIMARY KEY (pool, account)) WITHOUT ROWID""",
    # `place` is NULL unless the owner waits. `look_at`: when to see whether it still lives.
    """CREATE TABLE owner (
        pool INTEGER NOT NULL,
        name TEXT NOT NULL,
        process TEXT NOT NULL,
        look_at REAL NOT NULL,
        place INTEGER,
        wants_any INTEGER NOT NULL DEFAULT 0,
        forgotten INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (pool, name)) WITHOUT ROWID""",
    """CREATE INDEX owner_look ON owner (pool, look_at)""",
    """CREATE INDEX owner_line ON owner (pool, place) WHERE place IS NOT NULL""",
    """CREATE TABLE want (
        pool INTEGER NOT NULL,
        owner TEXT NOT NULL,
        account TEXT NOT NULL,
        PRIMARY KEY (pool, owner, account)) WITHOUT ROWID""",
    # Leases that were ended on purpose, so that nothing brings them back. `unheard`: their owner does not
    # know. There is no index of their age, which each ending lease would have to pay for.
    """CREATE TABLE tomb (
        pool INTEGER NOT NULL,
        key TEXT NOT NULL,
        at REAL NOT NULL,
        unheard INTEGER,
        PRIMARY KEY (pool, key)) WITHOUT ROWID""",
    """CREATE INDEX tomb_unheard ON tomb (pool, key) WHERE unheard IS NOT NULL""",
    # Jobs that were released: bound ones ("done"), and those nobody had bound yet ("early"), in order.
    """CREATE TABLE released (
        pool INTEGER NOT NULL,
        kind TEXT NOT NULL,
        job TEXT NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (pool, kind, job)) WITHOUT ROWID""",
    """CREATE INDEX released_order ON released (pool, kind, number, at)""",
    """CREATE TABLE claim (
        pool INTEGER NOT NULL,
        what TEXT NOT NULL,
        number INTEGER NOT NULL,
        owner TEXT,
        void_at REAL,
        done_at REAL,
        retry_at REAL,
        kind TEXT,
        text TEXT,
        PRIMARY KEY (pool, what)) WITHOUT ROWID""",
)

INSTANTS = (
    ("pool", "fetched_at"),
    ("lease", "since"),
    ("lease", "state_since"),
    ("lease", "ends"),
    ("pause", "until"),
    ("tomb", "at"),
    ("released", "at"),
    ("claim", "void_at"),
    ("claim", "done_at"),
    ("claim", "retry_at"),
)
"""Every column that holds an instant and outlives its process."""
