"""What each service's load endpoints list: the jobs that run, and the room that is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from balancer.services.schema import JobsEndpoint
from balancer.testing.bodies import Part, Seen, Shown, View

Listing = Callable[[View], Any]
"""Makes a body from what is running."""


def field(name: str) -> Part:
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
    """Return when it started and how long ago."""
    return seen.timing


def scheduler(*parts: Part) -> Listing:
    """Make the bare array of the older services."""
    return lambda view: [_item(seen, parts) for seen in view.jobs if not seen.kind]


def available(*parts: Part) -> Listing:
    """Make the pair of lists of the older services. An account without room is not in the second."""

    def body(view: View) -> Any:
        rooms = [_room(view, shown) for shown in view.accounts]
        return {
            "executing": scheduler(*parts)(view),
            "available": [room for room in rooms if room["available"] > 0],
        }

    return body


def minimax_scheduler(view: View) -> Any:
    """List MiniMax's videos, images, songs and speech, each id under a name that tells what it is."""
    listed = [seen for seen in view.jobs if seen.kind not in ("agent", "llm")]
    return [{_MINIMAX_IDS.get(seen.kind, "videoId"): seen.id, **seen.timing, **seen.reply} for seen in listed]


def minimax_available(view: View) -> Any:
    """List them beside the room for videos, and how much speech runs: it has no ceiling."""
    available = [
        _room(view, shown) | {"executingAudio": sum(seen.kind == "audio" for seen in shown.jobs)}
        for shown in view.accounts
    ]
    roomy = [room for room in available if room["available"] > 0]
    return {"executing": minimax_scheduler(view), "available": roomy}


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


def flowmusic(view: View) -> Any:
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


def mureka(view: View) -> Any:
    """List Mureka's busy accounts; ``availableAccounts`` names them all, busy or not."""
    return {
        **_mureka_counts([*view.jobs]),
        "accounts": {
            shown.id: {
                **_mureka_counts([*shown.jobs]),
                "jobs": [
                    {"jobid": seen.id, "verb": seen.job.verb, "elapsed": seen.elapsed} for seen in shown.jobs
                ],
            }
            for shown in view.busy
        },
        "availableAccounts": [shown.id for shown in view.accounts],
    }


def dreamina(view: View) -> Any:
    """List Dreamina's busy accounts."""
    executing = {
        shown.id: [
            {"jobid": seen.id, "model": "seedance-2.0", "elapsedSeconds": seen.seconds, **seen.reply}
            for seen in shown.jobs
        ]
        for shown in view.busy
    }
    return {"executing": executing, "total": sum(map(len, executing.values()))}


def google_flow(view: View) -> Any:
    """List Google Flow's accounts with their scores, and their jobs where the query asks for them."""
    images = _flow_part(view, images=True)
    videos = _flow_part(view, images=False)
    combined = {"summary": {shown.id: _score(len(shown.jobs)) for shown in view.accounts}}
    emails = [shown.id for shown in view.accounts]
    return {"emails": emails, "videos": videos, "images": images, "combined": combined}


def running(view: View) -> Any:
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


def gemini_notebook(view: View) -> Any:
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


def acemusic(view: View) -> Any:
    """List ACE Music's jobs flat: who wants numbers counts by email."""
    return {"jobs": [{"jobid": seen.id, "email": seen.account, "type": "music"} for seen in view.jobs]}


def luma(view: View) -> Any:
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


def midjourney(view: View) -> Any:
    """List Midjourney's busy channels."""
    return {
        **_midjourney_counts([*view.jobs]),
        "channels": {
            shown.id: {
                **_midjourney_counts([*shown.jobs]),
                **dict.fromkeys(("maxJobs", "maxImageJobs", "maxVideoJobs"), shown.limit),
                "jobs": [_midjourney_job(seen) for seen in shown.jobs],
            }
            for shown in view.busy
        },
    }


def bare_ids(view: View) -> Any:
    """List nothing but ids."""
    return [seen.id for seen in view.jobs]


def described(load: JobsEndpoint) -> Listing:
    """Return what lists the running jobs at the first place that ``load`` names, as it says.

    For services that have no form of their own here.
    """
    place = (*load.rows, load.counts or "")[0]
    return lambda view: _placed(place.split(".") if place else [], [*view.jobs], load)


_MINIMAX_IDS = {"images": "imageId", "music": "musicId", "audio": "audioId"}


def _item(seen: Seen, parts: tuple[Part, ...]) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for part in parts:
        item |= part(seen)
    return item | seen.reply


def _room(view: View, shown: Shown) -> dict[str, Any]:
    count = sum(not seen.kind for seen in shown.jobs)
    room = max(0, shown.limit - count)
    return {view.row.selector: shown.id, "maxJobs": shown.limit, "executing": count, "available": room}


def _mureka_counts(jobs: list[Seen]) -> dict[str, int]:
    speech = sum(seen.kind == "speech" for seen in jobs)
    return {"total": len(jobs), "music": len(jobs) - speech, "tts": speech}


def _midjourney_counts(jobs: list[Seen]) -> dict[str, int]:
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
