"""Options that several commands share, and what is opened with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from balancer import SERVICES, AccountPool, HttpSource
from balancer.useapi.sources import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from balancer import Client

MEMORY = "memory://"
BLIND = (
    "memory:// counts for one process alone: leases of another process cannot be seen. Pools that should "
    "be seen share a store: --store sqlite:///path or redis://host, or BALANCER_STORE."
)


def _keys(incomplete: str) -> list[str]:
    return [key for key in SERVICES if key.startswith(incomplete)]


_SERVICE: dict[str, Any] = {
    "envvar": "BALANCER_SERVICE",
    "help": "A key of the table that `balancer services` prints.",
    "autocompletion": _keys,
}
ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", show_default=False, **_SERVICE)]
ServiceOption = Annotated[str, typer.Option("--service", "-s", show_default=False, **_SERVICE)]
BaseUrl = Annotated[
    str,
    typer.Option(envvar="USEAPI_BASE_URL", help="Host root of the API; `balancer sandbox` prints its own."),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="BALANCER_STORE",
        show_default="SQLite in the state folder of this user",
        help="Where leases are counted: sqlite:///path, redis://host, rediss://host.",
    ),
]
Poll = Annotated[
    str | None,
    typer.Option(
        metavar="SECONDS",
        envvar="BALANCER_POLL",
        show_default="the service's own",
        help="When a job is first asked for, and at most between two questions: 2,15.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
API = DEFAULT_BASE_URL


def default_store() -> str:
    """Return the store of this user's commands on this machine, and make its folder."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # unset, or not to be used, as the specification of these folders says
        state = Path.home() / ".local" / "state"
    folder = state / "balancer"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"sqlite://{folder / 'slots.db'}"


def shared_store(store: str | None) -> str:
    """Return the URL of a store in which the leases of other processes can be seen."""
    if store == MEMORY:
        raise typer.BadParameter(BLIND)
    return store or default_store()


def without_secrets(store: str) -> str:
    """Return a store's URL as it may be printed: no user, no password, no query."""
    parts = urlsplit(store)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def opened(service: str, store: str, base_url: str, **options: Any) -> Iterator[AccountPool]:
    """Open a pool for the time of a command; what it refuses is wrong usage."""
    try:
        pool = AccountPool(service, store=store, base_url=base_url, **options)
    except (ValueError, TypeError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    with pool:
        yield pool


@contextmanager
def client(service: str, store: str, base_url: str, poll: str | None) -> Iterator[Client]:
    """Open a client for the time of a command; what it refuses is wrong usage."""
    from balancer import Client  # the other commands start faster without

    try:
        made = Client(service, store=store, base_url=base_url, poll=poll)
    except (ValueError, TypeError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    with made:
        yield made


@contextmanager
def source(service: str, base_url: str) -> Iterator[HttpSource]:
    """Open the server's own view of a service; what it refuses is wrong usage."""
    try:
        api = HttpSource(service, token=os.environ.get("USEAPI_TOKEN", ""), base_url=base_url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        yield api
    finally:
        api.close()
