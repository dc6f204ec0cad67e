"""`headgate open`: opens a branch that a target closed by saying that it is gone for good."""

from __future__ import annotations

import typer

from headgate_cli.target import BranchOption, PipelineName, RedisUrl, check_branch, connect, find, run_async


def open_command(
    pipeline: PipelineName,
    branch: BranchOption,
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
        await check_branch(server, keys, branch)
        closed = await read_closed(server, keys, branch)
        await open_branch(server, keys, branch)
    if closed is None:
        typer.echo(f"{branch}: was open")
    else:
        typer.echo(f"{branch}: opened; it was closed at {closed.at}: {closed.reason}")
