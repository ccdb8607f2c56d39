"""The commands, put together."""

from __future__ import annotations

try:
    import rich  # noqa: F401  # asked for here, so that the error below is the first
    import typer
except ImportError as error:
    raise ImportError("the command line needs an extra: pip install 'balancer[cli]'") from error

from collections.abc import Callable
from typing import Annotated, Any

from balancer import __version__
from balancer.cli import acts, jobs, looks
from balancer.cli.batch import batch
from balancer.cli.demo import demo
from balancer.cli.execute import execute
from balancer.cli.failures import CODES_HELP, Commands
from balancer.cli.sandbox import sandbox
from balancer.cli.watch import watch

app = typer.Typer(
    cls=Commands,
    help="Choose among your own useapi.net accounts: see them, watch them, hold a slot while a command runs.",
    epilog=CODES_HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(command: Callable[..., Any], *examples: str, name: str | None = None, **settings: Any) -> None:
    # A blank line keeps the lines of an epilog apart.
    epilog = "\n\n".join(("Examples:", *(f"$ {example}" for example in examples)))
    app.command(name, epilog=epilog, **settings)(command)


_add(demo, "balancer demo", "balancer demo --jobs 120 --svg demo.svg")
_add(sandbox, "balancer sandbox", "balancer sandbox --account kling:a@example.com=3 --speed 60 --port 0")
_add(looks.services, "balancer services", "balancer services --check flowmusic")
_add(looks.accounts, "balancer accounts flowmusic", "balancer accounts kling --json | jq '.accounts[].id'")
_add(looks.load, "balancer load flowmusic", "balancer load flowmusic --store redis://localhost:6379/0")
_add(watch, "balancer watch flowmusic", "balancer watch flowmusic --once --json | jq .stats.free")
_add(
    looks.holders,
    "balancer holders flowmusic",
    "balancer holders flowmusic --store sqlite:///var/lib/app/slots.db",
)
_add(
    acts.release,
    "balancer release LEASE --service flowmusic",
    "balancer release --job JOB --service flowmusic --yes",
)
_add(acts.cool, "balancer cool ann@example.com 600 --service flowmusic --reason 'site is down'")
_add(acts.reset, "balancer reset ann@example.com --service flowmusic")
_add(
    batch,
    "balancer batch flowmusic music prompts.jsonl -o results.jsonl",
    "balancer batch kling videos/text2video prompts.jsonl -o results.jsonl --resume --download videos",
)
_add(
    jobs.submit,
    "balancer submit flowmusic music prompt='rain on tin'",
    "balancer submit kling videos/text2video --timeout 600 < fields.json",
)
_add(jobs.wait, "balancer wait JOB --service flowmusic --timeout 900 --download songs")
_add(
    jobs.bind,
    "balancer bind JOB --service flowmusic --account ann@example.com",
    "balancer exec -s flowmusic -- sh -c 'balancer bind \"$(./create.sh)\" -s flowmusic'",
)
_add(
    execute,
    "balancer exec --service flowmusic -- ./make-song.sh",
    "balancer exec -s kling --timeout 600 -- sh -c 'echo $BALANCER_PARAMS'",
    name="exec",
    context_settings={"allow_interspersed_args": False},
)


def _version(wanted: bool) -> None:  # as typer calls it
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def balancer(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Say the version if asked for it."""
