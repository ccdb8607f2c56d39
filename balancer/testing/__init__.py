"""A stand-in for useapi.net, which offers no sandbox, a clock that tests move by hand, and a look for rest.

::

    from balancer.testing import FakeUseapi

    with FakeUseapi({"flowmusic": {"a@example.com": 2, "b@example.com": 1}}) as fake:
        pool = AccountPool("flowmusic", token=fake.token, base_url=fake.url)
        ...
        assert fake.audit().clean
"""

from balancer.testing.callbacks import Reply
from balancer.testing.faults import Fault
from balancer.testing.server import FakeUseapi
from balancer.testing.services import CANARY
from balancer.testing.state import AccountAudit, Audit, Violation
from balancer.testing.timing import ManualClock, at_rest

__all__ = [
    "CANARY",
    "AccountAudit",
    "Audit",
    "FakeUseapi",
    "Fault",
    "ManualClock",
    "Reply",
    "Violation",
    "at_rest",
]
