"""How long an account rests by what an answer, or a gateway in front of the service, says."""

import json
import time
from email.utils import formatdate

import pytest
from desk import pool_of
from faces import ThreadFace, both_faces
from ruling import AMBIGUOUS, BUSY, EXHAUSTED, NOW, SHORT, ruled

from balancer import SERVICES, AccountPool, NoAccounts, SourceUnavailable
from balancer.testing import FakeUseapi, ManualClock

DAY = {"Retry-After": "86400"}
PAGE = "<html><body>503 Service Unavailable</body></html>"
PLAIN = "upstream connect error or disconnect/reset before headers"


def until(pool, account="a"):
    """Return the seconds for which an account still cools."""
    stats = pool.stats().accounts[account]
    return (stats.until - pool._core.clock.instant(pool._core.now())).total_seconds() if stats.until else 0


# -- a gateway's page ------------------------------------------------------------------------------


@both_faces
@pytest.mark.parametrize(
    ("status", "body", "least", "most"),
    [
        (502, PAGE, 10, 30),
        (504, "", 10, 30),
        (500, '{"error": "x"}', 10, 30),
        (503, PAGE, 10, 30),
        (503, PLAIN, 10, 30),
        (503, '{"error": "overloaded"}', 600, 600),
        (503, "", 600, 600),
    ],
)
def test_a_gateways_page_does_not_freeze_an_account_for_a_day(face, status, body, least, most):
    """One 502 with ``Retry-After: 86400`` cost its account, all slots of it, for a day."""
    pool, _, sync = pool_of(face, a=1)
    face.do(face.do(pool.acquire()).report((status, DAY, body)))
    assert least <= until(sync) <= most


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("store", ["memory://", "sqlite"])
def test_a_gateways_page_at_the_first_load_shuts_the_pool_for_no_day(naps, status, store, tmp_path):
    """The pool refused every caller for a day after one page; by hand it asks at once, by itself soon."""
    clock = ManualClock()
    url = f"sqlite:///{tmp_path}/slots.db" if store == "sqlite" else store
    with FakeUseapi({"flowmusic": {"a@example.com": 1}}) as fake:
        page = fake.fault("*/accounts", status=status, headers=DAY, times=None)
        options = {"token": fake.token, "base_url": fake.url, "store": url}
        with AccountPool("flowmusic", clock=clock, **options) as pool:
            for ask in (pool.refresh, lambda: pool.acquire(timeout=1)):
                with pytest.raises(SourceUnavailable):
                    ask()
            page.lift()
            pool.refresh()
            pool.acquire(timeout=0).release()
        if store == "memory://":
            again = fake.fault("*/accounts", status=status, headers=DAY, times=None)
            with AccountPool("flowmusic", clock=clock, **options) as pool:
                with pytest.raises(SourceUnavailable):
                    pool.refresh()
                again.lift()
                clock.advance(600 if status == 503 else 30)
                pool.acquire(timeout=5).release()


def test_a_refresh_that_is_told_to_wait_keeps_the_old_table_no_longer_than_it_lasts(naps):
    """A day's pause outlasted the table: after an hour every caller was refused, whoever was well again."""
    clock = ManualClock()
    with FakeUseapi({"flowmusic": {"a@example.com": 1}}) as fake:
        options = {"token": fake.token, "base_url": fake.url, "clock": clock}
        with AccountPool("flowmusic", ttl=60, stale_if_error=1800, **options) as pool:
            pool.acquire().release()
            fake.fault("*/accounts", status=503, headers=DAY)
            clock.advance(60)
            pool.acquire().release()
            clock.advance(1801)
            pool.acquire(timeout=5).release()


# -- instants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-300, 0, 300, 86400])
@pytest.mark.parametrize("name", ["Retry-After", "retryAt", "resetsAt", "quota"])
def test_an_instant_is_as_far_away_as_the_servers_own_clock_says(off, name):
    """A client whose clock was five minutes off paused for 22 or for 420 seconds instead of 120."""
    made = NOW + off
    headers, at = {"Date": formatdate(made, usegmt=True)}, formatdate(made + 120, usegmt=True)
    body = {"quota": {"resetsAt": at}} if name == "quota" else {name: at}
    answer = (429, headers | {"Retry-After": at}, "") if name == "Retry-After" else (429, headers, body)
    assert ruled(answer).seconds == 120


def test_the_end_of_the_servers_day_is_by_the_servers_clock():
    """A model was closed for a day more by a client whose clock was behind."""
    body = {"reason": "PUBLIC_ERROR_PER_MODEL_DAILY_QUOTA_REACHED"}
    headers = {"Date": "Wed, 14 Oct 2026 23:00:00 GMT"}
    assert ruled((429, headers, body), SERVICES["google-flow"]).seconds == 3600


@pytest.mark.parametrize("date", ["", "soon", "9" * 5000, None, 7, b"\xff"])
def test_a_date_of_nonsense_leaves_the_clients_own(date):
    """An answer may say what it likes."""
    at = formatdate(NOW + 120, usegmt=True)
    assert ruled((429, {"Date": date, "Retry-After": at}, "")).seconds == 120


TWICE = [
    ("120, 120", 120),
    ("120,120,120", 120),
    ("60, 120", 120),
    ("120, soon", SHORT),
    (", ".join([formatdate(NOW + 120, usegmt=True)] * 2), 120),
    (", ".join(["Wednesday, 14-Oct-26 17:48:40 GMT"] * 2), 120),
    (b"120, 120", 120),
]


@pytest.mark.parametrize(("header", "seconds"), TWICE)
def test_a_header_that_came_twice_counts_once(header, seconds):
    """Two layers that both say 120 made a pause of ten seconds, and a refused call for each of them."""
    assert ruled((429, {"Retry-After": header}, "")).seconds == seconds


# -- a pause that is not worth a wait --------------------------------------------------------------


@both_faces
@pytest.mark.parametrize("seconds", [600, 601, 86400])
def test_nobody_waits_in_line_for_a_pause_of_more_than_ten_minutes(face, seconds):
    """A caller without a timeout stood in line for a day, where an error would have told it the time."""
    pool, _, _ = pool_of(face, a=1)
    lease = face.do(pool.acquire())
    assert face.do(lease.report((429, {"Retry-After": str(seconds)}, ""))) is BUSY
    face.do(lease.release())
    kind = NoAccounts if seconds > 600 else TimeoutError
    with pytest.raises(kind) as raised:
        face.do(pool.acquire(timeout=0))
    assert raised.value.retry_at is not None


def test_gemini_notebook_is_out_of_usage_when_it_says_so_or_names_a_long_pause():
    """An account that was used up for hours was asked again each half minute."""
    row = SERVICES["gemini-notebook"]
    assert ruled((429, {}, {"error": "You are out of usage"}), row).verdict is EXHAUSTED
    assert ruled((429, {"Retry-After": "601"}, {"error": "busy"}), row).verdict is EXHAUSTED
    assert ruled((429, {"Retry-After": "600"}, {"error": "busy"}), row).verdict is BUSY


# -- what an answer costs to look at -----------------------------------------------------------------

HUGE = {
    "digits after account": (404, {}, "account " + "1" * 16_000),
    "many accounts": (404, {}, "account 1" * 7_000),
    "an array of small objects": (200, {}, json.dumps([{"x": 1}] * 600_000)),
    "an array inside": (200, {}, json.dumps({"jobs": [{"x": 1}] * 600_000})),
    "parsed already": (200, {}, [{"x": 1}] * 600_000),
    "parsed with many fields": (429, {}, dict.fromkeys(map(str, range(600_000)), 1)),
    "parsed and deep": (429, {}, {"error": [{"x": [{}] * 10}] * 100_000}),
    "a long pause": (429, {"Retry-After": "1" * 60_000 + "x"}, {"retryAt": "1 " * 30_000}),
    "a long date": (429, {"Date": "Wed, " * 10_000, "Retry-After": ", " * 30_000}, ""),
}


@pytest.mark.parametrize("key", ["flowmusic", "google-flow", "google-vids", "minimax/music", "tempolor"])
@pytest.mark.parametrize("answer", HUGE.values(), ids=HUGE)
def test_no_answer_takes_long_to_look_at(key, answer):
    """A page of digits stopped an event loop for three seconds, and all who waited on it."""
    begun = time.process_time()
    ruled(answer, SERVICES[key])
    assert time.process_time() - begun < 0.25


def test_no_complaint_of_an_account_takes_long_to_be_cleaned():
    """A long error beside many secrets held up the fetch, and all who waited for it, for fifty seconds."""
    secrets = [f"s3cret-{number:05}" for number in range(50_000)]
    error = f"bad {secrets[7]} " + "x" * 16_300 + "".join(secrets[:5000])
    with AccountPool("flowmusic", source={"a": {"error": error, "cookies": secrets}}) as pool:
        begun = time.process_time()
        [reason] = [one.reason for one in pool.stats().accounts.values()]
        assert time.process_time() - begun < 2.0
    assert "s3cret" not in reason
    assert reason.startswith("bad [cut] xxx")


def test_no_secret_shows_where_a_long_text_was_cut_off():
    """What is cut away must not leave half of a secret behind."""
    long, token = "p" * 16_380, "t0p-s3cret-value"
    with AccountPool("flowmusic", source={"a": {"error": long + token, "cookies": [long, token]}}) as pool:
        [reason] = [one.reason for one in pool.stats().accounts.values()]
    assert "t0p" not in reason


def test_the_job_of_a_large_answer_is_bound_all_the_same():
    """An image in the answer must not cost the bind: who asks for it has the body read whole."""
    pool, _, _ = pool_of(ThreadFace(), a=1)
    body = json.dumps({"image": "x" * 2_000_000, "jobid": "j1"})
    pool.run(lambda lease: (201, {}, body), bind="jobid")
    assert [holder.job_id for holder in pool.holders()] == ["j1"]


def test_the_words_that_name_an_account_are_found_as_before():
    """A create that names an account which is gone goes elsewhere."""
    for text in ("Account a@x.com not found", "account 123 is unknown", "account not configured"):
        assert ruled((404, {}, text)).refresh
    assert ruled((404, {}, "account " + "x" * 300 + " not found")).verdict is not AMBIGUOUS
