"""What a pool is made with, checked once and completed with defaults."""

from __future__ import annotations

import math
import os
import random as _random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from balancer import events
from balancer.clock import Clock
from balancer.models import MAX_CAPACITY, Account
from balancer.rules.selection import STRATEGIES
from balancer.services import GENERIC, SERVICES, find, near_keys
from balancer.services.schema import Service
from balancer.useapi.sources import HttpSource, MappingSource, Token, root_url

MOST_SECONDS = 1e12
"""Longer is for ever: so large a whole number may not even fit a float."""
_doubted: set[str] = set()
"""Names that this process was warned about, as they are nearly those of services."""
HALF = re.compile("[\ud800-\udfff]")  # half of a character: JSON may bring it, no store can write it


class PoolConfig(NamedTuple):
    """The checked arguments of a pool."""

    service: Service
    source: Any
    owns_source: bool
    token: Token | None
    """The API token whose accounts the source lists; None if they are the user's own."""
    store: Any
    ttl: float
    stale_if_error: float
    strategy: str
    default_capacity: int | None
    lease_ttl: float
    job_ttl: float
    ambiguous_ttl: float
    max_cooldown: float
    """The longest cooldown that an answer can bring."""
    reconcile_every: float | None
    max_waiting: int | None
    learn_limits: bool
    spacing: tuple[float, float]
    """Between these many seconds go by from one grant on an account to the next."""
    draw: Callable[[], float]
    clock: Clock

    @staticmethod
    def make(
        service: str | Service | None,
        *,
        token: Token | None,
        base_url: str | None,
        source: Any,
        store: Any,
        random: Callable[[], float] | None,
        clock: Callable[[], float] | None,
        strategy: str,
        default_capacity: int | None,
        max_waiting: int | None,
        learn_limits: bool,
        spacing: float | tuple[float, float],
        reconcile_every: float | None,
        **durations: float,
    ) -> PoolConfig:
        """Check the arguments of a pool.

        Raises:
            ValueError, TypeError: naming the argument that is wrong.
        """
        row = _row(service, source)
        capacity = check_int("default_capacity", default_capacity, 1, MAX_CAPACITY)
        secret = _token(token, source)
        if strategy not in tuple(STRATEGIES):
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if not isinstance(learn_limits, bool):
            raise TypeError(f"learn_limits must be True or False, not {type(learn_limits).__name__}")
        if random is not None and not callable(random):
            raise TypeError("random must be a callable that returns a number in [0, 1)")
        return PoolConfig(
            service=row,
            source=_source(row, source, secret, base_url, capacity),
            owns_source=source is None,
            token=secret,
            store=store if store is not None else os.environ.get("BALANCER_STORE") or "memory://",
            strategy=strategy,
            default_capacity=capacity,
            reconcile_every=None
            if reconcile_every is None
            else seconds("reconcile_every", reconcile_every, above=True),
            max_waiting=check_int("max_waiting", max_waiting, 0, None),
            learn_limits=learn_limits,
            spacing=_spacing(spacing),
            draw=_random.random if random is None else _checked(random),
            clock=Clock(clock),
            **{name: seconds(name, value, above=name != "ttl") for name, value in durations.items()},
        )


def seconds(name: str, value: Any, *, above: bool = False) -> float:
    """Return a duration in seconds, or raise naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if (isinstance(value, float) and math.isnan(value)) or value < 0 or (above and value == 0):
        raise ValueError(f"{name} must be {'more than' if above else 'at least'} 0 seconds, not {value}")
    return float(value) if value <= MOST_SECONDS else math.inf


def _spacing(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list):
        value = value, value
    if len(value) != 2:
        raise ValueError(f"spacing must be a number of seconds or a pair of them, not {len(value)} numbers")
    least, most = (seconds("spacing", each) for each in value)
    if least > most or math.isinf(most):
        raise ValueError(f"spacing must go up from one finite number to another, not from {least} to {most}")
    return least, most


def check_int(name: str, value: Any, least: int, most: int | None) -> int | None:
    """Return a whole number within bounds or None, or raise naming the argument."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")
    return value


def check_text(name: str, value: Any) -> str:
    """Return a text that every store can keep, or raise naming the argument."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if HALF.search(value):
        raise ValueError(f"{name} must not hold half of a character")
    return value


def account_id(name: str, value: Any) -> str:
    """Return the id of an account given by id or as Account, or raise naming the argument."""
    if isinstance(value, Account):
        return value.id
    if not isinstance(value, str):
        raise TypeError(f"{name} must name accounts by id or Account, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be an empty account id")
    return value


def job_text(job_id: object) -> str:
    """Return a job id as text, without white space around it.

    Raises:
        TypeError, ValueError: it is no id.
    """
    if isinstance(job_id, bool) or not isinstance(job_id, str | int):
        raise TypeError(f"job_id must be a string or a whole number, not {type(job_id).__name__}")
    text = str(job_id).strip()  # a callback may bring a line's end along
    if not text or HALF.search(text):
        raise ValueError("job_id must not be empty, nor hold half of a character")
    return text


_MOST_JOBS = 1000
"""That one lease follows: more than any call starts."""


def job_texts(job_id: object) -> tuple[str, ...]:
    """Return one job id, or a sequence of them, as texts: each once, in their order.

    Raises:
        TypeError, ValueError: one is no id, or there is none.
    """
    if not isinstance(job_id, list | tuple):
        return (job_text(job_id),)
    if not 1 <= len(job_id) <= _MOST_JOBS:
        raise ValueError(f"job_id must name 1 to {_MOST_JOBS} jobs, not {len(job_id)}")
    return tuple(dict.fromkeys(map(job_text, job_id)))


def _row(service: str | Service | None, source: Any) -> Service:
    if source is not None and isinstance(service, str) and service not in SERVICES:
        return _named(service)
    if service is not None:
        return find(service)
    if source is None:
        raise TypeError("service is missing; it may be left out only with a source of your own")
    return source.service if isinstance(source, HttpSource) else GENERIC


def _named(word: str) -> Service:
    """Return the row of a pool whose source is the user's own, and whose service is no more than its name."""
    if not word.strip() or not word.isprintable():
        raise ValueError(f"service must be a name in printable characters, not {word!r}")
    if (near := near_keys(word, 0.8)) and word not in _doubted:
        _doubted.add(word)
        events.emit("warning", "service_unknown", service=word, near=near)
    return replace(GENERIC, key=word)


def _token(token: Token | None, source: Any) -> Token | None:
    if source is not None:
        return source.token if isinstance(source, HttpSource) else None
    secret = token or Token(os.environ.get("USEAPI_TOKEN", ""))
    problem = secret.problem() if secret.fixed else None
    if problem is not None:
        raise ValueError(f"token {problem}")
    return secret


def _source(
    row: Service, source: Any, secret: Token | None, base_url: str | None, capacity: int | None
) -> Any:
    if source is None and secret is not None:
        return HttpSource(row, token=secret, base_url=root_url(base_url), default_capacity=capacity)
    if isinstance(source, Mapping):
        return MappingSource(source, row, capacity)
    if not callable(getattr(source, "accounts", None)):
        raise TypeError("source must be a mapping or an object with accounts()")
    return source


def _checked(random: Callable[[], float]) -> Callable[[], float]:
    def draw() -> float:
        value = random()
        if not isinstance(value, int | float):
            raise TypeError(f"random must return a number in [0, 1), not {type(value).__name__}")
        if not 0.0 <= value < 1.0:
            raise ValueError(f"random must return a number in [0, 1), not {value!r}")
        return value

    return draw
