"""HTTP clients that post a create: what each returns and raises is what verdicts are made of."""

from __future__ import annotations

import asyncio
import urllib.request

import aiohttp
import httpx
import requests
import urllib3

BODY = b'{"prompt": "x", "email": "a@example.com"}'


class Target:
    """Where to post a create, with what, and for how long to wait for each step of it."""

    def __init__(self, url, token, patience=10.0):
        self.patience = patience
        self.url = f"{url}/v1/flowmusic/music"
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


def by_requests(target):
    """Post with requests."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(target.url, data=BODY, headers=target.headers, timeout=target.patience)


def by_requests_raising(target):
    """Post with requests, which raises for a bad status."""
    answer = by_requests(target)
    answer.raise_for_status()
    return answer


def by_httpx(target):
    """Post with httpx."""
    with httpx.Client(timeout=target.patience, trust_env=False) as client:
        return client.post(target.url, content=BODY, headers=target.headers)


def by_httpx_raising(target):
    """Post with httpx, which raises for a bad status."""
    return by_httpx(target).raise_for_status()


def by_httpx_async(target):
    """Post with httpx in a task."""

    async def post():
        async with httpx.AsyncClient(timeout=target.patience, trust_env=False) as client:
            return await client.post(target.url, content=BODY, headers=target.headers)

    return asyncio.run(post())


def by_aiohttp(target, *, raising=False):
    """Post with aiohttp."""

    async def post():
        timeout = aiohttp.ClientTimeout(total=None, connect=target.patience, sock_read=target.patience)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=raising) as session,
            session.post(target.url, data=BODY, headers=target.headers) as answer,
        ):
            await answer.read()
            return answer

    return asyncio.run(post())


def by_aiohttp_raising(target):
    """Post with aiohttp, which raises for a bad status."""
    return by_aiohttp(target, raising=True)


def by_urllib3(target):
    """Post with urllib3."""
    with urllib3.PoolManager() as manager:
        return manager.request(
            "POST", target.url, body=BODY, headers=target.headers, timeout=target.patience, retries=False
        )


def by_urllib(target):
    """Post with the standard library, which raises for every status that is no 2xx; return the rest."""
    request = urllib.request.Request(target.url, BODY, target.headers)
    with urllib.request.urlopen(request, timeout=target.patience) as answer:
        return answer.status, answer.headers, answer.read()


READERS = (
    by_requests,
    by_requests_raising,
    by_httpx,
    by_httpx_raising,
    by_httpx_async,
    by_aiohttp,
    by_urllib3,
)
"""Clients whose answer, or error, keeps the body."""
HEADERS_ONLY = (by_aiohttp_raising, by_urllib)
"""Those whose error knows status and headers only."""
CLIENTS = (by_requests, by_httpx, by_httpx_async, by_aiohttp, by_urllib3, by_urllib)
"""One of each make."""


def outcome(client, target):
    """Return what the client returns or raises."""
    try:
        return client(target)
    except Exception as error:  # noqa: BLE001  (whatever the client raises is the subject)
        return error
