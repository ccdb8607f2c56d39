"""Whatever bytes and bodies arrive, one error is all that comes of it."""

from __future__ import annotations

import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import InvalidConfiguration
from balancer.services import SERVICES
from balancer.useapi import parsing

FLOW = SERVICES["flowmusic"]
CANARY = "s3cr3t-canary-0001"
A, B = "a@example.com", "b@example.com"


NAMES = st.sampled_from(
    """
    maxJobs MAXJOBS concurrency error health tier region token jwt password sessionCookie access_token
    user_id email jobs running executing accounts channels videos images summary combined replyRef
    jobid jobId id videoId taskId status status_final task
    """.split()  # noqa: SIM905  (one name a line would be thirty lines)
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["OK", "6", "completed", CANARY, f"x {CANARY}", "user:1-minimax:2-video:3"]),
    st.text(max_size=8),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
SERVICE = st.sampled_from(sorted(SERVICES.values(), key=lambda row: row.key))


def refusal(read):
    """Return the error that ``read`` raises, None if it raises none; any other error passes through."""
    try:
        read()
    except InvalidConfiguration as error:
        return error
    return None


class TestAnything:
    """Whatever a server sends, one error is all that comes of it."""

    @given(body=ANYTHING, service=SERVICE)
    def test_no_body_raises_anything_else(self, body, service):
        """Missing, extra, null, mistyped and renamed fields are read, skipped or refused by one error."""
        for read in (parsing.job_list, lambda body, service: parsing.table(body, service, None)):
            error = refusal(lambda read=read: read(body, service))
            assert CANARY not in str(error)
        assert parsing.job_id(body, service) != ""
        assert parsing.final(body, service) in (True, False)

    @given(
        secret=st.sampled_from(
            ["token", "JWT", "x_cookie", "passWord", "mySecret", "session", "refresh", "access"]
        ),
        around=st.dictionaries(NAMES, ANYTHING, max_size=6),
        deep=st.booleans(),
        service=SERVICE,
    )
    def test_no_table_keeps_a_secret(self, secret, around, deep, service):
        """A canary under a secret name is nowhere in the table, even where other fields repeat it."""
        value = {"list": [{"value": CANARY}]} if deep else CANARY
        table = parsing.table({A: {**around, secret: value}}, service, None)
        (account,) = table.accounts.values()
        assert CANARY not in repr(account)
        assert account.broken is None or (len(account.broken) <= 200 and account.broken.isprintable())
        assert 1 <= account.capacity <= 1_000_000
        json.dumps(dict(account.fields), allow_nan=False).encode()

    @given(raw=st.binary(max_size=60) | ANYTHING.map(lambda body: json.dumps(body).encode()[:80]))
    def test_no_bytes_raise_anything_else(self, raw):
        """Any bytes are JSON, or one error without a cause."""
        error = refusal(lambda: parsing.body(raw, None))
        if error is not None:
            assert error.__context__ is None
            assert CANARY not in str(pickle.loads(pickle.dumps(error)))
