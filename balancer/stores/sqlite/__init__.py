"""Leases of several processes of one machine, in a file, with no server.

::

    backend ── fleet ledger (the rules, in this process's replica)
       ├── change_feed (the file's entries by number, followed and written)
       ├── database (one connection: made, checked, opened, forked)
       │      ├── write_queue (whose turn it is) ── file_watch (is it still the file at its path)
       │      └── forks, file_system
       └── notify_pipe (how another process is told, and seen to be alive)

Each thing (a lease, an account, a cooldown, a process) is one row, under the number of its last change. In
its turn a process reads the rows above the last number that it knows, decides by the library's one ledger,
and writes what that changed under new numbers.

Beside ``path`` stand ``path-wal`` and ``path-shm`` (SQLite's own), ``path-lock`` (whose turn it is) and
the folder ``path-owners`` with a pipe for each living process.
"""

from balancer.stores.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
