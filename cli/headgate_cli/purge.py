"""`headgate purge`: dead letters removed for good."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headgate_cli.exits import CommandError
from headgate_cli.letters import (
    BranchOrJoinOption,
    Choice,
    ErrorOption,
    IdOption,
    JoinOption,
    NewerOption,
    OlderOption,
    TypeOption,
    branch_or_join,
    count,
    follow,
    letters_of,
)
from headgate_cli.target import PipelineName, RedisUrl, run_async


def purge_command(
    *,
    pipeline: PipelineName,
    branch: BranchOrJoinOption = "",
    redis_url: RedisUrl = "",
    error: ErrorOption = "",
    event_type: TypeOption = "",
    event_id: IdOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    join: JoinOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")] = False,
) -> None:
    """Remove dead letters for good.

    Without options that say which, all that are there now. It asks first, and cannot be undone.

    \b
    Examples:
      headgate purge --redis-url redis://localhost -p videos -b transcode --older 30d
      headgate purge -p shop/orders -b invoice --type test --yes
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    where = branch_or_join(branch, join=join)

    choice = Choice(error, event_type, event_id, older, newer)

    async def run() -> None:
        from headgate.streams import purge  # noqa: PLC0415

        async with letters_of(redis_url, pipeline, where, choice) as (server, keys, wanted):
            if dry_run or not yes:
                found = await count(server, keys, where, wanted)
                if dry_run:
                    typer.echo(f"{found:,} dead letters would be removed")
                    return
                if not found:
                    typer.echo("there are no dead letters to remove")
                    return
                _ask(found, "the join" if join else branch)
            await follow(purge(server, keys, where, wanted), "dead letters removed")

    run_async(run())


def _ask(found: int, of: str) -> None:
    typer.echo(f"Remove {found:,} dead letters of {of} for good? [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was removed; --yes does not ask")
