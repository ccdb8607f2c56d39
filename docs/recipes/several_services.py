"""Several services side by side: one pool for each, made when it is first needed.

The pools share the token and the store. Each service counts apart, as each has accounts of its own;
and a kind of job with a limit of its own (``mureka/speech``) is a pool of its own.
"""

from __future__ import annotations

import threading
from typing import Any

from balancer import AccountPool


class Pools:
    """Every pool of a process. Mutable: the pools made so far, under a lock."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._pools: dict[str, AccountPool] = {}

    def __getitem__(self, service: str) -> AccountPool:
        """Return the pool of a service, the same one each time."""
        with self._lock:
            pool = self._pools.get(service)
            if pool is None:
                pool = self._pools[service] = AccountPool(service, **self._options)
            return pool

    def free(self) -> dict[str, int]:
        """Return how many jobs each service would take now."""
        return {service: pool.stats().free for service, pool in list(self._pools.items())}

    def close(self) -> None:
        """Close every pool. Leases stay valid."""
        for pool in list(self._pools.values()):
            pool.close()
