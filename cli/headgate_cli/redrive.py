"""`headgate redrive`: dead letters given to their branch again."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate_cli.letters import (
    Choice,
    ErrorOption,
    IdOption,
    NewerOption,
    OlderOption,
    TypeOption,
    count,
    follow,
    letters_of,
)
from headgate_cli.target import BranchOption, PipelineName, RedisUrl, run_async


def redrive_command(
    *,
    pipeline: PipelineName,
    branch: BranchOption,
    redis_url: RedisUrl = "",
    error: ErrorOption = "",
    event_type: TypeOption = "",
    event_id: IdOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    rate: Annotated[float, typer.Option(help="Events a second at most; 0: as fast as it goes.", min=0)] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")] = False,
) -> None:
    """Give dead letters to their branch again.

    Each is handled by that branch alone, as a first attempt. Without options that say which, all that are there now.
    Ctrl-C stops it; what was not given again is a dead letter still. In a join they change nothing: its record was
    made when they failed.

    \b
    Examples:
      headgate redrive --redis-url redis://localhost -p videos -b transcode --dry-run
      headgate redrive -p shop/orders -b invoice --error TimeoutError --newer 2h --rate 50
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    choice = Choice(error, event_type, event_id, older, newer)

    async def run() -> None:
        from headgate.streams import redrive  # noqa: PLC0415

        async with letters_of(redis_url, pipeline, branch, choice) as (server, keys, wanted):
            if dry_run:
                found = await count(server, keys, branch, wanted)
                typer.echo(f"{found:,} dead letters would be given again")
                return
            await follow(redrive(server, keys, branch, wanted, rate), f"dead letters given to {branch} again")

    run_async(run())
