"""Where leases are counted: in this process, in a file, or in Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from balancer.config import PoolConfig
from balancer.rules.ledger import Ledger
from balancer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from balancer.stores.shared import SharedStore


def open_store(
    options: PoolConfig, new_ledger: Callable[[], Ledger], **state: Any
) -> MemoryStore | SharedStore:
    """Open the store that the options name; ``state`` is what :class:`balancer.stores.base.Store` takes.

    Raises:
        ValueError: its URL names no store. StoreUnavailable: it cannot be used.
        ImportError: it needs an extra that is not installed; the message names it.
    """
    if options.store == "memory://":
        return MemoryStore(new_ledger, options.draw, spaced=any(options.spacing), **state)
    from balancer.stores.opening import open_shared  # most do without it, and start faster

    return open_shared(options, new_ledger, **state)
