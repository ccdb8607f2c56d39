"""What an answer says about the account, the token and the request.

The common rules are a table in the same form as the exceptions of a service's row, which come first.
They follow the status pages of useapi.net (https://useapi.net/docs, whose services share most codes)
and, for codes that it does not name, RFC 9110, section 15: a client treats an unknown code like the
first of its class.

An answer that says that the account is unknown (404) is ``BUSY`` with a refresh due, not
``NOT_SENT``: nothing was accepted, so another account is safe, and the short pause keeps the next
attempt off this one until the refresh has told whether it is gone.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from balancer.errors import BalancerError
from balancer.services.common import SUBSCRIPTION
from balancer.services.schema import Service, VerdictRule
from balancer.useapi.following import outcome
from balancer.useapi.http_response import Answer, read, seconds_until, suppressing
from balancer.useapi.parsing import job_ids
from balancer.useapi.transport_errors import linked, may_have_been_sent

_DAY = 86400.0
_HELD = {"EXHAUSTED": 3600.0, "BROKEN": 900.0}
_SHORT, _SPREAD = 10.0, 20.0  # post-riffusion-create-prompt: "wait at least 10..30 seconds"
OVERLOADED = 600.0
"""Longest pause in seconds that a server which could not answer is believed: it guesses, and may be back."""
_IN_LINE = 600.0
"""Longest pause named by an answer, in seconds, for which callers are kept waiting."""


class Verdict(enum.Enum):
    """What an answer means. The values are the names."""

    ACCEPTED = "ACCEPTED"
    """2xx: the job was taken (RFC 9110, section 15.3)."""
    NOT_SENT = "NOT_SENT"
    """No connection was made: DNS, refused, connect or pool timeout. The account is not to blame."""
    BUSY = "BUSY"
    """429 of capacity or throttling: the account takes jobs again within seconds or minutes."""
    EXHAUSTED = "EXHAUSTED"
    """412, a quota's 429, an account's 402: its credits or allowance are used up until a reset."""
    BROKEN = "BROKEN"
    """596, useapi.net's own: the account's session is broken and may have to be added again."""
    TOKEN = "TOKEN"  # noqa: S105  (a verdict, not a token)
    """401 and the 402 of the subscription: the API token is not accepted, whatever the account."""
    REFUSED = "REFUSED"
    """The request itself is declined; every other account would decline it too."""
    AMBIGUOUS = "AMBIGUOUS"
    """The job may run or not: 5xx, read timeout, connection lost after sending. Never sent again."""

    @property
    def adverse(self) -> bool:
        """Whether it is held against the account."""
        return self in _ADVERSE

    @property
    def elsewhere(self) -> bool:
        """Whether another account may be tried safely: this answer proves that no job was taken."""
        return self in _ELSEWHERE


_ADVERSE = frozenset({Verdict.BUSY, Verdict.EXHAUSTED, Verdict.BROKEN, Verdict.AMBIGUOUS})
_ELSEWHERE = frozenset({Verdict.NOT_SENT, Verdict.BUSY, Verdict.EXHAUSTED, Verdict.BROKEN})
_WORTH_WAITING = frozenset({Verdict.BUSY, Verdict.AMBIGUOUS})
_GRAVITY = (
    Verdict.AMBIGUOUS,
    Verdict.ACCEPTED,
    Verdict.REFUSED,
    Verdict.TOKEN,
    Verdict.BROKEN,
    Verdict.EXHAUSTED,
    Verdict.BUSY,
    Verdict.NOT_SENT,
)
"""Which of several outcomes counts: the first of these. What may have been sent outweighs what was not."""


class VerdictDetails(NamedTuple):
    """A verdict with all that follows from the answer. It holds no secret and no text of a body."""

    verdict: Verdict
    status: int | None = None
    """HTTP status; None where no answer came."""
    seconds: float | None = None
    """Length of the cooldown to put on the account, at most 31 days; None: no cooldown."""
    reason: str = ""
    """In a few words, for people."""
    scoped: bool = False
    """The cooldown concerns only jobs of the lease's ``scope``."""
    pool_wide: bool = False
    """The answer speaks of all accounts and says nothing about this one."""
    named: bool = False
    """The answer, or the service's row, says how long the cooldown is; else it was drawn."""
    teaches: bool = False
    """The refusal tells how many jobs the account bears: see :mod:`balancer.rules.limits`."""
    refresh: bool = False
    """A refresh of the configuration is due."""
    worth_waiting: bool = False
    """The account is back soon: callers may wait for it."""
    job_id: str | None = None
    """The job that the answer names, if it was accepted."""
    final: bool = False
    """The accepted job is over already: the answer carries a final status, or the result itself."""
    unread: bool = False
    """The answer's body was not read yet, so that nobody knows which job it names."""
    token_error: Literal["unauthorized", "subscription"] | None = None
    """With TOKEN: what is wrong with it."""


# useapi.net's wordings. Google ends each 429 in "(e.g. check quota)", throttling included.
_UNKNOWN_ACCOUNT = (
    r"\baccount(?: (?=\S*[@\d])\S++)? (?:was |is )?(?:not found|not configured|unknown)"
    r"|\bconfiguration not found"
)
_QUOTA = r"(?<!check )quota|allowance|\bcredits?\b|(?<![a-z])(?:daily|weekly|monthly)(?![a-z])"
_MONEY = r"credit|balance|quota|allowance|\bplan\b|top.?up"

_COMMON = (
    VerdictRule(status=401, verdict="TOKEN"),
    VerdictRule(status=402, verdict="TOKEN", match=SUBSCRIPTION),
    VerdictRule(status=402, verdict="EXHAUSTED", match=_MONEY),
    VerdictRule(status=402, verdict="TOKEN"),
    VerdictRule(status=404, verdict="BUSY", match=_UNKNOWN_ACCOUNT, refresh=True),
    VerdictRule(status=412, verdict="EXHAUSTED"),
    VerdictRule(status=429, verdict="EXHAUSTED", match=_QUOTA),
    VerdictRule(status=429, verdict="BUSY"),
    VerdictRule(status=596, verdict="BROKEN"),
)
_CLASSES = {1: "AMBIGUOUS", 2: "ACCEPTED", 5: "AMBIGUOUS"}

# The only words of a body that a reason repeats.
_KNOWN_WORDS = re.compile(
    r"PUBLIC_ERROR_[A-Z_]{1,60}|MODEL_ACCESS_DENIED|no_eligible_account|captcha_quality|moderation"
)


def judge(answer: object, service: Service, *, draw: Callable[[], float], wall: float) -> VerdictDetails:
    """Return what ``answer`` means at ``service``. Never raises, whatever the answer is.

    Args:
        answer: A response of requests, httpx, aiohttp, urllib3 or urllib, of which only what was
            read already counts as the body; a status; a triple of status, headers and body; an
            exception. What has no status is not an answer and counts as ACCEPTED; an exception that
            is no transport error and carries no answer counts as REFUSED with ``status`` None. Of a
            group of exceptions the gravest counts; of what an exception was raised from, or while it
            was handled, only what leaves open whether a job runs.
        service: The row whose exceptions come first.
        draw: Returns a number of [0, 1), which spreads the short pauses over 10 to 30 seconds.
        wall: Now, in seconds since the epoch, for answers that name an instant.
    """
    if issubclass(type(answer), BaseException):  # not isinstance: that asks the object
        return _judge_error(answer, service, draw, wall)
    found = read(answer)
    return (
        _rule(found, service, draw, wall)
        if found
        else VerdictDetails(Verdict.ACCEPTED, reason="no HTTP answer")
    )


def shortened(details: VerdictDetails, longest: float) -> VerdictDetails:
    """Return the details with a cooldown of at most ``longest`` seconds."""
    if details.seconds is None or details.seconds <= longest:
        return details
    soon = details.worth_waiting or (details.verdict is Verdict.BUSY and longest <= _IN_LINE)
    return details._replace(seconds=longest, worth_waiting=soon)


def transport(error: BaseException) -> Verdict | None:
    """Return NOT_SENT or AMBIGUOUS for an error of the way to the server, None for any other.

    It is taken by itself, without its cause. None means: an error of the program, a cancellation, an
    error of this library, or one that carries the server's answer (``raise_for_status``), which
    :func:`judge` reads. The rule is RFC 9110, section 9.2.2: no POST is repeated unless it is known
    that it was not applied. An accepted answer that comes without its body proves nothing either: which
    job it names nobody knows.
    """
    sent = may_have_been_sent(error)
    if sent is False:
        return Verdict.NOT_SENT
    found = _carried(error) if sent else None
    unknown = found is None or (found.status // 100 == 2 and not found.text)
    return Verdict.AMBIGUOUS if sent and unknown else None


def _judge_error(error: Any, service: Service, draw: Callable[[], float], wall: float) -> VerdictDetails:
    raised: list[VerdictDetails] = []
    for one, itself in linked(error):
        details = _judge_one(one, service, draw, wall)
        if details.verdict is Verdict.AMBIGUOUS:
            return details
        if itself:
            raised.append(details)
    # Of two that are refused, the error of the program comes first: it says nothing about a job.
    nothing = VerdictDetails(Verdict.REFUSED, reason=type(error).__name__)
    return min(raised, key=lambda one: (_GRAVITY.index(one.verdict), one.status or 0), default=nothing)


def _judge_one(
    error: BaseException, service: Service, draw: Callable[[], float], wall: float
) -> VerdictDetails:
    name, verdict = type(error).__name__, transport(error)
    found = None if verdict else _carried(error)
    if found:
        return _rule(found, service, draw, wall)
    if verdict is Verdict.AMBIGUOUS:
        return VerdictDetails(verdict, seconds=_short(draw), reason=name, worth_waiting=True)
    return VerdictDetails(verdict or Verdict.REFUSED, reason=name)


def _carried(error: BaseException) -> Answer | None:
    """Return the answer that an error carries; a library's own job errors speak of another lease."""
    if isinstance(error, BalancerError):
        return None
    # aiohttp says status 400 of an answer that it cannot parse: then the parser's error is the cause.
    its_own = error if may_have_been_sent(error) and error.__cause__ is None else None
    return read(suppressing(lambda: getattr(error, "response", None), None)) or read(its_own)


def _rule(answer: Answer, service: Service, draw: Callable[[], float], wall: float) -> VerdictDetails:
    named = None if answer.status // 100 == 2 else answer.pause(wall)  # most are accepted, and name none
    rule = _applied(answer, service, named)
    verdict = Verdict[rule.verdict]
    accepted, token = verdict is Verdict.ACCEPTED, verdict is Verdict.TOKEN
    jobs = job_ids(answer.body, service) if accepted else ()
    pause = named or _ruled(rule, answer.made_at(wall))
    return VerdictDetails(
        verdict,
        status=answer.status,
        seconds=_cooldown(verdict, rule, answer, pause, draw),
        reason=_reason(answer),
        scoped=rule.scoped,
        pool_wide=rule.pool_wide,
        named=pause is not None,
        teaches=verdict is Verdict.BUSY
        and answer.status == 429
        and rule.teaches
        and not (rule.scoped or rule.pool_wide),
        refresh=rule.refresh or token,
        worth_waiting=verdict in _WORTH_WAITING
        and (verdict is Verdict.AMBIGUOUS or (named or 0.0) <= _IN_LINE),
        job_id=jobs[0] if jobs else None,
        final=accepted and outcome(answer.body, service) != "running",
        unread=answer.unread,
        token_error=("subscription" if answer.status == 402 else "unauthorized") if token else None,
    )


def _applied(answer: Answer, service: Service, named: float | None) -> VerdictRule:
    own = _first(service.rules, answer, named)
    if own:
        return own
    # post-riffusion-create-prompt: a moderated prompt is answered with this flag, whatever the status.
    if answer.at("is_flagged") is True and not job_ids(answer.body, service):
        return VerdictRule(status=answer.status, verdict="REFUSED")
    by_class = VerdictRule(status=answer.status, verdict=_CLASSES.get(answer.status // 100, "REFUSED"))
    return _first(_COMMON, answer, named) or by_class


def _first(rules: Iterable[VerdictRule], answer: Answer, named: float | None) -> VerdictRule | None:
    return next((rule for rule in rules if _applies(rule, answer, named)), None)


def _applies(rule: VerdictRule, answer: Answer, named: float | None) -> bool:
    statuses = (rule.status,) if isinstance(rule.status, int) else rule.status
    if answer.status not in statuses or (rule.longer is not None and (named or 0.0) <= rule.longer):
        return False
    return rule.match is None or re.search(rule.match, answer.text, re.IGNORECASE) is not None


def _cooldown(
    verdict: Verdict, rule: VerdictRule, answer: Answer, pause: float | None, draw: Callable[[], float]
) -> float | None:
    if rule.pool_wide or not verdict.adverse:
        return None
    if verdict is Verdict.AMBIGUOUS:
        # What a gateway writes on its page is about the gateway, and not about this account.
        its_own = pause if answer.status == 503 and not answer.is_page else None
        return max(min(its_own or 0.0, OVERLOADED), _short(draw))
    return pause or _HELD.get(verdict.name) or _short(draw)


def _ruled(rule: VerdictRule, wall: float) -> float | None:
    if rule.until == "utc-midnight":
        return _DAY - wall % _DAY
    return seconds_until(rule.seconds, wall)


def _short(draw: Callable[[], float]) -> float:
    return _SHORT + _SPREAD * draw()


def _reason(answer: Answer) -> str:
    known = _KNOWN_WORDS.search(answer.text)
    return f"HTTP {answer.status} {known[0]}" if known else f"HTTP {answer.status}"
