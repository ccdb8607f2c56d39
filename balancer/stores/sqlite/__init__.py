"""Leases of several processes of one machine, in a file, with no server.

::

    backend ── database (one connection, one turn at a time, the file and its checks)
       │           └── schema, rebase, uptime, forks, places, witness
       ├── acts (the three parts of each operation)
       │     ├── straight (both statements of an operation that is usual in every respect)
       │     ├── glance (what each looks up first), leases, survey, fleet, reading (what they do)
       │     ├── line (owners, and who waits) ── choice (which account)
       │     └── memory (what is over) ── books (leases, cooldowns) ── shelves (accounts)
       └── mailbox (how another process is told, and seen to be alive)

Beside ``path`` stand ``path-wal`` and ``path-shm`` (SQLite's own), ``path-lock`` (whose turn it is) and
the folder ``path-owners`` with one mailbox for each living owner.
"""

from balancer.stores.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
