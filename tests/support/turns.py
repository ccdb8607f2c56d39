"""Which tests run beside which, where several workers share them."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

ONE_AFTER_THE_OTHER = "processes"
"""A folder whose tests start so many processes that two of them at once would keep each other waiting."""


class Turns(LoadFileScheduling):
    """Gives a worker one file after the other, and the files of that folder all to the same worker."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return ONE_AFTER_THE_OTHER if f"/{ONE_AFTER_THE_OTHER}/" in file else file
