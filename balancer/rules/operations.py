"""What is asked of a store that several processes share: a closed list of operations, each one atomic.

A backend (SQLite, Redis) carries out one operation in one transaction or one script call, and keeps
the rules of :class:`balancer.rules.ledger.Ledger` while it does. Every operation has three parts:

1. *Settle* what is due: leases that have ended by themselves end; leases of dead owners end;
   cooldowns that are over leave a probing behind; offers that nobody took within
   :data:`OFFER_SECONDS` lapse and their process goes to the back of the line.
2. *Act*: what the operation says.
3. *Offer* free slots to waiting processes, highest priority first: a process that waits and has no offer yet
   gets one slot of an account with room that it wants, reserved for it, and is told of it by
   :meth:`Backend.listen`. A reserved slot counts as taken for everybody else. The process takes it
   with ``Acquire(offered=True)``, which gives the reservation back before it chooses.

An owner is one pool in one process. It is known from its first operation on, alive until it has not
been heard of for ``lease_ttl`` seconds (or, where the kernel can be asked, until it is dead), and
owns the leases whose keys begin with its name. All durations are seconds; instants never cross the
border, as every store has its own clock.

What nearly every call is made of is a tuple: to make a frozen dataclass costs four times as much.
An operation's fields travel to Redis in the order in which they are declared, and each as its type says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from balancer.models import Account, AccountTable

OFFER_SECONDS = 1.0
"""How long a slot stays reserved for the process that it was offered to."""
TOMBSTONE_SECONDS = 600.0
"""How long a lease that was ended is remembered, so that nothing brings it back."""

MOST_PRIORITY = 1000
"""Between processes what is higher counts as this, and what is lower than its opposite as that."""
Wanted = tuple[str, ...]
"""The accounts that a waiting process could use; empty: any."""
Priority = int
"""The highest that waits in a process: between processes it comes before the order of arrival."""
FleetTask = Literal["fetch", "survey"]
"""What one process does for all: to fetch the accounts, or to reconcile."""
Seconds = float
"""How long; rounded to milliseconds by a store that has no finer clock."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a backend has to know of the pool that it counts for."""

    namespace: str
    """Customer and service, in printable characters; never a secret."""
    strategy: str
    lower_only: bool
    """A request's ``max_jobs`` can lower an account's capacity but not raise it."""
    lease_ttl: float
    job_ttl: float
    ambiguous_ttl: float
    spaced: bool = field(default=False, compare=False)
    """Grants are spaced, so that of one account no two slots are offered at a time."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One pool in one process."""

    name: str
    """Unique; keys of its leases are ``f"{name}-{number:x}"``."""
    host_pid: str
    """``host:pid``, for people."""


# -- operations: what is asked, and in the docstring what is answered -----------------------------------


class Acquire(NamedTuple):
    """Grant a lease. Answer: a :class:`Granted`, or None.

    A key that is live already is answered with its grant again. A key with a tombstone is refused:
    its caller has given up. Otherwise the choice is the ledger's:
    among the accounts that fit, index ``int(draw * n)`` (``least_loaded``: among the least loaded of
    them). With ``accounts`` the first that fits is taken instead, as they come in random order; for
    ``least_loaded`` the first of the least loaded.
    """

    key: str
    draw: float = 0.0
    label: str | None = None
    spacing: Seconds = 0.0
    """For how long this grant leaves its account alone."""
    scope: str | None = None
    accounts: tuple[str, ...] | None = None
    """In random order; None: any."""
    max_jobs: int | None = None
    offered: bool = False
    """Use what is reserved for this process. All its reservations end, whatever the answer."""
    then_wants: Wanted | None = None
    """What the process waits for once this is granted; it goes to the back of the line. None: it leaves."""
    else_wants: Wanted | None = None
    """What it waits for if this is not granted; its place in line stays. None: it leaves."""
    then_priority: Priority = 0
    """Once this is granted."""
    else_priority: Priority = 0
    """If this is not granted."""


class Release(NamedTuple):
    """End a lease by key or job id, leaving a tombstone for its key. Answer: an :class:`EndedLease` or None.

    A key that is unknown leaves a tombstone too: the grant may still be on its way. A job that no
    lease is bound to, nor was when it was released before, is remembered as an early release for 600 s
    (at most 10,000). Of a lease with several jobs one that is released is over, and the lease ends with the
    last; until then the answer is None. If somebody else than
    its owner ends an unbound lease, the owner learns of it by the next :class:`Heartbeat`.
    """

    key: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """Tie a lease to its jobs for ``ttl`` seconds; its process no longer keeps it.

    Answer: ``"bound"``; ``"over"``: all were released already, the lease has ended; ``"lost"``: there
    is no such lease; ``"taken"``: another lease has one of these jobs, or this lease another job.
    """

    key: str
    job_ids: tuple[str, ...]
    ttl: Seconds


@dataclass(frozen=True, slots=True)
class Adopt:
    """Write down, as the lease ``key``, a job that runs for ``ttl`` seconds more, even over the bound.

    Answer: an :class:`Adopted`, of an older lease if the job is bound; None: there is no such account.
    """

    key: str
    job_id: str
    account: str
    ttl: Seconds


@dataclass(frozen=True, slots=True)
class Renew:
    """Move the end of a bound or ambiguous lease, by key or by job id. Answer: whether there is such a lease.

    ``ttl`` None: what its state has by default. A held lease has no end, and stays as it is.
    """

    key: str | None = None
    job_id: str | None = None
    ttl: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Put into effect what an answer said about a lease and its account. Answer: a :class:`Reported`.

    Though the lease may have ended, what was said of the account holds.
    """

    key: Hashable
    account: str
    accepted: bool = False
    """The account took the job: if this lease probes, or is a trial, that went well."""
    doubt: bool = False
    """Nobody knows whether the job runs: the lease becomes ambiguous, unless it is bound.

    With neither of the two no job was taken.
    """
    adverse: bool = False
    """The end of this lease will not prove the account well."""
    seconds: Seconds | None = None
    """Length of the cooldown; None: none."""
    scope: str | None = None
    reason: str = ""
    worth_waiting: bool = True
    named: bool = False
    """The answer said how long the cooldown is, so that it holds whatever else is learned."""
    teaches: bool = False
    """A refusal that tells how many jobs the account bears, unless this lease was accepted before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cool:
    """Put an account, or a scope of it, in a cooldown. Answer: whether there is such an account."""

    account: str
    seconds: Seconds
    scope: str | None = None
    reason: str = ""
    worth_waiting: bool = True


@dataclass(frozen=True, slots=True)
class Reset:
    """Clear what verdicts made of an account. Answer: whether there is such an account."""

    account: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask for the right to fetch or to reconcile for all processes. Answer: a :class:`Claimed`.

    Granted unless it was done less than ``max_age`` seconds ago, somebody else is at it, or
    (``max_age`` above 0) the last failure asked for a pause that is not over. Void after ``hold`` seconds.
    Who holds it and asks again gets it under a new number: the first answer may have been lost.
    """

    what: FleetTask
    max_age: Seconds
    hold: Seconds


@dataclass(frozen=True, slots=True)
class Fail:
    """Give a claim back without success. Answer: None. Ignored if the claim is void."""

    what: FleetTask
    number: int
    kind: str
    """Name of the error's type."""
    text: str
    pause: Seconds
    """Seconds until the next try."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Put a table in force that a claim brought, and give the claim back. Answer: the new version, or None.

    ``put`` and ``gone`` are how it differs from the table of version ``base``; None is answered, and
    nothing done, if another version is in force or the claim is void. An unchanged table keeps its version.
    """

    number: int
    base: int
    table: AccountTable
    put: tuple[Account, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Answer: a :class:`Configured`, or None while there is no table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Put into effect what the server's list means, and give the claim back.

    Answer: the keys that ended; None, and nothing is done, if the claim is void, or if a lease that a listed
    job names is gone though nobody has ended it: its process was found dead since the plan was made.

    Each change is made only if the lease is still in the state that it was planned for: ``bind`` and
    ``resolve`` are of ambiguous leases, ``prolong``, ``reclaim`` and ``missed`` of bound ones.
    """

    number: int
    external: Mapping[str, int]
    """Account id -> jobs of others; accounts that are not here have none."""
    bind: tuple[tuple[str, str], ...] = ()
    """Key and job id."""
    prolong: tuple[str, ...] = ()
    """Their end moves on to ``job_ttl`` from now, unless it is later already."""
    reclaim: tuple[str, ...] = ()
    resolve: tuple[str, ...] = ()
    listed: tuple[tuple[str, str, str], ...] = ()
    """Jobs that no lease is bound to: id, account, and key of the unbound lease that it names or nothing."""
    age: Seconds = 0.0
    """How long ago the list was asked for."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """Key -> lists in a row that its job was missing from."""


@dataclass(frozen=True, slots=True)
class ReadAll:
    """Answer: everything, as a :class:`State`."""


@dataclass(frozen=True, slots=True)
class ReadSome:
    """Answer: what the store holds of some accounts, as a :class:`State` with nothing else in it."""

    accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Say that the owner lives. Answer: a :class:`HeartbeatReply`."""


@dataclass(frozen=True, slots=True)
class Register:
    """Bring held leases back that the store has forgotten, even over capacity. Answer: keys with a tombstone.

    Leases that the store knows stay as they are; those with a tombstone stay ended.
    """

    rows: tuple[LeaseState, ...]


@dataclass(frozen=True, slots=True)
class SetWanted:
    """Say what the process waits for; its place in line stays. None: it leaves. Answer: None."""

    wants: Wanted | None
    priority: Priority = 0


@dataclass(frozen=True, slots=True)
class Inspect:
    """Have ``look`` read the store's ledger. Answer: what it returns. Of backends with a ``replica`` only."""

    look: Callable[[Any], Any]


Operation = (
    Acquire
    | Release
    | Bind
    | Adopt
    | Renew
    | Report
    | Cool
    | Reset
    | Claim
    | Fail
    | Configure
    | ReadTable
    | Apply
    | ReadAll
    | ReadSome
    | Heartbeat
    | Register
    | SetWanted
    | Inspect
)


# -- answers --------------------------------------------------------------------------------------------


class Adopted(NamedTuple):
    """The lease of a job that ran already."""

    key: str
    account: str
    live: bool
    """False: the job was released, so that its lease has ended."""
    job_ids: tuple[str, ...]
    age: float = 0.0
    """Seconds since it was granted."""
    label: str | None = None


class Reported(NamedTuple):
    """What became of a report."""

    live: bool
    """The lease is there."""
    cooling: bool
    """The account cools for what was said."""


class LimitChange(NamedTuple):
    """It is known by now that an account bears fewer jobs than was thought, or more."""

    account: str
    limit: int
    capacity: int
    raised: bool


class Granted(NamedTuple):
    """A lease was granted."""

    account: str


class EndedLease(NamedTuple):
    """A lease that has ended."""

    key: str
    account: str
    state: str
    """What it was before: ``held``, ``bound`` or ``ambiguous``."""
    job_id: str | None = None
    label: str | None = None
    age: float = 0.0
    """Seconds since it was granted."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who fetches or reconciles."""

    go: bool
    """It is ours to do."""
    number: int = 0
    """Names the claim."""
    retry_in: float = 0.0
    """Seconds after which to ask again: somebody else is at it, or pauses after a failure."""
    age: float | None = None
    """Seconds since it was last done; None: never."""
    trouble: tuple[str, str] | None = None
    """Type and text of the error that the last try failed with, if it failed."""


@dataclass(frozen=True, slots=True)
class Configured:
    """The table in force."""

    version: int
    table: AccountTable
    age: float
    """Seconds since it was fetched."""


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """What an owner hears when it says that it lives."""

    known: bool
    """False: the store has forgotten it (and its leases); see :class:`Register`."""
    ended: tuple[str, ...] = ()
    """Keys of its leases that somebody else ended on purpose since it last asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """A lease, with instants told as durations from the store's now."""

    key: str
    account: str
    state: str
    age: float
    """Seconds since it was granted."""
    label: str | None = None
    scope: str | None = None
    job_id: str | None = None
    other_jobs: tuple[str, ...] = ()
    ended_jobs: tuple[str, ...] = ()
    """Those of its jobs that are over, while others run."""
    state_age: float = 0.0
    """Seconds since it became bound or ambiguous."""
    expires_in: float | None = None
    adverse: bool = False
    accepted: bool = False
    """Its job was taken, as an answer or a bind has said."""
    declined: bool = False
    """Its last answer proves that no job was taken."""
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictionState:
    """Why an account takes less than its capacity: what refusals have taught, or its last grant."""

    account: str
    jobs: int | None = None
    """What it has been seen to bear; None: nothing was learned, and what follows says nothing."""
    next_trial_in: float = 0.0
    """Seconds until a trial becomes due, unless one is due or under way."""
    wait: float = 0.0
    """Seconds from one trial to the next."""
    trial: str | None = None
    """Key of the lease that is a trial."""
    due: bool = False
    spaced_for: float | None = None
    """Seconds for which its last grant still leaves it alone; None: no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CooldownState:
    """A cooldown, or the probing after it."""

    account: str
    scope: str | None
    left: float
    """Seconds that it still cools; 0 or less: it probes."""
    reason: str
    worth_waiting: bool
    probe: str | None = None
    """Key of the lease that tries the account out, while it is out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that a store holds for one pool."""

    version: int
    table: AccountTable | None
    """The accounts of the table in force and, marked in ``draining``, those gone that still have leases."""
    draining: tuple[Account, ...] = ()
    rows: tuple[LeaseState, ...] = ()
    cooldowns: tuple[CooldownState, ...] = ()
    restrictions: tuple[RestrictionState, ...] = ()
    external: Mapping[str, int] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """Name -> ``host:pid`` of every owner of a row."""
    done: Mapping[str, float] = field(default_factory=dict)
    """Job id -> seconds since it was released; at most the last 10,000 of 600 s."""
    offers: Mapping[str, int] = field(default_factory=dict)
    """Account id -> slots reserved for waiting processes."""
    detached: int = 0
    """Bound and ambiguous leases, on whatever account. Told by :class:`ReadSome` only, as is what follows."""
    next_end: float | None = None
    """Seconds to the first end of such a lease, or of a cooldown; None: there is none to come."""
    closed: float | None = None
    """Seconds for which nothing is granted, until all processes have said what they hold."""


class Reply(NamedTuple):
    """What every operation answers."""

    result: Any
    version: int = 0
    """Of the table in force; 0: there is none."""
    due: float | None = None
    """Seconds until the next thing ends by itself (lease, cooldown, owner, offer); None: nothing will."""
    loose: float | None = None
    """Seconds for which the oldest bound or ambiguous lease has been so; None: there is none."""
    expired: tuple[EndedLease, ...] = ()
    """Leases that this operation found ended by themselves."""
    hope: bool | None = None
    """Whether waiting may help, told to an :class:`Acquire` that got nothing. None: nobody looked."""
    limits: tuple[LimitChange, ...] = ()
    """What this operation has taught about accounts."""
    ruling: Mapping[str, Any] | None = None
    """Name -> value of the settings that count, if they are not those of this pool. Told now and then."""


class Backend(Protocol):
    """A database that carries out operations. Every method may be called from any thread."""

    def call(self, operation: Operation, limit: float | None = None) -> Reply:
        """Carry out one operation.

        Args:
            operation: What to do.
            limit: Seconds within which there has to be an answer; None: as long as the backend has patience.

        Raises:
            StoreUnavailable: it could not be done, or nobody knows whether it was.
        """

    async def acall(self, operation: Operation, limit: float | None = None) -> Reply:
        """Carry out one operation without blocking the running event loop. Raises as :meth:`call`.

        If it is cancelled nobody knows whether it was done; the caller undoes it by key.
        """

    def listen(self, seconds: float) -> tuple[str, ...]:
        """Wait for offers to this process, at most ``seconds``, and return their accounts.

        Empty after the time, after :meth:`poke`, or when messages may have been lost. Called from one
        thread at a time. Raises StoreUnavailable.
        """

    @property
    def roll_calls(self) -> int:
        """Counts the moments at which the store may have forgotten what this owner holds.

        At each of them the store asked, or could not have been heard asking. Whoever beats answers
        with a :class:`Register`.
        """

    def poke(self) -> None:
        """Have :meth:`listen` return now, or at once when it is called next."""

    @property
    def beats(self) -> bool:
        """Whether an owner has to say that it lives; False where the kernel tells."""

    def leave_loops(self) -> None:
        """Have event loops close connections that they do not use: they may end before :meth:`close`."""

    def after_fork(self, owner: Owner) -> None:
        """Let go, in a child, of what belongs to the parent; go on as ``owner``. No I/O."""

    def close(self) -> None:
        """Close connections. Idempotent. A later call connects anew, so that leases can be released."""
