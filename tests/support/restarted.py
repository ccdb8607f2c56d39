"""A process that fills an account pool with jobs, says so, and waits to be killed."""

import sys
import time

import requests

from balancer import AccountPool, AcquireTimeout


def main(service, url, token, path, *shared):
    """Start jobs on ``service`` until nothing is free; on a store that others share none of them is bound."""
    options = {}
    if shared:
        store, lease_ttl, every = shared
        options = {"store": store, "lease_ttl": float(lease_ttl), "reconcile_every": float(every)}
    pool = AccountPool(service, base_url=url, token=token, **options)
    leases = []
    headers = {"Authorization": f"Bearer {token}"}
    started = 0
    try:
        while True:
            lease = pool.acquire(timeout=0)
            answer = requests.post(f"{url}{path}", json={"prompt": "x", **lease.params}, headers=headers)
            answer.raise_for_status()
            if not shared:
                lease.bind(started)  # any id will do: it only keeps the slot
            leases.append(lease)
            started += 1
    except AcquireTimeout:
        print(started, flush=True)  # noqa: T201  # read by the test
    time.sleep(60)  # the test kills it at once; this ends it if the test was killed itself


if __name__ == "__main__":
    main(*sys.argv[1:])
