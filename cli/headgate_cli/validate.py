"""`headgate validate`: what the API server would say of manifests, without one."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from headgate_cli.exits import CommandError, Exit


def validate_command(
    files: Annotated[list[Path], typer.Argument(help="Manifests; documents of other kinds are left out.")],
) -> None:
    """Check manifests as the API server would.

    The same schema and rules, all mistakes at once; a file may hold several FanoutPipelines.

    \b
    Examples:
      headgate validate pipeline.yaml
      headgate validate examples/*/pipeline.yaml

    Exits 2 when there is a mistake.
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    from headgate_cli.manifests import mistakes, pipelines_in, read_documents  # noqa: PLC0415

    found: list[str] = []
    for file in files:
        wrong = mistakes(file, pipelines_in(read_documents(file)))
        found += wrong
        if not wrong:
            typer.echo(f"{file}: valid")
    if found:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise CommandError(f"{count}\n" + "\n".join(found), Exit.INVALID)
