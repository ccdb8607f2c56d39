"""The form of each service, one table a subject: its jobs, its accounts, its uploads, its refusals.

From what the vendor documents, and what the vendor's own scripts read. What no page tells follows the
services of the same make. The secrets of accounts are made up, and all of them contain :data:`CANARY`: what
looks for it in logs, reprs, errors and stores finds every leak.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from balancer.services.schema import Service
from balancer.testing import bodies
from balancer.testing.bodies import Body, ListBody, accepted, made_by, record
from balancer.testing.faults import Answer, answer
from balancer.testing.state import Configured, Site, TurnedDownError

_NEWER = "j{n}{letter}-u1234-email:{account}-bot:{service}"
_TASK = "j{n}{letter}-u1234-email:{account}-task:{uuid}-bot:{service}"
_NAMED = "user:1234-{account}-job:{uuid}"
_BOT_ID = "job:{n:017}-user:1234-channel:{account}-bot:{bot}"
_LETTERS = MappingProxyType({"video": "v", "image": "i", "music": "m", "speech": "t"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one service, or one kind of job of it, talks."""

    id: str = _NEWER
    """Template of its job ids; ``{n}`` counts, ``{uuid}`` and ``{hex}`` are drawn, ``{kind}`` and
    ``{letter}`` tell what is made."""
    code: int = 201
    """Status of the answer to a create."""
    create: Body = accepted
    status: Body = field(default_factory=record)
    waits: str | None = None
    """Path of the create that is answered when the job has ended, unless it says ``async``."""
    sync: Body = bodies.google_flow_sync
    """Such an answer."""
    lists: Mapping[str, ListBody] = field(default_factory=dict)
    """Path below the site's -> what it answers."""
    poll_404: str | None = None
    """What is made by jobs that are answered 404 while they run."""
    max_jobs: tuple[int, int] = (1, 50)
    """Valid range of a request's own ``maxJobs``."""


def _named(name: str) -> Body:
    return lambda seen: {name: seen.id}


_MIDJOURNEY = Shape(
    id="j{n}i-u1234-c{account}-bot:midjourney",
    create=bodies.midjourney,
    status=bodies.midjourney,
    lists={"jobs": bodies.midjourney_jobs},
)
_BOT = Shape(id=_BOT_ID, code=200, create=bodies.discord, status=bodies.discord)
_PENDING_UNTIL_FINAL = record(
    "pending",
    result=lambda seen: {
        "response": {"images": [{"url": seen.file("1.png")}]}
        if seen.makes == "image"
        else {"video": {"media_type": "video", "url": seen.file("1.mp4")}}
    },
)

SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "riffusion": Shape(
            id="{uuid}",
            code=200,
            create=lambda seen: {"job_id": seen.id, "user_id": seen.account},
            status=bodies.riffusion,
            lists=bodies.schedulers(bodies.id_as("job_id"), bodies.account, bodies.timing),
            max_jobs=(1, 10),
        ),
        "flowmusic": Shape(
            id="job:{uuid}-user:1234-{account}-bot:flowmusic",
            create=bodies.flowmusic,
            status=bodies.flowmusic,
            lists={"jobs": bodies.flowmusic_jobs},
        ),
        "mureka": Shape(
            id="j{n}m-u1234-a{account}-bot:mureka",
            create=bodies.mureka,
            status=bodies.mureka,
            lists={"jobs": bodies.mureka_jobs},
        ),
        "mureka/speech": Shape(
            id="j{n}t-u1234-a{account}-bot:mureka", create=bodies.mureka, status=bodies.mureka
        ),
        "minimax": Shape(
            id="user:1234-minimax:{account}-video:{n}",
            code=200,
            create=_named("videoId"),
            status=bodies.minimax,
            lists={
                **bodies.schedulers(
                    bodies.minimax_id,
                    bodies.timing,
                    kinds=bodies.MINIMAX_KINDS,
                    beside=bodies.minimax_speech,
                ),
                "agent/jobs": bodies.minimax_agent,
            },
            max_jobs=(1, 10),
        ),
        "minimax/images": Shape(
            id="user:1234-minimax:{account}-image:{n}",
            code=200,
            create=_named("imageId"),
            status=bodies.minimax,
        ),
        "minimax/music": Shape(
            id="user:1234-minimax:{account}-music:{n}",
            code=200,
            create=lambda seen: [{"musicId": seen.id}],
            status=bodies.minimax_audio,
        ),
        "minimax/audio": Shape(
            id="user:1234-minimax:{account}-audio:{n}",
            code=201,
            create=_named("audioId"),
            status=bodies.minimax_audio,
        ),
        "minimax/agent": Shape(id="p{n}-u1234-a{account}-bot:minimax", code=200),
        "minimax/llm": Shape(id="c{n}-u1234-a{account}-bot:minimax", code=200, status=bodies.minimax_audio),
        "kling": Shape(
            id="{n}",
            code=200,
            create=bodies.kling_created,
            status=bodies.kling,
            lists=bodies.schedulers(bodies.number, bodies.account, bodies.timing),
        ),
        "runwayml": Shape(
            id="user:1234-runwayml:{account}-task:{uuid}",
            code=200,
            create=lambda seen: {"taskId": seen.id, "status": "PENDING"},
            status=bodies.runwayml,
            lists={"scheduler": bodies.scheduler(bodies.id_as("taskId"))},
            max_jobs=(1, 10),
        ),
        "pixverse": Shape(
            id="user:1234-pixverse:{account}-{kind}:{n}",
            code=200,
            create=lambda seen: {f"{bodies.pixverse_field(seen)}_id": seen.id},
            status=bodies.pixverse,
            lists=bodies.schedulers(bodies.id_as("id"), bodies.kind, bodies.timing),
            poll_404="video",
            max_jobs=(1, 8),
        ),
        "tempolor": Shape(
            id="user:1234-tempolor:{account}-job:{hex}",
            code=200,
            create=lambda seen: {"jobs": [seen.id], "unlimited": False},
            status=bodies.tempolor,
            lists=bodies.schedulers(bodies.id_as("job_id"), bodies.timing),
        ),
        "dreamina": Shape(
            id="j{n}{letter}-u1234-{account}-bot:dreamina",
            code=200,
            status=record(
                result=lambda seen: {
                    "response": {"images": [{"imageUrl": seen.file("1.png")}]}
                    if seen.makes == "image"
                    else {"videoUrl": seen.file("1.mp4")}
                },
                failure=bodies.as_text,
            ),
            lists={"scheduler": bodies.dreamina_jobs},
        ),
        "google-flow": Shape(
            create=lambda seen: accepted(seen) | {"type": seen.makes},
            status=record(
                result=lambda seen: {"response": {"media": bodies.google_flow_media(seen)}},
                failure=bodies.as_text,
            ),
            waits="images",
            lists={"jobs": bodies.google_flow_jobs},
        ),
        "google-vids": Shape(
            id=_NAMED,
            create=record("processing"),
            status=record("processing", result=bodies.google_vids_result, failure=bodies.by_code),
            lists={"jobs": bodies.jobs_and_numbers},
        ),
        "gemini-notebook": Shape(
            id="job:{uuid}-user:1234-{account}-bot:gemini_notebook",
            create=record("processing", typed=False),
            status=record("processing", typed=False, result=bodies.gemini_notebook_result),
            lists={"jobs": bodies.gemini_notebook_jobs},
        ),
        "muse": Shape(
            id=_TASK,
            create=record(),
            status=record(
                result=lambda seen: {"result": {"files": [{"assetId": seen.id, "url": seen.file("1.mp4")}]}}
            ),
            lists={"jobs": bodies.jobs_and_numbers},
        ),
        "acemusic": Shape(
            id=_NAMED,
            create=record("processing"),
            status=record(
                "processing", result=lambda seen: {"songs": [{"songId": "1", "audioUrl": seen.file("1.mp3")}]}
            ),
            lists={"jobs": bodies.acemusic_jobs},
        ),
        "luma": Shape(
            id=_TASK,
            create=_PENDING_UNTIL_FINAL,
            status=_PENDING_UNTIL_FINAL,
            lists={"jobs": bodies.luma_jobs},
        ),
        "ltxstudio": Shape(
            id="email:{account}-job:{uuid}-type:{kind}",
            code=200,
            create=bodies.ltxstudio,
            status=bodies.ltxstudio,
            lists=bodies.schedulers(bodies.id_as("jobId"), bodies.account, bodies.timing),
            max_jobs=(1, 100),
        ),
        "midjourney": _MIDJOURNEY,
        "midjourney/videos": replace(_MIDJOURNEY, id="j{n}v-u1234-c{account}-bot:midjourney"),
        "midjourney-v2": replace(_BOT, lists={"jobs": bodies.bare_ids}, max_jobs=(1, 15)),
        "faceswap": _BOT,
        "pika": replace(_BOT, lists={"jobs": bodies.bare_ids}, max_jobs=(1, 10)),
    }
)
"""Row key -> its form. A kind without one of its own speaks as its site does."""

_PLAIN = Shape(status=bodies.by_row)


def shape_of(service: str) -> Shape:
    """Return the form of a row, by its key."""
    return SHAPES.get(service) or SHAPES.get(service.partition("/")[0]) or _PLAIN


def job_id(service: str, account: str, verb: str, number: int, rng: random.Random) -> str:
    """Return the id of a new job of that row."""
    digits = f"{rng.getrandbits(128):032x}"
    kind = made_by(verb)
    return shape_of(service).id.format(
        n=number,
        uuid=f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}",
        hex=digits[:7] + str(number),
        account=account,
        service=service,
        bot=service.partition("-")[0],
        kind=kind,
        letter=_LETTERS[kind],
    )


def lists_of(row: Service) -> Mapping[str, ListBody]:
    """Return path -> what a site's lists of running jobs answer, by its row."""
    if row.load is None:
        return {}
    return shape_of(row.key).lists or {row.load.path.partition("?")[0]: bodies.listed_by_row(row.load)}


CANARY = "canary-9f4e21"
"""Part of every secret that the stand-in gives out."""

_JWT = f"{CANARY}-jwt"
_COOKIE = f"{CANARY}-cookie"
_PASSWORD = f"{CANARY}-password"
_REFRESH = f"{CANARY}-refresh"
_EXPIRES = 1_792_000_000
_EXPIRES_UTC = "2026-10-14T17:46:40.000Z"
_ADDED = "2026-06-01T12:00:00.000Z"

_HAILUO = {
    "account": "{id}",
    "jwt": {"token": _JWT, "user": {"id": "{id}", "isAnonymous": False}, "exp": _EXPIRES + 0.864},
    "supportVideo": True,
    "supportChat": True,
    "supportAudio": True,
}
_DISCORD = {"server": "1", "channel": "{id}", "discord": _JWT}

ENTRIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "riffusion": {
            "jwt": {
                "expires_at": _EXPIRES,
                "expires_in": 604_800,
                "refresh_token": _REFRESH,
                "access_token": _JWT,
                "expires_at_UTC": _EXPIRES_UTC,
                "token_type": "bearer",
                "user": {"id": "{id}"},
            },
            "user_id": "{id}",
        },
        "flowmusic": {
            "email": "{id}",
            "tier": "plus",
            "subscription_plan": "plus-monthly",
            "provider": "g1_entitlement",
            "user_id": "11111111-aaaa-4aaa-8aaa-000000000001",
            "added": _ADDED,
            "refreshed_at": _ADDED,
            "refreshed_count": 0,
            "access_token": _JWT,
            "access_token_expires_at": "2026-06-01T13:00:00.000Z",
            "refresh_token": _REFRESH,
            "session_id": f"{CANARY}-session",
        },
        "mureka": {
            "account": "{id}",
            "token": _JWT,
            "updated": _EXPIRES,
            "updatedUTC": _EXPIRES_UTC,
            "tokenIssuedDaysAgo": 2,
            "hasAutoRefresh": True,
            "sessionCookie": {"name": "__Secure-3PSID", "value": _COOKIE, "domain": ".google.com"},
        },
        "minimax": _HAILUO,
        "kling": {
            "email": "{id}",
            "session": {"userId": "user12345", "ExpireTime": 123_456_789, "cookie": _COOKIE},
            "password": _PASSWORD,
        },
        "runwayml": {
            "email": "{id}",
            "password": _PASSWORD,
            "jwt": {"token": _JWT, "exp": _EXPIRES + 0.864, "id": 123_456},
        },
        "pixverse": {
            "email": "{id}",
            "jwt": {"AccountId": 1, "ExpireTime": _EXPIRES, "Username": "u", "token": _JWT},
            "password": _PASSWORD,
        },
        "tempolor": {
            "user_id": "{id}",
            "updated": _EXPIRES * 1000,
            "updatedUTC": _EXPIRES_UTC,
            "requestParams": {"cookie": _COOKIE},
        },
        "dreamina": {
            "account": "{id}",
            "email": "{email}",
            "region": "{region}",
            "sessionExpires": "2026-12-01T12:00:00.000Z",
            "session": {"cookie": _COOKIE},
        },
        "google-flow": {
            "created": _ADDED,
            "health": "OK",
            "nextRefresh": {"scheduledFor": "2026-10-14T11:46:01.000Z"},
            "project": {"projectId": "11111111-aaaa-4aaa-8aaa-000000000001", "projectTitle": "p"},
            "sessionData": {"expires": "2026-10-14T12:46:01.000Z", "cookies": _COOKIE},
        },
        "google-vids": {"email": "{id}", "added": _ADDED, "health": "OK", "cookies": _COOKIE},
        "gemini-notebook": {
            "email": "{id}",
            "health": "OK",
            "cookies": _COOKIE,
            "lastKnownQuota": {"used": 3, "limit": 20},
        },
        "muse": {
            "email": "{id}",
            "added": _ADDED,
            "sessionExpiresAt": "2026-11-11T00:34:18.820Z",
            "cookies": _COOKIE,
            "quota": {"tier": "HATCH_FREE", "percentUsed": 0, "quotaStatus": "SUFFICIENT"},
            "health": "OK",
        },
        "acemusic": {"email": "{id}", "added": _ADDED, "health": "OK", "token": _JWT},
        "luma": {
            "email": "{id}",
            "account": "{id}",
            "luma_session": _COOKIE,
            "luma_session_expires": "2026-05-27 02:20:34 UTC",
        },
        "ltxstudio": {"email": "{id}", "session": {"refreshToken": _REFRESH, "accessToken": _JWT}},
        "midjourney": _DISCORD,
        "midjourney-v2": _DISCORD,
        "faceswap": {**_DISCORD, "credits": {"timestamp": _ADDED, "total": 50, "used": 18}},
        "pika": _DISCORD,
    }
)
"""Service -> the entry of a healthy account; ``{id}`` stands for the account's id."""

UNKNOWN: Mapping[str, Any] = MappingProxyType(
    {"jwt": {"token": _JWT}, "cookie": _COOKIE, "password": _PASSWORD}
)
"""The entry of an account of a service that is not in the table above."""


_INLINE: Mapping[str, str] = MappingProxyType({"luma": "executing", "gemini-notebook": "runningJobs"})
_TROUBLE: Mapping[str, str] = MappingProxyType(
    {"midjourney": "pendingModMessage", "midjourney-v2": "pendingModMessage"}
)


def entry(site: Site, account: Configured, running: int) -> dict[str, Any]:
    """Return what the site says about one account. A field given as None for it is left out."""
    fields = {**_filled(ENTRIES.get(site.name, UNKNOWN), account.id), **account.own}
    if site.name in _INLINE:
        fields[_INLINE[site.name]] = running
    if account.reason is not None:
        fields |= _trouble(site.row, fields, account.reason)
    return {name: value for name, value in fields.items() if value is not None}


def own_fields(site: Site, slots: int) -> dict[str, int]:
    """Return the fields that state a maximum of ``slots``, of every kind of job; none if none do."""
    return {row.capacity: slots for row in site.kinds.values() if row.capacity}


def _trouble(row: Service, fields: Mapping[str, Any], reason: str) -> dict[str, str]:
    if row.key == "acemusic":
        return {"health": "error", "error": reason}
    if row.health and (row.health in fields or not row.error):
        return {row.health: reason}
    return {_TROUBLE.get(row.key, row.error[0]): reason}


def _filled(template: Any, account: str) -> Any:
    if isinstance(template, Mapping):
        return {name: _filled(value, account) for name, value in template.items()}
    region, colon, email = account.partition(":")
    own = {"{id}": account, "{email}": email if colon else account, "{region}": region if colon else "US"}
    return own.get(template, template) if isinstance(template, str) else template


_LYRICS = {"title": "Example", "lyrics": "[Verse]\nRain on tin"}

THINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "flowmusic": {"music/lyrics": _LYRICS, "files": {"file": "user:1234-{account}-file:{n}"}},
        "mureka": {"music/lyrics-generate": _LYRICS},
        "riffusion": {"music/generate-lyrics": _LYRICS},
        "minimax": {"files": {"fileID": "user:1234-minimax:{account}-file:{n}"}},
        "runwayml": {"assets": {"assetId": "user:1234-runwayml:{account}-asset:{n}"}},
        "pixverse": {"files": {"result": [{"path": "upload/{n}.png"}]}},
        "dreamina": {"assets": {"assetRef": "u1234-{account}-asset:{n}", "account": "{account}"}},
        "luma": {"assets": {"assetRef": "u1234-email:{account}:{n}", "email": "{account}"}},
        "google-flow": {
            "assets": {"mediaGenerationId": {"mediaGenerationId": "user:1234-email:{hex}-image:{n}"}}
        },
        "google-vids": {
            "avatars": {
                "avatarId": "user:1234-{account}-avatar:{n}",
                "voice": "Aoede",
                "voiceId": "1",
                "voiceStyle": "calm",
                "previewMediaId": "user:1234-{account}-image:{n}",
            }
        },
        "gemini-notebook": {"notebooks": {"notebook": "user:1234-{account}-notebook:{n}"}},
    }
)
"""Site -> path, or the first name of one -> what a POST there answers that takes no slot."""


def thing(site: Site, verb: str, account: str, number: int) -> Any:
    """Return what a POST that takes no slot answers, such as the id of an upload on that account."""
    known = THINGS.get(site.name, {})
    template = known.get(verb) or known.get(verb.partition("/")[0]) or {"code": 200, "message": "OK"}
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    return _woven(template, {"account": account, "hex": account.encode().hex(), "n": uuid})


def _woven(template: Any, words: Mapping[str, str]) -> Any:
    if isinstance(template, Mapping):
        return {name: _woven(value, words) for name, value in template.items()}
    if isinstance(template, list):
        return [_woven(item, words) for item in template]
    return template.format(**words) if isinstance(template, str) else template


_SENTENCE = "Configuration not found. To create configuration use POST accounts."
_PENDING = (
    "Your Riffusion account has pending error. Please address this issue at "
    "https://useapi.net/docs/api-riffusion-v1/post-riffusion-accounts before making any new API calls."
)
_THROTTLED = {
    "error": {
        "code": 429,
        "message": "Resource has been exhausted (e.g. check quota).",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "PUBLIC_ERROR_UNUSUAL_ACTIVITY_TOO_MUCH_TRAFFIC",
            }
        ],
    }
}

_NO_ACCOUNTS_EMPTY_MAP = frozenset(
    ("flowmusic", "muse", "google-flow", "google-vids", "gemini-notebook", "acemusic", "dreamina")
)
_NO_ACCOUNTS_JSON = frozenset(("kling", "runwayml", "pixverse"))
_LOAD_400 = frozenset(("muse", "google-vids"))


def error(status: int, message: str) -> Answer:
    """Make the common error body."""
    return answer(status, {"error": message, "code": status})


def no_accounts(site: Site) -> Answer:
    """Answer a question for the accounts of a customer who has none: four ways to say so."""
    if site.name in _NO_ACCOUNTS_EMPTY_MAP:
        return answer(200, {})
    if site.name == "luma":
        return answer(404)
    if site.name in _NO_ACCOUNTS_JSON:
        return error(404, _SENTENCE)
    return answer(404, _SENTENCE)


def no_load(site: Site) -> Answer | None:
    """Answer a question for the load of no accounts at all, where that is an error."""
    if site.name not in _LOAD_400:
        return None
    page = f"https://useapi.net/docs/api-{site.name}-v1/post-{site.name}-accounts"
    return error(400, f"Please configure at least one account at {page}")


def turned_down(site: Site, refusal: TurnedDownError) -> Answer:
    """Answer a create that became no job."""
    match refusal.why:
        case "full":
            return _full(site, refusal.account)
        case "all-full":
            return _all_full(site)
        case "broken":
            return _broken(site, refusal.account, refusal.detail)
        case "unknown":
            return unknown(site, refusal.account)
        case "unnamed":
            return error(400, f"Parameter {site.row.selector} is required: several accounts are configured")
    return error(404, _SENTENCE)


def unknown(site: Site, account: str) -> Answer:
    """Answer a request for an account that is not configured."""
    if site.name == "google-flow":
        return answer(404, {"error": f"Google Flow account {account} not found"})
    return error(404, f"Account {account} not found")


def _full(site: Site, account: str) -> Answer:
    if site.name == "google-flow":
        return answer(429, _THROTTLED, {"Retry-After": "60"})
    own = {
        "faceswap": "The previous request has not been completed yet. Please try again later.",
        "midjourney-v2": "API query is full and can not accept new requests",
    }
    return error(429, own.get(site.name, f"Too many requests, account {account} is at capacity"))


def _all_full(site: Site) -> Answer:
    if site.name == "google-flow":
        return answer(429, {"error": "no_eligible_account", "code": 429}, {"Retry-After": "60"})
    return error(429, "Too many requests, all configured accounts are at capacity")


def _broken(site: Site, account: str, reason: str) -> Answer:
    own = {
        "riffusion": {"error": _PENDING},
        "google-flow": {"error": f"Failed to refresh session: {reason}"},
    }
    common = {"error": f"Account {account} in error state: {reason}", "code": 596}
    return answer(596, own.get(site.name, common))


def alone(site: Site, *, healthy: bool) -> dict[str, Any]:
    """Return what an account's own page says beside its entry in the list."""
    if site.name == "flowmusic" and healthy:
        return {"credits_remaining": 5000, "tokens_remaining": 60000}
    if site.name == "google-vids":
        quota = {"left": 1000, "limit": 1000, "resetAt": "2026-12-01T08:00:00.000Z"}
        return {"session": "OK", "quota": {"video": quota, "image": quota}}
    return {}


def account_id(site: Site, fields: Mapping[str, Any], number: int) -> str:
    """Return the id of an account that is added with these fields; where they name none, one is drawn."""
    if site.name == "dreamina":
        return f"{fields.get('region', 'US')}:{fields.get('email', f'{number}@example.com')}"
    named = fields.get(site.row.selector)
    return str(named) if named else f"{number}@example.com" if site.row.selector == "email" else str(number)
