"""AsyncAccountPool: the face for tasks. The algorithms are those of the face for threads."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Sequence
from types import GeneratorType, TracebackType
from typing import Any, Self, TypeVar, Unpack

from balancer.base_pool import BasePool, PoolOptions
from balancer.engine.acquire import acquire, loaded, reconcile, refresh
from balancer.engine.pool_core import PoolCore
from balancer.engine.reports import explain, holders, stats
from balancer.lease import BaseLease
from balancer.models import Account, Holder, PoolStats, ReconcileResult
from balancer.pool import AccountPool
from balancer.request import AcquireOptions, AcquireRequest, Where, is_plain
from balancer.rules.records import LeaseRecord
from balancer.run import Bind, running
from balancer.useapi.verdicts import Verdict
from balancer.waiting.drivers import Flow, adrive, awaited, result_of, runs_later
from balancer.waiting.queue import Waiter
from balancer.waiting.tasks import TaskWaiter

T = TypeVar("T")


class AsyncLease(BaseLease):
    """The right to run one job on one account; an async context manager. See :class:`balancer.Lease`."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None or not self._core.give_back(self._record):
            step = self._leave(error)
            if type(step) is GeneratorType:  # else it is done, and a coroutine more would cost as much
                await adrive(step)

    async def bind(self, job_id: str | int | Sequence[str | int], ttl: float | None = None) -> None:
        """Have the slot follow the remote job. See :meth:`balancer.Lease.bind`."""
        await adrive(self._bind(job_id, ttl))

    async def report(self, answer: object) -> Verdict:
        """Put what an answer, or an exception, says about the account into effect; the lease goes on."""
        return (await adrive(self._report(answer))).verdict

    async def renew(self, ttl: float | None = None) -> None:
        """Move the end of a bound or ambiguous lease. See :meth:`balancer.Lease.renew`."""
        await adrive(self._renew(ttl))

    async def release(self) -> bool:
        """End the lease, whatever its state. True once, then False."""
        return self._core.give_back(self._record) or await adrive(self._release())


class Acquiring:
    """What ``pool.acquire()`` returns: ``await`` it for a lease, or enter it once with ``async with``."""

    __slots__ = ("_core", "_lease", "_request")

    _core: PoolCore
    _request: AcquireRequest | tuple[float | None, str | None]
    """Checked; or timeout and label alone, where that is all that was given."""

    def __init__(self, core: PoolCore, request: AcquireRequest | tuple[float | None, str | None]) -> None:
        self._core, self._request = core, request
        self._lease: AsyncLease | None = None

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        lease, core, request = AsyncLease(), self._core, self._request
        if type(request) is tuple and core.take(core, lease, request[1]):
            return lease
        step = acquire(core, lease, self._checked(), TaskWaiter)
        if step is not None:
            yield from adrive(step).__await__()
        return lease

    def _checked(self) -> AcquireRequest:
        request = self._request
        if isinstance(request, AcquireRequest):
            return request
        return AcquireRequest.plain(*request)

    async def __aenter__(self) -> AsyncLease:
        if self._lease is not None:
            raise RuntimeError(
                "this acquire was entered before: each async with needs a pool.acquire() of its own, as the "
                "first to leave would end the lease of the others"
            )
        lease = self._lease = AsyncLease()
        core, request = self._core, self._request
        if type(request) is not tuple or not core.take(core, lease, request[1]):
            step = acquire(core, lease, self._checked(), TaskWaiter)
            if step is not None:
                await adrive(step)
        return lease

    def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> Awaitable[None]:
        lease = self._lease
        if lease is None:
            raise RuntimeError("this acquire was left without having been entered")
        return lease.__aexit__(kind, error, trace)


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

    def acquire(
        self,
        *,
        timeout: float | None = None,
        account: str | Account | None = None,
        exclude: Collection[str | Account] = (),
        where: Where | None = None,
        max_jobs: int | None = None,
        scope: str | None = None,
        label: str | None = None,
        asset: str | None = None,
        priority: int = 0,
    ) -> Acquiring:
        """Return what gives a lease when awaited, or entered. See :meth:`balancer.AccountPool.acquire`.

        Cancelling it at any point leaves no slot taken.
        """
        any_will_do = account is None and where is None and max_jobs is None and scope is None
        any_will_do = any_will_do and asset is None and exclude == () and priority == 0
        if any_will_do and is_plain(timeout, label):
            return Acquiring(self._core, (timeout, label))
        request = AcquireRequest.make(
            timeout=timeout,
            account=account,
            exclude=exclude,
            where=where,
            max_jobs=max_jobs,
            scope=scope,
            label=label,
            asset=asset,
            priority=priority,
            row=self._core.service,
        )
        return Acquiring(self._core, request)

    def _acquire(self, request: AcquireRequest) -> Flow[AsyncLease]:
        lease = AsyncLease()
        yield from result_of(acquire(self._core, lease, request, TaskWaiter))
        return lease

    async def release(self, lease_id: str | None = None, *, job_id: str | int | None = None) -> bool:
        """End a lease by its id or by its job's id. See :meth:`balancer.AccountPool.release`."""
        return await adrive(self._core.release(lease_id, job_id))

    async def adopt(
        self, job_id: str | int, *, account: str | Account, ttl: float | None = None
    ) -> AsyncLease:
        """Register a job that runs already. See :meth:`balancer.AccountPool.adopt`."""
        await self._drive(loaded)
        return AsyncLease._of(self._core, await adrive(self._core.adopt(job_id, account, ttl)))  # noqa: SLF001  # of one piece

    async def settle(self, body: object, *, job_id: str | int | None = None) -> bool:
        """Free the slots of jobs that are over by what was said. See :meth:`balancer.AccountPool.settle`."""
        return await adrive(self._core.settle(body, job_id))

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
        request = AcquireRequest.make(**acquire_options, row=self._core.service)
        answer: T = await adrive(running(self._core, request, attempts, bind, self._acquire), call)
        return answer

    def with_lease(
        self, **acquire_options: Unpack[AcquireOptions]
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Coroutine[Any, Any, T]]]:
        """Wrap a coroutine function that takes a keyword ``lease``: it is acquired around each call.

        Raises:
            TypeError: what is wrapped is a generator. ValueError, TypeError: naming the acquire option
            that is wrong.
        """
        AcquireRequest.make(**acquire_options, row=self._core.service)

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
        await self._drive(loaded)
        return await adrive(stats(self._core))

    async def explain(self, **acquire_options: Unpack[AcquireOptions]) -> dict[str, str]:
        """Say for each account ``"eligible"``, or why an acquire with these options would not get it."""
        request = AcquireRequest.make(**acquire_options, row=self._core.service)
        await self._drive(loaded)
        return await adrive(explain(self._core, request))

    async def holders(self) -> tuple[Holder, ...]:
        """Return every live lease."""
        return await adrive(holders(self._core))

    async def refresh(self) -> None:
        """Fetch the configuration now. See :meth:`balancer.AccountPool.refresh`."""
        await self._drive(refresh)

    async def reconcile(self) -> ReconcileResult:
        """Compare with the server's list of jobs now. See :meth:`balancer.AccountPool.reconcile`."""
        return await self._drive(reconcile)

    async def cool(self, account_id: str | Account, seconds: float, reason: str = "by hand") -> None:
        """Put an account in a cooldown of ``seconds``. A longer one that runs already wins."""
        await self._drive(loaded)
        await adrive(self._core.cool(account_id, seconds, reason))

    async def reset(self, account_id: str | Account) -> None:
        """End an account's cooldown and probing; what the configuration says of it stays."""
        await self._drive(loaded)
        await adrive(self._core.reset(account_id))

    async def close(self) -> None:
        """Refuse new callers and send those who wait away with PoolClosed. Leases stay valid."""
        self._core.close(wait=False)

    async def _drive(self, algorithm: Callable[[PoolCore, Waiter], Flow[T]]) -> T:
        return await adrive(algorithm(self._core, TaskWaiter(LeaseRecord(None))))


def for_threads(pool: AsyncAccountPool) -> AccountPool:
    """Return the same pool with its face for threads, for what runs outside of any event loop."""
    face = AccountPool.__new__(AccountPool)
    face._core = pool._core  # noqa: SLF001  # the same pool with another face
    return face
