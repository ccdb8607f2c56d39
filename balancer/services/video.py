"""Video and images, one row a service. Pages are those of the vendor's documentation."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import DOCS, DONE, ends
from balancer.services.schema import JobsEndpoint, Service, VerdictRule

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
    docs=DOCS + "minimax-v1",
)

# The server does not choose an account for images, agents, music, speech and chat. All but chat are listed.
# post-minimax-music-create: one generation an account, of up to three songs, those of the website included.
# post-minimax-speech-create: maxJobs does not apply, and no page states a ceiling.
_BESIDE_VIDEO = replace(
    _MINIMAX, selector_required=True, max_jobs=None, load=None, job_id=("jobid", "jobId", "job_id")
)
_MINIMAX_KINDS = (
    replace(
        _BESIDE_VIDEO,
        key="minimax/images",
        load=replace(_MINIMAX_LOAD, only=r"-image:"),
        job_id=("imageId",),
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/agent",
        load=JobsEndpoint(path="agent/jobs", rows=("executing.*",), job=("jobId",)),
        reply_ref=False,
        final=DONE,
    ),
    replace(
        _BESIDE_VIDEO,
        key="minimax/music",
        capacity=None,
        default_capacity=1,
        load=replace(_MINIMAX_LOAD, only=r"-music:"),
        reply_ref=False,
        job_id=("musicId",),
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
    ),
    replace(_BESIDE_VIDEO, key="minimax/llm", reply_ref=False),
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
    docs=DOCS + "kling-v1",
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
    docs=DOCS + "runwayml-v1",
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
    docs=DOCS + "pixverse-v2",
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
    docs=DOCS + "dreamina-v1",
)

# get-muse-accounts, get-muse-jobs, post-muse-accounts. 412 is the week's allowance of that account.
_MUSE = Service(
    key="muse",
    path="/v1/muse",
    default_capacity=2,
    load=JobsEndpoint(path="jobs", rows=("running",), job=("jobid",), account=("email",)),
    job_id=("jobid",),
    final=DONE,
    docs=DOCS + "muse-v1",
)

# get-luma-accounts, get-luma-jobs, post-luma-videos. The plan sets ``concurrency``. Its pages are of April
# 2026, and the index of July does not name it: taken for alive.
_LUMA = Service(
    key="luma",
    path="/v1/luma",
    capacity="concurrency",
    load=JobsEndpoint(
        path="jobs", rows=("jobs",), job=("jobid",), account=("account",), account_in_id=r"-email:([^:]+):"
    ),
    job_id=("jobid",),
    final=DONE,
    docs=DOCS + "luma-v1",
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
    final=DONE,
    docs=DOCS + "faceswap-v1",
)

ROWS = (_MINIMAX, *_MINIMAX_KINDS, _KLING, _RUNWAYML, _PIXVERSE, _DREAMINA, _MUSE, _LUMA, _FACESWAP)
