"""Google's three, one row a service. Pages are those of the vendor's documentation."""

from __future__ import annotations

from balancer.services.common import COMPLETED, CREDITS, DOCS, DONE, JOBS
from balancer.services.schema import JobsEndpoint, Service, VerdictRule

# get-google-flow-jobs, with its quarantine table; collection and scripts of June and July 2026. Images are
# answered when they are made, unless asked for otherwise. No maxJobs. A 403 for captcha is worth another
# account; one for a model is about that model there. The summary counts also what the list does not name.
# post-google-flow-images-upscale: its answer is the image itself, and no job.
_GOOGLE_FLOW = Service(
    key="google-flow",
    path="/v1/google-flow",
    capacity=None,
    load=JobsEndpoint(
        path="jobs/?options=executing",
        rows=("videos.executing.#", "images.executing.#"),
        account=("email",),
        account_in_id=r"-email:(.+)-bot:",
        counts="combined.summary.*.executing",
    ),
    job_id=("jobid", "jobId"),
    final=DONE,
    rules=(
        VerdictRule(status=429, verdict="BUSY", match=r"no_eligible_account", pool_wide=True),
        VerdictRule(
            status=429,
            verdict="EXHAUSTED",
            match=r"PER_MODEL_DAILY_QUOTA_REACHED",
            scoped=True,
            until="utc-midnight",
        ),
        VerdictRule(status=429, verdict="EXHAUSTED", match=r"USER_QUOTA_REACHED", seconds=1800),
        VerdictRule(
            status=429, verdict="BUSY", match=r"USER_REQUESTS_THROTTLED", seconds=1800, teaches=False
        ),
        VerdictRule(
            status=429, verdict="BUSY", match=r"UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC", seconds=60, teaches=False
        ),
        *CREDITS,
        VerdictRule(status=403, verdict="BUSY", match=r"captcha_quality"),
        VerdictRule(status=403, verdict="EXHAUSTED", match=r"MODEL_ACCESS_DENIED", scoped=True),
        VerdictRule(status=503, verdict="BUSY", match=r'"status":\s*"UNAVAILABLE"'),
    ),
    creates=("images", "images/upscale", "videos", "videos/upscale", "videos/extend"),
    slotless=("assets/*", "voices", "characters", "videos/gif", "videos/concatenate"),
    inline=("media", "encodedImage"),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    results=(
        "response.media.*.videoUrl",
        "response.media.*.image.generatedImage.fifeUrl",
        "media.*.videoUrl",
        "media.*.image.generatedImage.fifeUrl",
    ),
    assets=(
        "startImage",
        "endImage",
        "reference*_*",
        "character_*",
        "voice",
        "imageReference_*",
        "mediaGenerationId",
    ),
    account_in_asset=r"\buser:\d+-email:(?P<hex>(?:[0-9a-f]{2})+)-[a-z]+:|-email:(.+)-bot:",
    docs=DOCS + "google-flow-v1",
    checked="collection and scripts of June and July 2026",
)

# get-google-vids-accounts, get-google-vids-jobs, get-google-vids-jobs-jobid and -media-mediaId of 7 October
# 2026: a result is fetched through the API. Avatars are saved while one waits, and are no jobs.
# 429 is the month's allowance or a busy minute; 403 a plan without this kind; 596 without "re-add" is being
# checked again and may be over in a minute.
_GOOGLE_VIDS = Service(
    key="google-vids",
    path="/v1/google-vids",
    load=JobsEndpoint(path="jobs", rows=("running",), job=("jobid",), account=("email",)),
    job_id=("jobid",),
    final=DONE,
    rules=(
        VerdictRule(status=429, verdict="EXHAUSTED", match=r"left this month|resets at|allowance"),
        VerdictRule(status=429, verdict="BUSY", seconds=60, teaches=False),
        VerdictRule(status=403, verdict="EXHAUSTED", match=r"allowance|\bplan\b", scoped=True),
        VerdictRule(status=596, verdict="BROKEN", match=r"re-?add"),
        VerdictRule(status=596, verdict="BROKEN", seconds=60),
    ),
    creates=("videos", "videos/extend", "videos/upscale", "videos/edit", "images"),
    slotless=("avatars", "assets", "assets/*"),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 10.0),
    results=("result.mediaId",),
    download="media/{id}",
    assets=("mediaId", "image", "avatar_*", "referenceImage_*"),
    account_in_asset=r"\buser:\d+-(.+)-[a-z]+:",
    docs=DOCS + "google-vids-v1",
    checked="pages and script of October 2026",
)

# The account list may be a minute old, the job list is never cached. What its rows look like is not
# shown; the numbers beside them count where there are more than rows. 429 is "busy or out of usage": its
# words are not published, so a pause of more than ten minutes tells as well. Scripts and a recorded job of
# October 2026: notebooks and sources take no slot.
_GEMINI_NOTEBOOK = Service(
    key="gemini-notebook",
    path="/v1/gemini-notebook",
    strings=("tier",),
    load=JobsEndpoint(path="jobs", rows=("accounts.*.jobs",), counts="accounts.*.running"),
    final=DONE,
    rules=(
        VerdictRule(status=429, verdict="EXHAUSTED", match=r"out of usage"),
        VerdictRule(status=429, verdict="EXHAUSTED", longer=600),
    ),
    creates=("artifacts", "artifacts/retry", "research"),
    slotless=("notebooks", "sources", "sources/*", "research/import"),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    results=("result.files.*.url",),
    assets=("notebook", "artifact", "source"),
    account_in_asset=r"\buser:\d+-(.+)-[a-z]+:",
    docs=DOCS + "gemini-notebook-v1",
    checked="a recorded job of September, scripts of October 2026",
)

ROWS = (_GOOGLE_FLOW, _GOOGLE_VIDS, _GEMINI_NOTEBOOK)
