"""AccountPool: the face for threads. A thin shell over the engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from balancer.base_pool import BasePool
from balancer.engine.acquire import acquire, loaded, reconcile, refresh
from balancer.engine.pool_core import PoolCore
from balancer.engine.reports import explain, holders, stats
from balancer.lease import Lease
from balancer.models import Account, Holder, PoolStats, ReconcileResult
from balancer.request import AcquireOptions, AcquireRequest, Where, is_plain
from balancer.rules.records import LeaseRecord
from balancer.run import Bind, running
from balancer.waiting.drivers import Flow, drive, result_of, runs_later
from balancer.waiting.queue import Waiter
from balancer.waiting.threads import ThreadWaiter

T = TypeVar("T")


class AccountPool(BasePool):
    """The accounts of one service, and who uses them; one for the whole process.

    Args:
        service: A key of the service table, or a :class:`Service` row of your own. May be left out
            only with ``source``.
        token: API token, or a callable that is asked for it at each fetch. Default ``$USEAPI_TOKEN``.
        base_url: Host root; default ``$USEAPI_BASE_URL``, else ``https://api.useapi.net``.
        source: Replaces the HTTP source: a mapping of account ids to capacities, or an object with
            ``accounts()`` and perhaps ``jobs()``.
        store: Where leases are counted; default ``$BALANCER_STORE``, else ``memory://``.
        ttl: Seconds for which a fetched configuration is fresh; less than 1 counts as 1.
        stale_if_error: Seconds beyond ``ttl`` for which the old one serves while refreshes fail.
        strategy: ``"random"`` (the server's own rule) or ``"least_loaded"``.
        default_capacity: Capacity of accounts that do not state one; default the service's own.
        lease_ttl: Seconds after which the leases of a dead process come back (shared stores).
        job_ttl: Seconds after which a bound lease ends if nobody releases it.
        ambiguous_ttl: Seconds for which a slot is kept whose job may run.
        reconcile_every: Seconds between comparisons with the server's list of jobs; None: never.
        max_waiting: Callers that may wait at once; None: any number.
        learn_limits: Whether refusals teach how many jobs an account bears. False: it cools down instead.
        spacing: Seconds between two grants on one account at least, or a pair between which they are drawn
            each time.
        max_cooldown: Seconds of the longest cooldown that an answer can bring; default 31 days.
        random: Returns numbers in [0, 1); default ``random.random``.
        clock: Returns monotonic seconds; default ``time.monotonic``.

    Raises:
        ValueError, TypeError: naming the argument that is wrong.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
    ) -> Lease:
        """Return a lease on a random account that has room; wait in line while none has.

        Args:
            timeout: Seconds to wait; None: for ever; 0: not at all for a slot.
            account: Only this one.
            exclude: Not these.
            where: A pure function of an :class:`Account`: only those for which it is true.
            max_jobs: Replaces the accounts' capacity for this one decision.
            scope: What the job uses (a model), for cooldowns that concern only that.
            label: Shown by :meth:`holders`.
            asset: Id of an upload or an earlier result: only the account on which it lives, which the id
                names.
            priority: Who waits with a higher one is served first; among equals, who came first.

        Raises:
            AcquireTimeout: no slot in time. NoAccounts: waiting cannot help.
            TooManyWaiting: ``max_waiting`` callers wait already. PoolClosed: the pool is closed.
            Unauthorized, SubscriptionRequired, SourceError: there is no configuration to go by.
            RuntimeError: it would have to wait on a thread whose event loop is running.
            ValueError, TypeError: naming the argument that is wrong.
        """
        lease, core = Lease(), self._core
        any_will_do = account is None and where is None and max_jobs is None and scope is None
        any_will_do = any_will_do and asset is None and exclude == () and priority == 0
        plain = any_will_do and ((timeout is None and label is None) or is_plain(timeout, label))
        if plain:
            if core.take_blocking(core, lease, label):
                return lease
            request = AcquireRequest.plain(timeout, label)
        else:
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
                row=core.service,
            )
        wait = acquire(core, lease, request, ThreadWaiter)
        if wait is not None:
            drive(wait)
        return lease

    def release(self, lease_id: str | None = None, *, job_id: str | int | None = None) -> bool:
        """End a lease by its id or by its job's id, in any process that shares the store.

        A job that nobody has bound yet is remembered for ten minutes, and the bind then frees the
        slot at once. Call it for a final status only: services report progress too.

        Returns:
            True if this ended a lease.
        """
        return drive(self._core.release(lease_id, job_id))

    def adopt(self, job_id: str | int, *, account: str | Account, ttl: float | None = None) -> Lease:
        """Register a job that runs already: of an earlier process, or started by another tool.

        It counts from now on, even beyond what the account may run; then nothing is granted there until
        that drains. A job that is bound already, by whatever process, gives a lease on that binding; one that
        was released already gives a lease that has ended.

        Args:
            job_id: The job's id.
            account: The account that it runs on.
            ttl: Seconds after which the slot is freed if nobody releases it; default ``job_ttl``.

        Raises:
            ValueError: the account is not in the configuration.
            StoreUnavailable: the store cannot be reached.
        """
        self._drive(loaded)
        return Lease._of(self._core, drive(self._core.adopt(job_id, account, ttl)))  # noqa: SLF001  # of one piece

    def settle(self, body: object, *, job_id: str | int | None = None) -> bool:
        """Free the slots of the jobs that are over by what a status call or a callback said.

        A webhook handler is this one line: nobody needs a list of final words. Progress, unknown words,
        bodies that cannot be read and answers outside 2xx change nothing; what a 404 says is in the row.
        A final status of a job that nobody has bound is remembered, as by :meth:`release`.

        Args:
            body: What was said: a response of any client, a mapping, an array, or text.
            job_id: The job that is meant where the body names none. Of an array that names jobs, that
                job's item alone counts.

        Returns:
            Whether the status is final; of several jobs, whether those of all are.

        Raises:
            ValueError: the service's row has no final words.
        """
        return drive(self._core.settle(body, job_id))

    def renew(
        self, lease_id: str | None = None, *, job_id: str | int | None = None, ttl: float | None = None
    ) -> None:
        """Move the end of a bound or ambiguous lease to ``ttl`` seconds from now.

        Raises:
            LeaseLost: there is no such lease.
        """
        drive(self._core.renew(lease_id, job_id, ttl))

    def run(
        self,
        call: Callable[[Lease], T],
        *,
        attempts: int = 3,
        bind: Bind | None = None,
        **acquire_options: Unpack[AcquireOptions],
    ) -> T:
        """Acquire, call ``call(lease)``, report what came back; move to another account where that is safe.

        Args:
            call: Sends the job; returns the answer.
            attempts: How often it may be called.
            bind: A key of the JSON answer, True (the service's row knows where it names its job), or a
                callable that takes the answer and returns the job's id. Without it the slot ends with
                the call. With True an answer that says that its job is over frees the slot.
            acquire_options: As for :meth:`acquire`; ``timeout`` covers all waiting of all attempts.

        Raises:
            JobRefused: the job was refused for what it is. AmbiguousOutcome: it may run.
            AttemptsFailed: every attempt was turned away. Unauthorized, SubscriptionRequired: the
            token. And what :meth:`acquire` raises, and what ``call`` raises that is no answer.
            TypeError: ``call`` would run after its call, as coroutine functions and generators do.
        """
        if runs_later(call, awaited=False):
            raise TypeError("call must not be a coroutine function or a generator: use an AsyncAccountPool")
        request = AcquireRequest.make(**acquire_options, row=self._core.service)
        answer: T = drive(running(self._core, request, attempts, bind, self._acquire), call)
        return answer

    def _acquire(self, request: AcquireRequest) -> Flow[Lease]:
        lease = Lease()
        yield from result_of(acquire(self._core, lease, request, ThreadWaiter))
        return lease

    def with_lease(
        self, **acquire_options: Unpack[AcquireOptions]
    ) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Wrap a function or method that takes a keyword ``lease``: it is acquired around each call.

        Raises:
            TypeError: what is wrapped would run after its call, as coroutine functions and generators
            do. ValueError, TypeError: naming the acquire option that is wrong.
        """
        AcquireRequest.make(**acquire_options, row=self._core.service)

        def wrap(function: Callable[..., T]) -> Callable[..., T]:
            if runs_later(function, awaited=False):
                raise TypeError("function must do its work before it returns: the lease ends then")

            @functools.wraps(function)
            def wrapped(*args: Any, **kwargs: Any) -> T:
                with self.acquire(**acquire_options) as lease:
                    return function(*args, lease=lease, **kwargs)

            return wrapped

        return wrap

    # -- looking ----------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return the pool as it is now. Reads the configuration first if nobody has yet."""
        self._drive(loaded)
        return drive(stats(self._core))

    def explain(self, **acquire_options: Unpack[AcquireOptions]) -> dict[str, str]:
        """Say for each account ``"eligible"``, or why an acquire with these options would not get it."""
        request = AcquireRequest.make(**acquire_options, row=self._core.service)
        self._drive(loaded)
        return drive(explain(self._core, request))

    def holders(self) -> tuple[Holder, ...]:
        """Return every live lease."""
        return drive(holders(self._core))

    # -- by hand ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Fetch the configuration now.

        Raises:
            Unauthorized, SubscriptionRequired, SourceError: what the fetch failed with.
        """
        self._drive(refresh)

    def reconcile(self) -> ReconcileResult:
        """Compare with the server's list of jobs now, and return what that did.

        Raises:
            SourceError: the list could not be had. ValueError: the source has none.
        """
        return self._drive(reconcile)

    def cool(self, account_id: str | Account, seconds: float, reason: str = "by hand") -> None:
        """Put an account in a cooldown of ``seconds``. A longer one that runs already wins."""
        self._drive(loaded)
        drive(self._core.cool(account_id, seconds, reason))

    def reset(self, account_id: str | Account) -> None:
        """End an account's cooldown and probing; what the configuration says of it stays."""
        self._drive(loaded)
        drive(self._core.reset(account_id))

    def close(self) -> None:
        """Refuse new callers and send those who wait away with PoolClosed. Leases stay valid."""
        self._core.close()

    def _drive(self, algorithm: Callable[[PoolCore, Waiter], Flow[T]]) -> T:
        return drive(algorithm(self._core, ThreadWaiter(LeaseRecord(None))))
