"""The form of each service's bodies: one table, from what the vendor documents.

A value is what a service answers about a job (its id, the answer to its create, its status) and the
paths at which it lists what runs. What no page tells follows the services of the same make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from balancer.clock import Clock
from balancer.services.schema import Service
from balancer.testing import lists
from balancer.testing.described import described
from balancer.testing.jobs import Job
from balancer.testing.lists import Listing, Part
from balancer.testing.statuses import accepted, by_row, by_words, flowmusic, kling, mureka, riffusion
from balancer.testing.views import Seen, look

Body = Callable[[Seen], Any]
_NEWER = "j{n}{letter}-u1234-email:{account}-bot:{service}"
_DISCORD = "job:{n:017}-user:1234-channel:{account}-bot:{service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one service, or one kind of job of it, talks."""

    id: str = _NEWER
    """Template of its job ids; ``{n}`` counts, ``{uuid}`` and ``{hex}`` are drawn."""
    letter: str = "v"
    """What stands for the kind of job in ids of the newer make."""
    code: int = 201
    """Status of the answer to a create."""
    create: Body = accepted
    status: Body = field(default_factory=lambda: by_words("status", "started", "completed", "failed"))
    lists: Mapping[str, Listing] = field(default_factory=dict)
    """Path below the site's -> what it answers."""
    poll_404: bool = False
    """A job that still runs is answered 404."""
    max_jobs: tuple[int, int] = (1, 50)
    """Valid range of a request's own ``maxJobs``."""

    def job_id(self, service: str, account: str, number: int, rng: random.Random) -> str:
        """Return a new job's id."""
        digits = f"{rng.getrandbits(128):032x}"
        uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
        return self.id.format(
            n=number,
            uuid=uuid,
            hex=digits[:7] + str(number),
            account=account,
            service=service,
            letter=self.letter,
        )


def _scheduler(*parts: Part, kinds: tuple[str, ...] = ("",)) -> dict[str, Listing]:
    return {
        "scheduler": lists.scheduler(*parts, kinds=kinds),
        "scheduler/available": lists.available(*parts, kinds=kinds),
    }


_FINAL_FLAG = by_words("statusFinal", False, True, True)
_BESIDE = Shape(id="p{n}-u1234-a{account}-bot:minimax", code=200)
_MIDJOURNEY = Shape(
    id="j{n}{letter}-u1234-c{account}-bot:midjourney",
    letter="i",
    create=lambda seen: {"jobId": seen.id, "channel": seen.account, "status": "created"},
    lists={"jobs": lists.midjourney},
)

SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "riffusion": Shape(
            id="{uuid}",
            code=200,
            create=lambda seen: {"job_id": seen.id, "user_id": seen.account},
            status=riffusion,
            lists=_scheduler(lists.field("job_id"), lists.account, lists.timing),
            max_jobs=(1, 10),
        ),
        "flowmusic": Shape(
            id="job:{uuid}-user:1234-{account}-bot:flowmusic",
            create=flowmusic,
            status=flowmusic,
            lists={"jobs": lists.flowmusic},
        ),
        "mureka": Shape(
            id="j{n}m-u1234-a{account}-bot:mureka", create=mureka, status=mureka, lists={"jobs": lists.mureka}
        ),
        "mureka/speech": Shape(id="j{n}t-u1234-a{account}-bot:mureka", create=mureka, status=mureka),
        "minimax": Shape(
            id="user:1234-minimax:{account}-video:{n}",
            code=200,
            create=lambda seen: {"videoId": seen.id},
            status=_FINAL_FLAG,
            lists=_scheduler(lists.minimax_id, lists.timing, kinds=("", "images", "music", "audio"))
            | {"agent/jobs": lists.minimax_agent},
            max_jobs=(1, 10),
        ),
        "minimax/images": Shape(
            id="user:1234-minimax:{account}-image:{n}",
            code=200,
            create=lambda seen: {"imageId": seen.id},
            status=_FINAL_FLAG,
        ),
        "minimax/agent": _BESIDE,
        "minimax/music": Shape(
            id="user:1234-minimax:{account}-music:{n}",
            code=200,
            create=lambda seen: {"musicId": seen.id},
            status=_FINAL_FLAG,
        ),
        "minimax/audio": Shape(
            id="user:1234-minimax:{account}-audio:{n}",
            create=lambda seen: {"audioId": seen.id},
            status=_FINAL_FLAG,
        ),
        "minimax/llm": replace(_BESIDE, status=_FINAL_FLAG),
        "kling": Shape(
            id="{n}",
            code=200,
            create=kling,
            status=kling,
            lists=_scheduler(lists.number, lists.account, lists.timing),
        ),
        "runwayml": Shape(
            id="user:1234-runwayml:{account}-task:{uuid}",
            code=200,
            create=lambda seen: {"taskId": seen.id, "status": "PENDING"},
            status=by_words("status", "RUNNING", "SUCCEEDED", "FAILED"),
            lists={"scheduler": lists.scheduler(lists.field("taskId"))},
            max_jobs=(1, 10),
        ),
        "pixverse": Shape(
            id="user:1234-pixverse:{account}-video:{n}",
            code=200,
            create=lambda seen: {"video_id": seen.id},
            status=by_words("video_status_final", False, True, True),
            lists=_scheduler(lists.field("id"), lists.video, lists.timing),
            poll_404=True,
            max_jobs=(1, 8),
        ),
        "tempolor": Shape(
            id="user:1234-tempolor:{account}-job:{hex}",
            code=200,
            create=lambda seen: {
                "job_id": seen.id,
                "status": 0,
                "status_name": "GENERATING",
                "status_final": False,
            },
            status=by_words("status_final", False, True, True),
            lists=_scheduler(lists.field("job_id"), lists.timing),
        ),
        "dreamina": Shape(
            id="j{n}v-u1234-{account}-bot:dreamina", code=200, lists={"scheduler": lists.dreamina}
        ),
        "google-flow": Shape(lists={"jobs": lists.google_flow}),
        "google-vids": Shape(lists={"jobs": lists.running}),
        "gemini-notebook": Shape(letter="n", lists={"jobs": lists.gemini_notebook}),
        "muse": Shape(id="j{n}i-u1234-email:{account}:{uuid}-bot:muse", lists={"jobs": lists.running}),
        "acemusic": Shape(letter="m", lists={"jobs": lists.acemusic}),
        "ltxstudio": Shape(
            id="user:1234-ltxstudio:{account}-job:{uuid}",
            code=200,
            lists=_scheduler(lists.field("jobid"), lists.account, lists.timing),
            max_jobs=(1, 100),
        ),
        "midjourney": _MIDJOURNEY,
        "midjourney/videos": replace(_MIDJOURNEY, letter="v"),
        "midjourney-v2": Shape(id=_DISCORD, code=200, lists={"jobs": lists.bare_ids}, max_jobs=(1, 15)),
        "faceswap": Shape(id=_DISCORD, code=200),
        "pika": Shape(id=_DISCORD, code=200, lists={"jobs": lists.bare_ids}, max_jobs=(1, 10)),
    }
)
"""Row key -> its form. A kind without one of its own speaks as its site does."""

_PLAIN = Shape(status=by_row)


def shape_of(service: str) -> Shape:
    """Return the form of a row, by its key."""
    return SHAPES.get(service) or SHAPES.get(service.partition("/")[0]) or _PLAIN


def lists_of(row: Service) -> Mapping[str, Listing]:
    """Return path -> what a site's lists of running jobs answer, by its row."""
    if row.load is None:
        return {}
    return shape_of(row.key).lists or {row.load.path.partition("?")[0]: described(row.load)}


def told(job: Job, clock: Clock, status: str | None = None) -> Any:
    """Return the status body of ``job``, of now or of the given status."""
    return shape_of(job.service).status(look(job, status or job.status(clock.now()), clock))
