"""What each service says when it turns a request down."""

from __future__ import annotations

from balancer.testing.book import TurnedDownError
from balancer.testing.faults import Answer, answer
from balancer.testing.sites import Site

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
