"""The states of a pool in which an acquire is cancelled, each with the event that its caller waits for."""

from stepping import HeldSource

from balancer import AccountPool, AsyncAccountPool, SourceUnavailable
from balancer.testing import ManualClock

FULL = (429, {}, '{"error": "at capacity"}')


class World:
    """One account with one slot, a victim that is cancelled, and its neighbour in the line."""

    happens_by_itself = False
    """The slot comes free without any event."""

    def __init__(self, loop):
        self.loop, self.clock = loop, ManualClock()
        self.source = HeldSource(a=1)
        self.sync = self.source.hold(
            AccountPool("custom", source=self.source, clock=self.clock, ttl=60, reconcile_every=None)
        )
        self.pool = AsyncAccountPool(pool=self.sync)
        self.served, self.gates = [], {name: loop.create_future() for name in ("victim", "neighbour")}
        self.happened = False
        self.prepare()

    def prepare(self):
        self.load()

    def load(self):
        """Have the first table read."""
        task = self.loop.create_task(self.pool.refresh())
        self.loop.tick(6)  # it may find one under way that is to be given up first
        self.source.land()
        self.loop.tick(2)
        task.result()

    def hold(self):
        """Take the one slot."""
        self.lease = self.sync.acquire(timeout=0)

    async def use(self, name):
        async with self.pool.acquire(label=name):
            self.served.append(name)
            await self.gates[name]

    def happen(self, outcome):
        """Let the event come that the victim waits for."""
        self.happened = True
        self.error() if outcome == "error" else self.ok()

    def tick(self):
        self.loop.tick()

    def finish(self):
        """Bring the world to rest after an event that never came."""
        if not self.happened:
            self.ok()

    def refuses(self, outcome):
        """Whether callers are turned away after the event."""
        return False

    def wait_out(self):
        """Let pass what a caller waits at most although it could go on."""


class Free(World):
    """A free slot: what is awaited is the block's own work."""

    happens_by_itself = True

    def ok(self):
        self.end_of_block(None)

    def error(self):
        self.end_of_block(KeyError("the block's own"))

    def end_of_block(self, error):
        gate = self.gates["victim"]
        if not gate.done():
            gate.set_result(None) if error is None else gate.set_exception(error)


class Full(World):
    """A taken slot: what is awaited is its release."""

    def prepare(self):
        self.load()
        self.hold()

    def ok(self):
        self.lease.release()

    def error(self):
        self.lease.__exit__(ValueError, ValueError("the holder's own"), None)


class Fetching(World):
    """From the event on, what is asked of the source is answered in the next round."""

    def ok(self):
        pass

    def error(self):
        self.source.trouble = SourceUnavailable("away")

    def tick(self):
        if self.happened and self.source.asked:
            self.source.land()
        self.loop.tick()


class Loading(Fetching):
    """No table yet: what is awaited is the first one."""

    def prepare(self):
        pass

    def refuses(self, outcome):
        return outcome == "error"

    def finish(self):
        self.source.trouble = None
        self.clock.advance(61)  # what has been on its way for so long is given up
        self.loop.tick(2)
        self.source.asked.clear()
        self.clock.advance(61)  # and so is what somebody who waited has asked for since
        self.load()


class Refreshing(Fetching):
    """An old table, whose renewal is awaited for a while by the one who found out."""

    happens_by_itself = True

    def prepare(self):
        self.load()
        self.clock.advance(61)

    def wait_out(self):
        self.clock.advance(5)
        self.loop.tick(4)


class Probing(World):
    """An account on trial after a cooldown: what is awaited is the trial's end."""

    def prepare(self):
        self.source.table = {"a": 2}
        self.load()
        self.sync.cool("a", 10)
        self.clock.advance(10)
        self.hold()

    def ok(self):
        self.lease.release()

    def error(self):
        self.lease.report(FULL)
        self.lease.release()
        self.clock.advance(30)


class Closing(World):
    """A taken slot of a pool that closes: the error is a close just after the hand-over."""

    def prepare(self):
        self.load()
        self.hold()

    def ok(self):
        self.sync.close()

    def error(self):
        self.lease.release()
        self.sync.close()

    def refuses(self, outcome):
        return True

    def finish(self):
        super().finish()
        self.lease.release()


WORLDS = (Free, Full, Loading, Refreshing, Probing, Closing)
