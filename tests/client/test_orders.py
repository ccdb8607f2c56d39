"""What is sent to start a job, and on which account: made of fields as people write them."""

from __future__ import annotations

import json

import pytest

from balancer import SERVICES
from balancer.client.api import Api
from balancer.client.orders import order
from balancer.testing import FakeUseapi
from balancer.useapi.api_token import Token

ROW = SERVICES["minimax"]
PARAMS = {"account": "111", "replyRef": "lease-1", "maxJobs": 4}
FILE = "user:1-minimax:111-file:9"


def made(fields, **options):
    """Return what would be sent, and the options with which a slot is waited for."""
    create = order(ROW, "videos/create", fields, None, options)
    return json.loads(create.request(PARAMS).body), options


@pytest.mark.parametrize("empty", ["replyRef", "maxJobs", "account"])
def test_a_field_that_was_not_filled_in_takes_nothing_away(empty):
    """A table has a column for each field: null in it is no reference, and no maximum of its own."""
    sent, options = made({"prompt": "x", empty: None}, max_jobs=4)
    assert (sent, options) == ({"prompt": "x", **PARAMS}, {"max_jobs": 4})


def test_fields_of_ones_own_count():
    """A reference is kept, a maximum and an account are what the slot is waited for with."""
    sent, options = made({"replyRef": "mine", "maxJobs": 4, "account": 111})
    assert (sent, options) == ({**PARAMS, "replyRef": "mine"}, {"max_jobs": 4, "account": "111"})


@pytest.mark.parametrize("wrong", [True, 1.5, ["111"], {"id": "111"}])
def test_an_account_among_the_fields_is_a_name_or_a_number(wrong):
    """Anything else would be waited for as an account that nobody has."""
    with pytest.raises(TypeError, match="account"):
        made({"account": wrong})
    with pytest.raises(TypeError, match="account"):
        made({}, account=wrong)


@pytest.mark.parametrize("asset", [FILE, [FILE], ("x", FILE), {"id": FILE}, [{"file": {"id": FILE}}, None]])
def test_an_asset_is_found_however_deep_it_stands_in_its_field(asset):
    """On another account the server refuses the job, or counts it where nobody does."""
    assert made({"fileID": asset})[1] == {"account": "111"}


def test_a_status_that_brings_its_result_along_is_read_whole():
    """A poll that always failed kept its job running, and its slot, for ever."""
    with FakeUseapi({"flowmusic": {"a@example.com": 1}}) as fake:
        body = {"jobid": "j1", "status": "completed", "image": "x" * (9 * 1024 * 1024)}
        fake.fault("GET */jobs/j1", status=200, body=body)
        api = Api(SERVICES["flowmusic"], Token(fake.token), fake.url)
        assert api.ask("jobs/j1").body == body
        api.close()
