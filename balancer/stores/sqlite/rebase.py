"""What becomes of a file whose machine was started again: its clock began anew, its processes are gone."""

from __future__ import annotations

import sqlite3

from balancer.stores.sqlite.books import Books
from balancer.stores.sqlite.glance import keep
from balancer.stores.sqlite.schema import INSTANTS


def rebase(connection: sqlite3.Connection, boot: str, offset: float) -> None:
    """Tell every instant by the present clock, if it was another one; void what its processes held.

    Bound and ambiguous leases stay: their jobs run elsewhere. The time of day connects the two clocks.
    """
    run = connection.execute
    before, old_offset = run("SELECT boot, wall_offset FROM clock").fetchone()
    if (before, old_offset) == (boot, offset):
        return
    run("UPDATE clock SET boot = ?, wall_offset = ?", (boot, offset))
    if before == boot:
        return
    for table, column in INSTANTS:
        run(f"UPDATE {table} SET {column} = {column} + ?", (old_offset - offset,))  # noqa: S608  # ours
    run("DELETE FROM owner")
    run("DELETE FROM want")
    run("DELETE FROM lease WHERE state IN ('held', 'offered')")
    run("UPDATE claim SET owner = NULL, void_at = NULL")
    run(
        "UPDATE pause SET probe = NULL WHERE NOT EXISTS"
        " (SELECT 1 FROM lease WHERE lease.pool = pause.pool AND lease.key = pause.probe)"
    )
    for pool, strategy in run("SELECT id, strategy FROM pool").fetchall():
        Books(connection, pool, strategy).refile_all()
        keep(run, pool)
