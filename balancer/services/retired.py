"""Services that are no more, or are documented no more: for data that still names them, and as examples."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import COMPLETED, DISCORD_CANCEL, DISCORD_ENDS, DISCORD_JOBS, DOCS, JOBS, ends
from balancer.services.schema import JobsEndpoint, Service, StatusEndpoint

# get-riffusion-accounts, get-riffusion-scheduler, post-riffusion-create-prompt. 429 is either the slot
# queue or the site's own throttle.
_RIFFUSION = Service(
    key="riffusion",
    path="/v1/riffusion",
    selector="user_id",
    max_jobs="maxJobs",
    reply_ref=True,
    load=JobsEndpoint(path="scheduler", job=("job_id",), account=("user_id",)),
    job_id=("job_id", "id"),
    final=ends(status=("completed", "complete", "failed", "fail")),
    retired="decommissioned by its operator in 2025",
    creates=("music/create-prompt", "music/create-compose"),
    slotless=("music/generate-lyrics", "music/generate-image", "music/upload-*"),
    status=(StatusEndpoint(path="music/?id={job}&user_id={account}"),),
    succeeded=ends(status=("completed", "complete")),
    poll=(10.0, 15.0),
    results=("download_url",),
    docs=DOCS + "riffusion-v1",
    checked="pages of April 2025",
)

# get-ltxstudio-accounts, get-ltxstudio-scheduler-available, get-ltxstudio-assets-jobId. What a listed job
# looks like is not shown, nor what a failed one is called.
_LTXSTUDIO = Service(
    key="ltxstudio",
    path="/v1/ltxstudio",
    selector_required=True,
    default_capacity=20,
    max_jobs="maxJobs",
    load=JobsEndpoint(path="scheduler/available", rows=("executing",), account=("email",), covers=False),
    final=ends(**{"status.type": ("completed", "failed")}),
    retired="retired by March 2026",
    creates=("images/*", "videos/*"),
    slotless=("assets",),
    status=(StatusEndpoint(path="assets/{job}"),),
    succeeded=ends(**{"status.type": "completed"}),
    results=("status.artifact.assetUrl",),
    account_in_asset=r"^email:(.+)-[a-z]+:[0-9a-f-]{36}-type:",
    docs=DOCS + "ltxstudio-v1",
    checked="pages of June 2025; the word for failure is assumed",
)

# get-midjourney-jobs, setup-multiple-midjourney-accounts. Images and videos have maxima of their own;
# the letter behind the number of a job id tells which it is. Which paths make videos no page tells.
_MIDJOURNEY_LOAD = JobsEndpoint(
    path="jobs", rows=("channels.*.jobs",), job=("jobId", "jobid"), account=("channel",)
)
_MIDJOURNEY = Service(
    key="midjourney",
    path="/v3/midjourney",
    selector="channel",
    error=("error", "pendingModMessage"),
    load=_MIDJOURNEY_LOAD,
    job_id=("jobid", "jobId"),
    final=ends(status=("completed", "moderated", "failed")),
    retired="discontinued on 24 June 2026",
    creates=("jobs/*",),
    slotless=("accounts/*/reset",),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    results=("response.attachments.*.url",),
    assets=("jobId", "jobid"),
    account_in_asset=r"-c(\d+)-bot:",
    docs=DOCS + "midjourney-v3",
    checked="pages of October 2025, scripts of June 2026",
)
_MIDJOURNEY_IMAGES = replace(
    _MIDJOURNEY,
    key="midjourney/images",
    capacity="maxImageJobs",
    creates=(),
    load=replace(_MIDJOURNEY_LOAD, only=r"^j\d+i-"),
)
_MIDJOURNEY_VIDEOS = replace(
    _MIDJOURNEY,
    key="midjourney/videos",
    capacity="maxVideoJobs",
    creates=(),
    load=replace(_MIDJOURNEY_LOAD, only=r"^j\d+v-"),
)

# The OpenAPI text of version 2: the list is bare job ids with the channel inside. What answers at once
# (info, fast, relax) takes no slot.
_MIDJOURNEY_V2 = replace(
    _MIDJOURNEY,
    key="midjourney-v2",
    path="/v2",
    accounts="account/midjourney",
    default_capacity=3,
    max_jobs="maxJobs",
    load=JobsEndpoint(path="jobs", account_in_id=r"-channel:(\d+)"),
    final=DISCORD_ENDS,
    creates=("jobs/imagine", "jobs/button", "jobs/blend", "jobs/describe"),
    slotless=("jobs/info", "jobs/relax", "jobs/fast", "jobs/turbo", "jobs/variability"),
    status=DISCORD_JOBS,
    poll=(10.0, 30.0),
    cancel=DISCORD_CANCEL,
    results=("attachments.*.url",),
    assets=("jobid",),
    account_in_asset=r"-channel:(\d+)",
    docs=DOCS + "midjourney-v2",
    checked="OpenAPI text and page of September 2025",
)

# A request that names the channel must bring its ``discord`` token as well.
_PIKA = Service(
    key="pika",
    path="/v1/pika",
    accounts="account",
    selector="channel",
    max_jobs="maxJobs",
    load=JobsEndpoint(path="jobs", account_in_id=r"-channel:(\d+)"),
    final=DISCORD_ENDS,
    creates=("create", "animate", "button"),
    status=DISCORD_JOBS,
    succeeded=COMPLETED,
    poll=(10.0, 30.0),
    cancel=DISCORD_CANCEL,
    results=("attachments.*.url",),
    assets=("jobid",),
    account_in_asset=r"-channel:(\d+)",
    retired="not in the vendor's index since 2026",
    docs=DOCS + "pika-v1",
    checked="pages of May 2024; the paths of creates are assumed",
)

ROWS = (
    _RIFFUSION,
    _LTXSTUDIO,
    _MIDJOURNEY,
    _MIDJOURNEY_IMAGES,
    _MIDJOURNEY_VIDEOS,
    _MIDJOURNEY_V2,
    _PIKA,
)
