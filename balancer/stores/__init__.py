"""Where leases are counted: in this process, in a file, or in Redis."""

from __future__ import annotations

from collections.abc import Callable

from balancer.config import PoolConfig
from balancer.rules.ledger import Ledger
from balancer.stores.base import Store
from balancer.stores.memory import MemoryStore
from balancer.stores.memory_fast_path import open_road
from balancer.stores.origin import Origin


def open_store(options: PoolConfig, ledger: Callable[[], Ledger], origin: Origin) -> Store:
    """Open the store that the options name.

    Raises:
        ValueError: its URL names no store. StoreUnavailable: it cannot be used.
        ImportError: it needs an extra that is not installed; the message names it.
    """
    if options.store == "memory://":
        store = MemoryStore(ledger, options.clock.now, options.draw)
        open_road(store, origin)
        return store
    from balancer.stores.opening import open_shared  # most do without it, and start faster

    return open_shared(options, ledger, origin)
