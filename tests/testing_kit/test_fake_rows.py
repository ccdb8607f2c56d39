"""The stand-in speaks a service that is in no table, as its row says."""

from __future__ import annotations

import pytest
from api import Api

from balancer.models import Job
from balancer.services.schema import JobsEndpoint, Service
from balancer.testing import FakeUseapi
from balancer.useapi.parsing import final, job_id, job_list, table

LOADS = [
    JobsEndpoint(path="live"),
    JobsEndpoint(path="live?all=1", rows=("running",), job=("ticket",), account=("seat",)),
    JobsEndpoint(path="live", rows=("seats.*",), ref="mark"),
    JobsEndpoint(path="live", rows=("seats.*.now.#",)),
    JobsEndpoint(path="live", rows=("now.#",), account=("seat",)),
    JobsEndpoint(path="live", rows=(), counts="seats.*.running", covers=False),
]


@pytest.mark.parametrize("load", LOADS, ids=repr)
def test_a_row_of_ones_own_is_spoken_as_it_says(load):
    """Accounts, creates, lists and statuses follow from a row that is in no table."""
    row = Service(
        key="mine",
        path="/v9/mine",
        accounts="seats",
        selector="seat",
        capacity="limit",
        error=("trouble",),
        load=load,
        job_id=("made.ticket",),
        final={"phase": ("over", "lost")},
    )
    accounts = {"mine": {"s1": 2, "s2": 1}}
    with FakeUseapi(accounts, services=[row], job_seconds=(600, 600)) as fake, Api(fake) as api:
        api.base = fake.url + row.path
        job = job_id(api.create("make", seat="s1", replyRef="r").json(), row)
        assert fake.running("mine", "s1") == (job,)
        read = job_list(api.get(row.load.path).json(), row)
        if load.rows:
            told = "s1" if load.account or "*" in load.rows[0] else None
            assert read.jobs == (Job(job, told, "r"),)
        assert dict(read.counts) == ({} if load.rows else {"s1": 1})
        fake.break_account("mine", "s2", "gone")
        accounts = table(api.get("seats").json(), row, None).accounts
        assert [(one.capacity, one.broken) for one in accounts.values()] == [(2, None), (1, "gone")]
        assert not final(api.get(f"jobs/{job}").json(), row)
        fake.finish(job, "failed")
        assert api.get(f"jobs/{job}").json()["phase"] == "lost"
        assert fake.audit().accounts["mine"]["s1"].accepted == 1
