"""Music and speech, one row a service. Pages are those of the vendor's documentation."""

from __future__ import annotations

from dataclasses import replace

from balancer.services.common import COMPLETED, CREDITS, DOCS, DONE, JOBS, ends
from balancer.services.schema import CancelEndpoint, JobsEndpoint, Service, StatusEndpoint

# get-flowmusic-accounts, get-flowmusic-jobs, post-flowmusic-music; collection of July 2026, script of
# 19 July 2026. Idle accounts are absent from the list. A deleted job frees its slot and stays paid.
_FLOWMUSIC = Service(
    key="flowmusic",
    path="/v1/flowmusic",
    strings=("tier", "subscription_plan"),
    load=JobsEndpoint(path="jobs", rows=("*.jobs",), job=("jobid",)),
    job_id=("jobid",),
    final=DONE,
    rules=CREDITS,
    creates=("music", "music/edit"),
    slotless=("music/lyrics", "files", "files/generate"),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    cancel=CancelEndpoint(path="jobs/{job}"),
    results=("clips.*.wav_url", "clips.*.audio_url"),
    assets=("clip", "refImage*", "refAudio*"),
    account_in_asset=r"\buser:\d+-(.+)-[a-z]+:",
    docs=DOCS + "flowmusic-v1",
    checked="pages of June, collection and script of July 2026",
)

# get-mureka-accounts, get-mureka-jobs, post-mureka-music-create. No maxJobs: up to 10 at once per account.
# availableAccounts lists every account, busy or not. Music and speech are counted apart: the letter
# behind the number of a job id tells which it is. post-mureka-speech: unless asked for otherwise, it is
# answered when it is made.
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
    creates=("music/create*", "music/extend", "music/regenerate"),
    slotless=(
        "music/lyrics-generate",
        "music/video-generate",
        "music/download",
        "files",
        "files/*",
        "speech/voice",
    ),
    inline=("songs",),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 15.0),
    results=("response.songs.*.mp3_url", "songs.*.mp3_url"),
    assets=("song_id", "ref_id", "vocal_id", "motif_id"),
    account_in_asset=r"-mureka:(\d+)-|-a(\d+)-bot:",
    docs=DOCS + "mureka-v1",
    checked="pages of January, script of June, collection of July 2026",
)
_MUREKA_SPEECH = replace(
    _MUREKA,
    key="mureka/speech",
    load=replace(_MUREKA_LOAD, only=r"^j\d+t-"),
    creates=("speech",),
    inline=("mp3_url",),
    results=("response.mp3_url", "mp3_url"),
    checked="pages of January, collection of July 2026; where a job asked for later has it is assumed",
)

# get-tempolor-scheduler, post-tempolor-accounts, get-tempolor-music-job_id. The vendor's script reads
# ``jobs`` of a create, the older page shows ``job_id``. For its first ten minutes a job may be one that the
# site does not know: 404 is no end.
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
    creates=("music/song", "music/instrumental"),
    slotless=("music/stems-splitter", "music/cloned-voices", "music/midi"),
    status=(StatusEndpoint(path="music/{job}", missing="running"),),
    succeeded=ends(status_name="COMPLETED"),
    poll=(5.0, 15.0),
    results=("job_id",),
    download="music/download/{id}",
    assets=("clonedVoiceItemId", "midiItemId"),
    account_in_asset=r"-tempolor:(.+)-[a-z]+:",
    docs=DOCS + "tempolor-v1",
    checked="pages of May 2025, collection of July, tools page of November 2026",
)

# One flat list of jobs, to be counted by email. get-acemusic-jobs-jobid, 14 November 2026; where the songs
# stand in it is assumed.
_ACEMUSIC = Service(
    key="acemusic",
    path="/v1/acemusic",
    default_capacity=4,
    strings=("plan",),
    load=JobsEndpoint(path="jobs", rows=("jobs",), job=("jobid",), account=("email",)),
    job_id=("jobid",),
    final=DONE,
    creates=("music", "music/stems"),
    slotless=("files",),
    status=JOBS,
    succeeded=COMPLETED,
    poll=(5.0, 10.0),
    results=("songs.*.audioUrl", "result.songs.*.audioUrl"),
    account_in_asset=r"\buser:\d+-(.+)-[a-z]+:",
    docs=DOCS + "acemusic-v1",
    checked="pages of November 2026; where songs stand in a job is assumed",
)

ROWS = (_FLOWMUSIC, _MUREKA, _MUREKA_SPEECH, _TEMPOLOR, _ACEMUSIC)
