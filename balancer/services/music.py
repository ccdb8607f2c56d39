"""Music and speech, one row a service. Pages are those of the vendor's documentation."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import CREDITS, DOCS, DONE, ends
from balancer.services.schema import JobsEndpoint, Service

# get-flowmusic-accounts, get-flowmusic-jobs, post-flowmusic-music. Idle accounts are absent from the list.
_FLOWMUSIC = Service(
    key="flowmusic",
    path="/v1/flowmusic",
    strings=("tier", "subscription_plan"),
    load=JobsEndpoint(path="jobs", rows=("*.jobs",), job=("jobid",)),
    job_id=("jobid",),
    final=DONE,
    rules=CREDITS,
    docs=DOCS + "flowmusic-v1",
)

# get-mureka-accounts, get-mureka-jobs, post-mureka-music-create. No maxJobs: up to 10 at once per account.
# availableAccounts lists every account, busy or not. Music and speech are counted apart: the letter
# behind the number of a job id tells which it is.
_MUREKA_LOAD = JobsEndpoint(path="jobs", rows=("accounts.*.jobs",), job=("jobid",), only=r"^(?!j\d+t-)")
_MUREKA = Service(
    key="mureka",
    path="/v1/mureka",
    selector="account",
    selector_required=True,
    capacity=None,
    default_capacity=10,
    load=_MUREKA_LOAD,
    job_id=("jobid",),
    final=DONE,
    rules=CREDITS,
    docs=DOCS + "mureka-v1",
)
_MUREKA_SPEECH = replace(_MUREKA, key="mureka/speech", load=replace(_MUREKA_LOAD, only=r"^j\d+t-"))

# get-tempolor-scheduler, post-tempolor-accounts, get-tempolor-music-job_id. The vendor's script reads
# ``jobs`` of a create, the older page shows ``job_id``.
_TEMPOLOR = Service(
    key="tempolor",
    path="/v1/tempolor",
    selector="user_id",
    default_capacity=10,
    max_jobs="maxJobs",
    reply_ref=True,
    load=JobsEndpoint(path="scheduler", job=("job_id",), account_in_id=r"-tempolor:(.+)-job:"),
    job_id=("jobs", "job_id"),
    final=ends(status_final=True),
    docs=DOCS + "tempolor-v1",
)

# One flat list of jobs, to be counted by email.
_ACEMUSIC = Service(
    key="acemusic",
    path="/v1/acemusic",
    default_capacity=4,
    strings=("plan",),
    load=JobsEndpoint(path="jobs", rows=("jobs",), job=("jobid",), account=("email",)),
    job_id=("jobid",),
    final=DONE,
    docs=DOCS + "acemusic-v1",
)

ROWS = (_FLOWMUSIC, _MUREKA, _MUREKA_SPEECH, _TEMPOLOR, _ACEMUSIC)
