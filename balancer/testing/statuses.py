"""What each service answers to a create and to a question after a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from balancer.testing.views import Seen

_CANCELLED = {"code": "user_cancelled", "message": "Cancelled by user"}
_FAILED = {"code": "generation_failed", "message": "The job could not be completed"}


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
    value = {"running": running, "completed": ends[0], "failed": ends[-1]}[seen.status]
    return accepted(seen) | placed(name, value) | _outcome(seen)


def by_words(name: str, running: Any, completed: Any, failed: Any) -> Callable[[Seen], dict[str, Any]]:
    """Answer with the field ``name`` that holds one of three words."""
    words = {"running": running, "completed": completed, "failed": failed}

    def body(seen: Seen) -> dict[str, Any]:
        fields = {**accepted(seen), name: words[seen.status]}
        if name != "status":
            fields["status"] = seen.status
        return fields | _outcome(seen)

    return body


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
    if seen.status != "completed":
        return song
    return song | {
        "download_url": "https://example.com/a.m4a",
        "share_url": "https://example.com/riff/1",
        "image_url": "https://example.com/a.jpeg",
    }


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
        song |= {"completed_at": seen.stamp(seen.job.ends), "duration_ms": seen.seconds * 1000}
    if seen.status == "completed":
        clip = {"clip": "user:1234-clip:1", "title": "Example", "duration_s": 173.03}
        song["clips"] = [clip | {"audio_url": "https://example.com/1.m4a"}]
    return song | _outcome(seen)


def mureka(seen: Seen) -> dict[str, Any]:
    """Tell of a song or of speech; the answer to its create is the same."""
    job: dict[str, Any] = {
        "jobid": seen.id,
        "verb": seen.job.verb,
        "jobType": "tts" if seen.kind == "speech" else "music",
        "status": "created" if seen.status == "running" else seen.status,
        "created": seen.started,
    }
    if seen.final:
        job |= {"updated": seen.stamp(seen.job.ends), "request": dict(seen.job.request)}
    return job | _outcome(seen)


def kling(seen: Seen) -> dict[str, Any]:
    """Tell of a task, by its number; the answer to its create holds the task only."""
    code, name = {"running": (5, "submitted"), "completed": (99, "succeed"), "failed": (50, "failed")}[
        seen.status
    ]
    task = {"id": int(seen.id), "userId": 12345, "type": "m2v_txt2video", "scene": "NORMAL_CREATION"}
    state = {"status": code, "status_name": name, "status_final": seen.final}
    return {**state, "message": "success", "task": task | state}


def _outcome(seen: Seen) -> dict[str, Any]:
    if seen.status != "failed":
        return {}
    return {"error": _CANCELLED if seen.job.cancelled else _FAILED}
