"""Where leases are counted: in this process, in a file, or in Redis."""

from __future__ import annotations

from collections.abc import Callable

from balancer.ledger import Ledger
from balancer.options import Options
from balancer.origin import Origin
from balancer.store.base import Store
from balancer.store.memory import MemoryStore
from balancer.store.straight import open_road


def open_store(options: Options, ledger: Callable[[], Ledger], origin: Origin) -> Store:
    """Open the store that the options name.

    Raises:
        ValueError: its URL names no store. StoreUnavailable: it cannot be used.
        ImportError: it needs an extra that is not installed; the message names it.
    """
    if options.store == "memory://":
        store = MemoryStore(ledger, options.clock.now, options.draw)
        open_road(store, origin)
        return store
    from balancer.store.opening import open_shared  # most do without it, and start faster

    return open_shared(options, ledger, origin)
