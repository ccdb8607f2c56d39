"""From a prompt to its result: above the pool, and by its public names alone.

An :mod:`order <balancer.client.orders>` is sent through the :mod:`api <balancer.client.api>` on a slot of the
pool; the :mod:`poller <balancer.client.poller>` follows its :mod:`job <balancer.client.jobs>` to the end.
"""

from balancer.client.client import Client, RemoteJob

__all__ = ["Client", "RemoteJob"]
