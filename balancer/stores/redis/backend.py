"""A Redis server, or a cluster of them, as the store of one pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from balancer import events
from balancer.errors import ForeignError, StoreUnavailable
from balancer.redaction import clean
from balancer.rules.operations import Operation, Owner, Reply, Settings
from balancer.stores.redis.clients import Road, road
from balancer.stores.redis.ears import Ears
from balancer.stores.redis.packing import Packer
from balancer.stores.redis.scripts import channel_of, roll_of
from balancer.stores.redis.wire import reply, text


class RedisBackend:
    """Carries out each operation in one script call; see :class:`balancer.rules.operations.Backend`.

    Args:
        client: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of redis-py.
        settings: What to count for.
        owner: Whose operations these are.
        async_client: A cluster's asynchronous client, for :meth:`acall`; others need none.
        now: Seconds, instead of the server's time.
    """

    beats = True

    def __init__(
        self,
        client: Any,
        settings: Settings,
        owner: Owner,
        async_client: Any = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._source = client, async_client
        self._settings, self._now = settings, now
        self._checked = False
        self._open(owner)

    def _open(self, owner: Owner) -> None:
        self._road: Road = road(*self._source)
        self._packer = Packer(self._settings, owner, self._now)
        self._road.link.greeting = self._packer.greeting
        own, roll = channel_of(self._settings.namespace, owner.name), roll_of(self._settings.namespace)
        self._ears = Ears(lambda: self._road.ears(roll), own, roll)

    def __repr__(self) -> str:
        return f"RedisBackend({self._road.where!r}, namespace={self._settings.namespace!r})"

    def call(self, operation: Operation) -> Reply:
        """Carry out one operation. Raises StoreUnavailable."""
        try:
            answer = self._road.link.evaluate(self._packer.call(operation))
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        else:
            if not self._checked:
                self._check_once()
            return self._reply(operation, answer)
        raise problem

    async def acall(self, operation: Operation) -> Reply:
        """Carry out one operation without blocking the running event loop. Raises StoreUnavailable."""
        try:
            answer = await self._road.link.aevaluate(self._packer.call(operation))
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        else:
            if not self._checked:
                await self._acheck_once()
            return self._reply(operation, answer)
        raise problem

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Wait for offers to this process. Raises StoreUnavailable if it cannot even connect."""
        try:
            return self._ears.listen(seconds)
        except (RedisError, OSError) as error:
            problem = self._unavailable(error)
        if self._ears.was_connected:
            return ()
        raise problem

    @property
    def roll_calls(self) -> int:
        """How often the store may have forgotten what its owner holds."""
        return self._ears.roll_calls

    def poke(self) -> None:
        """Have :meth:`listen` return."""
        self._ears.poke()

    def after_fork(self, owner: Owner) -> None:
        """Let go of the parent's connections, without a word on them; go on as ``owner``."""
        self._open(owner)

    def close(self) -> None:
        """Close connections; a later call connects anew."""
        self._ears.close()
        self._road.link.close()

    def _reply(self, operation: Operation, answer: Any) -> Reply:
        self._packer.met = True
        return reply(operation, answer)

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        said = clean(str(error), self._road.secrets)
        problem = StoreUnavailable(f"redis at {self._road.where}: {type(error).__name__}: {said}")
        problem.__cause__ = ForeignError(f"{name}: {said}")
        return problem

    # -- a server that may throw leases away ------------------------------------------------------

    def _check_once(self) -> None:
        self._checked = True
        try:
            memory = self._road.link.command("INFO", "memory")
        except (RedisError, OSError):  # it may not be asked, and the operation was done
            return
        self._warn(memory)

    async def _acheck_once(self) -> None:
        self._checked = True
        try:
            memory = await self._road.link.acommand("INFO", "memory")
        except (RedisError, OSError):
            return
        self._warn(memory)

    def _warn(self, memory: Any) -> None:
        # Policies named volatile-… evict only keys that expire, and ours never do.
        policy = memory.get("maxmemory_policy", "") if isinstance(memory, dict) else _policy(text(memory))
        if policy.startswith("allkeys"):
            events.emit("warning", "redis_may_evict", policy=policy)


def _policy(memory: str) -> str:
    _, _, rest = memory.partition("maxmemory_policy:")
    return rest.split(maxsplit=1)[0] if rest else ""
