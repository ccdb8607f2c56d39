"""Calls that answer from a script, and pools for them."""

from balancer import AccountPool, AsyncAccountPool
from balancer.testing import ManualClock

BUSY = (429, {"Retry-After": "7"}, '{"error": "at capacity"}')
EXHAUSTED = (412, {}, '{"error": "Not enough credits"}')
BROKEN = (596, {}, '{"error": "session"}')
JOB = (201, {}, '{"jobid": "j1"}')
SUBSCRIPTION = (402, {}, '{"error": "Account has no subscription or subscription expired"}')


class Desk:
    """Answers calls from a script: an exception is raised, a function called, the rest returned."""

    def __init__(self, *script):
        self.script, self.asked = list(script), []

    def __call__(self, lease):
        self.asked.append(lease.account.id)
        answer = self.script.pop(0) if self.script else JOB
        if callable(answer) and not isinstance(answer, type):
            answer = answer(lease)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def pool_of(face, **accounts):
    """Return a pool of that face over these accounts, its clock and a sync face to look at it."""
    clock = ManualClock()
    sync = AccountPool("flowmusic", source=accounts, clock=clock, token="t", reconcile_every=None)
    sync.refresh()
    return (sync if face.Pool is AccountPool else AsyncAccountPool(pool=sync)), clock, sync


def states(sync):
    """Return the state of every live lease."""
    return [holder.state for holder in sync.holders()]
