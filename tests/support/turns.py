"""Which tests run beside which, where several workers share them."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadFileScheduling

FLEETS = {
    "test_batch_kills",
    "test_redis_chaos",
    "test_redis_outages",
    "test_redis_pool",
    "test_shared_processes",
    "test_sqlite_pool",
    "test_sqlite_processes",
}
"""Files whose tests start so many processes that two of them at once would keep each other waiting."""


class Turns(LoadFileScheduling):
    """Gives a worker one file after the other, and those with fleets all to the same worker."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "fleets" if Path(file).stem in FLEETS else file
