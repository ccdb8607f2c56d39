"""Services that are no more, or are documented no more: for data that still names them, and as examples."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import DOCS, DONE, ends
from balancer.services.schema import JobsEndpoint, Service

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
    docs=DOCS + "riffusion-v1",
)

# get-ltxstudio-accounts, get-ltxstudio-scheduler-available. What a listed job looks like is not shown.
_LTXSTUDIO = Service(
    key="ltxstudio",
    path="/v1/ltxstudio",
    selector_required=True,
    default_capacity=20,
    max_jobs="maxJobs",
    load=JobsEndpoint(path="scheduler/available", rows=("executing",), account=("email",), covers=False),
    final=DONE,
    retired="retired by March 2026",
    docs=DOCS + "ltxstudio-v1",
)

# get-midjourney-jobs, setup-multiple-midjourney-accounts. Images and videos have maxima of their own;
# the letter behind the number of a job id tells which it is.
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
    docs=DOCS + "midjourney-v3",
)
_MIDJOURNEY_IMAGES = replace(
    _MIDJOURNEY,
    key="midjourney/images",
    capacity="maxImageJobs",
    load=replace(_MIDJOURNEY_LOAD, only=r"^j\d+i-"),
)
_MIDJOURNEY_VIDEOS = replace(
    _MIDJOURNEY,
    key="midjourney/videos",
    capacity="maxVideoJobs",
    load=replace(_MIDJOURNEY_LOAD, only=r"^j\d+v-"),
)

# The OpenAPI text of version 2: the list is bare job ids with the channel inside.
_MIDJOURNEY_V2 = replace(
    _MIDJOURNEY,
    key="midjourney-v2",
    path="/v2",
    accounts="account/midjourney",
    default_capacity=3,
    max_jobs="maxJobs",
    load=JobsEndpoint(path="jobs", account_in_id=r"-channel:(\d+)"),
    docs=DOCS + "midjourney-v2",
)

# A request that names the channel must bring its ``discord`` token as well.
_PIKA = Service(
    key="pika",
    path="/v1/pika",
    accounts="account",
    selector="channel",
    max_jobs="maxJobs",
    load=JobsEndpoint(path="jobs", account_in_id=r"-channel:(\d+)"),
    final=ends(status=("completed", "moderated", "failed")),
    retired="not in the vendor's index since 2026",
    docs=DOCS + "pika-v1",
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
