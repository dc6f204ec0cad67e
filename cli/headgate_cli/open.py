"""`headgate open`: opens a branch that a target closed by saying that it is gone for good."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate_cli.exits import CommandError
from headgate_cli.target import PipelineName, RedisUrl, connect, find, run_async


def open_command(
    pipeline: PipelineName,
    branch: Annotated[str, typer.Option("--branch", "-b", help="The branch.")],
    redis_url: RedisUrl = "",
) -> None:
    """Open a branch that was closed.

    A branch closes when its target answers 410 Gone; its events wait meanwhile. Workers read on within a second.

    \b
    Examples:
      headgate open --redis-url redis://localhost -p videos -b notify
      headgate open -p shop/orders -b invoice
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    run_async(_open(redis_url, pipeline, branch))


async def _open(redis_url: str, name: str, branch: str) -> None:
    from headgate.streams import open_branch, read_closed  # noqa: PLC0415

    async with connect(redis_url) as server:
        keys = await find(server, name)
        lane = keys.partition(0).lanes[0]
        groups = await server.execute(lane, "XINFO", "GROUPS", lane)
        branches = sorted(group[group.index(b"name") + 1].decode() for group in groups)
        if branch not in branches:
            raise CommandError(
                f"--branch: pipeline {keys} has no branch {branch!r}; it has {', '.join(branches)}"
            )
        closed = await read_closed(server, keys, branch)
        await open_branch(server, keys, branch)
    if closed is None:
        typer.echo(f"{branch}: was open")
    else:
        typer.echo(f"{branch}: opened; it was closed at {closed.at}: {closed.reason}")
