"""Judging an answer at a fixed instant, with a fixed draw, at a service without rules of its own."""

from __future__ import annotations

from balancer import Service, Verdict
from balancer.useapi.verdicts import judge

PLAIN = Service(key="plain", path="/v1/plain")
NOW = 1_792_000_000.0  # 2026-10-14 17:46:40 UTC
DAY = 86400.0
SHORT, HOUR, QUARTER = 20.0, 3600.0, 900.0  # seconds; the first is in the middle of 10 to 30

ACCEPTED, NOT_SENT, BUSY, EXHAUSTED, BROKEN, TOKEN, REFUSED, AMBIGUOUS = Verdict


def ruled(answer, service=PLAIN, draw=0.5):
    """Judge ``answer`` at a fixed instant."""
    return judge(answer, service, draw=lambda: draw, wall=NOW)
