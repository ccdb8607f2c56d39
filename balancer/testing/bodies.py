"""What each service says about its jobs: the answer to a create, a status, a callback, a list of what runs.

A body is made from what is seen of a job at one moment. The forms are the vendor's; where no page or
script shows one, it follows the services of the same make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from balancer.clock import Clock
from balancer.services.schema import JobsEndpoint, Service
from balancer.testing.state import Job

Body = Callable[["Seen"], Any]
Word = TypeVar("Word")
FILES = "/files/"
"""Below the server's root: where what was made can be downloaded, without a token."""

_MINIMAX_IDS = {"": "videoId", "images": "imageId", "music": "musicId", "audio": "audioId"}
MINIMAX_KINDS = tuple(_MINIMAX_IDS)
"""The kinds that MiniMax's scheduler lists; its agent has a list of its own, its chat none."""

_CANCELLED = {"code": "user_cancelled", "message": "Cancelled by user"}
_FAILED = {"code": "generation_failed", "message": "The job could not be completed"}
_TEXT = {"error": "Generation failed", "errorDetails": "The job could not be completed"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One job at one moment."""

    job: Job
    row: Service
    status: str
    """``running``, ``completed`` or ``failed``."""
    clock: Clock
    root: str
    """The server's own address."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def account(self) -> str:
        """The account that it runs on."""
        return self.job.account

    def stamp(self, reading: float) -> str:
        """Return the instant of a clock reading in ISO form, with milliseconds."""
        instant = self.clock.instant(reading)
        return "" if instant is None else f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03}Z"

    @property
    def kind(self) -> str:
        """Last part of its row's key: ``images``, or ``""``."""
        return self.row.key.partition("/")[2]

    @property
    def makes(self) -> str:
        """What it makes, as its create's path says: ``video``, ``image``, ``music`` or ``speech``."""
        return made_by(self.job.verb)

    @property
    def started(self) -> str:
        """When it was accepted."""
        return self.stamp(self.job.started)

    @property
    def updated(self) -> str:
        """When it ended."""
        return self.stamp(self.job.ends)

    def word(self, running: Word, completed: Word, failed: Word) -> Word:
        """Return the one of three words that stands for its status."""
        return {"running": running, "completed": completed, "failed": failed}[self.status]

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status != "running"

    @property
    def done(self) -> bool:
        """Whether it has ended well."""
        return self.status == "completed"

    @property
    def seconds(self) -> int:
        """Whole seconds for which it has run."""
        return max(0, int(min(self.clock.now(), self.job.ends) - self.job.started))

    @property
    def elapsed(self) -> str:
        """The same as ``MM:SS``."""
        return f"{self.seconds // 60:02}:{self.seconds % 60:02}"

    @property
    def count(self) -> int:
        """How many were asked for."""
        count = str(self.job.request.get("count", 1))
        return int(count) if count.isdecimal() else 1

    @property
    def stem(self) -> str:
        """What tells its id from others, fit for an asset's id."""
        return "".join(char for char in self.id.partition("-")[0] if char.isalnum())

    @property
    def percent(self) -> int:
        """How far it has come."""
        life = self.job.ends - self.job.started
        return 100 if self.final or life <= 0 else min(99, int(100 * self.seconds / life))

    @property
    def reply(self) -> dict[str, Any]:
        """The ``replyUrl`` and ``replyRef`` of its request, where it had them."""
        return {name: self.job.request[name] for name in ("replyUrl", "replyRef") if name in self.job.request}

    def file(self, name: str) -> str:
        """Return the URL of one file that it made."""
        return f"{self.root}{FILES}{quote(self.id, safe='')}/{name}"


@dataclass(frozen=True, slots=True)
class Shown:
    """One account with its listed jobs at one moment."""

    id: str
    limit: int
    health: str
    jobs: Sequence[Seen]


@dataclass(frozen=True, slots=True)
class View:
    """What a load endpoint tells about: a site's accounts and their listed jobs."""

    row: Service
    accounts: tuple[Shown, ...]
    query: Mapping[str, str]
    """Of the request."""

    @property
    def jobs(self) -> Iterator[Seen]:
        """Every job of every account."""
        return (job for account in self.accounts for job in account.jobs)

    @property
    def busy(self) -> Iterator[Shown]:
        """The accounts on which something runs."""
        return (account for account in self.accounts if account.jobs)


def made_by(verb: str) -> str:
    """Return what a create at ``verb`` makes."""
    for word, made in (("image", "image"), ("frames", "image"), ("speech", "speech"), ("music", "music")):
        if word in verb.partition("/")[0] or verb == f"jobs/{word}":
            return made
    return "video"


def accepted(seen: Seen) -> dict[str, Any]:
    """Answer a create as the services of the newer make do."""
    return {
        **placed(seen.row.job_id[0], seen.id),
        seen.row.selector: seen.account,
        "status": "created",
        "created": seen.started,
        "request": dict(seen.job.request),
    }


def placed(path: str, value: Any) -> dict[str, Any]:
    """Return ``value`` at a dotted path."""
    name, _, rest = path.partition(".")
    return {name: placed(rest, value) if rest else value}


def by_row(seen: Seen) -> dict[str, Any]:
    """Answer with the field and the values that the service's own row calls final."""
    name, ends = next(iter(seen.row.final.items()), ("status", ("completed", "failed")))
    running = False if isinstance(ends[0], bool) else "running"
    return accepted(seen) | placed(name, seen.word(running, ends[0], ends[-1])) | _failure(seen)


Part = Callable[[Seen], dict[str, Any]]
"""Makes some of a body's fields."""


def record(
    running: str = "started", *, typed: bool = True, result: Part | None = None, failure: Part | None = None
) -> Body:
    """Make the record of the newer make: its words are ``running``, ``completed`` and ``failed``."""

    def body(seen: Seen) -> dict[str, Any]:
        fields = {**accepted(seen), "status": seen.status if seen.final else running}
        if typed:
            fields["type"] = seen.makes
        if seen.final:
            fields["updated"] = seen.updated
        return fields | (result(seen) if result and seen.done else {}) | (failure or _failure)(seen)

    return body


def as_text(seen: Seen) -> dict[str, Any]:
    """Tell a failure as text with details: Mureka, Dreamina, Google Flow."""
    if seen.status != "failed":
        return {}
    return dict(_TEXT, error=_CANCELLED["message"]) if seen.job.cancelled else dict(_TEXT)


def riffusion(seen: Seen) -> dict[str, Any]:
    """Tell of a song. A list of such items answers ``GET music/?id=``."""
    song = {
        "id": seen.id,
        "group_id": "",
        "author_id": seen.account,
        "created_at": seen.started,
        "title": "Example",
        "lyrics": "[Instrumental]",
        "duration_s": 180.5,
        "privacy": "unlisted",
        "status": "processing" if seen.status == "running" else seen.status,
    }
    if seen.done:
        song |= {
            "download_url": seen.file("song.m4a"),
            "share_url": seen.file("share.html"),
            "image_url": seen.file("cover.jpeg"),
        }
    return song


def flowmusic(seen: Seen) -> dict[str, Any]:
    """Tell of a song; the answer to its create is the same."""
    song: dict[str, Any] = {
        "jobid": seen.id,
        "email": seen.account,
        "request": dict(seen.job.request),
        "created_at": seen.started,
        "status": "pending" if seen.status == "running" else seen.status,
    }
    if seen.final:
        song |= {"completed_at": seen.updated, "duration_ms": seen.seconds * 1000}
    if seen.done:
        clip = f"user:1234-{seen.account}-clip:{seen.id[4:12]}"
        song["clips"] = [
            {"clip": clip, "title": "Example", "duration_s": 173.03, "audio_url": seen.file("1.m4a")}
        ]
    return song | _failure(seen)


def mureka(seen: Seen) -> dict[str, Any]:
    """Tell of two songs or of speech; the answer to the create is the same."""
    speech = seen.kind == "speech"
    job: dict[str, Any] = {
        "jobid": seen.id,
        "verb": seen.job.verb,
        "jobType": "tts" if speech else "music",
        "status": "created" if seen.status == "running" else seen.status,
        "created": seen.started,
    }
    if seen.final:
        job |= {"updated": seen.updated, "request": dict(seen.job.request)}
    if seen.done and not speech:
        songs = [
            {
                "song_id": f"user:1234-mureka:{seen.account}-song:{version}",
                "version": version,
                "title": "Example",
                "mp3_url": seen.file(f"{version}.mp3"),
            }
            for version in "12"
        ]
        job["response"] = {"feed_id": 1, "state": 3, "songs": songs}
    return job | as_text(seen)


def minimax(seen: Seen) -> dict[str, Any]:
    """Tell of a video: numbers, the vendor's labels for them, and where it can be had."""
    told = {
        "id": seen.id.rpartition(":")[2],
        "desc": seen.job.request.get("prompt", ""),
        "status": seen.word(1, 2, 3),
        "statusLabel": seen.word("processing", "completed", "failed"),
        "statusFinal": seen.final,
        "percent": seen.percent,
        "videoURL": seen.file("watermark.mp4") if seen.done else "",
        "downloadURL": seen.file("1.mp4") if seen.done else "",
    }
    return {**placed(seen.row.job_id[0], seen.id), **told}


def minimax_audio(seen: Seen) -> dict[str, Any]:
    """Tell of speech or a song: the number says nothing there."""
    label = seen.word("processing", "completed", "failed")
    told: dict[str, Any] = {"status": 0, "statusLabel": label, "statusFinal": seen.final}
    if seen.done:
        told["audio_url"] = seen.file("1.mp3")
    if seen.status == "failed":
        told |= {"code": 500, "error": _TEXT["error"]}
    return {**placed(seen.row.job_id[0], seen.id), **told}


def kling(seen: Seen) -> dict[str, Any]:
    """Tell of a task, by its number."""
    code, name = seen.word((5, "submitted"), (99, "succeed"), (50, "failed"))
    state = {"status": code, "status_name": name, "status_final": seen.final}
    task = {"id": int(seen.id), "userId": 12345, "type": "m2v_txt2video", "scene": "NORMAL_CREATION"}
    told = {**state, "etaTime": 0, "message": "success", "task": task | state}
    if seen.done:
        image = seen.makes == "image"
        resource = {"resource": seen.file("1.png" if image else "1.mp4"), "height": 720, "width": 1280}
        work = {"workId": int(seen.id), "taskId": int(seen.id), "contentType": seen.makes, **state}
        told["works"] = [work | {"resource": resource}]
    return told | ({"error": _TEXT["error"]} if seen.status == "failed" else {})


def kling_created(seen: Seen) -> dict[str, Any]:
    """Answer a create: the task alone."""
    return {"task": kling(seen)["task"]}


def runwayml(seen: Seen) -> dict[str, Any]:
    """Tell of a task with what it has made."""
    told = {
        "taskId": seen.id,
        "status": seen.word("RUNNING", "SUCCEEDED", "FAILED"),
        "createdAt": seen.started,
        "progressRatio": f"{seen.percent / 100:.2f}",
        "estimatedTimeToStartSeconds": 0,
        "artifacts": [],
    }
    if seen.done:
        ending = "png" if seen.makes == "image" else "mp4"
        asset = f"user:1234-runwayml:{seen.account}-asset:{seen.id.rpartition(':')[2]}"
        told["artifacts"] = [{"assetId": asset, "url": seen.file(f"1.{ending}"), "fileSize": 100}]
    return told | ({"error": _TEXT["error"]} if seen.status == "failed" else {})


def pixverse(seen: Seen) -> dict[str, Any]:
    """Tell of a video, an image or a song: the names of the fields change with it."""
    name = pixverse_field(seen)
    word = seen.word("GENERATING", "COMPLETED", "FAILED")
    told = {f"{name}_id": seen.id, f"{name}_status_name": word, f"{name}_status_final": seen.final}
    if seen.done:
        told["url"] = seen.file({"video": "1.mp4", "image": "1.png", "audio": "1.mp3"}[name])
    return told


def pixverse_field(seen: Seen) -> str:
    """Return what the names of PixVerse's fields begin with."""
    return {"image": "image", "music": "audio", "speech": "audio"}.get(seen.makes, "video")


def tempolor(seen: Seen) -> dict[str, Any]:
    """Tell of a track."""
    code, name = seen.word((0, "GENERATING"), (30, "COMPLETED"), (10, "FAILED"))
    return {
        "itemId": seen.id.rpartition(":")[2],
        "job_id": seen.id,
        "userId": seen.account,
        "status": code,
        "status_name": name,
        "status_final": seen.final,
        "progress": seen.percent,
    }


def google_flow_media(seen: Seen) -> list[dict[str, Any]]:
    """Return what Google Flow made, as many as were asked for: images are told otherwise than videos."""
    return [_flow_medium(seen, number + 1) for number in range(seen.count)]


def _flow_medium(seen: Seen, number: int) -> dict[str, Any]:
    asset = f"user:1234-email:{seen.account.encode().hex()}-{seen.makes}:{seen.stem}-{number}"
    if seen.makes == "image":
        image = {"seed": 7, "mediaGenerationId": asset, "fifeUrl": seen.file(f"{number}.jpg")}
        return {"name": f"{seen.id}-{number}", "image": {"generatedImage": image}}
    return {"name": f"{seen.id}-{number}", "mediaGenerationId": asset, "videoUrl": seen.file(f"{number}.mp4")}


def google_flow_sync(seen: Seen) -> dict[str, Any]:
    """Answer a create that was waited for: the media themselves."""
    return {"jobId": seen.id, "media": google_flow_media(seen)}


def google_vids_result(seen: Seen) -> dict[str, Any]:
    """Return the result of Google Vids: an id, which the API fetches the file for."""
    image = seen.makes == "image"
    media = f"user:1234-{seen.account}-{seen.makes}:{seen.id.rpartition(':')[2]}"
    length = {} if image else {"duration": seen.job.request.get("duration", 8), "resolution": "720p"}
    size = {"width": 1280, "height": 720, "elapsedMs": seen.seconds * 1000}
    return {"result": {"mediaId": media, **length, **size}}


def by_code(seen: Seen) -> dict[str, Any]:
    """Tell a failure as code and message, with the time to try again where there is one: Google Vids."""
    return {"error": {"code": 500, "message": _FAILED["message"]}} if seen.status == "failed" else {}


def gemini_notebook_result(seen: Seen) -> dict[str, Any]:
    """Return what a notebook's job made: files, or the report of a research."""
    if seen.job.verb.startswith("research"):
        return {"result": {"report": {"title": "Example", "markdown": "# Example\n"}, "sources": []}}
    file = {"format": "m4a", "mimeType": "audio/mp4", "url": seen.file("1.m4a")}
    return {"result": {"title": "Example", "duration": 91, "files": [file]}}


def ltxstudio(seen: Seen) -> dict[str, Any]:
    """Tell of a job whose status is an object."""
    status: dict[str, Any] = {"type": seen.status if seen.final else "active", "progress": seen.percent}
    if seen.done:
        status["artifact"] = {"assetUrl": seen.file("1.mp4"), "asset": {"type": "artifact"}}
    return {"status": status, "jobId": seen.id}


def midjourney(seen: Seen) -> dict[str, Any]:
    """Tell of Midjourney's third version: what came out stands under ``response``."""
    told = {
        "jobid": seen.id,
        "verb": seen.job.verb.rpartition("/")[2],
        "jobType": "video" if seen.kind == "videos" else "image",
        "status": seen.status if seen.final else "created",
        "created": seen.started,
        "request": dict(seen.job.request),
    }
    if seen.done:
        told |= {"updated": seen.updated, "response": {"progress_percent": 100, **_attachments(seen)}}
    return told | _failure(seen)


def discord(seen: Seen) -> dict[str, Any]:
    """Tell of a job of a Discord bot: Midjourney's second version, FaceSwap, Pika."""
    word = "cancelled" if seen.job.cancelled and seen.final else seen.status
    verb = seen.job.verb.rpartition("/")[2]
    told = {
        "jobid": seen.id,
        "verb": verb if seen.row.key == "midjourney-v2" else f"{seen.row.key}-{verb}",
        "status": "started" if word == "running" else word,
        "created": seen.started,
        "channel": seen.account,
        "server": "1",
        "code": 200,
    }
    return told | (_attachments(seen) if seen.done else {})


def _attachments(seen: Seen) -> dict[str, Any]:
    file = {"url": seen.file("1.png"), "filename": "1.png", "content_type": "image/png", "size": 100}
    return {"attachments": [file]}


def _failure(seen: Seen) -> dict[str, Any]:
    if seen.status != "failed":
        return {}
    return {"error": _CANCELLED if seen.job.cancelled else _FAILED}


# -- lists ------------------------------------------------------------------------------------------

ListBody = Callable[[View], Any]
"""Makes a body from what is running."""


def id_as(name: str) -> Part:
    """Return the job's id under ``name``."""
    return lambda seen: {name: seen.id}


def kind(seen: Seen) -> dict[str, Any]:
    """Return its type: everything that PixVerse makes shares one list."""
    return {"type": seen.makes}


def number(seen: Seen) -> dict[str, Any]:
    """Return the job's id as the number that it is."""
    return {"id": int(seen.id)}


def account(seen: Seen) -> dict[str, Any]:
    """Return the account under the name that requests use."""
    return {seen.row.selector: seen.account}


def timing(seen: Seen) -> dict[str, Any]:
    """Return when it started and for how long it has run."""
    return {"started": seen.started, "elapsed": seen.elapsed}


def minimax_id(seen: Seen) -> dict[str, Any]:
    """Return its id under a name that tells what it is."""
    return {_MINIMAX_IDS[seen.kind]: seen.id}


def minimax_speech(shown: Shown) -> dict[str, Any]:
    """Return how much speech runs: it has no ceiling, and takes no room from videos."""
    return {"executingAudio": sum(seen.kind == "audio" for seen in shown.jobs)}


def scheduler(*parts: Part, kinds: Collection[str] = ("",)) -> ListBody:
    """Make the bare array of the older services."""
    return lambda view: [_item(seen, parts) for seen in view.jobs if seen.kind in kinds]


def schedulers(
    *parts: Part, kinds: Collection[str] = ("",), beside: Callable[[Shown], dict[str, Any]] = lambda _: {}
) -> dict[str, ListBody]:
    """Make both lists of the older services; the second has the room that is left, where there is any."""
    executing = scheduler(*parts, kinds=kinds)

    def available(view: View) -> Any:
        rooms = [_vacancy(view, shown) | beside(shown) for shown in view.accounts]
        return {"executing": executing(view), "available": [room for room in rooms if room["available"] > 0]}

    return {"scheduler": executing, "scheduler/available": available}


def minimax_agent(view: View) -> Any:
    """List the jobs of MiniMax's agent."""
    executing = {
        shown.id: jobs
        for shown in view.accounts
        if (jobs := [{"jobId": s.id, "elapsed": s.elapsed} for s in shown.jobs if s.kind == "agent"])
    }
    return {
        "accounts": [shown.id for shown in view.accounts],
        "summary": {name: {"executing": len(jobs)} for name, jobs in executing.items()},
        "executing": executing,
    }


def flowmusic_jobs(view: View) -> Any:
    """List Flow Music's busy accounts; idle ones are absent."""
    return {
        shown.id: {
            "running": len(shown.jobs),
            "maxJobs": shown.limit,
            "jobs": [
                {"jobid": seen.id, "status": "pending", "created_at": seen.started, **seen.reply}
                for seen in shown.jobs
            ],
        }
        for shown in view.busy
    }


def mureka_jobs(view: View) -> Any:
    """List Mureka's busy accounts; ``availableAccounts`` names them all, busy or not."""
    return {
        **_mureka_counts([*view.jobs]),
        "accounts": {
            shown.id: {
                **_mureka_counts(shown.jobs),
                "jobs": [
                    {"jobid": seen.id, "verb": seen.job.verb, "elapsed": seen.elapsed} for seen in shown.jobs
                ],
            }
            for shown in view.busy
        },
        "availableAccounts": [shown.id for shown in view.accounts],
    }


def dreamina_jobs(view: View) -> Any:
    """List Dreamina's busy accounts."""
    executing = {
        shown.id: [
            {"jobid": seen.id, "model": "seedance-2.0", "elapsedSeconds": seen.seconds, **seen.reply}
            for seen in shown.jobs
        ]
        for shown in view.busy
    }
    return {"executing": executing, "total": sum(map(len, executing.values()))}


def google_flow_jobs(view: View) -> Any:
    """List Google Flow's accounts with their scores, and their jobs where the query asks for them."""
    images = _flow_part(view, images=True)
    videos = _flow_part(view, images=False)
    combined = {"summary": {shown.id: _score(len(shown.jobs)) for shown in view.accounts}}
    emails = [shown.id for shown in view.accounts]
    return {"emails": emails, "videos": videos, "images": images, "combined": combined}


def jobs_and_numbers(view: View) -> Any:
    """List the jobs in one array and the numbers by account: Google Vids and Muse."""
    return {
        "running": [
            {"jobid": seen.id, "email": seen.account, "created": seen.started, "type": seen.makes}
            for seen in view.jobs
        ],
        "accounts": {
            shown.id: {"running": len(shown.jobs), "maxJobs": shown.limit} for shown in view.accounts
        },
    }


def gemini_notebook_jobs(view: View) -> Any:
    """List Gemini Notebook's accounts, idle ones too."""
    return {
        "accounts": {
            shown.id: {
                "health": shown.health,
                "maxJobs": shown.limit,
                "running": len(shown.jobs),
                "jobs": [{"jobid": seen.id, "created": seen.started} for seen in shown.jobs],
            }
            for shown in view.accounts
        }
    }


def acemusic_jobs(view: View) -> Any:
    """List ACE Music's jobs flat: who wants numbers counts by email."""
    return {"jobs": [{"jobid": seen.id, "email": seen.account, "type": "music"} for seen in view.jobs]}


def luma_jobs(view: View) -> Any:
    """List Luma's jobs flat, with their number."""
    jobs = [
        {
            "jobid": seen.id,
            "type": seen.makes,
            "account": seen.account,
            "model": "ray3",
            "created": seen.started,
        }
        for seen in view.jobs
    ]
    return {"executing": len(jobs), "jobs": jobs}


def midjourney_jobs(view: View) -> Any:
    """List Midjourney's busy channels."""
    return {
        **_midjourney_counts([*view.jobs]),
        "channels": {
            shown.id: {
                **_midjourney_counts(shown.jobs),
                **dict.fromkeys(("maxJobs", "maxImageJobs", "maxVideoJobs"), shown.limit),
                "jobs": [_midjourney_job(seen) for seen in shown.jobs],
            }
            for shown in view.busy
        },
    }


def bare_ids(view: View) -> Any:
    """List nothing but ids: the second version of Midjourney, and Pika."""
    return [seen.id for seen in view.jobs]


def listed_by_row(load: JobsEndpoint) -> ListBody:
    """Return what lists the running jobs at the first place that ``load`` names, as it says.

    For services that have no form of their own here.
    """
    place = (*load.rows, load.counts or "")[0]
    return lambda view: _placed(place.split(".") if place else [], [*view.jobs], load)


def _item(seen: Seen, parts: tuple[Part, ...]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part(seen).items()} | seen.reply


def _vacancy(view: View, shown: Shown) -> dict[str, Any]:
    count = sum(not seen.kind for seen in shown.jobs)
    room = max(0, shown.limit - count)
    return {view.row.selector: shown.id, "maxJobs": shown.limit, "executing": count, "available": room}


def _mureka_counts(jobs: Sequence[Seen]) -> dict[str, int]:
    speech = sum(seen.kind == "speech" for seen in jobs)
    return {"total": len(jobs), "music": len(jobs) - speech, "tts": speech}


def _midjourney_counts(jobs: Sequence[Seen]) -> dict[str, int]:
    videos = sum(seen.kind == "videos" for seen in jobs)
    return {"total": len(jobs), "images": len(jobs) - videos, "videos": videos}


def _score(count: int) -> dict[str, int]:
    return dict.fromkeys(("completed", "failed", "rateLimited", "avgResponseTime"), 0) | {
        "executing": count,
        "score": count,
    }


def _flow_part(view: View, *, images: bool) -> dict[str, Any]:
    def wanted(seen: Seen) -> bool:
        return (seen.makes == "image") == images

    summary = {shown.id: _score(sum(map(wanted, shown.jobs))) for shown in view.accounts}
    if "executing" not in view.query.get("options", "summary"):
        return {"summary": summary}
    executing = {
        seen.id: {"email": seen.account, "elapsed": seen.elapsed, **seen.reply}
        for seen in view.jobs
        if wanted(seen)
    }
    return {"summary": summary, "executing": executing}


def _midjourney_job(seen: Seen) -> dict[str, str]:
    return {
        "jobId": seen.id,
        "channel": seen.account,
        "jobType": "video" if seen.kind == "videos" else "image",
        "created": seen.started,
        "elapsed": seen.elapsed,
    }


def _placed(path: list[str], jobs: list[Seen], load: JobsEndpoint) -> Any:
    if not path:
        return [_row(seen, load) for seen in jobs] if load.rows else len(jobs)
    name, *below = path
    if name == "*":
        accounts = dict.fromkeys(seen.account for seen in jobs)
        return {id: _placed(below, [seen for seen in jobs if seen.account == id], load) for id in accounts}
    if name == "#":
        return {seen.id: _row(seen, load) for seen in jobs}
    return {name: _placed(below, jobs, load)}


def _row(seen: Seen, load: JobsEndpoint) -> dict[str, Any]:
    ref = {load.ref: seen.reply["replyRef"]} if "replyRef" in seen.reply else {}
    return {load.job[0]: seen.id, **dict.fromkeys(load.account[:1], seen.account), **ref}
