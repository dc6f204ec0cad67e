"""`headgate version`."""

from __future__ import annotations

import platform
from importlib import metadata

import typer


def version_option(asked: bool) -> None:
    """`headgate --version`: what most commands take, besides the verb."""
    if asked:
        version_command()
        raise typer.Exit


def version_command() -> None:
    """Print the version.

    \b
    Example:
      headgate version
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    typer.echo(f"headgate {metadata.version('headgate')} (Python {platform.python_version()})")
