"""Where the vendor's pages say that a job of each kind is created, and where it is asked for."""

from __future__ import annotations

from urllib.parse import quote

CREATES = {
    "flowmusic": "music",
    "mureka": "music/create",
    "mureka/speech": "speech",
    "tempolor": "music/song",
    "acemusic": "music",
    "minimax": "videos/create",
    "minimax/images": "images/create",
    "minimax/music": "music/create",
    "minimax/agent": "agent",
    "minimax/audio": "speech/create",
    "minimax/llm": "llm",
    "kling": "videos/text2video",
    "runwayml": "videos/create",
    "pixverse": "videos/create",
    "dreamina": "videos",
    "muse": "jobs/video",
    "luma": "videos",
    "faceswap": "picsi",
    "google-flow": "videos",
    "google-vids": "videos",
    "gemini-notebook": "artifacts",
    "riffusion": "music/create-prompt",
    "ltxstudio": "images/flux-create",
    "midjourney": "jobs/imagine",
    "midjourney/images": "images/create",
    "midjourney/videos": "videos/create",
    "midjourney-v2": "jobs/imagine",
    "pika": "create",
}
"""Row key -> path below the service's own. Of Midjourney's kinds no page shows one."""

_ASKED = {
    "tempolor": "music/{}",
    "minimax": "videos/{}",
    "minimax/images": "images/{}",
    "minimax/music": "music/{}",
    "minimax/agent": "agent/{}",
    "minimax/audio": "speech/{}",
    "minimax/llm": "llm/{}",
    "kling": "tasks/{}?email={account}",
    "runwayml": "tasks/{}",
    "pixverse": "videos/{}",
    "dreamina": "videos/{}",
    "faceswap": "jobs/?jobid={}",
    "riffusion": "music/?id={}&user_id={account}",
    "ltxstudio": "assets/{}",
    "midjourney-v2": "jobs/?jobid={}",
    "pika": "jobs/?jobid={}",
}


def create_path(key):
    """Return the path of a create of that kind; a service that is in no table takes any."""
    return CREATES.get(key, "make")


def status_path(key, job, account):
    """Return the path, and query, that tell of a job."""
    return _ASKED.get(key, "jobs/{}").format(quote(job, safe=""), account=quote(account, safe=""))
