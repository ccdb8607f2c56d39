"""How a job is followed by its row: its create, its status, its end, its results, its account."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from bodies import BODIES
from create_paths import CREATES, status_path

from balancer import SERVICES, CancelEndpoint, Service, StatusEndpoint
from balancer.services import kinds
from balancer.useapi import following

A = "a-b.c+d@my-example.com"
UUID = "00000000-0000-4000-8000-000000000001"

# Kind of job -> paths whose POST starts one, as pages and collections of the vendor name them.
STARTS = {
    "flowmusic": ["music", "music/edit"],
    "mureka": ["music/create", "music/create-advanced", "music/create-instrumental", "music/extend"],
    "mureka/speech": ["speech"],
    "tempolor": ["music/song", "music/instrumental"],
    "acemusic": ["music", "music/stems"],
    "minimax": ["videos/create", "videos/agent-create"],
    "minimax/images": ["images/create"],
    "minimax/agent": ["agent"],
    "minimax/music": ["music/create"],
    "minimax/audio": ["speech/create"],
    "minimax/llm": ["llm"],
    "kling": [
        "videos/text2video",
        "videos/image2video-frames",
        "images/kolors",
        "avatars/video",
        "tts/create",
    ],
    "runwayml": ["videos/create", "frames/create", "images/create", "gen3turbo/extend", "gen4/act-two"],
    "pixverse": ["videos/create", "videos/create-fusion", "videos/upscale/", "music/create", "speech/create"],
    "dreamina": ["videos", "images", "videos/upscale", "images/upscale"],
    "muse": ["jobs/image", "jobs/video"],
    "luma": ["videos", "images"],
    "faceswap": ["picsi", "headshot", "swapid", "listid"],
    "google-flow": ["images", "videos", "videos/extend", "images/upscale"],
    "google-vids": ["videos", "images", "videos/extend", "videos/upscale", "videos/edit"],
    "gemini-notebook": ["artifacts", "artifacts/retry", "research"],
    "riffusion": ["music/create-prompt", "music/create-compose"],
    "ltxstudio": ["images/flux-create"],
    "midjourney": ["jobs/imagine", "jobs/button"],
    "midjourney-v2": ["jobs/imagine", "jobs/button", "jobs/blend", "jobs/describe"],
    "pika": ["create"],
}
# Uploads, lyrics, and what is free of limits.
STARTS_NOTHING = {
    "flowmusic": ["music/lyrics", "files", "files/generate"],
    "mureka": ["music/lyrics-generate", "files", "files/motif", "speech/voice", "music/download"],
    "tempolor": ["music/stems-splitter", "music/midi"],
    "acemusic": ["files"],
    "minimax": ["files", "videos/cancel", "audio/voices/clone-voice", "audio/create-stream"],
    "kling": ["assets", "elements", "avatars", "images/recognize-faces", "videos/motion-upload"],
    "runwayml": ["assets", "super_slow_motion"],
    "pixverse": ["files"],
    "dreamina": ["assets/US%3Aa%40example.com"],
    "luma": ["assets/a%40example.com"],
    "google-flow": ["assets/a%40example.com", "voices", "characters"],
    "google-vids": ["avatars"],
    "gemini-notebook": ["notebooks", "sources"],
    "riffusion": ["music/generate-lyrics", "music/upload-audio", "music/generate-image"],
    "midjourney-v2": ["jobs/info", "jobs/relax"],
}


@pytest.mark.parametrize(("key", "path"), [(key, path) for key, paths in STARTS.items() for path in paths])
def test_a_post_is_known_for_the_kind_of_job_that_it_starts(key, path):
    """Of the kinds of a service one counts it, and with its slash or a query as well."""
    rows = kinds(SERVICES[key])
    for spelling in (path, f"{path}/", f"{path}?async=true"):
        assert following.created_by(rows, spelling) is SERVICES[key]
    assert not any(following.takes_no_slot(row, path) for row in rows)


@pytest.mark.parametrize(
    ("key", "path"), [(key, path) for key, paths in STARTS_NOTHING.items() for path in paths]
)
def test_uploads_and_lyrics_are_known_to_take_no_slot(key, path):
    """No kind of the service counts them."""
    rows = kinds(SERVICES[key])
    assert following.created_by(rows, path) is None
    assert any(following.takes_no_slot(row, path) for row in rows)


@pytest.mark.parametrize("key", STARTS)
@pytest.mark.parametrize("path", ["accounts", "accounts/a@example.com", "scheduler", "", "x/y/z", "musical"])
def test_other_posts_start_nothing(key, path):
    """What is not in the row is neither a create nor known to be none."""
    rows = kinds(SERVICES[key])
    assert following.created_by(rows, path) is None
    assert not any(following.takes_no_slot(row, path) for row in rows)


def test_every_row_says_how_its_jobs_are_followed():
    """No service is left out: creates, status, pace; of Midjourney's kinds no page shows the creates."""
    for key, row in SERVICES.items():
        assert row.status, key
        assert row.creates or key in ("midjourney/images", "midjourney/videos"), key
        assert 0 < row.poll[0] <= row.poll[1] <= 30, key


# -- where a job is asked for ------------------------------------------------------------------------

IDS = {
    "kling": "1234567890",
    "pixverse": f"user:1234-pixverse:{A}-video:9",
    "dreamina": f"j1014v-u1234-US:{A}-bot:dreamina",
}


@pytest.mark.parametrize("key", SERVICES)
def test_a_job_is_asked_for_where_the_page_says(key):
    """Ids are percent-encoded; the account is in the question where the service wants it; and back."""
    row, job = SERVICES[key], IDS.get(key, f"user:1234-{A}-job:{UUID}")
    path = following.status_path(row, job, A)
    assert path == status_path(key, job, A)
    assert following.job_of_status(row, path) == job
    assert following.job_of_status(row, f"{path}{'&' if '?' in path else '?'}history=true") == job


@pytest.mark.parametrize("letter", "abc")
def test_the_kind_of_a_job_chooses_where_it_is_asked_for(letter):
    """PixVerse and Dreamina ask for images elsewhere than for videos; the id tells which it is."""
    path = following.status_path
    email = f"{letter}@example.com"
    pixverse, dreamina = SERVICES["pixverse"], SERVICES["dreamina"]
    for kind, folder in (
        ("video", "videos"),
        ("image", "images"),
        ("music", "music"),
        ("speech", "speech"),
    ):
        job = f"user:1-pixverse:{email}-{kind}:7"
        assert path(pixverse, job) == f"{folder}/{quote(job, safe='')}"
        assert following.job_of_status(pixverse, f"{folder}/{job}") == job
        assert following.job_of_status(pixverse, f"files/{job}") is None
    assert path(dreamina, f"j1i-u1-US:{email}-bot:dreamina").startswith("images/")
    assert path(dreamina, f"j1v-u1-US:{email}-bot:dreamina").startswith("videos/")


def test_a_question_without_the_account_leaves_its_parameter_out():
    """One account answers it; with several the service says what is missing."""
    assert following.status_path(SERVICES["kling"], "7") == "tasks/7"
    assert following.status_path(SERVICES["riffusion"], "7") == "music/?id=7"


@pytest.mark.parametrize("target", ["jobs", "jobs/", "jobs/1/2", "accounts/1", "music", "jobs/?x=1", ""])
def test_what_asks_for_no_job_is_no_status(target):
    """Lists, accounts and longer paths: a final word there would be about something else."""
    assert following.job_of_status(SERVICES["flowmusic"], target) is None
    assert following.job_of_status(SERVICES["faceswap"], target) is None


def test_a_list_that_stands_where_an_id_would_is_no_status():
    """MiniMax lists its agent's jobs at agent/jobs, and tells of one at agent/<id>."""
    row = SERVICES["minimax/agent"]
    assert following.job_of_status(row, "agent/jobs") is None
    assert following.job_of_status(row, "agent/jobs2") == "jobs2"


def test_a_row_that_tells_nothing_is_asked_for_nothing():
    """A row of one's own may leave it all out."""
    bare = Service(key="bare", path="/v1/bare")
    assert following.status_path(bare, "1") is None
    assert following.job_of_status(bare, "jobs/1") is None
    assert following.cancel_request(bare, "1") is None
    assert following.results({"url": "x"}, bare) == ()
    assert bare.account_of("user:1-a@example.com-job:2") is None
    assert not following.creates(bare, "jobs")
    assert kinds(bare) == (bare,)


def test_a_404_that_means_nothing_known_is_refused_where_it_is_written():
    """A slip of the pen there would free slots of running jobs."""
    with pytest.raises(ValueError, match="missing"):
        Service(key="x", path="/x", status=(StatusEndpoint(path="jobs/{job}", missing="away"),))


# -- what a body says --------------------------------------------------------------------------------

VIDEO = "user:1-minimax:123456-video:7"
SAID = [
    ("flowmusic", "flowmusic/create_201", "running"),
    ("flowmusic", "flowmusic/job_completed", "succeeded"),
    ("flowmusic", "flowmusic/job_failed", "failed"),
    ("mureka", "mureka/create_201_async", "running"),
    ("mureka", "mureka/job_completed", "succeeded"),
    ("mureka", {"songs": [{"mp3_url": "https://example.com/1.mp3"}]}, "succeeded"),
    ("mureka", {"status": "failed", "error": "text", "errorDetails": "more"}, "failed"),
    ("tempolor", "tempolor/job_200", "succeeded"),
    ("tempolor", {"status": 0, "status_name": "GENERATING", "status_final": False}, "running"),
    ("tempolor", {"status": 10, "status_name": "FAILED", "status_final": True}, "failed"),
    ("minimax", {"videoId": VIDEO, "status": 1, "statusLabel": "x", "statusFinal": False}, "running"),
    (
        "minimax",
        {"videoId": VIDEO, "status": 2, "statusLabel": "completed", "statusFinal": True},
        "succeeded",
    ),
    ("minimax", {"videoId": VIDEO, "status": 3, "statusLabel": "failed", "statusFinal": True}, "failed"),
    ("minimax/audio", {"status": 0, "statusLabel": "completed", "statusFinal": True}, "succeeded"),
    ("minimax/audio", {"status": 0, "statusLabel": "failed", "statusFinal": True}, "failed"),
    ("minimax/audio", {"statusFinal": True, "audio_url": "https://example.com/1.mp3"}, "succeeded"),
    ("minimax/audio", {"statusFinal": True}, "failed"),
    ("kling", "kling/create_200", "running"),
    ("kling", "kling/task_succeed", "succeeded"),
    ("kling", {"status": 50, "status_name": "failed", "status_final": True}, "failed"),
    ("runwayml", {"taskId": "1", "status": "PENDING"}, "running"),
    ("runwayml", {"taskId": "1", "status": "THROTTLED"}, "running"),
    ("runwayml", {"status": "SUCCEEDED", "artifacts": [{"url": "https://example.com/v.mp4"}]}, "succeeded"),
    ("runwayml", {"status": "FAILED", "error": "x"}, "failed"),
    ("pixverse", "pixverse/create_200", "running"),
    ("pixverse", "pixverse/video_completed", "succeeded"),
    ("pixverse", {"video_status_name": "MODERATED", "video_status_final": True, "url": "x"}, "failed"),
    ("pixverse", {"image_status_name": "COMPLETED", "image_status_final": True}, "succeeded"),
    ("dreamina", {"jobid": "1", "status": "created"}, "running"),
    ("dreamina", {"status": "completed", "response": {"videoUrl": "https://example.com"}}, "succeeded"),
    ("dreamina", {"status": "failed", "error": "text"}, "failed"),
    ("google-flow", "google-flow/create_201", "running"),
    ("google-flow", "google-flow/job_completed", "succeeded"),
    ("google-flow", {"jobId": "1", "media": [{"name": "1"}]}, "succeeded"),
    ("google-flow", {"status": "failed", "error": "text"}, "failed"),
    ("google-vids", {"status": "processing"}, "running"),
    ("google-vids", {"status": "completed", "result": {"mediaId": "1"}}, "succeeded"),
    ("google-vids", {"status": "failed", "error": {"code": 429, "message": "x"}}, "failed"),
    ("gemini-notebook", {"status": "completed", "result": {"report": {}}}, "succeeded"),
    ("muse", {"status": "started"}, "running"),
    ("acemusic", {"status": "failed"}, "failed"),
    ("luma", {"status": "pending", "response": None}, "running"),
    ("luma", {"status": "completed"}, "succeeded"),
    ("faceswap", {"jobid": "1", "status": "progress"}, "running"),
    ("faceswap", {"jobid": "1", "status": "cancelled"}, "failed"),
    ("midjourney", {"status": "moderated"}, "failed"),
    ("midjourney-v2", {"status": "completed"}, "succeeded"),
    ("riffusion", "riffusion/create_200", "running"),
    ("riffusion", "riffusion/music_by_id", "succeeded"),
    ("riffusion", [], "running"),
    ("ltxstudio", {"status": {"type": "active", "progress": 5}, "jobId": "1"}, "running"),
    ("ltxstudio", {"status": {"type": "completed", "progress": 100}}, "succeeded"),
    ("ltxstudio", {"status": {"type": "failed"}}, "failed"),
]


@pytest.mark.parametrize(("key", "body", "expected"), SAID)
def test_a_body_says_whether_its_job_is_over_and_how(key, body, expected):
    """The vendor's examples, and what pages and scripts tell of the others."""
    body = BODIES[body] if isinstance(body, str) else body
    assert following.outcome(body, SERVICES[key], status=200) == expected


@pytest.mark.parametrize("body", [None, "", "text", 7, [], {}, [None], {"status": None}, {"status": {}}])
@pytest.mark.parametrize("key", SERVICES)
def test_what_cannot_be_read_ends_nothing(key, body):
    """A job whose status is nonsense runs on."""
    assert following.outcome(body, SERVICES[key]) == "running"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 429, 500, 502, 503, 596])
@pytest.mark.parametrize("key", SERVICES)
def test_an_answer_outside_2xx_ends_no_job(key, status):
    """Whatever stands in it, a final word among it too: a cut or a refusal says nothing of the job."""
    body = {"status": "completed", "status_final": True, "error": "x"}
    assert following.outcome(body, SERVICES[key], status=status) == "running"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("flowmusic", "gone"),
        ("mureka", "gone"),
        ("runwayml", "gone"),
        ("faceswap", "gone"),
        ("pixverse", "running"),
        ("tempolor", "running"),
        ("minimax", "failed"),
        ("kling", "failed"),
    ],
)
def test_a_404_means_what_the_service_means_by_it(key, expected):
    """PixVerse: not yet; Kling and MiniMax: moderated; the others: deleted, or too old."""
    assert following.outcome({"error": "Not found"}, SERVICES[key], status=404) == expected
    job = IDS.get(key, "1")
    assert following.outcome(None, SERVICES[key], status=404, job=job) == expected
    assert following.outcome({"error": "Job has expired"}, SERVICES[key], status=410) == "gone"


def test_a_404_of_several_meanings_gives_nothing_up():
    """Without an id to choose by, the meaning that keeps the slot counts."""
    statuses = (StatusEndpoint(path="i/{job}", only="^i"), StatusEndpoint(path="v/{job}", missing="failed"))
    row = Service(key="x", path="/x", status=statuses)
    said = [following.outcome(None, row, status=404, job=job) for job in (None, "i1", "v1")]
    assert said == ["running", "gone", "failed"]


def test_a_row_without_words_for_success_goes_by_its_errors():
    """So does one of one's own that names final words alone."""
    row = Service(key="x", path="/x", final={"state": ("over",)})
    assert following.outcome({"state": "over"}, row) == "succeeded"
    assert following.outcome({"state": "over", "error": "no credits"}, row) == "failed"


MADE = [
    ("flowmusic", "flowmusic/job_completed", ["https://example.com/1.m4a"]),
    ("mureka", "mureka/job_completed", ["https://example.com/1.mp3"]),
    ("kling", "kling/task_succeed", ["https://example.com/v.mp4"]),
    ("pixverse", "pixverse/video_completed", ["https://example.com/v.mp4"]),
    ("google-flow", "google-flow/job_completed", ["https://example.com/v.mp4"]),
    ("riffusion", "riffusion/music_by_id", ["https://example.com/a.m4a"]),
    ("tempolor", "tempolor/job_200", ["music/download/user%3A1234-tempolor%3A12345-job%3Aabcdef1"]),
    ("google-vids", {"result": {"mediaId": "user:1-a@b.c-video:9"}}, ["media/user%3A1-a%40b.c-video%3A9"]),
    ("runwayml", {"artifacts": [{"url": "u1"}, {"url": "u2"}]}, ["u1", "u2"]),
    ("minimax", {"downloadURL": "", "videoURL": "u"}, ["u"]),
    ("minimax", {"downloadURL": "clean", "videoURL": "u"}, ["clean"]),
    (
        "google-flow",
        {"media": [{"image": {"generatedImage": {"fifeUrl": "f1"}}}, {"image": {}}]},
        ["f1"],
    ),
    ("gemini-notebook", {"result": {"files": [{"url": "u1"}, {"url": "u2"}]}}, ["u1", "u2"]),
    ("midjourney-v2", {"attachments": [{"url": "u"}]}, ["u"]),
    ("midjourney", {"response": {"attachments": [{"url": "u"}]}}, ["u"]),
    ("ltxstudio", {"status": {"type": "completed", "artifact": {"assetUrl": "u"}}}, ["u"]),
    ("dreamina", {"response": {"videoUrlWatermarked": "w"}}, ["w"]),
    ("luma", {"response": {"video": {"url": "u"}}}, ["u"]),
    ("flowmusic", {"clips": "none"}, []),
    ("flowmusic", None, []),
]


@pytest.mark.parametrize(("key", "body", "expected"), MADE)
def test_what_was_made_is_found_in_the_final_body(key, body, expected):
    """URLs, or paths of the service's own where the body holds ids."""
    body = BODIES[body] if isinstance(body, str) else body
    assert list(following.results(body, SERVICES[key])) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("flowmusic", ("DELETE", "jobs/a%3A1", {})),
        ("minimax", ("POST", "videos/cancel", {"videoId": "a:1"})),
        ("faceswap", ("GET", "jobs/cancel/?jobid=a%3A1", {})),
        ("midjourney-v2", ("GET", "jobs/cancel/?jobid=a%3A1", {})),
        ("runwayml", None),
        ("tempolor", None),
        ("minimax/images", None),
    ],
)
def test_a_job_is_called_off_where_the_service_can(key, expected):
    """Striking it off a scheduler is no calling off: it runs on, and its slot at the site with it."""
    assert following.cancel_request(SERVICES[key], "a:1") == expected
    assert CancelEndpoint(path="jobs/{job}").method == "DELETE"


# -- which account -----------------------------------------------------------------------------------

NAMED = [
    ("runwayml", "user:1-runwayml:{}-asset:" + UUID),
    ("runwayml", "user:1-runwayml:{}-task:" + UUID),
    ("pixverse", "user:1-pixverse:{}-video:9"),
    ("pixverse", "user:1-pixverse:{}-image:9"),
    ("flowmusic", "user:1-{}-clip:9"),
    ("flowmusic", "job:" + UUID + "-user:1234-{}-bot:flowmusic"),
    ("google-vids", "user:1-{}-video:" + UUID),
    ("google-vids", "user:12-{}-job:" + UUID),
    ("gemini-notebook", "user:1-{}-notebook:" + UUID),
    ("gemini-notebook", "user:1-{}-artifact:" + UUID + ":" + UUID),
    ("gemini-notebook", "job:" + UUID + "-user:12345-{}-bot:gemini_notebook"),
    ("google-flow", "j1014v-u1234-email:{}-bot:google-flow"),
    ("muse", "j1v-u1-email:{}-task:" + UUID + "-bot:muse"),
    ("muse", "j1v-u1-email:{}:" + UUID + "-bot:muse"),
    ("luma", "u1-email:{}:" + UUID),
    ("luma", "j1v-u1-email:{}-task:" + UUID + "-bot:luma"),
    ("ltxstudio", "email:{}-job:" + UUID + "-type:video"),
]


@pytest.mark.parametrize(("key", "id"), NAMED)
@pytest.mark.parametrize("account", ["a@example.com", A, "x-task@my-video.com", "a+b-job@c-d.e"])
def test_an_id_names_its_account(key, id, account):
    """Whatever characters the account's own id has."""
    assert SERVICES[key].account_of(id.format(account)) == account


@pytest.mark.parametrize(
    ("key", "id", "account"),
    [
        ("minimax", "user:1-minimax:111-file:9", "111"),
        ("minimax/images", "user:1-minimax:111-image:9", "111"),
        ("minimax/agent", "p1-u1234-a123456-bot:minimax", "123456"),
        ("tempolor", "user:1234-tempolor:12345-job:abcdef1", "12345"),
        ("mureka", "user:777-mureka:123456789-song:1", "123456789"),
        ("mureka", "j1016m-u777-a123456789-bot:mureka", "123456789"),
        ("dreamina", "j1014v-u1234-US:a-b.c@example.com-bot:dreamina", "US:a-b.c@example.com"),
        ("dreamina", "u1234-CA:a@example.com-asset:1", "CA:a@example.com"),
        ("midjourney", "j1i-u1-c1234567890123456789-bot:midjourney", "1234567890123456789"),
        (
            "midjourney-v2",
            "job:1-user:1234-channel:1234567890123456789-bot:midjourney",
            "1234567890123456789",
        ),
        ("faceswap", "job:1-user:1234-channel:99-bot:faceswap", "99"),
        ("google-flow", f"user:1-email:{A.encode().hex()}-image:CAMS", A),
        ("google-flow", "user:1-email:zz-image:CAMS", None),
        ("google-flow", "user:1-email:ff-image:CAMS", None),
        ("kling", "1234567890", None),
        ("riffusion", UUID, None),
        ("flowmusic", "user:1234-clip:1", None),
        ("runwayml", "https://example.com/a.png", None),
    ],
)
def test_ids_of_each_form_are_read(key, id, account):
    """Numbers, regions, channels, hexadecimal; and ids that name nobody."""
    assert SERVICES[key].account_of(id) == account


@pytest.mark.parametrize(
    ("key", "fields", "accounts"),
    [
        ("runwayml", {"imageAssetId1": "user:1-runwayml:a@b.c-asset:1"}, {"a@b.c"}),
        ("runwayml", {"firstImage_assetId": "user:1-runwayml:a@b.c-asset:1"}, {"a@b.c"}),
        ("runwayml", {"text_prompt": "user:1-runwayml:a@b.c-asset:1"}, set()),
        (
            "minimax",
            {"fileID": "user:1-minimax:1-file:2", "end_frame_fileID": "user:1-minimax:2-file:2"},
            {"1", "2"},
        ),
        ("google-flow", {"referenceImage_1": f"user:1-email:{b'a@b.c'.hex()}-image:x"}, {"a@b.c"}),
        ("google-flow", {"email": "z@b.c", "startImage": None}, set()),
        ("muse", {"inputs": [f"j1i-u1-email:a@b.c-task:{UUID}-bot:muse"]}, {"a@b.c"}),
        ("gemini-notebook", {"notebook": "user:1-a@b.c-notebook:1"}, {"a@b.c"}),
        ("dreamina", {"imageRef_2": "u1-US:a@b.c-asset:1", "replyRef": "u1-CA:x@b.c-asset:1"}, {"US:a@b.c"}),
        ("kling", {"image": "https://example.com/a.png"}, set()),
    ],
)
def test_the_assets_of_a_create_name_the_accounts_that_they_live_on(key, fields, accounts):
    """Only in fields that hold assets: a prompt may quote an id."""
    assert following.asset_accounts(SERVICES[key], fields) == accounts


@pytest.mark.parametrize("key", SERVICES)
def test_the_paths_of_the_tests_are_those_of_the_rows(key):
    """What the other tests post to is a create of that very kind."""
    row = SERVICES[key]
    if row.creates:
        assert following.created_by(kinds(row), CREATES[key]) is row


@pytest.mark.parametrize(
    ("key", "body", "job", "account"),
    [
        ("flowmusic", BODIES["flowmusic/job_completed"], None, "a@example.com"),
        ("mureka", BODIES["mureka/job_completed"], None, "123456789"),
        ("riffusion", BODIES["riffusion/create_200"], None, "11111111-aaaa-4aaa-8aaa-000000000001"),
        ("runwayml", {"status": "RUNNING"}, "user:1-runwayml:a@b.c-task:1", "a@b.c"),
        ("pixverse", None, "user:1-pixverse:a@b.c-video:1", "a@b.c"),
        ("kling", BODIES["kling/create_200"], "1234567890", None),
        ("kling", {}, None, None),
    ],
)
def test_the_account_of_a_job_is_in_its_body_or_in_its_id(key, body, job, account):
    """Who takes up a job of an earlier process finds out where it runs, or that nothing tells."""
    assert following.account_in(body, SERVICES[key], job) == account


@pytest.mark.parametrize("key", SERVICES)
def test_what_is_too_long_for_an_id_names_nobody_and_costs_nothing(key):
    """However often it seems to begin anew: a field that holds assets may hold anything."""
    began = time.perf_counter()
    assert SERVICES[key].account_of("user:1-email:" * 100_000) is None
    assert time.perf_counter() - began < 1.0
