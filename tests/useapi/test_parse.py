"""Bodies of the service, whatever they look like, become values without secrets."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest
from bodies import BODIES

from balancer.errors import InvalidConfiguration
from balancer.models import Account
from balancer.services import GENERIC, SERVICES
from balancer.services.schema import Service
from balancer.useapi import parsing

FLOW = SERVICES["flowmusic"]
CANARY = "s3cr3t-canary-0001"
A, B = "a@example.com", "b@example.com"


def one(entry, service=FLOW, default=None):
    """Return the account of a map that has one entry."""
    return parsing.table({A: entry}, service, default).accounts[A]


class TestTable:
    """A map of entries becomes accounts."""

    @pytest.mark.parametrize("body", [[], [{"id": "a"}], None, "sentence", 6, True, math.nan])
    def test_only_a_map_is_a_table(self, body):
        """An array, a sentence, null and numbers are no account configuration."""
        with pytest.raises(InvalidConfiguration, match=r"not a map of accounts"):
            parsing.table(body, FLOW, None)

    @pytest.mark.parametrize("body", [BODIES["_common/401"], {"Error": "Unauthorized", "Code": 401}])
    def test_an_error_report_is_no_table(self, body):
        """An error under a good status is refused, not read as accounts named error and code."""
        with pytest.raises(InvalidConfiguration, match="error report"):
            parsing.table(body, FLOW, None)

    def test_an_empty_map_is_no_accounts(self):
        """No account is a configuration like any other."""
        assert len(parsing.table({}, FLOW, None)) == 0

    def test_the_map_key_is_the_id(self):
        """What an entry says about its own id does not count, nor need it be there."""
        assert list(parsing.table({A: {"email": B}, B: {}}, FLOW, None).accounts) == [A, B]

    @pytest.mark.parametrize("stated", [6, 6.0, "6", " 6 ", "6.0"])
    def test_a_whole_number_is_a_capacity(self, stated):
        """6, 6.0 and "6" are all 6."""
        account = one({"maxJobs": stated})
        assert (account.capacity, account.broken, account.note) == (6, None, None)

    @pytest.mark.parametrize(
        "stated",
        [
            0,
            -1,
            6.5,
            math.nan,
            math.inf,
            True,
            False,
            1_000_001,
            10**400,
            "",
            "six",
            "6.5",
            "9" * 5000,
            [],
            {},
        ],
    )
    def test_any_other_capacity_breaks_that_account_only(self, stated):
        """A capacity that is none is the reason of one account; its neighbour works."""
        accounts = parsing.table({A: {"maxJobs": stated}, B: {"maxJobs": 2}}, FLOW, None).accounts
        assert "maxJobs" in accounts[A].broken
        assert "from 1 to 1,000,000" in accounts[A].broken
        assert (accounts[B].capacity, accounts[B].broken) == (2, None)

    @pytest.mark.parametrize(
        ("key", "default", "capacity", "words"),
        [
            ("flowmusic", None, 1, "1 assumed"),
            ("flowmusic", 7, 7, "default_capacity 7"),
            ("mureka", None, 10, "documented default 10"),
            ("mureka", 3, 3, "default_capacity 3"),
            ("muse", None, 2, "documented default 2"),
        ],
    )
    @pytest.mark.parametrize("entry", [{}, {"maxJobs": None}])
    def test_a_missing_capacity_is_assumed_and_said(self, key, default, capacity, words, entry):
        """The caller's default comes before the documented one, and that before 1; the note tells which."""
        account = one(entry, SERVICES[key], default)
        assert (account.capacity, account.broken) == (capacity, None)
        assert words in account.note

    @pytest.mark.parametrize("entry", [None, 6, "6", [], True])
    def test_an_entry_that_is_no_object_breaks_that_account_only(self, entry):
        """A fetched entry must be an object."""
        accounts = parsing.table({A: entry, B: {"maxJobs": 2}}, FLOW, None).accounts
        assert "not an object" in accounts[A].broken
        assert accounts[B].broken is None

    @pytest.mark.parametrize("id", ["", "a\n", "\ud800"])
    def test_an_id_that_cannot_be_written_is_broken(self, id):
        """An empty id, a control character and half a character cannot name an account in a request."""
        (account,) = parsing.table({id: {"maxJobs": 2}}, FLOW, None).accounts.values()
        assert "id" in account.broken
        assert account.id.isprintable()

    @pytest.mark.parametrize("odd", ["a\nb", "a\x00b", "a\u2028b"])
    def test_an_id_that_cannot_be_written_takes_no_other_accounts_place(self, odd):
        """Made readable, it must not read like the id of an account that works."""
        accounts = parsing.table({"a b": {"maxJobs": 2}, "ab": {"maxJobs": 2}, odd: {}}, FLOW, None).accounts
        assert len(accounts) == 3
        assert [id for id, account in accounts.items() if account.broken is None] == ["a b", "ab"]
        assert all(id == account.id for id, account in accounts.items())

    @pytest.mark.parametrize(
        ("entry", "reason"),
        [
            ({"error": "refresh token rejected"}, "refresh token rejected"),
            ({"ERROR": "rejected"}, "rejected"),
            ({"error": {"code": 5, "message": "gone"}}, "gone"),
            ({"error": {"odd": 1}}, "its error is set"),
            ({"error": True}, "its error is set"),
            ({"error": 596}, "596"),
            ({"error": ["x"]}, "its error is set"),
            ({"health": "Meta asked for a check"}, "health: Meta asked for a check"),
            ({"health": "error", "error": "logged out"}, "logged out"),
            ({"health": "error"}, "health: error"),
            ({"health": False}, "health: a boolean"),
            ({"health": ["x"]}, "health: an array"),
        ],
    )
    def test_an_error_or_bad_health_breaks_the_account(self, entry, reason):
        """The entry's own words are the reason."""
        assert one({"maxJobs": 2, **entry}).broken == reason

    @pytest.mark.parametrize(
        "entry",
        [
            {"error": ""},
            {"error": None},
            {"error": {}},
            {"error": False},
            {"error": " "},
            {"health": "OK"},
            {"health": "ok "},
            {"health": None},
            {"health": ""},
            {"health": True},
            {"expires_at": 1, "access_token_expires_at": "1999-01-01T00:00:00Z"},
        ],
    )
    def test_an_account_without_complaint_works(self, entry):
        """Empty errors, absent or good health and a past expiry date break nothing."""
        assert one({"maxJobs": 2, **entry}).broken is None

    def test_fields_are_matched_exactly_first_then_in_any_case(self):
        """A field of another case counts only where the exact one is missing."""
        assert one({"MAXJOBS": 3}).capacity == 3
        assert one({"MAXJOBS": 3, "maxJobs": 4}).capacity == 4

    def test_booleans_numbers_and_named_strings_are_kept(self):
        """``where`` sees what may be useful: flags, numbers, and the strings that the row names."""
        account = one(BODIES["flowmusic/account_email"])
        assert account.fields == {
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "maxJobs": 12,
            "refreshed_count": 0,
            "credits_remaining": 5000,
            "tokens_remaining": 60000,
        }
        flags = parsing.table(BODIES["minimax/accounts"], SERVICES["minimax"], None).accounts["55555"].fields
        assert flags == {"maxJobs": 1, "supportVideo": False, "supportChat": True, "supportAudio": True}

    def test_fields_that_nobody_can_compare_are_left_out(self):
        """NaN, infinities and numbers beyond 64 bits would upset stores; a numeric password is a secret."""
        entry = {
            "n": math.nan,
            "i": math.inf,
            "b": 2**64,
            "password": 1234,
            "pin": 5,
            "ok": 1.5,
            "nest": {"x": 1},
        }
        assert one({"maxJobs": 2, **entry}).fields == {"maxJobs": 2, "ok": 1.5}


class TestEntry:
    """What people write by hand is an entry too."""

    def test_a_bare_capacity_is_an_entry(self):
        """``{"a": 6}`` says all that is needed."""
        assert parsing.entry("a", 6, GENERIC, None) == Account("a", 6)

    def test_a_bare_capacity_is_checked_like_any_other(self):
        """0 and True are no capacities by hand either."""
        assert "capacity is 0" in parsing.entry("a", 0, GENERIC, None).broken
        assert "capacity is a boolean" in parsing.entry("a", True, GENERIC, None).broken

    def test_an_entry_map_is_read_like_a_fetched_one(self):
        """A mapping of entries works as if the service had sent it."""
        account = parsing.entry("a", MappingProxyType({"maxJobs": "3", "beta": True}), GENERIC, None)
        assert (account.capacity, account.fields["beta"]) == (3, True)

    def test_an_account_is_taken_under_the_key_it_stands_at(self):
        """An Account passes through; the key of the mapping names it, and its capacity is checked."""
        assert parsing.entry("a", Account("z", 3, {"hd": True}), GENERIC, None) == Account(
            "a", 3, {"hd": True}
        )
        assert parsing.entry("a", Account("a", 0), GENERIC, None).broken


class TestSecrets:
    """P-60: nothing secret of an entry is kept, whatever the entry looks like."""

    def test_a_reason_never_quotes_a_secret_of_its_entry(self):
        """A server that repeats the cookie in its error text does not bring it into our logs."""
        entry = {
            "error": f"cookie {CANARY} refused for token {CANARY}-2 (eyJhbGci.eyJzdWI.c2ln, user:123-abcDEF)",
            "sessionCookie": {"name": "sid", "value": CANARY},
            "jwt": {"deep": [{"access": f"{CANARY}-2"}]},
        }
        assert one(entry).broken == "cookie [cut] refused for token [cut] ([cut], [cut])"

    def test_a_reason_is_one_short_line(self):
        """Control characters become blanks, and 200 characters are enough."""
        broken = one({"error": "a\x00b\r\nc\u202e" + "x" * 500}).broken
        assert broken.startswith("a b  c x")
        assert len(broken) == 200
        assert broken.isprintable()

    def test_a_secret_is_cut_before_the_reason_is_shortened(self):
        """No first half of a secret is left at the end of a shortened reason."""
        entry = {"error": "x" * 190 + CANARY, "token": CANARY}
        assert CANARY[:5] not in one(entry).broken

    def test_a_row_cannot_ask_for_a_secret(self):
        """A string of a secret-looking name is not kept even where a row names it."""
        service = Service(key="mine", path="/v1/mine", strings=("plan", "api_token"))
        account = one({"plan": f"pro {CANARY}", "api_token": CANARY}, service)
        assert account.fields == {"plan": "pro [cut]"}
