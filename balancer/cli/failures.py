"""Exit codes, and errors as one line in place of a traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from balancer import (
    BalancerError,
    NoAccounts,
    SourceError,
    StoreUnavailable,
    SubscriptionRequired,
    Unauthorized,
)
from balancer.cli.output import tell

NOT_THERE = 1
"""What was asked for is not there: no such lease, no usable account."""
INTERRUPTED = 130

_CODES: dict[type[BalancerError], int] = {
    NoAccounts: NOT_THERE,
    Unauthorized: 3,
    SubscriptionRequired: 3,
    SourceError: 4,
    StoreUnavailable: 5,
}

CODES_HELP = (
    "Exit codes: 0 done; 1 what was asked for is not there; 2 wrong usage; 3 the token or the subscription "
    "was not accepted; 4 the configuration could not be had; 5 the store could not be used; 130 interrupted."
)


class Commands(TyperGroup):
    """The group of all commands. What the library raises on purpose becomes a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BalancerError as error:
            tell(f"balancer: {error}")
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def code_of(error: BalancerError) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), NOT_THERE)
