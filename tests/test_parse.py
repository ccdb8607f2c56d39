"""Bodies of the service, whatever they look like, become values without secrets."""

from __future__ import annotations

import json
import math
import pickle
import traceback
from types import MappingProxyType

import pytest
from bodies import BODIES, TEXTS
from hypothesis import given
from hypothesis import strategies as st

from balancer import parse
from balancer.errors import InvalidConfiguration
from balancer.model import Account, Job
from balancer.service import Load, Service
from balancer.services import GENERIC, SERVICES

FLOW = SERVICES["flowmusic"]
CANARY = "s3cr3t-canary-0001"
A, B = "a@example.com", "b@example.com"


def one(entry, service=FLOW, default=None):
    """Return the account of a map that has one entry."""
    return parse.table({A: entry}, service, default).accounts[A]


class TestBody:
    """Bytes become JSON, or an error that says what they are instead."""

    @pytest.mark.parametrize("name", sorted(BODIES))
    def test_every_example_comes_through(self, name):
        """Each example body survives the way over the wire."""
        raw = json.dumps(BODIES[name], ensure_ascii=False).encode()
        assert parse.body(raw, "application/json; charset=utf-8") == BODIES[name]

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (b"", "empty"),
            (b" \n", "empty"),
            (b"<!doctype html><p>x</p>", "HTML page"),
            (TEXTS["_common/html_502"].encode(), "HTML page"),
            (TEXTS["riffusion/accounts_404"].encode(), "no valid JSON: Expecting value (line 1, column 1)"),
            (TEXTS["riffusion/accounts_malformed"].encode(), "(line 7, column 7)"),
            (b'{"a": {"maxJobs": 6}', "cut off (line 1, column 21)"),
            (b'{"a": {"tok', "cut off"),
            (b'{"a": 6,}', "no valid JSON"),
            (b"\xff\xfe{}", "no UTF-8 text (byte 0)"),
            (b"[" * 200_000, "nested too deeply"),
            (b'{"a":' * 200_000, "nested too deeply"),
        ],
    )
    def test_what_is_no_json_is_named(self, raw, words):
        """P-52: HTML, truncated, malformed, empty, too deep and not UTF-8 each have words of their own."""
        with pytest.raises(InvalidConfiguration) as caught:
            parse.body(raw, None)
        assert words in str(caught.value)

    def test_the_content_type_tells_of_html(self):
        """A sentence that is declared as HTML is called an HTML page."""
        with pytest.raises(InvalidConfiguration, match="HTML page"):
            parse.body(b"Bad Gateway", "text/html; charset=utf-8")

    def test_json_counts_whatever_it_is_declared_as(self):
        """A wrong content type does not make valid JSON unusable."""
        assert parse.body(b"\xef\xbb\xbf{}", "text/html") == {}

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"a": {"token": "' + CANARY.encode() + b'",}}',
            b'{"token": "' + CANARY.encode(),
            b'{"token": "' + CANARY.encode() + b'\xff"}',
            b"<p>" + CANARY.encode() + b"</p>",
        ],
    )
    def test_an_error_shows_nothing_of_the_body(self, raw):
        """P-60: neither message, chain nor attributes of what is raised carry the document."""
        with pytest.raises(InvalidConfiguration) as caught:
            parse.body(raw, None)
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [frame for frame in shown.stack if frame.filename == parse.__file__]
        assert frames
        assert CANARY not in "".join([str(error), repr(vars(error)), *(str(f.locals) for f in frames)])

    def test_absurd_numbers_cost_one_account(self):
        """A number of a million digits is over the limit of the account that states it, and no more."""
        raw = b'{"a": {"maxJobs": ' + b"9" * 1_000_000 + b'}, "b": {"maxJobs": 1e999}, "c": {"maxJobs": 2}}'
        accounts = parse.table(parse.body(raw, None), FLOW, None).accounts
        assert [accounts[id].broken is None for id in "abc"] == [False, False, True]


class TestTable:
    """A map of entries becomes accounts."""

    @pytest.mark.parametrize("body", [[], [{"id": "a"}], None, "sentence", 6, True, math.nan])
    def test_only_a_map_is_a_table(self, body):
        """An array, a sentence, null and numbers are no account configuration."""
        with pytest.raises(InvalidConfiguration, match=r"not a map of accounts"):
            parse.table(body, FLOW, None)

    def test_an_error_report_is_no_table(self):
        """An error under a good status is refused, not read as accounts named error and code."""
        with pytest.raises(InvalidConfiguration, match="error report"):
            parse.table(BODIES["_common/401"], FLOW, None)

    def test_an_empty_map_is_no_accounts(self):
        """No account is a configuration like any other."""
        assert len(parse.table({}, FLOW, None)) == 0

    def test_the_map_key_is_the_id(self):
        """What an entry says about its own id does not count, nor need it be there."""
        assert list(parse.table({A: {"email": B}, B: {}}, FLOW, None).accounts) == [A, B]

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
        accounts = parse.table({A: {"maxJobs": stated}, B: {"maxJobs": 2}}, FLOW, None).accounts
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
        accounts = parse.table({A: entry, B: {"maxJobs": 2}}, FLOW, None).accounts
        assert "not an object" in accounts[A].broken
        assert accounts[B].broken is None

    @pytest.mark.parametrize("id", ["", "a\n", "\ud800"])
    def test_an_id_that_cannot_be_written_is_broken(self, id):
        """An empty id, a control character and half a character cannot name an account in a request."""
        (account,) = parse.table({id: {"maxJobs": 2}}, FLOW, None).accounts.values()
        assert "id" in account.broken
        assert account.id.isprintable()

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
        flags = parse.table(BODIES["minimax/accounts"], SERVICES["minimax"], None).accounts["55555"].fields
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
        assert parse.entry("a", 6, GENERIC, None) == Account("a", 6)

    def test_a_bare_capacity_is_checked_like_any_other(self):
        """0 and True are no capacities by hand either."""
        assert "capacity is 0" in parse.entry("a", 0, GENERIC, None).broken
        assert "capacity is a boolean" in parse.entry("a", True, GENERIC, None).broken

    def test_an_entry_map_is_read_like_a_fetched_one(self):
        """A mapping of entries works as if the service had sent it."""
        account = parse.entry("a", MappingProxyType({"maxJobs": "3", "beta": True}), GENERIC, None)
        assert (account.capacity, account.fields["beta"]) == (3, True)

    def test_an_account_is_taken_under_the_key_it_stands_at(self):
        """An Account passes through; the key of the mapping names it, and its capacity is checked."""
        assert parse.entry("a", Account("z", 3, {"hd": True}), GENERIC, None) == Account("a", 3, {"hd": True})
        assert parse.entry("a", Account("a", 0), GENERIC, None).broken


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


class TestListing:
    """A load answer becomes jobs, row by row."""

    def test_bare_strings_are_ids_that_tell_the_account(self):
        """Midjourney's second version lists ids, with the channel inside."""
        (job,) = parse.listing(BODIES["midjourney-v2/jobs"], SERVICES["midjourney-v2"]).jobs
        assert (job.id, job.account) == (BODIES["midjourney-v2/jobs"][0], "1234567890123456789")

    def test_numbers_are_ids(self):
        """Kling's ids are numbers on the wire and text with us."""
        jobs = parse.listing(BODIES["kling/scheduler"], SERVICES["kling"]).jobs
        assert jobs == (Job("123456789", A, "r"), Job("987654321", B))

    def test_an_email_with_dashes_is_found_in_an_id(self):
        """The account between known markers may itself contain the separator."""
        id = "user:1-runwayml:a-task-b@ex-ample.com-task:0-1"
        (job,) = parse.listing([{"taskId": id}], SERVICES["runwayml"]).jobs
        assert job.account == "a-task-b@ex-ample.com"

    def test_a_map_of_jobs_is_read_by_its_keys(self):
        """Google Flow's executing view is keyed by job id; where nothing is named its summary counts."""
        body = BODIES["google-flow/jobs_executing"]
        listing = parse.listing(body, SERVICES["google-flow"])
        assert listing.jobs == (Job("j1014v-u1234-email:a@example.com-bot:google-flow", A),)
        assert listing.complete
        assert listing.counts == {A: 2}  # one more than it names
        summary = parse.listing(BODIES["google-flow/jobs_summary"], SERVICES["google-flow"])
        assert (summary.jobs, summary.counts, summary.complete) == ((), {A: 2, B: 0}, False)

    def test_inline_counts_are_read_where_there_are_no_rows(self):
        """Luma's account list says how many run, and not which: none is ever called missing."""
        body = {"a": {"executing": 2}, "b": {"executing": "1"}, "c": {}, "d": {"executing": -1}, "e": None}
        listing = parse.listing(body, SERVICES["luma"])
        assert (listing.jobs, listing.counts, listing.complete) == ((), {"a": 2, "b": 1}, False)

    @pytest.mark.parametrize(("running", "counts"), [(0, {}), (1, {}), (2, {A: 2}), (None, {}), ("x", {})])
    def test_a_number_counts_where_it_is_more_than_the_rows(self, running, counts):
        """Rows that the list leaves out take slots as well; a number that lags behind takes none away."""
        body = {"accounts": {A: {"running": running, "jobs": [{"jobid": "1"}]}}}
        listing = parse.listing(body, SERVICES["gemini-notebook"])
        assert (listing.jobs, listing.counts) == ((Job("1", A),), counts)

    def test_a_job_without_id_counts_and_leaves_the_list_incomplete(self):
        """Somebody runs a job there; which one, and whether it is ours, the row does not say."""
        listing = parse.listing([{"email": A}, {"id": 1, "email": B}], SERVICES["kling"])
        assert listing.jobs == (Job(None, A), Job("1", B))
        assert not listing.complete

    def test_odd_rows_are_passed_over(self):
        """Null, empty and foreign rows raise nothing, and make nobody's job count as missing."""
        rows = [None, {}, [], True, 1.5, {"job_id": None}, {"job_id": "1", "user_id": "u"}, {"job_id": "1"}]
        listing = parse.listing(rows, SERVICES["riffusion"])
        assert (listing.jobs, listing.complete) == ((Job("1", "u"),), False)

    @pytest.mark.parametrize("body", [{}, {"running": None}, {"running": {}}, {"accounts": {}, "Running": 5}])
    def test_a_list_that_is_not_there_calls_no_job_missing(self, body):
        """Without rows where they belong nothing is known about any job."""
        listing = parse.listing(body, SERVICES["muse"])
        assert (listing.jobs, listing.complete) == ((), False)

    @pytest.mark.parametrize(
        ("key", "body"),
        [
            ("riffusion", {"error": "Unauthorized", "code": 401}),
            ("riffusion", "sentence"),
            ("riffusion", None),
            ("muse", [{"jobid": "1"}]),
            ("muse", BODIES["muse/jobs_400_no_account"]),
            ("flowmusic", {"error": "x", "code": 500}),
            ("flowmusic", 6),
        ],
    )
    def test_a_body_of_another_shape_is_refused(self, key, body):
        """An error report is not an empty list of jobs."""
        with pytest.raises(InvalidConfiguration):
            parse.listing(body, SERVICES[key])

    def test_a_service_without_a_list_knows_nothing(self):
        """Face swaps block, so none is listed, and none is ever missing."""
        assert not parse.listing({}, SERVICES["faceswap"]).complete


class TestJobs:
    """Create answers, status bodies and callbacks."""

    @pytest.mark.parametrize(
        ("key", "name", "job", "over"),
        [
            ("riffusion", "create_200", "99999999-0000-4000-8000-000000000005", False),
            ("riffusion", "create_moderated", None, False),
            ("riffusion", "music_by_id", "99999999-0000-4000-8000-000000000005", True),
            ("kling", "create_200", "1234567890", False),
            ("kling", "task_succeed", "1234567890", True),
            ("minimax", "create_200", "user:1234-minimax:123456-video:777", False),
            ("pixverse", "create_200", "user:1234-pixverse:a@example.com-video:9", False),
            ("pixverse", "video_completed", "user:1234-pixverse:a@example.com-video:9", True),
            ("tempolor", "job_200", "user:1234-tempolor:12345-job:abcdef1", True),
            ("mureka", "create_201_async", "j1016m-u777-a123456789-bot:mureka", False),
            ("mureka", "job_completed", "j1016m-u777-a123456789-bot:mureka", True),
            ("google-flow", "create_201", "j1014v-u1234-email:a@example.com-bot:google-flow", False),
            ("google-flow", "job_completed", "j1014v-u1234-email:a@example.com-bot:google-flow", True),
            ("google-flow", "job_410", None, False),
        ],
    )
    def test_an_answer_names_its_job_and_says_whether_it_is_over(self, key, name, job, over):
        """Each example of a create or status body, read by its row."""
        body = BODIES[f"{key}/{name}"]
        assert (parse.job_id(body, SERVICES[key]), parse.final(body, SERVICES[key])) == (job, over)

    @pytest.mark.parametrize("name", ["job_completed", "job_failed", "create_201"])
    def test_flow_music_is_over_when_completed_or_failed(self, name):
        """Pending is the only status that is not final."""
        assert parse.final(BODIES[f"flowmusic/{name}"], FLOW) is (name != "create_201")

    @pytest.mark.parametrize("value", [1, "true", None, False, [True]])
    def test_only_true_is_true(self, value):
        """A final flag is a boolean: 1 and "true" are something else."""
        assert not parse.final({"status_final": value}, SERVICES["kling"])

    def test_a_status_word_counts_in_any_case(self):
        """Callbacks of one service have been seen in capitals and not."""
        assert parse.final({"STATUS": "Completed"}, FLOW)

    def test_of_several_jobs_all_must_be_over(self):
        """A list is final when each of its items is; it names no single job; an empty one says nothing."""
        done, busy = {"jobid": "1", "status": "failed"}, {"jobid": "2", "status": "pending"}
        assert parse.final([done, done], FLOW)
        assert not parse.final([done, busy], FLOW)
        assert not parse.final([], FLOW)
        assert parse.job_id([done, busy], FLOW) is None


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
        for read in (parse.listing, lambda body, service: parse.table(body, service, None)):
            error = refusal(lambda read=read: read(body, service))
            assert CANARY not in str(error)
        assert parse.job_id(body, service) != ""
        assert parse.final(body, service) in (True, False)

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
        table = parse.table({A: {**around, secret: value}}, service, None)
        (account,) = table.accounts.values()
        assert CANARY not in repr(account)
        assert account.broken is None or (len(account.broken) <= 200 and account.broken.isprintable())
        assert 1 <= account.capacity <= 1_000_000
        json.dumps(dict(account.fields), allow_nan=False).encode()

    @given(raw=st.binary(max_size=60) | ANYTHING.map(lambda body: json.dumps(body).encode()[:80]))
    def test_no_bytes_raise_anything_else(self, raw):
        """Any bytes are JSON, or one error without a cause."""
        error = refusal(lambda: parse.body(raw, None))
        if error is not None:
            assert error.__context__ is None
            assert CANARY not in str(pickle.loads(pickle.dumps(error)))


def test_a_new_service_is_one_row():
    """What a user writes for a service of tomorrow is data, and all of this reads it."""
    service = Service(
        key="tomorrow",
        path="/v1/tomorrow",
        selector="seat",
        capacity="limits",
        strings=("plan",),
        load=Load(path="live", rows=("seats.*.now.#",), ref="mark"),
        job_id=("made.ticket",),
        final={"phase": ("over",)},
    )
    assert one({"Limits": "2", "plan": "x"}, service) == Account(A, 2, {"plan": "x"})
    listing = parse.listing({"seats": {A: {"now": {"t1": {"mark": "L1"}, "t2": None}}}}, service)
    assert (listing.jobs, listing.complete) == ((Job("t1", A, "L1"), Job("t2", A)), True)
    assert parse.job_id({"made": {"ticket": 7}}, service) == "7"
    assert parse.final({"phase": "over"}, service)
