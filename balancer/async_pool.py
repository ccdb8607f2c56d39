"""AsyncAccountPool: the face for tasks. The algorithms are those of the face for threads."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from balancer.base_pool import BasePool, PoolOptions
from balancer.engine import acquire as flow
from balancer.engine import reports as view
from balancer.engine.pool_core import PoolCore
from balancer.engine.refusals import explain
from balancer.lease import BaseLease
from balancer.models import Account, Holder, PoolStats, ReconcileResult
from balancer.pool import AccountPool
from balancer.request import AcquireOptions, AcquireRequest, asks, plain
from balancer.rules.records import NEW, LeaseRecord
from balancer.run import Bind, running
from balancer.useapi.verdicts import Verdict
from balancer.waiting.drivers import Flow, adrive, awaited, runs_later
from balancer.waiting.queue import Waiter
from balancer.waiting.tasks import TaskWaiter

T = TypeVar("T")


class AsyncLease(BaseLease):
    """The right to run one job on one account; an async context manager. See :class:`balancer.Lease`."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        self.entering()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None or not self._origin.give_back(self._record):
            await adrive(self.leaving(error))

    async def bind(self, job_id: str | int, ttl: float | None = None) -> None:
        """Have the slot follow the remote job. See :meth:`balancer.Lease.bind`."""
        await adrive(self.binding(job_id, ttl))

    async def report(self, answer: object) -> Verdict:
        """Put what an answer, or an exception, says about the account into effect; the lease goes on."""
        return (await adrive(self.judging(answer))).verdict

    async def renew(self, ttl: float | None = None) -> None:
        """Move the end of a bound or ambiguous lease. See :meth:`balancer.Lease.renew`."""
        await adrive(self.renewing(ttl))

    async def release(self) -> bool:
        """End the lease, whatever its state. True once, then False."""
        return self._origin.give_back(self._record) or await adrive(self.releasing())


class Acquiring:
    """What ``pool.acquire()`` returns: ``await`` it for a lease, or enter it with ``async with``."""

    __slots__ = ("_asked", "_lease", "_pool")

    _pool: AsyncAccountPool
    _asked: AcquireOptions
    _lease: AsyncLease

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        lease = AsyncLease()
        if self._pool._core.origin.grab(lease, self._asked):  # noqa: SLF001  # of one piece with it
            return lease
        return (yield from self._wait(lease).__await__())

    async def __aenter__(self) -> AsyncLease:
        lease = AsyncLease()
        if not self._pool._core.origin.grab(lease, self._asked):  # noqa: SLF001
            lease = await self._wait(lease)
        self._lease = lease
        return lease

    def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> Awaitable[None]:
        return self._lease.__aexit__(kind, error, trace)

    async def _wait(self, lease: AsyncLease) -> AsyncLease:
        core = self._pool._core  # noqa: SLF001
        if core.origin.line_up is None:
            return await adrive(self._pool.acquiring(AcquireRequest.make(**self._asked)))
        waiter = TaskWaiter(lease._record)  # noqa: SLF001  # ours so far
        waiter.record.state = NEW
        try:  # flow.queue, without the price of a flow: a crowd of tasks goes this way
            until = core.origin.line_up(waiter, self._asked.get("timeout"))
            if until is not None:
                await waiter.park(core.clock.sleep_for(until))
            if not waiter.served:
                request = AcquireRequest.make(**self._asked)
                await adrive(flow.Acquiring(core, request, core.draw(), waiter).run())
        except BaseException as error:
            try:
                flow.withdraw(core, waiter, error)
            except BaseException:
                flow.withdraw(core, waiter, error)
                raise
            raise
        return lease


class Choosing(Acquiring):
    """The same, where not any account will do."""

    __slots__ = ("_wish",)

    _wish: AcquireRequest

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        return adrive(self._pool.acquiring(self._wish)).__await__()

    async def __aenter__(self) -> AsyncLease:
        lease = self._lease = await self
        return lease


class AsyncAccountPool(BasePool):
    """An :class:`balancer.AccountPool` for asyncio: same constructor, same names, coroutines.

    Args:
        pool: A pool for threads whose accounts and slots this one shares; then nothing else is given.

    One pool serves several event loops. Over memory no method suspends unless it has to wait.
    """

    def __init__(
        self, service: Any = None, *, pool: AccountPool | None = None, **own: Unpack[PoolOptions]
    ) -> None:
        if pool is None:
            super().__init__(service, **own)
        elif service is not None or own:
            raise TypeError("a pool that shares another one takes no further arguments")
        elif not isinstance(pool, AccountPool):
            raise TypeError(f"pool must be an AccountPool, not {type(pool).__name__}")
        else:
            self._core = pool._core  # noqa: SLF001  # the same pool with another face

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- getting and giving back ----------------------------------------------------------------

    @asks
    def acquire(self, **asked: Unpack[AcquireOptions]) -> Acquiring:
        """Return what gives a lease when awaited, or entered. See :meth:`balancer.AccountPool.acquire`.

        Cancelling it at any point leaves no slot taken.
        """
        if not asked or plain(asked):
            acquiring = Acquiring()
        else:
            acquiring = Choosing()
            acquiring._wish = AcquireRequest.make(**asked)  # noqa: SLF001  # an __init__ costs as much again
        acquiring._pool, acquiring._asked = self, asked  # noqa: SLF001
        return acquiring

    def acquiring(self, request: AcquireRequest) -> Flow[AsyncLease]:
        """Acquire a lease, as a flow."""
        return flow.acquire(self._core, request, AsyncLease, TaskWaiter)

    async def release(self, lease_id: str | None = None, *, job_id: str | int | None = None) -> bool:
        """End a lease by its id or by its job's id. See :meth:`balancer.AccountPool.release`."""
        return await adrive(self._core.release(lease_id, job_id))

    async def renew(
        self, lease_id: str | None = None, *, job_id: str | int | None = None, ttl: float | None = None
    ) -> None:
        """Move the end of a bound or ambiguous lease. See :meth:`balancer.AccountPool.renew`."""
        await adrive(self._core.renew(lease_id, job_id, ttl))

    async def run(
        self,
        call: Callable[[AsyncLease], Awaitable[T]],
        *,
        attempts: int = 3,
        bind: Bind | None = None,
        **acquire_options: Unpack[AcquireOptions],
    ) -> T:
        """Acquire, await ``call(lease)``, report what came back; move on where that is safe.

        See :meth:`balancer.AccountPool.run`. Cancelled in the middle of the call, the slot is kept as
        for an answer that was lost.
        """
        if runs_later(call, awaited=True):
            raise TypeError("call must do its work when it is awaited, which a generator does not")
        request = AcquireRequest.make(**acquire_options)
        answer: T = await adrive(running(self._core, request, attempts, bind, self.acquiring), call)
        return answer

    def with_lease(
        self, **acquire_options: Unpack[AcquireOptions]
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Coroutine[Any, Any, T]]]:
        """Wrap a coroutine function that takes a keyword ``lease``: it is acquired around each call.

        Raises:
            TypeError: what is wrapped is a generator. ValueError, TypeError: naming the acquire option
            that is wrong.
        """
        AcquireRequest.make(**acquire_options)

        def wrap(function: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
            if runs_later(function, awaited=True):
                raise TypeError("function must do its work when it is awaited, which a generator does not")

            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> T:
                async with self.acquire(**acquire_options) as lease:
                    answer: T = await awaited(function(*args, lease=lease, **kwargs))
                    return answer

            return wrapped

        return wrap

    # -- looking and by hand ----------------------------------------------------------------------

    async def stats(self) -> PoolStats:
        """Return the pool as it is now. Reads the configuration first if nobody has yet."""
        await self._drive(flow.loaded)
        return await adrive(view.stats(self._core))

    async def explain(self, **acquire_options: Unpack[AcquireOptions]) -> dict[str, str]:
        """Say for each account ``"eligible"``, or why an acquire with these options would not get it."""
        request = AcquireRequest.make(**acquire_options)
        await self._drive(flow.loaded)
        return await adrive(explain(self._core, request))

    async def holders(self) -> tuple[Holder, ...]:
        """Return every live lease."""
        return await adrive(view.holders(self._core))

    async def refresh(self) -> None:
        """Fetch the configuration now. See :meth:`balancer.AccountPool.refresh`."""
        await self._drive(flow.refresh)

    async def reconcile(self) -> ReconcileResult:
        """Compare with the server's list of jobs now. See :meth:`balancer.AccountPool.reconcile`."""
        return await self._drive(flow.reconcile)

    async def cool(self, account_id: str | Account, seconds: float, reason: str = "by hand") -> None:
        """Put an account in a cooldown of ``seconds``. A longer one that runs already wins."""
        await self._drive(flow.loaded)
        await adrive(self._core.cool(account_id, seconds, reason))

    async def reset(self, account_id: str | Account) -> None:
        """End an account's cooldown and probing; what the configuration says of it stays."""
        await self._drive(flow.loaded)
        await adrive(self._core.reset(account_id))

    async def close(self) -> None:
        """Refuse new callers and send those who wait away with PoolClosed. Leases stay valid."""
        self._core.close()

    async def _drive(self, algorithm: Callable[[PoolCore, Waiter], Flow[T]]) -> T:
        return await adrive(algorithm(self._core, TaskWaiter(LeaseRecord(None))))
