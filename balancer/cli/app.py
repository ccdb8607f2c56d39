"""The commands, put together."""

from __future__ import annotations

try:
    import rich  # noqa: F401
    import typer
except ImportError as error:
    raise ImportError("the command line needs an extra: pip install 'balancer[cli]'") from error

from balancer.cli.demo import demo

app = typer.Typer(
    help="Choose among your own useapi.net accounts: see them, watch them, hold a slot while a command runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo)


@app.callback()
def balancer() -> None:
    """Keep ``demo`` a subcommand even while it is the only one."""
