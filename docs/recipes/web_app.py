"""A web application that submits jobs with ``replyUrl`` and frees their slots in the callback.

The slot is the job's from the moment its create is answered. It ends when the service reports a final
status; progress is reported too, and must not end it. A callback may come before the answer of its own
create has been read: the pool then remembers the job, and the slot is free as soon as it is bound.
A callback that never comes is made up for by reconciliation, and at the latest by ``job_ttl``.

Callbacks are not signed: give the route a path that cannot be guessed. With several worker processes,
give the pool a ``store=`` that they share.
"""

from __future__ import annotations

import os
from typing import Any

import requests
from flask import Flask, request

from balancer import AccountPool, AcquireTimeout, AttemptsFailed, JobRefused


def create_app(pool: AccountPool, *, create_url: str, reply_url: str, token: str) -> Flask:
    """Return the application; ``reply_url`` is where the service reaches ``/callback`` from outside."""
    app = Flask(__name__)
    headers = {"Authorization": f"Bearer {token}"}

    @app.post("/songs")
    def submit() -> Any:
        fields = {"prompt": request.get_json()["prompt"], "replyUrl": reply_url}

        def create(lease: Any) -> requests.Response:
            return requests.post(create_url, headers=headers, json={**lease.params, **fields}, timeout=30)

        answer = pool.run(create, bind="jobid", timeout=60, label="song")
        return {"job": answer.json()["jobid"]}, 202

    @app.post("/callback")
    def callback() -> Any:
        pool.settle(request.get_json())  # frees the slot at the end; progress, or an end told twice: no harm
        return "", 204

    @app.errorhandler(AcquireTimeout)
    @app.errorhandler(AttemptsFailed)
    def full(_: Exception) -> Any:
        return {"error": "all accounts are busy, try again later"}, 503

    @app.errorhandler(JobRefused)
    def refused(_: JobRefused) -> Any:
        return {"error": "the service refused the job"}, 422

    return app


if __name__ == "__main__":
    create_app(
        AccountPool("flowmusic"),
        create_url="https://api.useapi.net/v1/flowmusic/music",
        reply_url=os.environ["PUBLIC_URL"] + "/callback",
        token=os.environ["USEAPI_TOKEN"],
    ).run()
