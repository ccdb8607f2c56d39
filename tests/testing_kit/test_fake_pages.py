"""Every service, asked by a client that knows the vendor's pages alone: create, poll, fetch the result.

Nothing here reads our rows: paths, names and words are those of the pages and of the vendor's scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import requests
from api import Receiver

from balancer.testing import FakeUseapi, ManualClock, Reply

EMAIL, CHANNEL = "a-b@example.com", "1234567890123456789"


def by_status(body, ok="completed", bad=("failed",)):
    """Return True for success, False for failure, None while it runs, by the field ``status``."""
    return True if body["status"] == ok else False if body["status"] in bad else None


def by_flag(body, flag, word, ok):
    """Return the same where a flag says that it is over and a word how."""
    return body[word] == ok if body[flag] else None


@dataclass(frozen=True)
class Page:
    """What a client knows of one kind of job."""

    service: str
    root: str
    account: str
    create: str
    id: Callable[[Any], Any]
    poll: str
    over: Callable[[Any], bool | None] = by_status
    urls: Callable[[Any], list[str]] = lambda body: []
    selector: str = "email"
    error: Callable[[Any], Any] = lambda body: body["error"]
    created: int = 201
    waits_as_404: bool = False
    more: tuple[tuple[str, Any], ...] = ()


def jobid(body):
    """Return the id of the newer services."""
    return body["jobid"]


DISCORD = {
    "account": CHANNEL,
    "selector": "channel",
    "id": jobid,
    "poll": "jobs/?jobid={}",
    "urls": lambda body: [file["url"] for file in body["attachments"]],
    "error": lambda body: body["status"] == "failed",
    "created": 200,
}
PAGES = [
    Page(
        *("flowmusic", "/v1/flowmusic", EMAIL, "music", jobid, "jobs/{}"),
        urls=lambda body: [clip["audio_url"] for clip in body["clips"]],
        error=lambda body: body["error"]["code"] and body["error"]["message"],
        more=(("mode", "async"),),
    ),
    Page(
        *("mureka", "/v1/mureka", "123456", "music/create", jobid, "jobs/{}"),
        selector="account",
        urls=lambda body: [song["mp3_url"] for song in body["response"]["songs"]],
        error=lambda body: body["error"] + body["errorDetails"],
        more=(("async", True),),
    ),
    Page(
        *("mureka/speech", "/v1/mureka", "123456", "speech", jobid, "jobs/{}"),
        selector="account",
        error=lambda body: body["error"] + body["errorDetails"],
        more=(("async", True),),
    ),
    Page(
        *("tempolor", "/v1/tempolor", "12345", "music/song"),
        id=lambda body: body["jobs"][0],
        poll="music/{}",
        selector="user_id",
        over=lambda body: by_flag(body, "status_final", "status_name", "COMPLETED"),
        error=lambda body: body["status"] == 10,
        created=200,
    ),
    Page(
        *("acemusic", "/v1/acemusic", EMAIL, "music", jobid, "jobs/{}"),
        urls=lambda body: [song["audioUrl"] for song in body["songs"]],
        more=(("async", True),),
    ),
    Page(
        *("minimax", "/v1/minimax", "111", "videos/create", lambda body: body["videoId"], "videos/{}"),
        selector="account",
        over=lambda body: by_flag(body, "statusFinal", "status", 2),
        urls=lambda body: [body["downloadURL"]],
        error=lambda body: body["statusLabel"],
        created=200,
    ),
    Page(
        *("minimax/images", "/v1/minimax", "111", "images/create", lambda body: body["imageId"], "images/{}"),
        selector="account",
        over=lambda body: by_flag(body, "statusFinal", "status", 2),
        urls=lambda body: [body["downloadURL"]],
        error=lambda body: body["statusLabel"],
        created=200,
    ),
    Page(
        *("minimax/music", "/v1/minimax", "111", "music/create", lambda body: body[0]["musicId"], "music/{}"),
        selector="account",
        over=lambda body: by_flag(body, "statusFinal", "statusLabel", "completed"),
        urls=lambda body: [body["audio_url"]],
        error=lambda body: body["statusLabel"],
        created=200,
    ),
    Page(
        *("minimax/audio", "/v1/minimax", "111", "speech/create", lambda body: body["audioId"], "speech/{}"),
        selector="account",
        over=lambda body: by_flag(body, "statusFinal", "statusLabel", "completed"),
        urls=lambda body: [body["audio_url"]],
        error=lambda body: body["code"] and body["error"],
    ),
    Page(
        *("minimax/agent", "/v1/minimax", "111", "agent", jobid, "agent/{}"),
        selector="account",
        created=200,
        more=(("async", True),),
    ),
    Page(
        *("kling", "/v1/kling", EMAIL, "videos/text2video", lambda body: body["task"]["id"]),
        poll="tasks/{}?email=" + quote(EMAIL),
        over=lambda body: by_flag(body, "status_final", "status_name", "succeed"),
        urls=lambda body: [body["works"][0]["resource"]["resource"]],
        created=200,
    ),
    Page(
        *("runwayml", "/v1/runwayml", EMAIL, "videos/create", lambda body: body["taskId"], "tasks/{}"),
        over=lambda body: by_status(body, "SUCCEEDED", ("FAILED",)),
        urls=lambda body: [artifact["url"] for artifact in body["artifacts"]],
        created=200,
    ),
    Page(
        *("runwayml", "/v1/runwayml", EMAIL, "frames/create", lambda body: body["taskId"], "tasks/{}"),
        over=lambda body: by_status(body, "SUCCEEDED", ("FAILED",)),
        urls=lambda body: [artifact["url"] for artifact in body["artifacts"]],
        created=200,
    ),
    Page(
        *("pixverse", "/v2/pixverse", EMAIL, "videos/create", lambda body: body["video_id"], "videos/{}"),
        over=lambda body: by_flag(body, "video_status_final", "video_status_name", "COMPLETED"),
        urls=lambda body: [body["url"]],
        error=lambda body: body["video_status_name"] == "FAILED",
        created=200,
        waits_as_404=True,
    ),
    Page(
        *("pixverse", "/v2/pixverse", EMAIL, "music/create", lambda body: body["audio_id"], "music/{}"),
        over=lambda body: by_flag(body, "audio_status_final", "audio_status_name", "COMPLETED"),
        urls=lambda body: [body["url"]],
        error=lambda body: body["audio_status_name"] == "FAILED",
        created=200,
    ),
    Page(
        *("dreamina", "/v1/dreamina", f"US:{EMAIL}", "videos", jobid, "videos/{}"),
        selector="account",
        urls=lambda body: [body["response"]["videoUrl"]],
        error=lambda body: body["error"] + body["errorDetails"],
        created=200,
    ),
    Page(
        *("google-flow", "/v1/google-flow", EMAIL, "videos", jobid, "jobs/{}"),
        urls=lambda body: [one["videoUrl"] for one in body["response"]["media"]],
        error=lambda body: body["error"] + body["errorDetails"],
        more=(("async", True), ("count", 2)),
    ),
    Page(
        *("google-vids", "/v1/google-vids", EMAIL, "videos", jobid, "jobs/{}"),
        urls=lambda body: [f"media/{quote(body['result']['mediaId'], safe='')}"],
        error=lambda body: body["error"]["code"] and body["error"]["message"],
        more=(("async", True),),
    ),
    Page(
        *("gemini-notebook", "/v1/gemini-notebook", EMAIL, "artifacts", jobid, "jobs/{}"),
        urls=lambda body: [file["url"] for file in body["result"]["files"]],
        more=(("type", "audio"), ("mode", "async")),
    ),
    Page(
        *("muse", "/v1/muse", EMAIL, "jobs/video", jobid, "jobs/{}"),
        urls=lambda body: [file["url"] for file in body["result"]["files"]],
        more=(("async", True),),
    ),
    Page(
        *("luma", "/v1/luma", EMAIL, "videos", jobid, "jobs/{}"),
        urls=lambda body: [body["response"]["video"]["url"]],
    ),
    Page(service="faceswap", root="/v1/faceswap", create="swap", **DISCORD),
    Page(service="pika", root="/v1/pika", create="create", **DISCORD),
    Page(service="midjourney-v2", root="/v2", create="jobs/imagine", **DISCORD),
    Page(
        *("midjourney", "/v3/midjourney", CHANNEL, "jobs/imagine", jobid, "jobs/{}"),
        selector="channel",
        over=lambda body: by_status(body, bad=("failed", "moderated")),
        urls=lambda body: [file["url"] for file in body["response"]["attachments"]],
        more=(("stream", False),),
    ),
    Page(
        *("riffusion", "/v1/riffusion", "11111111-a", "music/create-prompt", lambda body: body["job_id"]),
        poll="music/?id={}&user_id=11111111-a",
        selector="user_id",
        over=lambda body: by_status(body[0]),
        urls=lambda body: [body[0]["download_url"]],
        error=lambda body: body[0]["status"] == "failed",
        created=200,
    ),
    Page(
        *("ltxstudio", "/v1/ltxstudio", EMAIL, "images/flux-create", lambda body: body["jobId"], "assets/{}"),
        over=lambda body: by_status({"status": body["status"]["type"]}),
        urls=lambda body: [body["status"]["artifact"]["assetUrl"]],
        error=lambda body: body["status"]["type"] == "failed",
        created=200,
    ),
]
SERVICES = [f"{page.service}:{page.create}" for page in PAGES]


class Client:
    """Speaks to one service as its pages tell."""

    def __init__(self, page, fake):
        self.page, self.fake = page, fake
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {fake.token}"

    def request(self, method, path, **options):
        url = path if "://" in path else f"{self.fake.url}{self.page.root}/{path}"
        return self.session.request(method, url, timeout=10, **options)

    def create(self, encoding="json", **fields):
        page = self.page
        fields = {page.selector: page.account, "prompt": "rain on tin", **dict(page.more), **fields}
        text = {name: str(value).lower() if value is True else str(value) for name, value in fields.items()}
        return self.request(
            "POST",
            page.create,
            **{
                "json": {"json": fields},
                "form": {"data": text},
                "multipart": {
                    "files": [
                        *((name, (None, value)) for name, value in text.items()),
                        ("image", ("a.png", b"\x89PNG\r\n\x1a\n\xff", "image/png")),
                    ]
                },
                "curl": {
                    "data": json.dumps(fields),
                    "headers": {"Content-Type": "application/x-www-form-urlencoded"},
                },
            }[encoding],
        )

    def start(self, encoding="json", **fields):
        answer = self.create(encoding, **fields)
        assert answer.status_code == self.page.created, answer.text
        return self.page.id(answer.json())

    def poll(self, job):
        return self.request("GET", self.page.poll.format(quote(str(job), safe="")))


@pytest.fixture(params=PAGES, ids=SERVICES)
def client(request):
    """A client of each kind of job, with two accounts of five slots, and a clock that stands."""
    page, clock = request.param, ManualClock()
    accounts = {page.service: {page.account: 5, "999": 5}}
    with FakeUseapi(accounts, clock=clock, job_seconds=(100, 100), replies=Reply(progress=0)) as fake:
        client = Client(page, fake)
        client.clock = clock
        with client.session:
            yield client


@pytest.mark.parametrize("encoding", ["json", "form", "multipart", "curl"])
def test_a_job_is_created_polled_and_its_result_fetched(client, encoding):
    """In every encoding of the body it lands on the account that the body names."""
    job = client.start(encoding)
    assert client.fake.running(client.page.service, client.page.account) == (str(job),)
    answer = client.poll(job)
    if client.page.waits_as_404:
        assert answer.status_code == 404
    else:
        assert (answer.status_code, client.page.over(answer.json())) == (200, None)
    client.clock.advance(100)
    answer = client.poll(job)
    assert (answer.status_code, client.page.over(answer.json())) == (200, True)
    for url in client.page.urls(answer.json()):
        file = client.request("GET", url)
        assert (file.status_code, len(file.content) > 0) == (200, True)
        assert not file.headers["Content-Type"].startswith(("text", "application/json"))


def test_a_result_is_fetched_without_a_token(client):
    """Its URL is on the site's own servers: what vendor's scripts do, and what nobody sends a token to."""
    job = client.start()
    client.fake.finish(job)
    for url in client.page.urls(client.poll(job).json()):
        if "://" in url:
            assert requests.get(url, timeout=10).status_code == 200


def test_a_job_that_fails_says_so(client):
    """With the words, and the kind of error, of its service."""
    job = client.start()
    client.fake.finish(job, "failed")
    body = client.poll(job).json()
    assert client.page.over(body) is False
    assert client.page.error(body)


def test_an_unknown_job_is_a_404(client):
    """Except in Riffusion's list of songs, which nothing is missing from."""
    assert client.poll("12345").status_code == 404


def test_a_callback_brings_the_status_and_the_reference(client):
    """Its body is that of the status, for one job."""
    with Receiver() as receiver:
        client.start(replyUrl=receiver.url, replyRef="ref-1")
        client.clock.advance(100)
        body = receiver.next()
    told = [body] if client.page.service == "riffusion" else body
    assert client.page.over(told) is True
    assert body["replyRef"] == "ref-1"


@pytest.mark.parametrize("encoding", ["json", "form", "multipart"])
def test_many_creates_that_name_one_account_all_go_there(encoding):
    """None strays to another account, whatever the body's encoding."""
    accounts = {f"{number}@example.com": 60 for number in range(5)}
    with FakeUseapi({"flowmusic": accounts}, job_seconds=(600, 600)) as fake:
        page = next(page for page in PAGES if page.service == "flowmusic")
        client = Client(page, fake)
        with client.session:
            for _ in range(60):
                client.start(encoding, email="3@example.com")
        assert len(fake.running("flowmusic", "3@example.com")) == 60


def test_an_image_of_google_flow_is_answered_when_it_is_made():
    """A 200 with the media; asked for otherwise it is a 201 with a job."""
    with FakeUseapi({"google-flow": {EMAIL: 2}}, job_seconds=(0.05, 0.1)) as fake:
        client = Client(next(page for page in PAGES if page.service == "google-flow"), fake)
        with client.session:
            answer = client.request("POST", "images", json={"prompt": "x", "email": EMAIL, "count": 2})
            media = answer.json()["media"]
            urls = [one["image"]["generatedImage"]["fifeUrl"] for one in media]
            assert (answer.status_code, [requests.get(url, timeout=10).status_code for url in urls]) == (
                200,
                [200, 200],
            )
            assert fake.running("google-flow") == ()
            asked = client.request("POST", "images", json={"prompt": "x", "async": True})
            assert (asked.status_code, "jobid" in asked.json()) == (201, True)


def test_who_waits_for_an_image_is_let_go_when_the_server_closes():
    """Closing waits for no job, not even one that never ends."""
    fake = FakeUseapi({"google-flow": {EMAIL: 2}}, job_seconds=lambda: float("inf")).start()
    client = Client(next(page for page in PAGES if page.service == "google-flow"), fake)
    with client.session, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(client.request, "POST", "images", json={"prompt": "x"})
        while not fake.running("google-flow"):
            pass
        fake.close()
        try:
            assert waiting.result(10).status_code == 500
        except requests.ConnectionError:
            pass  # its connection was faster to go


def test_a_job_that_is_called_off_has_failed(client):
    """Where the service can: its slot is free, and it says whose doing it was. Elsewhere it runs on."""
    how = {
        "flowmusic": ("DELETE", "jobs/{}", 204),
        "minimax": ("POST", "videos/cancel", 200),
        "faceswap": ("GET", "jobs/cancel/?jobid={}", 200),
        "pika": ("GET", "jobs/cancel/?jobid={}", 200),
        "midjourney-v2": ("GET", "jobs/cancel/?jobid={}", 200),
        "runwayml": ("DELETE", "tasks/{}", 200),
    }
    service, job = client.page.service, client.start()
    method, path, code = how.get(service, ("DELETE", "nothing/{}", 0))
    fields = {"json": {"videoId": job}} if method == "POST" else {}
    answer = client.request(method, path.format(quote(str(job), safe="")), **fields)
    assert answer.status_code == code or service not in how
    runs_on = service not in how or service == "runwayml"
    assert client.fake.running(service) == ((str(job),) if runs_on else ())
    if not runs_on and service in ("faceswap", "pika", "midjourney-v2"):
        assert client.poll(job).json()["status"] == "cancelled"


# -- what takes no slot -------------------------------------------------------------------------------

PICTURE = {"data": b"\x89PNG", "headers": {"Content-Type": "image/png"}}
BESIDE = [
    ("flowmusic", "/v1/flowmusic/music/lyrics", {"json": {"prompt": "x"}}, lambda body: body["lyrics"]),
    ("flowmusic", "/v1/flowmusic/files", PICTURE, lambda body: body["file"]),
    ("mureka", "/v1/mureka/music/lyrics-generate", {"json": {"prompt": "x"}}, lambda body: body["lyrics"]),
    ("minimax", "/v1/minimax/files/?account={}", PICTURE, lambda body: body["fileID"]),
    ("runwayml", "/v1/runwayml/assets/?email={}&name=a.png", PICTURE, lambda body: body["assetId"]),
    ("pixverse", "/v2/pixverse/files/?email={}", PICTURE, lambda body: body["result"][0]["path"]),
    ("dreamina", "/v1/dreamina/assets/{}", PICTURE, lambda body: body["assetRef"]),
    (
        "google-flow",
        "/v1/google-flow/assets/{}",
        PICTURE,
        lambda body: body["mediaGenerationId"]["mediaGenerationId"],
    ),
    (
        "gemini-notebook",
        "/v1/gemini-notebook/notebooks",
        {"json": {"title": "x"}},
        lambda body: body["notebook"],
    ),
    (
        "google-vids",
        "/v1/google-vids/avatars",
        {"json": {"name": "Mia", "voice": "Aoede"}},
        lambda body: body["avatarId"] and body["previewMediaId"],
    ),
    ("muse", "/v1/muse/somewhere", PICTURE, lambda body: body["code"]),
]


@pytest.mark.parametrize(("service", "path", "options", "read"), BESIDE, ids=[one[1] for one in BESIDE])
def test_uploads_and_lyrics_take_no_slot(service, path, options, read):
    """They are answered on an account that is full, and start no job."""
    account = f"US:{EMAIL}" if service == "dreamina" else EMAIL
    with FakeUseapi({service: {account: 1}}, job_seconds=(600, 600)) as fake:
        fake.start_stranger(service, account)
        headers = {"Authorization": f"Bearer {fake.token}", **options.get("headers", {})}
        answer = requests.post(
            f"{fake.url}{path.format(quote(account))}", timeout=10, **{**options, "headers": headers}
        )
        assert (answer.status_code, bool(read(answer.json()))) == (200, True)
        assert len(fake.running(service)) == 1
        assert fake.audit().accepted == 0


def test_work_on_an_asset_runs_where_the_asset_is():
    """The id that an upload was answered with takes the create to its account, although none is named."""
    accounts = {f"{letter}@example.com": 5 for letter in "abcdefgh"}
    with FakeUseapi({"runwayml": accounts}, job_seconds=(600, 600)) as fake:
        client = Client(next(page for page in PAGES if page.service == "runwayml"), fake)
        with client.session:
            upload = client.request("POST", "assets/?email=e%40example.com&name=a.png", **PICTURE)
            for _ in range(5):
                client.start(email="", imageAssetId1=upload.json()["assetId"])
        assert len(fake.running("runwayml", "e@example.com")) == 5


# -- accounts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "account", "field"),
    [
        ("/v1/flowmusic/accounts", {"email": EMAIL, "maxJobs": 3}, EMAIL, "maxJobs"),
        ("/v1/kling/accounts", {"email": EMAIL, "password": "x", "maxJobs": 3}, EMAIL, "maxJobs"),
        (f"/v1/runwayml/accounts/{quote(EMAIL)}", {"maxJobs": 3, "password": "x"}, EMAIL, "maxJobs"),
        (f"/v2/pixverse/accounts/{quote(EMAIL)}", {"maxJobs": 3, "password": "x"}, EMAIL, "maxJobs"),
        ("/v1/dreamina/accounts", {"email": EMAIL, "region": "CA", "maxJobs": 3}, f"CA:{EMAIL}", "maxJobs"),
        (f"/v1/faceswap/account/{CHANNEL}", {"discord": "x", "server": "1"}, CHANNEL, "channel"),
    ],
)
def test_accounts_are_added_changed_and_taken_away(path, body, account, field):
    """As POST and DELETE accounts do; the entry of each names itself."""
    with FakeUseapi({}) as fake:
        root = f"{fake.url}{path.partition('/account')[0]}/account" + ("s" if "accounts" in path else "")
        options = {"headers": {"Authorization": f"Bearer {fake.token}"}, "timeout": 10}
        assert requests.post(fake.url + path, json=body, **options).json()[field] in (3, CHANNEL)
        [(id, entry)] = requests.get(root, **options).json().items()
        assert (id, entry[field]) == (account, 3 if field == "maxJobs" else CHANNEL)
        assert requests.post(fake.url + path, json={**body, "maxJobs": 2}, **options).ok
        assert EMAIL in (entry.get("email", EMAIL), "")
        deleted = [requests.delete(f"{root}/{quote(account)}", **options).status_code for _ in range(2)]
        assert deleted == [204, 404]


@pytest.mark.parametrize("body", [{"email": EMAIL, "maxJobs": 0}, {"email": EMAIL, "maxJobs": "many"}, {}])
def test_an_account_that_makes_no_sense_is_refused(body):
    """And nothing is stored."""
    with FakeUseapi({}) as fake:
        options = {"headers": {"Authorization": f"Bearer {fake.token}"}, "timeout": 10}
        assert requests.post(f"{fake.url}/v1/flowmusic/accounts", json=body, **options).status_code == 400
        assert requests.get(f"{fake.url}/v1/flowmusic/accounts", **options).json() == {}


def test_the_entry_of_a_region_has_its_own_e_mail():
    """Dreamina's accounts are found by the e-mail in them, one in each region."""
    with FakeUseapi({"dreamina": {"US:a@example.com": 1, "CA:b@example.com": 1}}) as fake:
        options = {"headers": {"Authorization": f"Bearer {fake.token}"}, "timeout": 10}
        entries = requests.get(f"{fake.url}/v1/dreamina/accounts", **options).json().values()
        assert [(one["email"], one["region"]) for one in entries] == [
            ("a@example.com", "US"),
            ("b@example.com", "CA"),
        ]
