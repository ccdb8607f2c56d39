"""No secret of any service is ever shown."""

from __future__ import annotations

import re
import traceback

import pytest
import structlog
from own_code import is_own

from balancer import InvalidConfiguration, NoAccounts
from balancer.testing import CANARY


def locals_of(error):
    """Return the local variables of our own frames, as a traceback with locals shows them."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame.locals for frame in stack if is_own(frame.filename)]
    assert ours
    return ours


def test_no_secret_of_an_account_or_token_is_ever_seen(world):
    """P-60: not in reprs, statistics, errors or events, even where the service quotes one in a reason."""
    seen = []
    with structlog.testing.capture_logs() as events:
        lease = world.start(account=world.first)
        [secret, *_] = re.findall(f'"({CANARY}[^"]*)"', world.get(world.row.accounts).text)
        world.fake.break_account(world.row.key, world.second, f"token {secret} was refused")
        world.pool.refresh()
        with pytest.raises(NoAccounts) as caught:
            world.pool.acquire(timeout=0, account=world.second)
        seen += [world.pool, lease, lease.account, lease.params, caught.value, vars(caught.value)]
        seen += [world.pool.stats(), world.pool.holders(), world.pool.explain(), world.fake]
        world.fake.fault("GET *", body='{"token": "' + CANARY, times=None)
        with pytest.raises(InvalidConfiguration, match="cut off") as caught:
            world.pool.refresh()
        seen += [caught.value, caught.value.__cause__, caught.value.__context__, world.pool.stats()]
    seen += locals_of(caught.value)
    shown = repr([*seen, *map(str, seen), events])
    assert "was refused" in shown
    assert CANARY not in shown
    assert world.fake.token not in shown
    assert world.fake.token.partition("-")[2] not in shown
