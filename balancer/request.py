"""What one ``acquire`` asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, TypedDict

from balancer.config import MOST_SECONDS, account_id, check_int, check_text, seconds
from balancer.models import MAX_CAPACITY, Account
from balancer.rules.records import NONE
from balancer.services.schema import Service

Where = Callable[[Account], bool]


class AcquireOptions(TypedDict, total=False):
    """The keyword arguments of ``acquire``, as they were given."""

    timeout: float | None
    account: str | Account | None
    exclude: Collection[str | Account]
    where: Where | None
    max_jobs: int | None
    scope: str | None
    label: str | None
    asset: str | None
    priority: int


_NUMBERS = (int, float)
_SHOWN = 100
"""Characters of an id that an error repeats."""


def is_plain(timeout: float | None, label: str | None) -> bool:
    """Whether these two need no closer look."""
    return (timeout is None or (timeout.__class__ in _NUMBERS and 0 <= timeout <= MOST_SECONDS)) and (
        label is None or (label.__class__ is str and label.isascii())
    )


class AcquireRequest(NamedTuple):
    """The checked arguments of one ``acquire``."""

    timeout: float | None = None
    account: str | None = None
    exclude: frozenset[str] = NONE
    where: Where | None = None
    max_jobs: int | None = None
    scope: str | None = None
    label: str | None = None
    priority: int = 0
    by_table: bool = False
    """The account table says which accounts will do, or how far ``max_jobs`` may go."""
    asked: float | None = None
    """The caller's own timeout where ``timeout`` is what is left of it."""

    @staticmethod
    @functools.lru_cache(typed=True)
    def plain(timeout: float | None, label: str | None) -> AcquireRequest:
        """Return one whose arguments were found plain: most callers ask for the same over and over."""
        return AcquireRequest(timeout=timeout, label=label)

    @staticmethod
    def make(
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
        row: Service,
    ) -> AcquireRequest:
        """Check the arguments of an ``acquire`` for the service of ``row``.

        Raises:
            ValueError, TypeError: naming the argument that is wrong.
        """
        if isinstance(exclude, str | bytes) or not isinstance(exclude, Collection):
            raise TypeError(f"exclude must be a collection of account ids, not {type(exclude).__name__}")
        if where is not None and not callable(where):
            raise TypeError("where must be a callable that takes an Account")
        if priority.__class__ is not int:
            raise TypeError(f"priority must be a whole number, not {type(priority).__name__}")
        pinned = None if account is None else account_id("account", account)
        return AcquireRequest(
            timeout=None if timeout is None else seconds("timeout", timeout),
            account=pinned if asset is None else _home(asset, pinned, row),
            exclude=frozenset([account_id("exclude", each) for each in exclude]) if exclude else NONE,
            where=where,
            max_jobs=None if max_jobs is None else check_int("max_jobs", max_jobs, 1, MAX_CAPACITY),
            scope=None if scope is None else check_text("scope", scope),
            label=None if label is None else check_text("label", label),
            priority=priority,
            by_table=where is not None or (max_jobs is not None and row.max_jobs is None),
        )

    def accounts(self, table: Mapping[str, Account]) -> frozenset[str] | None:
        """Return the ids that the constraints leave; None: any. Runs ``where``, so hold no lock."""
        if self.account is None and not self.exclude and self.where is None:
            return None
        ids: Collection[str] = table if self.account is None else (self.account,)
        return frozenset(id for id in ids if self.why_not(id, table.get(id)) is None)

    def why_not(self, id: str, account: Account | None) -> str | None:
        """Say why an account does not satisfy the constraints, or None."""
        if self.account is not None and id != self.account:
            return f"pinned to {self.account}"
        if id in self.exclude:
            return "excluded"
        if self.where is not None and (account is None or not self.where(account)):
            return "where says no"
        return None


def _home(asset: object, account: str | None, row: Service) -> str:
    """Return the account on which an asset lives, which its id names."""
    if not isinstance(asset, str):
        raise TypeError(f"asset must be the id of an upload or a result, not {type(asset).__name__}")
    if row.account_in_asset is None:
        raise ValueError(f"asset: it is not known how ids of {row.key} name their account; give account=")
    home = row.account_of(asset)
    if home is None:
        raise ValueError(f"asset {asset[:_SHOWN]!r} is no id of {row.key} that names an account")
    if account not in (None, home):
        raise ValueError(f"asset {asset[:_SHOWN]!r} lives on {home}, and account names {account}")
    return home


AcquireRequest.make.__qualname__ = "acquire"  # by this name whoever gives an unknown argument is told
