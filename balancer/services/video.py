"""Video and images, one row a service. Pages are those of the vendor's documentation."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import (
    COMPLETED,
    DISCORD_CANCEL,
    DISCORD_ENDS,
    DISCORD_JOBS,
    DOCS,
    DONE,
    JOBS,
    ends,
)
from balancer.services.schema import CancelEndpoint, JobsEndpoint, Service, StatusEndpoint, VerdictRule

# get-minimax-accounts, get-minimax-scheduler-available, post-minimax-accounts. Its available[]
# counts videos only. 596 is a hold of a few hours. Accounts differ: see supportVideo and its like.
_MINIMAX_LOAD = JobsEndpoint(
    path="scheduler/available",
    rows=("executing",),
    job=("videoId", "imageId", "musicId", "audioId"),
    account_in_id=r"-minimax:([^:]+)-[a-z]+:",
    only=r"^(?!.*-(?:image|music|audio):)",
)
_MINIMAX = Service(
    key="minimax",
    path="/v1/minimax",
    selector="account",
    max_jobs="maxJobs",
    reply_ref=True,
    load=_MINIMAX_LOAD,
    job_id=("videoId",),
    final=ends(statusFinal=True),
    rules=(VerdictRule(status=596, verdict="BROKEN", match=r"\bhold\b", seconds=3 * 3600),),
    creates=("videos/create", "videos/agent-create"),
    slotless=("videos/cancel", "files", "audio/upload-sample", "audio/create-stream", "audio/voices/*"),
    status=(StatusEndpoint(path="videos/{job}", missing="failed"),),
    succeeded=ends(statusLabel="completed", status=2),
    poll=(10.0, 30.0),
    cancel=CancelEndpoint(path="videos/cancel", method="POST", field="videoId"),
    results=("downloadURL", "videoURL"),
    assets=("*[fF]ileI[dD]*",),
    account_in_asset=r"-minimax:(.+)-[a-z]+:|-a(\d+)-bot:minimax",
    docs=DOCS + "minimax-v1",
    checked="page of September 2024, script of June, collection of July 2026",
)

# The server does not choose an account for images, agents, music, speech and chat. All but chat are listed.
# post-minimax-music-create: one generation an account, of up to three songs, those of the website included.
# post-minimax-speech-create: maxJobs does not apply, and no page states a ceiling.
# post-minimax-llm: up to five chats at once an account.
_BESIDE_VIDEO = replace(
    _MINIMAX,
    selector_required=True,
    max_jobs=None,
    load=None,
    job_id=("jobid", "jobId", "job_id"),
    creates=(),
    slotless=(),
    cancel=None,
)
_MINIMAX_KINDS = (
    replace(
        _BESIDE_VIDEO,
        key="minimax/images",
        load=replace(_MINIMAX_LOAD, only=r"-image:"),
        job_id=("imageId",),
        creates=("images/create",),
        status=(StatusEndpoint(path="images/{job}", missing="failed"),),
        results=("downloadURL", "imageURL"),
        checked="collection of July 2026; that they are answered as videos are is assumed",
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/agent",
        load=JobsEndpoint(path="agent/jobs", rows=("executing.*",), job=("jobId",)),
        reply_ref=False,
        final=DONE,
        creates=("agent",),
        status=(StatusEndpoint(path="agent/{job}"),),
        succeeded=COMPLETED,
        results=(),
        checked="collection of July 2026; no page shows a finished one",
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/music",
        capacity=None,
        default_capacity=1,
        load=replace(_MINIMAX_LOAD, only=r"-music:"),
        reply_ref=False,
        job_id=("musicId",),
        creates=("music/create",),
        status=(StatusEndpoint(path="music/{job}"),),
        succeeded=ends(statusLabel="completed"),
        poll=(10.0, 15.0),
        results=("audio_url",),
        checked="tools page of November 2026; that songs are asked for as speech is is assumed",
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/audio",
        capacity=None,
        default_capacity=10,
        assumed=True,
        load=replace(_MINIMAX_LOAD, only=r"-audio:"),
        reply_ref=False,
        job_id=("audioId",),
        creates=("speech/create",),
        status=(StatusEndpoint(path="speech/{job}"),),
        succeeded=ends(statusLabel="completed"),
        poll=(2.0, 5.0),
        results=("audio_url",),
        checked="script of August 2026",
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/llm",
        capacity=None,
        default_capacity=5,
        reply_ref=False,
        creates=("llm",),
        status=(StatusEndpoint(path="llm/{job}"),),
        results=(),
        checked="page of March 2025, collection of July 2026; how a chat is answered is not known",
    ),
)

# get-kling-accounts, get-kling-scheduler, get-kling-tasks-task_id. Task ids are numbers. A create is
# answered 500 for moderation (and for faults): the same prompt must not travel on. Four creates declare
# neither maxJobs nor replyRef.
_KLING = Service(
    key="kling",
    path="/v1/kling",
    selector_required=True,
    max_jobs="maxJobs",
    reply_ref=True,
    load=JobsEndpoint(path="scheduler", job=("id",), account=("email",)),
    job_id=("task.id",),
    final=ends(status_final=True),
    plain=("omni", "motion-create", "tts", "add-sound"),
    rules=(VerdictRule(status=500, verdict="REFUSED"),),
    creates=(
        "videos/text2video",
        "videos/image2video-*",
        "videos/extend",
        "videos/lipsync",
        "videos/motion-create",
        "videos/add-sound",
        "videos/omni",
        "images/virtual-try-on",
        "images/kolors",
        "images/kolors-elements",
        "images/upscale",
        "images/omni",
        "avatars/video",
        "tts/create",
    ),
    slotless=("assets", "avatars", "elements", "videos/motion-upload", "images/recognize-faces"),
    status=(StatusEndpoint(path="tasks/{job}?email={account}", missing="failed"),),
    succeeded=ends(status_name="succeed"),
    poll=(10.0, 20.0),
    results=("works.*.resource.resource",),
    docs=DOCS + "kling-v1",
    checked="script of June, collection of July 2026",
)

# get-runwayml-accounts, get-runwayml-scheduler. Only the task id tells the account. A 401 that speaks
# of a password or a suspension is about that account, not about the API token.
_RUNWAYML = Service(
    key="runwayml",
    path="/v1/runwayml",
    max_jobs="maxJobs",
    reply_ref=True,
    load=JobsEndpoint(path="scheduler", job=("taskId",), account_in_id=r"-runwayml:(.+)-task:"),
    job_id=("taskId", "task.taskId"),
    final=ends(status=("SUCCEEDED", "FAILED")),
    rules=(VerdictRule(status=401, verdict="BROKEN", match=r"username/password|account has been suspended"),),
    creates=(
        "*/create",
        "videos/upscale",
        "gen*/upscale",
        "gen*/video",
        "gen*/extend",
        "gen*/expand",
        "gen*/actone",
        "gen*/act-two",
        "gen*/act-two-voice",
    ),
    slotless=("assets", "super_slow_motion"),
    status=(StatusEndpoint(path="tasks/{job}"),),
    succeeded=ends(status="SUCCEEDED"),
    poll=(10.0, 20.0),
    results=("artifacts.*.url",),
    assets=("*[aA]ssetId*",),
    account_in_asset=r"-runwayml:(.+)-[a-z]+:",
    docs=DOCS + "runwayml-v1",
    checked="scripts of June, collection of July, tools page of November 2026",
)

# get-pixverse-accounts, get-pixverse-scheduler: rows carried video_id before they carried id. Its 404 for
# a video that is still being made belongs to polling; a create never answers so. One list has all kinds,
# but no off-peak job, and no id tells which those are: so nothing is called missing.
_PIXVERSE = Service(
    key="pixverse",
    path="/v2/pixverse",
    max_jobs="maxJobs",
    reply_ref=True,
    load=JobsEndpoint(
        path="scheduler", job=("id", "video_id"), account_in_id=r"-pixverse:([^:]+)-[a-z]+:", covers=False
    ),
    job_id=("video_id", "image_id", "audio_id"),
    final=ends(video_status_final=True, image_status_final=True, audio_status_final=True),
    creates=(
        "videos/create",
        "videos/create-*",
        "videos/motion-control",
        "videos/extend",
        "videos/modify",
        "videos/restyle",
        "videos/upscale",
        "videos/lipsync",
        "images/create",
        "music/create",
        "speech/create",
    ),
    slotless=("files",),
    status=(
        StatusEndpoint(path="images/{job}", only=r"-image:", missing="running"),
        StatusEndpoint(path="music/{job}", only=r"-music:", missing="running"),
        StatusEndpoint(path="speech/{job}", only=r"-speech:", missing="running"),
        StatusEndpoint(path="videos/{job}", missing="running"),
    ),
    succeeded=ends(
        video_status_name="COMPLETED", image_status_name="COMPLETED", audio_status_name="COMPLETED"
    ),
    poll=(10.0, 15.0),
    results=("url", "image_url"),
    assets=("*_path", "*_path_*", "video_id"),
    account_in_asset=r"-pixverse:(.+)-[a-z]+:",
    docs=DOCS + "pixverse-v2",
    checked="scripts and collection of June, tools page of November 2026",
)

# post-dreamina-accounts, get-dreamina-accounts-account, get-dreamina-scheduler. An account id is
# REGION:email, and regions have different models. 402 is the subscription or the credits: its text tells.
_DREAMINA = Service(
    key="dreamina",
    path="/v1/dreamina",
    selector="account",
    default_capacity=10,
    max_jobs="maxJobs",
    strings=("region",),
    load=JobsEndpoint(path="scheduler", rows=("executing.*",), job=("jobid",)),
    job_id=("jobid",),
    final=DONE,
    creates=("videos", "videos/upscale", "videos/interpolate", "images", "images/upscale"),
    slotless=("assets/*",),
    status=(StatusEndpoint(path="images/{job}", only=r"^j\d+i-"), StatusEndpoint(path="videos/{job}")),
    succeeded=COMPLETED,
    poll=(10.0, 20.0),
    results=("response.videoUrl", "response.videoUrlWatermarked", "response.images.*.imageUrl"),
    assets=("firstFrameRef", "endFrameRef", "frame_*_imageRef", "imageRef_*", "jobid"),
    account_in_asset=r"\bu(?:ser:)?\d+-([A-Z]{2}:[^:]+?)-[a-z]+:",
    docs=DOCS + "dreamina-v1",
    checked="collection and script of July 2026; how images are answered is assumed",
)

# get-muse-accounts, get-muse-jobs, post-muse-accounts. 412 is the week's allowance of that account.
_MUSE = Service(
    key="muse",
    path="/v1/muse",
    default_capacity=2,
    load=JobsEndpoint(path="jobs", rows=("running",), job=("jobid",), account=("email",)),
    job_id=("jobid",),
    final=DONE,
    creates=("jobs/image", "jobs/video"),
    slotless=("files", "assets"),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 10.0),
    results=("result.files.*.url",),
    assets=("inputs",),
    account_in_asset=r"-email:(.+?)(?:-task)?:[0-9a-f-]{36}-bot:",
    docs=DOCS + "muse-v1",
    checked="pages of October 2026; where files stand in a job is assumed",
)

# get-luma-accounts, get-luma-jobs, post-luma-videos. The plan sets ``concurrency``. Its pages are of April
# 2026, and the index of July does not name it: taken for alive.
_LUMA = Service(
    key="luma",
    path="/v1/luma",
    capacity="concurrency",
    load=JobsEndpoint(
        path="jobs",
        rows=("jobs",),
        job=("jobid",),
        account=("account",),
        account_in_id=r"-email:(.+?)(?:-[a-z]+)?:[0-9a-f-]{36}",
    ),
    job_id=("jobid",),
    final=DONE,
    creates=("videos", "images"),
    slotless=("assets/*",),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    results=("response.video.url", "response.images.*.url"),
    assets=("imageStart", "imageEnd", "imageCharacter", "imageRef*"),
    account_in_asset=r"-email:(.+?)(?:-[a-z]+)?:[0-9a-f-]{36}",
    docs=DOCS + "luma-v1",
    checked="pages of April 2026; how images are answered is assumed",
)

# get-faceswap-account, post-faceswap-listid. A call blocks its channel for its 3 to 10 seconds.
_FACESWAP = Service(
    key="faceswap",
    path="/v1/faceswap",
    accounts="account",
    selector="channel",
    capacity=None,
    default_capacity=1,
    job_id=("jobid",),
    final=DISCORD_ENDS,
    creates=(
        "listid",
        "saveid",
        "setid",
        "swapid",
        "swap",
        "inswapper",
        "picsi",
        "changebg",
        "headshot",
    ),
    status=DISCORD_JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 30.0),
    cancel=DISCORD_CANCEL,
    results=("attachments.*.url",),
    account_in_asset=r"-channel:(\d+)",
    docs=DOCS + "faceswap-v1",
    checked="pages, scripts of June and collection of July 2026",
)

ROWS = (_MINIMAX, *_MINIMAX_KINDS, _KLING, _RUNWAYML, _PIXVERSE, _DREAMINA, _MUSE, _LUMA, _FACESWAP)
