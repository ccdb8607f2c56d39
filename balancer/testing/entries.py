"""What each service says about an account in its list, secrets included.

The secrets are made up, and all of them contain :data:`CANARY`: what looks for it in logs, reprs,
errors and stores finds every leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from balancer.services.schema import Service
from balancer.testing.jobs import Configured
from balancer.testing.sites import Site

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
            "email": "someone@example.com",
            "region": "US",
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
_BROKEN: Mapping[str, str] = MappingProxyType(
    {"midjourney": "pendingModMessage", "midjourney-v2": "pendingModMessage"}
)


def entry(site: Site, account: Configured, running: int) -> dict[str, Any]:
    """Return what the site says about one account. A field given as None for it is left out."""
    fields = {**_filled(ENTRIES.get(site.name, UNKNOWN), account.id), **account.own}
    if site.name in _INLINE:
        fields[_INLINE[site.name]] = running
    if account.reason is not None:
        fields |= _broken(site.row, fields, account.reason)
    return {name: value for name, value in fields.items() if value is not None}


def own_fields(site: Site, slots: int) -> dict[str, int]:
    """Return the fields that state a maximum of ``slots``, of every kind of job; none if none do."""
    return {row.capacity: slots for row in site.kinds.values() if row.capacity}


def _broken(row: Service, fields: Mapping[str, Any], reason: str) -> dict[str, str]:
    if row.key == "acemusic":
        return {"health": "error", "error": reason}
    if row.health and (row.health in fields or not row.error):
        return {row.health: reason}
    return {_BROKEN.get(row.key, row.error[0]): reason}


def _filled(template: Any, account: str) -> Any:
    if isinstance(template, Mapping):
        return {name: _filled(value, account) for name, value in template.items()}
    return account if template == "{id}" else template
